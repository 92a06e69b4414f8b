# v2a: sound for silent footage. `make` alone prints what there is.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARCHIVE ?=
OUT    ?= out/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow fuzz chaos lint format bench mini lock clean

help: ## Print this list
	@echo "v2a: sound for silent footage, at the scale of archives"; echo
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'
	@echo; echo "  make demo ARCHIVE=folder [OUT=folder]   dubs your own footage"

setup: $(STAMP) ## Create .venv and install the pinned packages (uv is fetched with pip)

# uv lives in a small environment of its own, so the system's Python stays untouched.
$(VENV)/uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "v2a needs Python 3.11 or newer; try make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)/uv
	$(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv

$(STAMP): requirements.lock requirements-cluster.lock pyproject.toml | $(VENV)/uv/bin/uv
	@test -x $(BIN)/python || $(VENV)/uv/bin/uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(VENV)/uv/bin/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(VENV)/uv/bin/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	# What a Ray head needs besides, kept apart: where it is installed, every Ray starts its dashboard agent in full.
	$(VENV)/uv/bin/uv pip install --quiet --python $(BIN)/python --no-deps --target $(VENV)/cluster -r requirements-cluster.lock
	@touch $@

demo: $(STAMP) ## Dub a small archive (or ARCHIVE=folder) with the bundled model
	$(BIN)/v2a demo $(if $(ARCHIVE),"$(ARCHIVE)") --out "$(OUT)"

# Two files of tests at a time: most of their time goes by while processes start and servers answer.
test: $(STAMP) ## Run the test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

slow: $(STAMP) ## Run the slow tests: a dozen random kills, an S3 server of another make, large encoders, more examples
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest -n 2 -m hypothesis --hypothesis-profile explore

fuzz: $(STAMP) ## Put 5,000 damaged and hostile files through scan and decode
	$(BIN)/python -m tests.fuzz --inputs 5000

lint: $(STAMP) ## Check style, formatting, types, the Dockerfile, and the packages for known holes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint infra/Dockerfile
	@$(BIN)/python .ci/audit.py $(VENV)/uv/bin/uv requirements.lock requirements-cluster.lock

chaos: $(STAMP) ## Put 200 faults into dub: kills, failing S3, a full disk (an hour or two)
	$(BIN)/python -m tests.chaos --faults 200

format: $(STAMP) ## Apply the formatter and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure the figures the README quotes, but those of a GPU (many hours)
	$(BIN)/python -m benchmarks

mini: $(STAMP) ## Train the bundled model again (resumable; about two hours of one core)
	$(BIN)/python -m jobs.mini

lock: | $(VENV)/uv/bin/uv ## Resolve the two lock files again
	$(VENV)/uv/bin/uv pip compile pyproject.toml --extra dev --extra server --universal --python-version 3.11 --quiet \
		--no-header --upgrade --output-file requirements.lock
	$(VENV)/uv/bin/uv pip compile pyproject.toml --extra cluster --universal --python-version 3.11 --quiet --no-header \
		--no-annotate --constraints requirements.lock | grep -vxFf requirements.lock > requirements-cluster.lock

clean: ## Remove what was built (not .venv)
	rm -rf build out dist .pytest_cache .ruff_cache .mypy_cache

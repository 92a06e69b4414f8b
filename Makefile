# v2a: sound for silent footage. `make` alone lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARCHIVE ?=
OUT    ?= out/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow fuzz chaos lint format bench mini vatt-mini lock lock-cpu sbom clean

# Nothing is installed whose SHA-256 is not in a lock file, nor is anything built with such a thing.
HASHED := --quiet --require-hashes --require-build-hashes --preview-features build-dependency-hashes \
	--build-constraints requirements-build.lock

help: ## Print this list
	@echo "v2a: sound for silent footage, at the scale of archives"; echo
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'
	@echo; echo "  make demo ARCHIVE=folder [OUT=folder]   dubs your own footage"

setup: $(STAMP) ## Create .venv and install the locked packages, each checked against its SHA-256

# uv lives in a small environment of its own, so the system's Python stays untouched.
$(VENV)/uv/bin/uv: requirements-build.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "v2a needs Python 3.11 or newer; try make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)/uv
	$(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
		-r requirements-build.lock
	@touch $@

$(STAMP): requirements.lock requirements-cluster.lock pyproject.toml $(VENV)/uv/bin/uv
	@test -x $(BIN)/python || $(VENV)/uv/bin/uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(VENV)/uv/bin/uv pip sync $(HASHED) --python $(BIN)/python requirements.lock
	$(VENV)/uv/bin/uv pip install $(filter-out --require-hashes,$(HASHED)) --python $(BIN)/python --no-deps --editable .
	# Packages that only a Ray head needs, kept apart: with them installed, every Ray starts its full dashboard agent.
	$(VENV)/uv/bin/uv pip install $(HASHED) --python $(BIN)/python --no-deps --target $(VENV)/cluster -r requirements-cluster.lock
	@touch $@

demo: $(STAMP) ## Dub a small archive (or ARCHIVE=folder) with the bundled model
	$(BIN)/v2a demo $(if $(ARCHIVE),"$(ARCHIVE)") --out "$(OUT)"

# Two test files at a time: most of their time is spent waiting for processes and servers.
test: $(STAMP) ## Run the test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

slow: $(STAMP) ## Run the slow tests: a dozen random kills, a second S3 server, large encoders, more examples
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest -n 2 -m hypothesis --hypothesis-profile explore

fuzz: $(STAMP) ## Put 5,000 damaged and hostile files through a whole dub
	$(BIN)/python -m tests.fuzz --inputs 5000

lint: $(STAMP) ## Check style, formatting, types, the Dockerfile, and the packages for known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint infra/Dockerfile
	@$(BIN)/python .ci/audit.py requirements.lock requirements-cluster.lock requirements-build.lock

chaos: $(STAMP) ## Put 200 faults into dub: kills, failing S3, a full disk (an hour or two)
	$(BIN)/python -m tests.chaos --faults 200

format: $(STAMP) ## Apply the formatter and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure the figures of benchmarks/README.md that need no GPU (many hours)
	$(BIN)/python -m benchmarks

SOUNDS ?=
mini: $(STAMP) ## Train a mini for real footage (SOUNDS=folder of recordings; resumable; hours of two cores)
	$(BIN)/python -P -m jobs.mini $(if $(SOUNDS),--sounds "$(SOUNDS)")

vatt-mini: $(STAMP) ## Train a vatt-mini on the scenes of make mini (resumable; about three hours of two cores)
	$(BIN)/python -P -m jobs.mini.vatt

# `make lock UPGRADE=` keeps the versions that are locked. Hashes of every wheel and source archive; neither addresses nor
# names of indexes get into the files.
UPGRADE ?= --upgrade
COMPILE := $(VENV)/uv/bin/uv pip compile --universal --python-version 3.11 --quiet --no-header --generate-hashes \
	--no-emit-index-url --no-emit-find-links
lock: | $(VENV)/uv/bin/uv ## Resolve all lock files again, with hashes
	$(COMPILE) $(UPGRADE) --group build --no-annotate --output-file requirements-build.lock
	$(COMPILE) $(UPGRADE) pyproject.toml --extra dev --extra server --output-file requirements.lock
	$(COMPILE) $(UPGRADE) pyproject.toml --extra cluster --no-annotate --constraints requirements.lock \
		$$(sed -nE 's/^([a-z0-9.-]+)==.*/--no-emit-package \1/p' requirements.lock) --output-file requirements-cluster.lock
	$(COMPILE) $(UPGRADE) pyproject.toml --extra cluster --extra server --no-annotate --constraints requirements.lock \
		--constraints requirements-cluster.lock --output-file requirements-image.lock

lock-cpu: | $(VENV)/uv/bin/uv ## Lock torch's smaller wheels for an image without CUDA (asks another index)
	$(COMPILE) $(UPGRADE) pyproject.toml --extra cluster --extra server --no-annotate --constraints requirements.lock \
		--constraints requirements-cluster.lock --torch-backend cpu --output-file requirements-image-cpu.lock

sbom: $(STAMP) ## Write out/sbom.cdx.json: packages and the native libraries inside them (CycloneDX)
	$(BIN)/python .ci/sbom.py --out out/sbom.cdx.json

clean: ## Remove build output (not .venv)
	rm -rf build out dist .pytest_cache .ruff_cache .mypy_cache

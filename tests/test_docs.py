"""The pages name only what exists: links, paths, modules, verbs, options, targets, and scripts of figures."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
import shlex
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.cli import VERBS
from jobs.common import parser

ROOT = Path(__file__).parent.parent
PACKAGES = ("v2a", "jobs", "pipelines", "v2a_models", "benchmarks", "tests")
"""Top-level packages whose modules the pages may name."""
FOLDERS = (*PACKAGES, "docs", "infra")
"""Top-level folders whose files the pages may name."""
README_BYTES = 9 * 1024
GONE = {"python -m jobs.vatt_mini"}
"""Names of earlier versions that the changelog has to mention."""

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "infra/*.md", "v2a_models/weights/*/card.md")
    for path in ROOT.glob(pattern)
)


@functools.cache
def text_of(page: str) -> str:
    """Text of a page without the names that are gone on purpose."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in GONE:
        text = text.replace(name, "")
    return text


def code_of(page: str) -> list[str]:
    """Inline code, and lines of code blocks, of a page."""
    text = text_of(page)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    indented = re.findall(r"^ {4}(?![-*] )(\S.*)$", rest, re.M)
    return [line for block in blocks for line in block.splitlines()] + indented + spans_of(rest)


def spans_of(text: str) -> list[str]:
    """Inline code, which may run over the end of a line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def slug(heading: str) -> str:
    """Anchor that GitHub gives a heading."""
    plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return plain.replace(" ", "-")


def module_file(name: str) -> Path | None:
    """File or folder of a module, or None if there is none."""
    place = ROOT.joinpath(*name.split("."))
    if (place / "__init__.py").is_file() or (place.is_dir() and any(place.glob("*.py"))):
        return place
    return file if (file := place.with_suffix(".py")).is_file() else None


def commands(page: str, start: str) -> Iterator[list[str]]:
    """Words of every command on a page that begins with `start`, without comments and prompts."""
    for line in code_of(page):
        line = re.sub(r"\s{2,}# .*$", "", line).rstrip("\\")
        for part in re.split(r"\s--\s(?=v2a )|&&|\$ ", line):
            part = re.sub(r"^(\.venv/bin/|\w+=\S+\s+)*", "", part.strip())
            if part.startswith(start):
                try:
                    yield shlex.split(part)
                except ValueError:
                    yield part.split()


def option_names(config: type) -> set[str]:
    """Flags of a verb, from its dataclass and the groups of options in it."""
    found: set[str] = set()
    for name, kind in typing.get_type_hints(config).items():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found |= option_names(kind)
        else:
            flag = name.replace("_", "-")
            found |= {f"--{flag}", f"--no-{flag}"}
    return found


def test_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "docs/design.md"} <= set(
        PAGES
    )


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"\w+://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if not file.exists():
            wrong.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            if anchor not in {slug(heading) for heading in headings}:
                wrong.append(target)
    assert not wrong


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page: str) -> None:
    pattern = rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w/?"
    named = {path for code in spans_of(text_of(page)) for path in re.findall(pattern, code)}
    assert not sorted(path for path in named if not (ROOT / path).exists() and not path.startswith(ELSEWHERE))


@pytest.mark.parametrize("page", PAGES)
def test_python_files_named_alone_exist(page: str) -> None:
    """Files that stand without their folder, such as `driver.py`, lie in some package."""
    there = {path.name for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")}
    named = {name for code in spans_of(text_of(page)) for name in re.findall(r"(?<![\w./-])\w+\.py\b", code)}
    assert not sorted(named - there - {"av.py"})  # a file of a user, beside the films


ELSEWHERE = ("tests/jobs/test_VERB", "tests/v2a_models/NAME", "jobs/VERB", "benchmarks/NAME")
"""Patterns of names, not names."""


@pytest.mark.parametrize("page", PAGES)
def test_modules_exist(page: str) -> None:
    wrong = set()
    pattern = rf"(?<![\w./-])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+(?![\w/])"
    for code in code_of(page):
        for name in re.findall(pattern, code):
            if name.split(".")[1] in ("VERB", "NAME") or name.startswith("v2a."):
                continue
            place, last = module_file(name), name.rpartition(".")[2]
            if place is None and f"-m {name}" not in code:
                place = module_file(name.rpartition(".")[0])  # the last part may be a name in the module
                files = [place / "__init__.py"] if place is not None and place.is_dir() else [place]
                if place is not None and not any(file and last in file.read_text() for file in files):
                    place = None
            if place is None or (
                f"-m {name}" in code and place.is_dir() and not (place / "__main__.py").exists()
            ):
                wrong.add(name)
    assert not sorted(wrong)


@pytest.mark.parametrize("page", PAGES)
def test_options_of_verbs_exist(page: str) -> None:
    wrong = set()
    for words in commands(page, "v2a "):
        verb = words[1] if len(words) > 1 else ""
        if verb in ("VERB", "--help", "--version") or not re.fullmatch(r"[a-z]+", verb):
            continue
        if verb not in VERBS:
            wrong.add(verb)
            continue
        config = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config)
        flags = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)} - {"--help"}
        wrong |= {f"{verb} {flag}" for flag in flags - option_names(config)}
    assert not sorted(wrong)


@pytest.mark.parametrize("page", PAGES)
def test_options_named_alone_exist(page: str) -> None:
    """Options that stand without their command belong to some verb or some benchmark."""
    configs = [getattr(importlib.import_module(verb.module), verb.config) for verb in VERBS.values()]
    known = set().union(*map(option_names, configs)) | OF_OTHERS
    scripts = "".join(file.read_text() for file in (ROOT / "benchmarks").glob("*.py"))
    named = {code.split()[0] for code in spans_of(text_of(page)) if re.match(r"--[a-z]", code)}
    assert not sorted(flag for flag in named - known if f'"{flag}"' not in scripts)


OF_OTHERS = {"--help", "--build-arg", "--working-dir", "--allowed-hosts"}
"""Options of docker, Ray and MLflow."""


@pytest.mark.parametrize("page", PAGES)
def test_options_of_benchmarks_exist(page: str) -> None:
    wrong = set()
    for words in commands(page, "python -m benchmarks."):
        name = words[2].removeprefix("benchmarks.")
        if name == "NAME":
            continue
        script = ROOT / "benchmarks" / f"{name}.py"
        source = script.read_text() if script.exists() else ""
        wrong |= (
            {name} if not source else {word for word in words if word.startswith("--") and word not in source}
        )
    assert not sorted(wrong)


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        words[1] for words in commands(page, "make ") if len(words) > 1 and re.fullmatch("[a-z-]+", words[1])
    }
    assert not sorted(named - targets)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


def test_readme_names_every_verb() -> None:
    rows = set(re.findall(r"^\| `v2a (\w+)", text_of("README.md"), re.M))
    assert rows == set(VERBS)


def test_rows_of_the_readme_have_what_a_verb_requires() -> None:
    rows = dict(re.findall(r"^\| `v2a (\w+) ?([^`]*)`", text_of("README.md"), re.M))
    for name, verb in VERBS.items():
        for option in parser.options(getattr(importlib.import_module(verb.module), verb.config)):
            if option.required:
                word = (option.metavar or option.name.upper()) if option.positional else option.flag
                assert word in rows[name], f"v2a {name}: {word}"


def test_python_of_the_readme_runs_on_the_public_package() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", text_of("README.md"), re.M | re.S)
    assert blocks
    package = importlib.import_module("v2a")
    for block in blocks:
        compile(block, "README.md", "exec")
        names = set(re.findall(r"\bv2a\.(\w+)", block))
        assert {"dub", "scan", "extract", "load_generator", "Generator", "__version__"} <= names
        assert not sorted(name for name in names if not hasattr(package, name))


def test_code_map_is_the_tree() -> None:
    text = text_of("docs/design.md")
    rows = re.findall(r"^\| `([\w/]+/)` \| ([^|]*) \|", text[text.index("## Code map") :], re.M)
    assert rows
    wrong = [folder for folder, _ in rows if not (ROOT / folder).is_dir()]
    wrong += [f"{folder}{name}" for folder, names in rows for name in re.findall(r"`(\S+)`", names)
              if not (ROOT / folder / name).is_file()]  # fmt: skip
    assert not wrong
    packages = {
        f"{folder.relative_to(ROOT).as_posix()}/"
        for top in ("jobs", "pipelines", "v2a_models")
        for folder in (ROOT / top).iterdir()
        if folder.is_dir() and any(folder.glob("*.py"))
    }
    assert not sorted(packages - {folder for folder, _ in rows})


def test_benchmarks_page_names_every_script() -> None:
    text = text_of("benchmarks/README.md")
    scripts = {file.stem for file in (ROOT / "benchmarks").glob("*.py")} - {"__init__", "__main__"}
    unnamed = {name for name in scripts if not re.search(rf"\b{name}\b", text)}
    assert not sorted(unnamed - HELPERS)


HELPERS = {
    "films",
    "raw_footage",
    "raw_vqvae",
    "real_clips",
    "real_page",
    "encoders",
    "mini_curves",
    "steering_page",
    "vatt_page",
    "page_picture",
}
"""Scripts that print no figure which is quoted: material of others, pictures, and speeds for estimates."""


def test_every_figure_has_a_script_and_a_date() -> None:
    """Tables with the column: script and machine are given, scripts and their options exist, and dates are dates."""
    header: list[str] = []
    wrong, n = [], 0
    for line in text_of("benchmarks/README.md").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells or not header:
            header = cells
        elif "script" in header and not set(line) <= set("|-: "):
            row = dict(zip(header, cells, strict=True))
            n += 1
            if not re.fullmatch(r"\d{4}-\d\d-\d\d", row["date"]):
                wrong.append(f"{line}: date")
            if not row["script"] or not row["machine"]:
                wrong.append(f"{line}: a figure without script or machine")
            if spans := spans_of(row["script"]):
                name, *options = spans[0].split()
                script = ROOT / "benchmarks" / f"{name}.py"
                source = script.read_text() if script.exists() else ""
                if not source and name not in ("make", "v2a", "ls", "du"):
                    wrong.append(f"{line}: script")
                wrong += [
                    f"{line}: {word}" for word in options if word.startswith("--") and word not in source
                ]
    assert n > 30
    assert not wrong

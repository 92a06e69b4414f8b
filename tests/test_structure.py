"""The layout of the code holds: directions of imports, packages, sizes, names, prose.

Each list of exceptions may only shrink: an entry that is no longer needed fails its test as well.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import REPOSITORY

LAYERS = ("v2a_models", "pipelines", "jobs", "v2a")
"""Imports point to the left."""

FORBIDDEN = {
    "v2a_models": {"ray", "mlflow", "av", "s3fs", "fsspec"},
    "pipelines": {"mlflow"},
    "jobs": {"tests", "benchmarks"},
    "v2a": {"tests", "benchmarks"},
}
"""Libraries, and folders of this repository, that a layer does without."""

FLOORS = {
    "safe_path": 0, "scratch": 0, "memory": 0, "arrow_rows": 0, "storage": 1, "media": 1,
    "retry": 2, "sandbox": 2, "store": 2, "synthfoley": 2,
    "archive": 3, "soundtrack": 3, "mux": 3, "scoring": 3,
    "provenance": 4, "reports": 4, "extract": 4, "foley": 4,
    "dub": 5, "captions": 5, "redub": 6,
}  # fmt: skip
"""Packages and modules of pipelines/: imports go to a lower floor, but for `SAME_FLOOR`."""

SAME_FLOOR: set[tuple[str, str]] = set()

GRAMMAR = {"config", "preflight", "driver"}
"""Modules that every package of a verb has."""

VERB_PACKAGES = {"dub", "extract", "train", "tune", "evaluate", "compare"}

MOST_MODULES = 15
MOST_LINES, FEWEST_LINES = 350, 30

SAME_NAME: dict[str, set[str]] = {
    # The entry points of a verb.
    "jobs": {"run", "_run", "command", "preflight"},
    "jobs/mini": {"run", "main"},
    # For each sound source, a model of its motion, a picture and a sound.
    "pipelines/synthfoley": {f"_{name}" for name in (
        "anvil", "ball", "bell", "clap", "drum", "engine", "fan", "firework", "glass", "rain", "saw", "water",
        "waves")},
    # Every network of the raw systems names its sizes and losses.
    "v2a_models/raw": {"LOSSES", "SIZES"},
}  # fmt: skip
"""Names that several modules of a package may define. The list may only shrink."""

TOO_LONG: dict[str, int] = {}
"""Modules of more than `MOST_LINES` lines, with the lines they had."""

SHORT = {
    "jobs/common/lazy.py",
    "jobs/common/terminal.py",
    "v2a_models/metrics/alignment.py",
    "v2a_models/raw/ring_buffer.py",
    "v2a_models/vatt/instructions.py",
}
"""Modules of fewer than `FEWEST_LINES` lines."""

RAY_DATA = {
    "pipelines/soundtrack/silence.py",
    "pipelines/captions/captioning.py",
    "pipelines/store/training_feed.py",
    "pipelines/archive/ray_scan.py",
}
"""Modules besides every `pipeline.py` that use Ray."""

UNTESTED = {
    "jobs/caption.py",
    "jobs/common/lazy.py",
    "jobs/common/options.py",
    "jobs/common/parser.py",
    "jobs/common/ray_session.py",
    "jobs/common/terminal.py",
    "jobs/compare/config.py",
    "jobs/compare/mlflow_runs.py",
    "jobs/dub/config.py",
    "jobs/evaluate/config.py",
    "jobs/extract/config.py",
    "jobs/extract/describe.py",
    "jobs/extract/preflight.py",
    "jobs/mini/config.py",
    "jobs/mini/driver.py",
    "jobs/mini/stages.py",
    "jobs/mini/training.py",
    "jobs/train/config.py",
    "jobs/train/data.py",
    "jobs/train/export.py",
    "jobs/train/job.py",
    "jobs/train/preflight.py",
    "jobs/train/preview.py",
    "jobs/train/watch.py",
    "jobs/train/worker.py",
    "jobs/tune/config.py",
    "jobs/tune/preflight.py",
    "jobs/tune/report.py",
    "jobs/tune/search.py",
    "jobs/tune/trial.py",
    "jobs/verify.py",
    "pipelines/archive/listing.py",
    "pipelines/archive/ray_scan.py",
    "pipelines/archive/thread_scan.py",
    "pipelines/captions/captioning.py",
    "pipelines/dub/item.py",
    "pipelines/dub/job.py",
    "pipelines/dub/part_reader.py",
    "pipelines/extract/label_tables.py",
    "pipelines/extract/pipeline.py",
    "pipelines/media/container.py",
    "pipelines/media/frames.py",
    "pipelines/media/geometry.py",
    "pipelines/memory.py",
    "pipelines/mux/audio_file.py",
    "pipelines/mux/child.py",
    "pipelines/mux/containers.py",
    "pipelines/mux/files.py",
    "pipelines/mux/packet_hashes.py",
    "pipelines/mux/track.py",
    "pipelines/provenance/inspect_child.py",
    "pipelines/provenance/signing_child.py",
    "pipelines/reports/store_page.py",
    "pipelines/sandbox/child.py",
    "pipelines/sandbox/decoder_child.py",
    "pipelines/sandbox/pipe.py",
    "pipelines/sandbox/shared_memory.py",
    "pipelines/scoring/clips.py",
    "pipelines/scoring/job.py",
    "pipelines/scoring/pipeline.py",
    "pipelines/soundtrack/ebur128.py",
    "pipelines/soundtrack/filter_chain.py",
    "pipelines/soundtrack/levels.py",
    "pipelines/soundtrack/limiter.py",
    "pipelines/soundtrack/silence.py",
    "pipelines/storage/listing.py",
    "pipelines/storage/uri.py",
    "pipelines/store/problems.py",
    "pipelines/store/shards.py",
    "pipelines/store/summary.py",
    "pipelines/store/tables.py",
    "pipelines/synthfoley/captions.py",
    "pipelines/synthfoley/draw.py",
    "pipelines/synthfoley/effects.py",
    "pipelines/synthfoley/falls.py",
    "pipelines/synthfoley/machines.py",
    "pipelines/synthfoley/mp4.py",
    "pipelines/synthfoley/physics.py",
    "pipelines/synthfoley/shapes.py",
    "pipelines/synthfoley/sound.py",
    "pipelines/synthfoley/strikes.py",
    "v2a_models/batch.py",
    "v2a_models/build.py",
    "v2a_models/checkpoint_files.py",
    "v2a_models/codec/spectral.py",
    "v2a_models/codec/training.py",
    "v2a_models/encoders/audio.py",
    "v2a_models/encoders/s3d.py",
    "v2a_models/encoders/shapes.py",
    "v2a_models/encoders/untrained.py",
    "v2a_models/generator.py",
    "v2a_models/maskvat/blocks.py",
    "v2a_models/maskvat/build.py",
    "v2a_models/maskvat/generator.py",
    "v2a_models/maskvat/losses.py",
    "v2a_models/maskvat/masking.py",
    "v2a_models/maskvat/model.py",
    "v2a_models/maskvat/sampling.py",
    "v2a_models/metrics/alignment.py",
    "v2a_models/metrics/catalogue.py",
    "v2a_models/metrics/foley.py",
    "v2a_models/metrics/networks/base.py",
    "v2a_models/metrics/networks/audio_network.py",
    "v2a_models/metrics/networks/sight.py",
    "v2a_models/metrics/networks/sound.py",
    "v2a_models/metrics/networks/sources.py",
    "v2a_models/metrics/networks/text.py",
    "v2a_models/raw/autoregressive.py",
    "v2a_models/raw/av_transformer.py",
    "v2a_models/raw/deep_fusion.py",
    "v2a_models/raw/ring_buffer.py",
    "v2a_models/raw/video_context.py",
    "v2a_models/raw/wavenet.py",
    "v2a_models/vatt/build.py",
    "v2a_models/vatt/config.py",
    "v2a_models/vatt/converter_generator.py",
    "v2a_models/vatt/instructions.py",
    "v2a_models/vatt/language.py",
    "v2a_models/vatt/losses.py",
    "v2a_models/vatt/masking.py",
    "v2a_models/vatt/sampling.py",
}
"""Modules without a test file of their name: tests of their neighbours cover them."""

OPENINGS = ("Of", "That", "In", "Where", "What", "Whether", "How", "Which", "Those", "Its", "All", "As")
"""Words that make a docstring a fragment of the name above it."""

README_BYTES = 9 << 10


@functools.cache
def modules() -> Mapping[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for layer in LAYERS:
        for path in sorted((REPOSITORY / layer).rglob("*.py")):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def place(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a module imports, in functions and for type checkers as well."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules() else str(node.module)


@functools.cache
def graph() -> Mapping[str, set[str]]:
    """Modules of ours that each of them imports."""
    return {
        name: {other for other in imported(path) if other in modules() and other != name}
        for name, path in modules().items()
    }


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in arrows.get(node, ()):
            if other not in order:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == order[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in arrows:
        if node not in order:
            visit(node)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_point_one_way() -> None:
    wrong = []
    for name, path in modules().items():
        layer = name.split(".")[0]
        for other in imported(path):
            top = other.split(".")[0]
            upwards = top in LAYERS and LAYERS.index(top) > LAYERS.index(layer)
            if upwards or top in FORBIDDEN[layer]:
                wrong.append(f"{place(path)} imports {other}")
    assert not wrong


def test_failures_of_files_are_imported_from_their_home() -> None:
    """Modules that raise and catch `DecodeFailed` pass it on by accident; readers would take it for several classes."""
    wrong = [
        f"{place(path)} takes it from {node.module}"
        for folder in (*LAYERS, "tests", "benchmarks")
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and "DecodeFailed" in {alias.name for alias in node.names}
        if node.module != "pipelines.media.errors"
    ]
    assert not wrong


def test_no_circle_between_modules() -> None:
    assert circles(graph()) == []


def test_packages_of_pipelines_keep_their_order() -> None:
    wrong, used = set(), set()
    for name, others in graph().items():
        for other in others:
            if name.startswith("pipelines.") and other.startswith("pipelines."):
                here, there = name.split(".")[1], other.split(".")[1]
                if here != there and FLOORS[there] >= FLOORS[here]:
                    used.add((here, there))
                    if (here, there) not in SAME_FLOOR:
                        wrong.add(f"{name} -> {other}")
    assert not wrong
    assert used == SAME_FLOOR
    there = {path.stem for path in (REPOSITORY / "pipelines").iterdir() if path.suffix in ("", ".py")}
    assert there - {"__init__", "__pycache__"} == set(FLOORS)


def test_packages_of_verbs_share_a_grammar() -> None:
    for verb in VERB_PACKAGES:
        assert GRAMMAR | {"__init__", "__main__"} <= {p.stem for p in (REPOSITORY / "jobs" / verb).iterdir()}
        allowed = {"jobs.cli", "jobs.common.verb", "jobs.common.options"}
        assert graph()[f"jobs.{verb}.config"] <= allowed, verb


def test_folders_are_not_crowded() -> None:
    folders = Counter(path.parent for path in modules().values() if not path.stem.startswith("__"))
    assert not {place(folder): n for folder, n in folders.items() if n > MOST_MODULES}


def test_modules_are_of_readable_length() -> None:
    lines = {place(path): len(path.read_text().splitlines()) for path in modules().values()}
    long = {name: n for name, n in lines.items() if n > MOST_LINES}
    assert not {name: n for name, n in long.items() if n > TOO_LONG.get(name, MOST_LINES)}
    assert set(TOO_LONG) == set(long)
    short = {name for name, n in lines.items() if n < FEWEST_LINES and not Path(name).stem.startswith("__")}
    assert short == SHORT


def test_ray_data_stands_in_pipeline_modules() -> None:
    users = {
        place(path)
        for path in modules().values()
        if place(path).startswith("pipelines/") and any(m.split(".")[0] == "ray" for m in imported(path))
    }
    assert {name for name in users if Path(name).name != "pipeline.py"} == RAY_DATA


def test_modules_have_tests_of_their_names() -> None:
    wanted = {
        place(path): REPOSITORY / "tests" / path.relative_to(REPOSITORY).with_name(f"test_{path.name}")
        for path in modules().values()
        if not path.stem.startswith("__")
    }
    assert {name for name, test in wanted.items() if not test.exists()} == UNTESTED


def test_folders_of_tests_mirror_the_packages() -> None:
    for layer in LAYERS:
        for folder in (REPOSITORY / "tests" / layer).rglob("*"):
            if folder.is_dir() and folder.name != "__pycache__":
                assert (REPOSITORY / folder.relative_to(REPOSITORY / "tests")).is_dir(), place(folder)


def defined(node: ast.stmt) -> list[str]:
    """Names that a statement at the top of a module defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_names_are_defined_once_in_a_package() -> None:
    by_package: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in modules().values():
        for node in tree(path).body:
            for name in defined(node):
                by_package[place(path.parent)][name].add(path.name)
    twice = {
        f"{folder}: {name} in {sorted(files)}"
        for folder, names in by_package.items()
        for name, files in names.items()
        if len(files) > 1 and name not in SAME_NAME.get(folder, set())
    }
    assert not twice


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings of a module with their lines: of what it defines, and of its constants and fields."""
    for node in ast.walk(tree(path)):
        value = getattr(node, "value", None)
        if isinstance(node, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield node.lineno, value.value


def test_parquet_is_read_by_the_thread_that_asks() -> None:
    """Arrow's threads free Python's buffers late; one that does while the interpreter ends aborts the process."""
    wrong = []
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            whole, opens = ast.unparse(node.func) == "pq.read_table", node.func.attr == "ParquetFile"
            reads = node.func.attr in ("read_row_group", "read_row_groups")
            if (
                whole
                or (reads and options.get("use_threads") != "False")
                # Training reads ahead, in workers of Ray, which do not end as interpreters do.
                or (
                    opens and options.get("pre_buffer") != "False" and name != "pipelines.store.training_feed"
                )
            ):
                wrong.append(f"{name}:{node.lineno}")
    assert not wrong


def test_docstrings_stand_alone() -> None:
    others = [p for top in ("benchmarks", "tests", "infra", ".ci") for p in (REPOSITORY / top).rglob("*.py")]
    assert REPOSITORY / "tests" / "conftest.py" in others and REPOSITORY / ".ci" / "audit.py" in others
    fragments = [
        f"{place(path)}:{line}: {text.splitlines()[0][:80]}"
        for path in [*modules().values(), *others]
        for line, text in docstrings(path)
        if text.split(maxsplit=1)[:1] and text.split(maxsplit=1)[0] in OPENINGS
    ]
    assert not fragments, "\n".join(fragments)


def test_readme_is_short() -> None:
    assert (REPOSITORY / "README.md").stat().st_size <= README_BYTES


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"])
def test_papers_of_the_house_are_there(name: str) -> None:
    assert (REPOSITORY / name).stat().st_size > 500

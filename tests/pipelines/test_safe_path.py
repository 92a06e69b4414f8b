"""Python files that lie in an archive are never run, whatever they are called and wherever a command is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.toy_generators import write_video

pytestmark = pytest.mark.timeout(600)

V2A = str(Path(sys.executable).with_name("v2a"))
STANDARD = ("argparse", "dataclasses", "json", "multiprocessing", "random")
INSTALLED = ("av", "numpy", "scenedetect", "torch")
PACKAGES = ("jobs", "pipelines", "v2a_models")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """One film, and beside it modules and packages that leave their names in `run.txt` when they are imported."""
    root = tmp_path / "archive"
    write_video(root / "film.mp4", 1.0)
    trap = (
        f"import os\nwith open({str(tmp_path / 'run.txt')!r}, 'a') as file:\n    print(__name__, file=file)\n"
    )
    for name in STANDARD + INSTALLED:
        (root / f"{name}.py").write_text(trap)
    for name in PACKAGES:
        (root / name).mkdir()
        (root / name / "__init__.py").write_text(trap)
    return root


def run(archive: Path, *command: str, **extra: str) -> str:
    """Output of the command, started in the archive; fails the test if it ran any of the archive's files."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | extra
    done = subprocess.run(
        command, cwd=archive, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    said = done.stdout + done.stderr
    was_run = archive.parent / "run.txt"
    assert not was_run.exists(), f"{sorted(set(was_run.read_text().split()))} were run\n{said}"
    assert done.returncode == 0, said
    return said


def dubbed(out: Path) -> bool:
    """The film has the status in the report, and is there."""
    rows = pq.read_table(out / "_v2a" / "report.parquet").to_pylist()
    [status] = [row["status"] for row in rows if row["path"] == "film.mp4"]
    return status == "dubbed" and (out / "film.mp4").stat().st_size > 1000


def test_dub_started_in_the_archive(archive: Path, tmp_path: Path) -> None:
    run(archive, V2A, "dub", ".", str(tmp_path / "out"), "--tracking-uri", "off", "--num-workers", "2")
    assert dubbed(tmp_path / "out")


def test_packages_of_our_names_on_the_python_path(archive: Path, tmp_path: Path) -> None:
    """A submitted working directory is there as well. What Python itself would find in it first is not ours to say."""
    shutil.rmtree(archive / "jobs")
    other = tmp_path / "other"
    for name in ("pipelines", "v2a_models"):
        shutil.copytree(archive / name, other / name)
    command = (V2A, "dub", ".", str(tmp_path / "out"), "--tracking-uri", "off", "--num-workers", "2")
    run(archive, *command, PYTHONPATH=str(other))
    assert dubbed(tmp_path / "out")


def test_scan_started_in_the_archive(archive: Path) -> None:
    assert "film" in run(archive, V2A, "scan", ".")


def test_python_without_p_started_in_the_archive(archive: Path) -> None:
    """Python itself looks for `jobs` in the current folder then; everything after it comes from where v2a lies."""
    shutil.rmtree(archive / "jobs")
    run(archive, sys.executable, "-m", "jobs.scan", ".")

"""Python files that lie in an archive are never run, whatever they are called and wherever a command is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import safe_path
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


def test_an_empty_entry_of_the_python_path_is_not_the_archive(archive: Path) -> None:
    shutil.rmtree(archive / "jobs")
    command = (sys.executable, "-P", "-m", "jobs.scan", ".")
    assert "film" in run(archive, *command, PYTHONPATH=f":{safe_path.ROOT}:")
    check = "import jobs, os, sys; assert os.getcwd() not in sys.path, sys.path"
    for path in (f":{safe_path.ROOT}", f"{safe_path.ROOT}:", f":{safe_path.ROOT}:{archive.parent}:"):
        run(archive, sys.executable, "-P", "-c", check, PYTHONPATH=path)


CHILD = """
import os, subprocess, sys
from jobs import cli
assert os.getcwd() not in sys.path, sys.path
cli.main(["--version"])
subprocess.run([sys.executable, "-c", "import json, av"], check=True)
"""


def test_what_libraries_start_does_not_search_the_archive(archive: Path) -> None:
    shutil.rmtree(archive / "jobs")
    run(archive, sys.executable, "-P", "-c", CHILD, PYTHONPATH=f":{safe_path.ROOT}")


def test_a_folder_that_the_user_names_stays_on_the_path(archive: Path) -> None:
    (archive / "own.py").write_text("print('the user has named this folder')")
    for path in (str(archive), f":{archive}", "."):
        said = run(
            archive, sys.executable, "-P", "-c", "import jobs, own", PYTHONPATH=f"{safe_path.ROOT}:{path}"
        )
        assert "named this folder" in said


WORKER = """
import os, sys
sys.path.insert(0, os.getcwd())
import pipelines
import av, scenedetect, random
assert os.getcwd() in sys.path
"""


def test_a_worker_of_another_ray_looks_in_the_archive_last(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    worker = tmp_path / "ray" / "default_worker.py"
    worker.write_text(WORKER)
    shutil.rmtree(archive / "pipelines")  # nobody could have put it there before this package came first
    run(archive, sys.executable, "-P", str(worker), PYTHONPATH=str(safe_path.ROOT))


def test_only_the_current_folder_comes_last() -> None:
    path = ["/films", "/films/more", "/v2a", "", "/usr/lib"]
    last = ["/films/more", "/v2a", "", "/usr/lib", "/films"]
    assert safe_path.current_folder_last(path, "/films", ["/elsewhere", "/films/more"]) == last
    assert safe_path.current_folder_last(path, "/films", ["/films"]) == path
    assert safe_path.current_folder_last(path, "/films/more", ["/films"]) == path
    assert safe_path.current_folder_last(path, "/", []) == path

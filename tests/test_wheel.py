"""The built wheel works without the repository: packages, templates and weights are in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.toy_generators import write_video

ROOT = Path(__file__).parent.parent
UV = ROOT / ".venv" / "uv" / "bin" / "uv"


def run(command: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """The command in `folder`, in an environment that does not lead to the repository."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "RAY_ADDRESS"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=800
    )


def done(command: Sequence[str | Path], folder: Path) -> str:
    """Standard output of a command that must succeed."""
    result = run(command, folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of a fresh environment with the wheel in it, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    done([UV, "build", "--wheel", "--quiet", "--out-dir", folder / "dist", ROOT], folder)
    [wheel] = (folder / "dist").glob("v2a-*.whl")
    done([UV, "venv", "--quiet", "--python", sys.executable, folder / "env"], folder)
    programs = folder / "env" / "bin"
    done([UV, "pip", "install", "--quiet", "--no-deps", "--python", programs / "python", wheel], folder)
    # Its .pth files do not count there, so that the editable install of the repository is out of reach.
    [packages] = (folder / "env" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def test_the_packages_come_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    script = (
        "import json, sys, v2a, jobs.cli, pipelines, v2a_models\n"
        "from v2a_models.checkpoint_files import bundled_names, find_checkpoint\n"
        "modules = {name: sys.modules[name].__file__ for name in ('v2a', 'jobs', 'pipelines', 'v2a_models')}\n"
        "print(json.dumps([modules, {name: str(find_checkpoint(name)) for name in bundled_names()}]))"
    )
    modules, checkpoints = json.loads(done([installed / "python", "-c", script], tmp_path))
    environment = str(installed.parent)
    assert all(file.startswith(environment) for file in [*modules.values(), *checkpoints.values()])
    assert "mini" in checkpoints
    assert all(Path(folder, "config.json").is_file() for folder in checkpoints.values())


def test_a_generator_loads(installed: Path, tmp_path: Path) -> None:
    script = "import v2a; print(isinstance(v2a.load_generator('mini'), v2a.Generator), v2a.__version__)"
    assert done([installed / "python", "-c", script], tmp_path).startswith("True ")


def test_the_demo_dubs_a_folder_and_writes_its_pages(installed: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "films" / "reel.mp4", 2.0)
    text = done([installed / "v2a", "demo", "films", "--out", "demo", "--num-workers", "1"], tmp_path)
    page = tmp_path / "demo" / "dubbed" / "_v2a" / "report.html"
    assert page.as_uri() in text
    assert "reel.mp4" in page.read_text()
    assert (tmp_path / "demo" / "dubbed" / "reel.mp4").stat().st_size > 0


@pytest.mark.slow
def test_the_whole_demo_runs(installed: Path, tmp_path: Path) -> None:
    done([installed / "v2a", "demo", "--out", "demo"], tmp_path)
    assert len(list((tmp_path / "demo" / "dubbed" / "rendered").glob("*.mp4"))) == 6

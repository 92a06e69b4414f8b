"""Choice of the checkpoint that a training resumes from, by Ray Train's own list and the folders."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import ray

from jobs.train.checkpoints import SNAPSHOT, run_to_continue


def kept(out: Path, run: str, names: Sequence[str], listed: Sequence[str] | None = None) -> Path:
    """A run's folder with these checkpoints; `listed` are in Ray Train's list (the same by default)."""
    folder = out / "_v2a" / "train" / run
    for name in names:
        (folder / name).mkdir(parents=True)
    results = [{"checkpoint_dir_name": name} for name in (names if listed is None else listed)]
    (folder / SNAPSHOT).write_text(json.dumps({"checkpoint_results": results}))
    return folder


def test_the_list_is_that_of_the_pinned_ray() -> None:
    """The file is private to Ray Train: a new Ray needs a look at these names before the version here changes."""
    from ray.train.v2._internal import constants
    from ray.train.v2._internal.execution.checkpoint import checkpoint_manager

    assert ray.__version__ == "2.60.0"
    assert constants.CHECKPOINT_MANAGER_SNAPSHOT_FILENAME == SNAPSHOT
    assert "checkpoint_results" in checkpoint_manager._CheckpointManagerState.__annotations__
    assert "checkpoint_dir_name" in checkpoint_manager._TrainingResultState.__annotations__


def test_only_one_module_knows_the_list() -> None:
    jobs = Path(__file__).parents[3] / "jobs"
    found = [
        file for file in jobs.rglob("*.py") if SNAPSHOT in file.read_text() or "SNAPSHOT" in file.read_text()
    ]
    assert [file.relative_to(jobs).as_posix() for file in found] == ["train/checkpoints.py"]


def test_a_new_training_begins_with_its_first_run(tmp_path: Path) -> None:
    assert run_to_continue(str(tmp_path)) == ("run0", "")


def test_a_whole_run_goes_on_and_unfinished_checkpoints_are_removed(tmp_path: Path) -> None:
    folder = kept(
        tmp_path, "run0", ["checkpoint_1", "checkpoint_2", "checkpoint_3"], ["checkpoint_1", "checkpoint_2"]
    )
    assert run_to_continue(str(tmp_path)) == ("run0", "")
    assert not (folder / "checkpoint_3").exists() and (folder / "checkpoint_2").exists()


@pytest.mark.parametrize("torn", ["", '{"checkpoint_res', '{"other": 1}'])
def test_after_a_torn_list_a_new_run_begins_with_the_newest_checkpoint(tmp_path: Path, torn: str) -> None:
    folder = kept(tmp_path, "run0", ["checkpoint_1", "checkpoint_2"])
    (folder / SNAPSHOT).write_text(torn)
    name, checkpoint = run_to_continue(str(tmp_path))
    assert name == "run1" and checkpoint.endswith("run0/checkpoint_2")


def test_a_list_that_names_a_deleted_checkpoint_is_not_followed(tmp_path: Path) -> None:
    folder = kept(tmp_path, "run0", ["checkpoint_1", "checkpoint_2"])
    (folder / "checkpoint_2").rmdir()
    name, checkpoint = run_to_continue(str(tmp_path))
    assert name == "run1" and checkpoint.endswith("run0/checkpoint_1")

"""The library of recorded sounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines import storage
from pipelines.foley.actors import ACTORS
from pipelines.foley.recordings import Library, credits, foley_classes, gather
from v2a_models.encoders.sound_classes import SOUND_CLASSES


def test_what_cannot_be_used_is_left_out_and_named(library: Library) -> None:
    reasons = dict(library.left_out)
    assert set(reasons) == {
        "dog/silent.wav", "dog/weak_9.wav", "unicorn/neigh.wav", "dog/broken.wav", "dog/missing.wav",
    }  # fmt: skip
    assert reasons["dog/silent.wav"] == "silent" and reasons["dog/weak_9.wav"] == "excluded"
    assert "unicorn" in reasons["unicorn/neigh.wav"] and ".wav" in reasons["dog/broken.wav"]


def test_recordings_are_mono_at_one_rate_with_their_attacks(library: Library) -> None:
    by_file = {item.file: item for item in library.recordings}
    step = by_file["footsteps_hard/step_1.wav"]
    assert step.label == "footsteps" and step.length == pytest.approx(0.58 * 44_100, rel=0.1)
    assert len(by_file["dog/near_01.wav"].onsets_s) == 1
    twice = by_file["dog/near_02.wav"]
    assert np.allclose(twice.onsets_s, [0.0, 0.4], atol=0.03)
    assert np.abs(library.sound(twice)).max() == pytest.approx(1.0)


def test_sessions_lie_on_one_side_of_the_split(library: Library) -> None:
    sides: dict[str, set[bool]] = {}
    for item in library.recordings:
        sides.setdefault(item.group, set()).add(item.held_out)
    assert all(len(side) == 1 for side in sides.values())
    groups = {item.group for item in library.recordings if item.label == "dog"}
    assert len(groups) == 3
    assert library.of("dog", "val") and library.of("dog", "train")


def test_classes_without_recordings_are_synthesised(library: Library) -> None:
    assert {"typing", "fan", "insects", "dog", "stream"} <= set(library.labels)
    assert not [item for item in library.recordings if item.label == "dog" and "synthesised" in item.file]
    assert "violin" not in library.labels


def test_a_library_is_the_same_after_writing_and_reading(library: Library, tmp_path: Path) -> None:
    library.save(tmp_path)
    again = Library.load(tmp_path)
    assert again.recordings == library.recordings and again.left_out == library.left_out
    assert np.array_equal(again.samples, library.samples)


def test_the_same_folder_gives_the_same_library(library: Library, recordings_folder: Path) -> None:
    again = gather(str(recordings_folder), exclude=["weak_*"], fewest=1, log=lambda text: None)
    assert again.recordings == library.recordings and np.array_equal(again.samples, library.samples)


def test_sources_are_credited_once(library: Library) -> None:
    assert credits(library) == [dict(licence="CC0-1.0", credit="A. Nyone", files=8)]


def test_files_outside_the_folder_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.wav").write_bytes(b"mine")
    rows = f"file,class\n../secret.wav,dog\n{tmp_path}/secret.wav,dog\n,\n"
    (tmp_path / "in" / "manifest.csv").write_text(rows)
    with pytest.raises(ValueError, match=r"no recording that can be used.*outside the folder"):
        gather(str(tmp_path / "in"), fewest=0, log=lambda text: None)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(storage.StorageError):
        gather(str(tmp_path))
    (tmp_path / "manifest.csv").write_text("name,kind\na.wav,dog\n")
    with pytest.raises(ValueError, match="columns file and class"):
        gather(str(tmp_path))
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        gather(str(tmp_path))


def test_every_class_of_sound_has_a_row_with_known_actors() -> None:
    classes = foley_classes()
    assert tuple(classes) == SOUND_CLASSES
    assert all(set(item.actors) <= set(ACTORS) and item.actors for item in classes.values())
    assert all(0 <= item.gaps_s[0] <= item.gaps_s[1] for item in classes.values())

"""The files that a track is written to: each is sealed before it gets its name, and holds its own track."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines import storage
from pipelines.mux import audio_file, output_files
from pipelines.mux.track import MuxResult, Track

BLOCK = np.array([[1, 2, 3], [-1, -2, -3]], np.int16)
"""Two tracks of one channel."""


def sound_files(folder: Path) -> output_files.Target:
    return output_files.Target(
        out=str(folder),
        name="sub/reel.mp4.wav",
        source="unused",
        track=Track(n_samples=6, video_start_s=0.0, tracks=2),
        sidecar="wav",
    )


def test_every_track_gets_its_own_sound_file_and_the_first_is_named_last(tmp_path: Path) -> None:
    sealed: list[int] = []

    def seal(path: Path, number: int, result: MuxResult) -> None:
        assert path.exists() and not (tmp_path / "sub" / "reel.mp4.wav").exists()
        assert result.digests.generated
        sealed.append(number)

    result = output_files.write(sound_files(tmp_path), [BLOCK, BLOCK], seal)
    assert sealed == [2, 1]
    first, second = tmp_path / "sub" / "reel.mp4.wav", tmp_path / "sub" / "reel.mp4.2.wav"
    assert np.concatenate(list(audio_file.read(first)), 1).tolist() == [[1, 2, 3, 1, 2, 3]]
    assert np.concatenate(list(audio_file.read(second)), 1).tolist() == [[-1, -2, -3, -1, -2, -3]]
    assert result.size == first.stat().st_size


def test_a_seal_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def seal(path: Path, number: int, result: MuxResult) -> None:
        raise RuntimeError("no seal")

    with pytest.raises(RuntimeError, match="no seal"):
        output_files.write(sound_files(tmp_path), [BLOCK], seal)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_sound_that_is_not_read_to_its_end_is_let_go(tmp_path: Path) -> None:
    """It may hold the film's decoder, which the next try needs."""
    held = ["decoder"]

    def sound() -> Iterator[np.ndarray]:
        try:
            yield BLOCK
            yield BLOCK
        finally:
            held.clear()

    blocks = sound()
    next(blocks)
    film = output_files.Target(
        str(tmp_path), "reel.mkv", str(tmp_path / "gone.mkv"), Track(n_samples=6, video_start_s=0.0)
    )
    with pytest.raises(storage.StorageError):
        output_files.write(film, blocks, lambda *_: None)
    assert not held

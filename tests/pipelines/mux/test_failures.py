"""The copy of damaged films, onto full disks, with sound that is not as announced, and in a child that dies."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from pipelines import storage
from pipelines.mux import child as mux_child
from pipelines.mux import files, remux
from pipelines.mux.child import mux_in_child
from pipelines.mux.track import Track
from tests.support import media_files
from tests.support.muxing import RATE, check, clicks, dub


def test_a_cut_off_film_is_copied_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = media_files.write_video(tmp_path / "whole.mkv", duration_s=2)
    source = media_files.truncated(whole, tmp_path / "cut.mkv", 0.7)
    copy, n_samples = dub(source, tmp_path / "out", at_s=0.1)
    check(source, copy, n_samples, at_s=0.1)


def test_sound_is_taken_as_a_stream_in_step_with_the_picture(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mkv", duration_s=4, gop=5)
    n_samples, seen = 4 * RATE, []

    def sound() -> Iterator[np.ndarray]:
        for _ in range(0, n_samples, 441):
            seen.append((tmp_path / "size").exists())
            yield np.zeros((1, 441), np.int16)

    remux.mux(str(source), sound(), tmp_path / "out.mkv", Track(n_samples=n_samples, video_start_s=0.0))
    assert len(seen) == 400
    with av.open(str(tmp_path / "out.mkv")) as film:
        latest, spread = {}, 0.0
        for packet in film.demux():
            if packet.dts is not None:
                latest[packet.stream_index] = float(packet.dts * packet.time_base)
                if len(latest) == 2:
                    spread = max(spread, abs(latest[0] - latest[1]))
    assert spread < 0.5  # interleaved


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        ([np.zeros((1, 100), np.int16)], "ends after 100"),
        ([np.zeros((1, RATE), np.int16)] * 2, "more than"),
        ([np.zeros((2, RATE), np.int16)], r"int16 \[1, n\]"),
        ([np.zeros((1, RATE), np.float32)], "float32"),
    ],
)
def test_sound_that_is_not_as_announced_is_refused(tmp_path: Path, sound: Any, words: str) -> None:
    source = media_files.write_video(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=words):
        remux.mux(str(source), sound, tmp_path / "out.mp4", Track(n_samples=RATE, video_start_s=0.0))
    assert not (tmp_path / "out.mp4").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_a_codec_that_the_container_cannot_hold(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mkv", codec="ffv1", sound="silent")
    with pytest.raises(remux.MuxFailed) as caught:
        remux.mux(
            str(source), [clicks(RATE, 0.5)], tmp_path / "out.webm", Track(n_samples=RATE, video_start_s=0.0)
        )
    assert caught.value.error_class == "ContainerCannotHold"
    assert caught.value.stage == "mux"
    assert not (tmp_path / "out.webm").exists()


@pytest.mark.parametrize("when", ["at once", "later", "at the end"])
def test_a_full_disk_is_a_storage_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    source = media_files.write_video(tmp_path / "a.mp4", duration_s=2)
    out = tmp_path / "out" / "out.mp4"
    out.parent.mkdir()
    write = files.Sink.write
    calls = 0

    def full(self: files.Sink, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if when == "at once" or (when == "later" and calls > 1) or (when == "at the end" and b"moov" in data):
            self.error = self.error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise self.error
        return write(self, data)

    monkeypatch.setattr(files.Sink, "write", full)
    with pytest.raises(storage.StorageError, match="No space left on device"):
        remux.mux(str(source), [clicks(2 * RATE, 0.5)], out, Track(n_samples=2 * RATE, video_start_s=0.0))
    assert list(out.parent.iterdir()) == []


def test_an_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mp4")
    for run in (remux.mux, mux_in_child):
        with pytest.raises(storage.StorageError, match="No such file or directory"):
            run(
                str(source),
                [clicks(RATE, 0.5)],
                tmp_path / "no" / "out.mp4",
                Track(n_samples=RATE, video_start_s=0.0),
            )


# ---- in a child


@pytest.mark.parametrize("name", ["a.mp4", "b.mkv"])
def test_the_child_writes_the_same_bytes(tmp_path: Path, name: str) -> None:
    source = media_files.write_video(tmp_path / name, sound="silent")
    sound = [clicks(RATE, 0.5, 2)[:, k::1][:, :441] for k in range(0, RATE, 441)]
    facts = {"n_samples": RATE, "video_start_s": 0.0, "channels": 2, "tags": {"comment": "é ✓"}}
    here = remux.mux(str(source), sound, tmp_path / f"here-{name}", Track(**facts))
    there = mux_in_child(str(source), iter(sound), tmp_path / f"there-{name}", Track(**facts))
    assert here == there
    assert (tmp_path / f"here-{name}").read_bytes() == (tmp_path / f"there-{name}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 3


def test_what_a_file_does_in_the_child_is_a_failed_mux(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(media_files.hls("/etc/passwd"))
    with pytest.raises(remux.MuxFailed) as caught:
        mux_in_child(
            str(source), [clicks(RATE, 0.5)], tmp_path / "o.mp4", Track(n_samples=RATE, video_start_s=0.0)
        )
    assert caught.value.error_class and caught.value.message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_too_little_memory_is_a_failed_mux(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mp4")
    with pytest.raises(remux.MuxFailed) as caught:
        mux_in_child(
            str(source),
            [clicks(RATE, 0.5)],
            tmp_path / "o.mp4",
            Track(n_samples=RATE, video_start_s=0.0),
            memory_mb=1,
        )
    assert caught.value.error_class in ("MuxerOutOfMemory", "MuxerCrashed")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_errors_of_the_sound_come_through(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mp4")

    def sound() -> Iterator[np.ndarray]:
        yield np.zeros((1, 1000), np.int16)
        raise storage.StorageNotFound("a part has gone")

    with pytest.raises(storage.StorageNotFound, match="a part has gone"):
        mux_in_child(str(source), sound(), tmp_path / "o.mp4", Track(n_samples=RATE, video_start_s=0.0))
    with pytest.raises(ValueError, match="ends after 1000"):
        mux_in_child(
            str(source),
            [np.zeros((1, 1000), np.int16)],
            tmp_path / "o.mp4",
            Track(n_samples=RATE, video_start_s=0.0),
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


@pytest.mark.parametrize(
    ("blow", "expected", "stall_s"),
    [(signal.SIGSEGV, "MuxerCrashed", 120.0), (signal.SIGSTOP, "MuxerTimeout", 2.0)],
)
def test_a_child_that_dies_or_hangs_is_a_failed_mux(
    tmp_path: Path, blow: int, expected: str, stall_s: float
) -> None:
    source = media_files.write_video(tmp_path / "a.mp4", duration_s=30, fps=2)
    others = {child.pid for child in psutil.Process().children()}

    def sound() -> Iterator[np.ndarray]:
        (child,) = [c for c in psutil.Process().children() if c.pid not in others]
        yield np.zeros((1, RATE), np.int16)
        child.send_signal(blow)
        yield np.zeros((1, 29 * RATE), np.int16)

    with pytest.raises(remux.MuxFailed) as caught:
        mux_in_child(
            str(source),
            sound(),
            tmp_path / "o.mp4",
            Track(n_samples=30 * RATE, video_start_s=0.0),
            stall_s=stall_s,
        )
    assert caught.value.error_class == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_a_missing_source_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(storage.StorageError):
        mux_in_child(
            str(tmp_path / "gone.mp4"),
            [clicks(RATE, 0.5)],
            tmp_path / "o.mp4",
            Track(n_samples=RATE, video_start_s=0.0),
        )


@pytest.mark.parametrize(
    "presented", [{}, {"start": "0", "tags": {}, "video": 5}, {"start": [[[]]], "tags": {}}]
)
def test_a_muxer_that_lies_about_what_the_film_presents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, presented: dict[str, Any]
) -> None:
    source = media_files.write_video(tmp_path / "a.mp4", duration_s=0.2)
    sha = "0" * 64
    answer = {
        "container": "mp4",
        "audio_codec": "aac",
        "n_samples": 1,
        "size": 1,
        "dropped": [],
        "source_sha256": sha,
    }
    answer |= {
        "digests": {"video": [], "kept": [], "generated": sha, "alternatives": []},
        "presented": presented,
    }
    monkeypatch.setattr(mux_child, "converse", lambda *_, **__: answer)
    with pytest.raises(remux.MuxFailed, match="invalid reply"):
        mux_in_child(str(source), [], tmp_path / "out.mp4", Track(n_samples=RATE, video_start_s=0.0))

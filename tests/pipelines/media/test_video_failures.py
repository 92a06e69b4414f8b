"""Files that cannot be decoded, or only in part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.media.errors import DecodeFailed
from tests.support import media_files
from tests.support.decoding import failure, numbers, probe, views


def test_empty_zero_and_text_files(tmp_path: Path) -> None:
    cases = {"EmptyFile": b"", "NotAVideo": b"hello world " * 500}
    for error_class, data in cases.items():
        (tmp_path / "a.mp4").write_bytes(data)
        assert failure(tmp_path / "a.mp4").error_class == error_class
    (tmp_path / "a.mp4").write_bytes(bytes(100_000))
    assert failure(tmp_path / "a.mp4").error_class == "NotAVideo"


@pytest.mark.parametrize("make", [media_files.hls, media_files.ffconcat])
def test_playlists_in_disguise_are_refused(tmp_path: Path, make: Any) -> None:
    media_files.write_video(tmp_path / "real.mp4", duration_s=0.2)
    (tmp_path / "a.mp4").write_bytes(make("real.mp4"))
    assert failure(tmp_path / "a.mp4").error_class == "ForbiddenFormat"


def test_dash_and_sdp_are_refused(tmp_path: Path) -> None:
    for text in ('<?xml version="1.0"?>\n<MPD type="static"></MPD>', "v=0\no=- 0 0 IN IP4 127.0.0.1\n"):
        (tmp_path / "a.mp4").write_text(text)
        assert failure(tmp_path / "a.mp4").error_class == "ForbiddenFormat"


def test_sound_only(tmp_path: Path) -> None:
    assert failure(media_files.write_sound(tmp_path / "a.mp4")).error_class == "NoVideoStream"
    assert failure(media_files.write_sound(tmp_path / "a.wav")).error_class == "NoVideoStream"
    assert failure(media_files.write_sound(tmp_path / "b.mp4", cover=True)).error_class == "NoVideoStream"


def test_encrypted(tmp_path: Path) -> None:
    path = media_files.encrypted(tmp_path / "a.mp4", duration_s=0.5)
    assert failure(path).error_class == "Encrypted"
    with pytest.raises(DecodeFailed, match="Encrypted"):
        views(path, 0, 0.5)


def test_truncated(tmp_path: Path) -> None:
    mp4 = media_files.write_video(tmp_path / "a.mp4", duration_s=2)
    assert failure(media_files.truncated(mp4, tmp_path / "index_lost.mp4")).error_class == "NotAVideo"
    front = media_files.write_video(
        tmp_path / "b.mp4", duration_s=2, container_options={"movflags": "faststart"}
    )
    cut = media_files.truncated(front, tmp_path / "data_lost.mp4", 0.6)
    facts = probe(cut)
    assert 0.1 < facts.duration_s < 1.9
    assert "ends early" in facts.note or facts.duration_s > 1
    last = numbers(cut, 0, 2)
    assert last[0] == 0 and last[-1] < 49


def test_damage_is_held_over_in_part_and_refused_in_whole(tmp_path: Path) -> None:
    good = media_files.write_video(tmp_path / "a.mp4", duration_s=2, gop=5)
    slightly = media_files.scrambled(good, tmp_path / "slight.mp4", 0.2)
    assert numbers(slightly, 0, 1) == list(range(25))
    assert len(numbers(slightly, 0, 2)) == 50
    assert failure(media_files.scrambled(good, tmp_path / "noise.mp4")).error_class == "InvalidData"
    mostly = media_files.scrambled(good, tmp_path / "most.mp4", 0.8)
    with pytest.raises(DecodeFailed, match="InvalidData"):
        views(mostly, 0, 2)


@pytest.mark.parametrize("size", [(0, 0), (30_000, 30_000), (65_535, 65_535)])
def test_absurd_sizes_are_refused_or_survived(tmp_path: Path, size: tuple[int, int]) -> None:
    make = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "duration_s": 0.4}
    path = media_files.write_video(tmp_path / "a.avi", **make)
    media_files.set_avi_size(path, *size)
    facts = probe(path)  # the pictures themselves are sane: their size counts
    assert (facts.width, facts.height) == (96, 64)
    path = media_files.write_video(tmp_path / "b.avi", **make)
    media_files.set_jpeg_size(path, *size)
    assert failure(path).error_class in ("InvalidData", "BadSize", "NotAVideo")


def test_absurd_timestamps_are_refused(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mkv", times_s=[0, 0.1, 3e6])
    assert failure(path).error_class == "BadTimestamps"

"""Descriptions of what films present: equal for copies in other containers, and small."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pipelines.mux import presented
from pipelines.mux.presented import clocks_of, describe
from pipelines.provenance.comparison import differences
from tests.support import media_files
from tests.support.signed_films import copy_film


def described(path: Path, other: Any = None) -> dict[str, Any]:
    with path.open("rb") as file:
        return describe(file, clocks_of(other))


def test_it_does_not_grow_with_the_film(tmp_path: Path) -> None:
    short, long = (
        described(media_files.write_video(tmp_path / f"{s}.mp4", duration_s=s, sound="audible"))
        for s in (1, 8)
    )
    assert len(json.dumps(long)) < len(json.dumps(short)) + 20


@pytest.mark.parametrize(
    "fps",
    [25, 24, Fraction(30_000, 1001), Fraction(24_000, 1001), 60, 50, 12.5],
    ids=lambda fps: f"{float(fps):.3f}",
)
def test_times_survive_the_clock_of_matroska(tmp_path: Path, fps: Any) -> None:
    film = media_files.write_video(tmp_path / "a.mp4", fps=fps, duration_s=2, sound="audible", bframes=2)
    first = described(film)
    copy = copy_film(film, tmp_path / "b.mkv")
    back = copy_film(copy, tmp_path / "c.mp4")
    twice = copy_film(back, tmp_path / "d.mkv")
    for path in (copy, back, twice):
        assert differences(first, described(path, first)) == []


def test_irregular_times_survive_it_too(tmp_path: Path) -> None:
    times = [0.0, 0.0333, 0.0671, 0.1004, 0.1349, 0.1672, 0.2403, 0.2711]
    film = media_files.write_video(tmp_path / "a.mp4", times_s=times)
    first = described(film)
    assert list(first["video"][0]["times"]) == ["ms"]
    copy = copy_film(film, tmp_path / "b.mkv")
    assert differences(first, described(copy, first)) == []
    assert differences(first, described(copy_film(copy, tmp_path / "c.mp4"), first)) == []
    other = media_files.write_video(tmp_path / "d.mp4", times_s=[*times[:4], 0.1379, *times[5:]])
    assert any("times" in text for text in differences(first, described(other, first)))


@pytest.mark.parametrize("moved_s", [0.004, 0.02, 0.5])
def test_one_picture_at_another_time_is_seen(tmp_path: Path, moved_s: float) -> None:
    times = [k / 25 for k in range(25)]
    first = described(media_files.write_video(tmp_path / "a.mp4", times_s=times))
    times[7] += min(moved_s, 0.039)
    other = described(media_files.write_video(tmp_path / "b.mp4", times_s=times), first)
    assert [text for text in differences(first, other) if "times" in text]


def test_clocks_are_taken_from_descriptions_only() -> None:
    good = {"video": [{"times": {"1/25": "x", "ms": "y", "256/11025": "z", "1/0": "", "9" * 30: ""}}]}
    assert clocks_of(good) == {"1/25", "256/11025"}
    for other in (None, 5, [], {"video": 5}, {"video": [5]}, {"video": [{"times": [1]}]}):
        assert clocks_of(other) == set()


def test_sound_files(tmp_path: Path) -> None:
    first = described(media_files.write_sound(tmp_path / "a.wav"))
    assert "times" not in first["sound"][0]  # PCM has no packets of its own
    assert differences(first, described(tmp_path / "a.wav", first)) == []
    other = described(media_files.write_sound(tmp_path / "b.wav", kind="quiet"), first)
    assert differences(first, other) == ["sound track: content"]


def test_many_tracks_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presented, "MOST_TRACKS", 1)
    film = media_files.write_video(tmp_path / "a.mkv", duration_s=0.2, sound=["audible"] * 6)
    found = described(film)
    assert found["tracks"] == "7" and len(found["sound"]) == 1

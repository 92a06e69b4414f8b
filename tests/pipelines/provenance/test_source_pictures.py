"""A copy is compared with its source by the pictures that are shown, and by their times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.mux import remux
from pipelines.mux.presented import clocks_of, describe
from pipelines.mux.track import Track
from pipelines.provenance.source_pictures import compare_pictures
from tests.pipelines.media.test_clock import joined
from tests.support import media_files
from tests.support.mp4_edits import set_edits
from tests.support.muxing import dub


def film(*tracks: dict[str, Any]) -> dict[str, Any]:
    return {"video": list(tracks)}


def track(content: str = "a", **times: str) -> dict[str, Any]:
    steps = {"1/25" if name.endswith("25") else name: value for name, value in times.items()}
    return {"content": content, "times": steps}


def described(path: Path, other: Any = None) -> dict[str, Any]:
    with path.open("rb") as file:
        return describe(file, clocks_of(other))


def test_pictures_and_times() -> None:
    source = film(track(_25="x", ms="y"))
    assert compare_pictures(source, film(track(_25="x", ms="z"))) == "same"
    assert compare_pictures(source, film(track(_25="z", ms="z"))) == "other times"
    assert compare_pictures(source, film(track(ms="z"))) == "other times"
    assert compare_pictures(source, film(track("b", _25="x", ms="y"))) == "other pictures"
    assert compare_pictures(source, film(track(_25="x"), track(_25="x"))) == "other pictures"
    assert compare_pictures(film(track(ms="y")), film(track(ms="y"))) == "same"
    assert compare_pictures(film(track(ms="y")), film(track(ms="z"))) == "unclear"
    assert compare_pictures({}, {}) == "same"


def test_only_what_is_shown_counts() -> None:
    source = film({**track("all", ms="q"), "shown": "a", "shownTimes": "1/25=x ms=y"})
    assert compare_pictures(source, film(track("a", **{"1_25": "x"}))) == "same"
    assert compare_pictures(source, film(track("all", **{"1_25": "x"}))) == "other pictures"
    assert clocks_of(source) == {"1/25"}


@pytest.mark.parametrize(("target", "bframes"), [("b.mkv", 0), ("b.mp4", 2)])
def test_a_trimmed_film_and_its_copy(tmp_path: Path, target: str, bframes: int) -> None:
    source = media_files.write_video(tmp_path / "a.mp4", duration_s=1, bframes=bframes)
    set_edits(source, [(0.6, bframes / 25)])
    before, copy = described(source), tmp_path / target
    remux.mux(str(source), [np.zeros((1, 100), np.int16)], copy, Track(100, 0.0))
    assert compare_pictures(before, described(copy, before)) == "same"
    other = set_edits(media_files.write_video(tmp_path / "c.mp4", duration_s=1, bframes=2), [(0.5, 0.08)])
    assert compare_pictures(before, described(other, before)) == "other pictures"
    late = set_edits(
        media_files.write_video(tmp_path / "d.mp4", duration_s=1, fps=30, bframes=2), [(0.5, 0.0667)]
    )
    assert compare_pictures(before, described(late, before)) in ("other pictures", "other times")


COPIES: dict[str, dict[str, Any]] = {
    "plain.mp4": {"bframes": 2, "fps": Fraction(30_000, 1001)},
    "variable.mov": {"times_s": [0, 0.04, 0.3, 0.31, 0.6, 0.95, 1.2]},
    "variable.mkv": {"times_s": [0, 0.04, 0.3, 0.31, 0.6, 0.95, 1.2]},
    "late.mkv": {"start_s": 1.25, "sound": "silent", "bframes": 2},
    "plain.webm": {"codec": "libvpx-vp9", "fps": 24},
    "plain.avi": {"codec": "mpeg4", "sound": "silent"},
    "avc.avi": {"bframes": 2},
    "film.flv": {"fps": 30},
    "avc.ts": {"bframes": 2, "fps": Fraction(30_000, 1001), "sound": "silent", "start_s": 7.3},
    "broadcast.ts": {"codec": "mpeg2video", "sound": "silent", "audio_codec": "mp2"},
    "film.wmv": {"codec": "wmv2"},
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_every_container(tmp_path: Path, name: str) -> None:
    source = media_files.write_video(tmp_path / name, duration_s=1, **COPIES[name])
    copy, _ = dub(source, tmp_path / "out", default="sound" not in COPIES[name])
    before = described(source)
    assert compare_pictures(before, described(copy, before)) == "same"


def test_a_joined_film_and_its_copy(tmp_path: Path) -> None:
    source = joined(tmp_path, (300.0, 10.0), 2)
    copy, _ = dub(source, tmp_path / "out", default=False)
    before = described(source)
    assert compare_pictures(before, described(copy, before)) == "same"

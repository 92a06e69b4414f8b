"""A copy is compared with its source by the pictures that are shown, and by their times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.mux import remux
from pipelines.mux.presented import clocks_of, describe
from pipelines.mux.track import Track
from pipelines.provenance.source_pictures import compare_pictures
from tests.support import media_files
from tests.support.mp4_edits import set_edits


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

"""Windows of a segment: they end at cuts, and those without motion need no pictures."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pipelines.dub import segment_windows
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob
from tests.support.dub_stages import make_job, plan
from v2a_models.longform import Layout
from v2a_models.recipe import View

LAYOUT = Layout.of(17_640, 3_528, 25, 4.0)
"""Windows of 0.4 s."""


def film(shots: list[tuple[int, bool]], **changes: str) -> tuple[Item, DubJob]:
    """One segment with shots of so many pictures, each still or moving, at 25 pictures a second."""
    rng, frames = np.random.default_rng(5), list[np.ndarray]()
    for length, moves in shots:
        shapes = np.kron(rng.integers(20, 235, (16, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        frames += [np.roll(shapes, k if moves else 0, 1)[:64, :64] for k in range(length)]
    job = make_job("out", layout=LAYOUT, overlap=0, views={"sync": View(25, 64, 64)}, **changes)
    [task] = plan(job, {"video_id": "v", "path": "a.mp4", "duration_s": len(frames) / 25})
    return Item(task, arrays={"sync": np.stack(frames), "thumbs": np.zeros((1, 2, 2, 3), np.uint8)}), job


def test_a_hard_cut_ends_a_window() -> None:
    item, job = film([(30, True), (45, True)])
    segment_windows.annotate(item, job)
    assert item.cuts == [LAYOUT.frame(30)] and not item.still_windows
    windows = segment_windows.windows_of(item, LAYOUT)
    assert LAYOUT.frame(30) in {window.keep[0] for window in windows}
    assert windows[0].keep[0] == 0
    assert all(left.keep[1] == right.keep[0] for left, right in pairwise(windows))


@pytest.mark.parametrize("static", ["ambience", "silence", "generate"])
def test_a_film_in_which_nothing_moves_needs_its_first_picture_at_most(static: str) -> None:
    item, job = film([(50, False)], static=static)
    segment_windows.annotate(item, job)
    windows = segment_windows.windows_of(item, LAYOUT)
    ambient = segment_windows.ambient_windows(item, windows)
    assert ambient == ([] if static == "generate" else windows)
    assert segment_windows.needs_first_picture(item, job) == (static == "ambience")
    segment_windows.drop_pictures(item, job)
    assert ("sync" in item.arrays) == (static == "generate") and "thumbs" in item.arrays


def test_a_window_beside_a_moving_one_is_generated() -> None:
    item, job = film([(50, True), (50, False)])
    segment_windows.annotate(item, job)
    windows = segment_windows.windows_of(item, LAYOUT)
    ambient = segment_windows.ambient_windows(item, windows)
    assert ambient and len(ambient) < len(windows)
    assert all(window.keep in item.still_windows for window in ambient)
    segment_windows.drop_pictures(item, job)
    assert "sync" in item.arrays


def test_pictures_that_were_not_decoded_are_an_error() -> None:
    item, job = film([(50, True)])
    windows = segment_windows.windows_of(item, LAYOUT)
    for window in windows:
        assert segment_windows.pictures(item, job, window, "sync").shape[1:] == (64, 64, 3)
    item.arrays["sync"] = item.arrays["sync"][:5]
    with pytest.raises(ValueError, match="pictures too few"):
        segment_windows.pictures(item, job, windows[-1], "sync")

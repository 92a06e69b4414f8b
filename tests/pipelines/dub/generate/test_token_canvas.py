"""Codec tokens of a segment: each frame is decided once, and the second wave knows what the first has decided."""

from __future__ import annotations

import dataclasses

import numpy as np

from pipelines.dub.generate.token_canvas import TokenCanvas, merged
from pipelines.dub.item import Item
from pipelines.dub.segment_windows import windows_of
from tests.support.dub_stages import make_job, plan
from v2a_models.longform import Layout, decided

LAYOUT = Layout.of(17_640, 3_528, 25, 4.0)
"""Windows of 0.4 s."""


def item_of(duration_s: float = 3.0) -> Item:
    job = make_job("out", layout=LAYOUT, overlap=0)
    return Item(plan(job, {"video_id": "v", "path": "a.mp4", "duration_s": duration_s})[0])


def test_windows_fill_the_canvas_in_two_waves() -> None:
    canvas = TokenCanvas(item_of(), LAYOUT)
    for wave in (0, 1):
        windows = [window for window in canvas.windows if window.wave == wave]
        assert len(canvas.to_generate(wave)) == len(windows) > 1
        for window in windows:
            if wave == 1:
                codes, mask = canvas.decided(window, 0)
                spans = decided(window, canvas.windows)
                assert mask.sum() == 2 * sum(stop - first for first, stop in spans) > 0
                assert set(codes[mask]) == {7} and not codes[~mask].any()
            canvas.put(window, np.full((1, 2, window.size), 7 + wave))
    assert canvas.codes.min() == 7 and canvas.codes.max() == 8
    assert canvas.facts().windows == len(canvas.windows) and not canvas.facts().still


def test_still_windows_repeat_one_loop_in_phase_with_the_film() -> None:
    item = item_of()
    item.still_windows = [window.keep for window in windows_of(item, LAYOUT)]
    canvas = TokenCanvas(item, LAYOUT)
    canvas.repeat(np.arange(10)[None, None])
    first, stop = canvas.segment_frames.decided
    assert np.array_equal(canvas.codes[0, 0], np.arange(first, stop) % 10)
    assert not canvas.to_generate(0) and not canvas.to_generate(1)
    [(start_s, end_s)] = canvas.facts().still
    assert start_s == 0 and 2.9 < end_s < 3.1 and canvas.facts().windows == 0


def test_a_part_needs_the_windows_around_it_alone() -> None:
    item = item_of(8.0)
    item.task = dataclasses.replace(item.task, part=(1.0, 1.3))
    canvas = TokenCanvas(item, LAYOUT)
    assert 1 <= len(canvas.needed) < len(canvas.windows)
    for window in canvas.needed:
        for a, b in decided(window, canvas.windows):
            beside = [w for w in canvas.windows if w.wave == 0 and a < w.keep[1] and b > w.keep[0]]
            assert all(w in canvas.needed for w in beside)


def test_touching_spans_are_merged() -> None:
    assert merged([(5, 7), (0, 2), (2, 4)]) == [(0, 4), (5, 7)]

"""The contact sheet: frames over the whole film, in its order, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.reports import contact_sheet
from pipelines.reports.contact_sheet import CELL_HEIGHT, GAP, MOST, WIDTH, Picker


def frame(grey: int, height: int = 54, width: int = 96) -> np.ndarray:
    return np.full((height, width, 3), grey, np.uint8)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 40_000), st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_frames_cover_the_film_in_its_order(duration_s: float, at: list[float]) -> None:
    times = [share * duration_s for share in at]
    picker = Picker(duration_s)
    for k, time_s in enumerate(times):
        picker.add([(time_s, frame(k % 256))])
    chosen = [time_s for time_s, _ in picker.frames]
    assert chosen == sorted(chosen) and set(chosen) <= set(times) and 1 <= len(chosen) <= MOST
    # No stretch of the film that has a frame is left out.
    stretch = duration_s / MOST
    assert all(any(abs(time_s - c) <= stretch * (1 + 1e-9) for c in chosen) for time_s in times)
    again = Picker(duration_s)
    again.add([(time_s, frame(k % 256)) for k, time_s in reversed(list(enumerate(times)))])
    assert [time_s for time_s, _ in again.frames] == chosen


def test_a_film_of_ten_hours_needs_no_more_memory_than_the_sheet() -> None:
    picker = Picker(36_000.0)
    tracemalloc.start()
    try:
        for minute in range(600):
            segment = np.full((1, 96, 171, 3), minute % 256, np.uint8)
            picker.add(zip([minute * 60.0], segment, strict=True))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(picker.frames) == MOST
    assert held < 1.1 * MOST * 96 * 171 * 3
    assert contact_sheet.draw_sheet(picker.frames).width == WIDTH


@pytest.mark.parametrize(
    ("n", "height", "width"),
    [(48, 96, 171), (1, 96, 128), (15, 96, 54), (5, 96, 384), (7, 96, 16), (48, 54, 96)],
)
def test_every_frame_is_where_it_belongs(n: int, height: int, width: int) -> None:
    frames = [(90.0 * k, frame(60 + 4 * k, height, width)) for k in range(n)]
    columns, rows, cell_width, cell_height = contact_sheet.layout(n, width / height)
    assert columns * rows >= n > columns * (rows - 1)
    assert columns * (cell_width + GAP) - GAP <= WIDTH and cell_height <= 2 * CELL_HEIGHT
    sheet = np.asarray(contact_sheet.draw_sheet(frames))
    assert sheet.shape == (rows * (cell_height + GAP) - GAP, WIDTH, 3)
    left = (WIDTH + GAP - columns * (cell_width + GAP)) // 2
    for k in range(n):
        x = left + k % columns * (cell_width + GAP) + cell_width // 2
        y = k // columns * (cell_height + GAP) + cell_height // 4
        assert abs(int(sheet[y, x, 0]) - (60 + 4 * k)) <= 2

"""Placement of windows on a film: every codec frame is decided once, by windows that know their neighbours."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2a_models import grid, longform
from v2a_models.longform import Layout

LAYOUT = Layout.of(176_400, 17_640, 25, 20)
lengths = st.integers(1, 6 * LAYOUT.windows * LAYOUT.frame(LAYOUT.hop))


@st.composite
def films(draw: st.DrawFn) -> tuple[int, list[int]]:
    """(codec frames, hard cuts)"""
    n = draw(lengths)
    return n, sorted(draw(st.sets(st.integers(1, n), max_size=25)))


def test_segments_follow_one_another_to_the_end() -> None:
    for n in (1, 344, 345, 346, 2000, LAYOUT.handover(1), LAYOUT.handover(1) + 1, 50_000):
        found = list(longform.segments(n, LAYOUT))
        assert found[0].start == 0 and found[-1].stop == n
        assert all(a.stop == b.start for a, b in pairwise(found))
        assert all(s.visual_span[0] <= s.start and s.stop <= s.visual_span[1] for s in found)
    assert not list(longform.segments(0, LAYOUT))


@given(films())
def test_every_frame_is_decided_once_and_transitions_are_painted(film: tuple[int, list[int]]) -> None:
    n, cuts = film
    for frames in longform.segments(n, LAYOUT):
        windows = longform.plan(frames, cuts, cuts, LAYOUT)
        assert windows[0].keep[0] == frames.decided[0] and windows[-1].keep[1] == frames.decided[1]
        for left, right in pairwise(windows):
            assert left.keep[1] == right.keep[0]
            # Within a shot one of two neighbours is always painted towards the other.
            assert left.shot != right.shot or {left.wave, right.wave} == {0, 1}
        for window in windows:
            assert window.start <= window.keep[0] < window.keep[1] <= window.start + window.size
            assert window.visual_span[0] <= window.keep[0] and window.keep[1] <= window.visual_span[1]
            beside = longform.decided(window, windows)
            assert bool(beside) == (window.wave == 1)
            # What it knows and what it decides never overlap, and touch.
            for first, stop in beside:
                assert stop == window.keep[0] or first == window.keep[1]


@given(films())
def test_no_window_is_decided_from_both_sides_of_a_cut_that_is_kept(film: tuple[int, list[int]]) -> None:
    n, cuts = film
    for frames in longform.segments(n, LAYOUT):
        windows = longform.plan(frames, cuts, cuts, LAYOUT)
        kept = {window.shot[0] for window in windows} - {frames.decided[0]}
        assert kept <= set(cuts)
        for cut in kept:
            assert not any(
                w.keep[0] < cut < w.keep[1] or w.visual_span[0] < cut < w.visual_span[1] for w in windows
            )


@given(films())
def test_neighbours_draw_the_window_between_them_alike(film: tuple[int, list[int]]) -> None:
    n, cuts = film
    for left, right in pairwise(longform.segments(n, LAYOUT)):
        zone = LAYOUT.kept(LAYOUT.border(right.index))
        shared = [
            [(w.number, w.start, w.keep, w.visual_span, w.samples, w.wave)
             for w in longform.plan(part, cuts, cuts, LAYOUT)
             if zone[0] <= w.keep[0] and w.keep[1] <= zone[1]]
            for part in (left, right)
        ]  # fmt: skip
        assert shared[0] == shared[1] and all(one[-1] == 0 for one in shared[0])
        assert sum(keep[1] - keep[0] for _, _, keep, *_ in shared[0]) == LAYOUT.window - 2 * LAYOUT.edge


@given(lengths)
def test_without_cuts_it_costs_what_overlapping_windows_cost(n: int) -> None:
    """One window a hop, and one more a segment, which its neighbour draws too; the film's end may add one."""
    parts = list(longform.segments(n, LAYOUT))
    windows = sum(len(longform.plan(part, [], [], LAYOUT)) for part in parts)
    plain = grid.window_count(n * grid.HOP, 176_400, 17_640)
    assert windows <= plain + 2 * len(parts)


@given(films())
def test_what_is_drawn_is_hardly_more_than_what_is_kept(film: tuple[int, list[int]]) -> None:
    n, cuts = film
    least = grid.codec_frames(LAYOUT.sizes[0])
    step = max(b - a for a, b in pairwise(map(grid.codec_frames, LAYOUT.sizes)))
    for frames in longform.segments(n, LAYOUT):
        windows = longform.plan(frames, cuts, cuts, LAYOUT)
        assert all(window.samples in LAYOUT.sizes for window in windows)
        # Neighbours share some of their ends. A shot's rest is rounded up to a size, on either side of what is fixed.
        shared = 2 * max(LAYOUT.edge + longform.SLACK, LAYOUT.overlap) * len(windows)
        rests = 2 * max(least, step) * (len({window.shot for window in windows}) + 2)
        drawn = sum(window.size for window in windows)
        assert drawn <= frames.decided[1] - frames.decided[0] + shared + rests


@pytest.mark.parametrize(
    ("film_s", "windows_s"), [(0.3, [1.2]), (2.0, [2.0]), (2.02, [2.4]), (4.0, [4.0]), (8.6, [4.0, 4.0, 1.6])]
)
def test_short_films_and_rests_cost_what_they_last(film_s: float, windows_s: list[float]) -> None:
    [frames] = longform.segments(grid.codec_frames(grid.samples(film_s)), LAYOUT)
    windows = longform.plan(frames, [], [], LAYOUT)
    assert [window.samples / grid.SAMPLE_RATE for window in windows] == windows_s


def test_cuts_that_follow_fast_are_not_kept_apart() -> None:
    [frames] = longform.segments(1900, LAYOUT)
    every_half_second = list(range(43, 1900, 43))
    windows = longform.plan(frames, every_half_second, [], LAYOUT)
    assert len(windows) <= 2 * len(longform.plan(frames, [], [], LAYOUT)) + 1


def test_a_window_begins_with_a_picture() -> None:
    for frames in longform.segments(20_000, LAYOUT):
        for window in longform.plan(frames, [777, 5000], [], LAYOUT):
            time_s = window.start * grid.HOP / grid.SAMPLE_RATE
            assert abs(time_s * 25 - round(time_s * 25)) < 0.5 * grid.HOP / grid.SAMPLE_RATE * 25 + 1e-6 or (
                window.start in (window.keep[0], window.keep[1] - window.size)
            )
            visual = longform.pictures(window, 25, LAYOUT)
            assert (
                len(visual) / 25 == window.samples / grid.SAMPLE_RATE and abs(visual[0] / 25 - time_s) < 0.021
            )


def test_pictures_behind_a_cut_are_held() -> None:
    cut = LAYOUT.frame(60)  # at 2.4 s
    [frames] = longform.segments(LAYOUT.frame(250), LAYOUT)
    first, *_, last = longform.plan(frames, [cut], [], LAYOUT)
    assert first.visual_span == (0, cut)
    assert longform.held(first, 25, LAYOUT) == (0, 59)
    assert longform.held(first, 8, LAYOUT) == (0, 19)  # of 8 a second, the last before 2.4 s
    assert longform.held(last, 25, LAYOUT)[0] == 60 and longform.held(last, 8, LAYOUT)[0] == 20


def test_a_loop_closes() -> None:
    loop = longform.loop(LAYOUT)
    assert loop.kept == (LAYOUT.edge, LAYOUT.window - LAYOUT.edge)
    (before, from_end), (behind, from_start) = loop.known
    # What the second call decides follows what the first one kept, and is followed by its beginning.
    assert before == (0, loop.closing[0]) and from_end[1] == loop.kept[1]
    assert behind == (loop.closing[1], LAYOUT.window) and from_start[0] == loop.kept[0]
    assert all(b - a == d - c == LAYOUT.overlap for (a, b), (c, d) in loop.known)
    assert loop.length == 2 * (LAYOUT.window - LAYOUT.edge - LAYOUT.overlap)


def test_too_little_overlap_is_told() -> None:
    with pytest.raises(ValueError, match="cannot be in-painted"):
        Layout.of(176_400, 0, 25, 60)
    with pytest.raises(ValueError, match="cannot be in-painted"):
        Layout.of(176_400, 120_000, 25, 60)

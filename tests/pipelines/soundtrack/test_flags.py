"""Flagged stretches: clipping and near-silence are found where they are, however the sound is cut into blocks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.soundtrack import flags
from pipelines.soundtrack.flags import CLIPPING, SILENCE, FlagDetector, without

RATE = 1_000
FULL = 32_767


def blocks(sound: np.ndarray, cuts: list[int]) -> Iterator[np.ndarray]:
    yield from np.split(sound, sorted(cuts), axis=1)


def found(sound: np.ndarray, cuts: list[int] | None = None, **more: object) -> list[tuple[str, float, float]]:
    detector = FlagDetector(RATE, **more)  # type: ignore[arg-type]
    for block in blocks(sound, cuts or []):
        detector.add(block)
    return [(f["what"], f["start_s"], f["end_s"]) for f in detector.listed()]


def tone(seconds: float, level: int = 8_000, channels: int = 1) -> np.ndarray:
    """int16 [channels, n], never at full scale and never silent."""
    wave = level * np.where(np.arange(round(seconds * RATE)) % 2, 1, -1)
    return np.repeat(wave[None].astype(np.int16), channels, axis=0)


@pytest.mark.parametrize("level", [FULL, -FULL, -32_768])
def test_three_samples_at_full_scale_are_clipping_and_two_are_not(level: int) -> None:
    sound = tone(3.0, channels=2)
    sound[1, 500:502] = level
    assert found(sound) == []
    sound[1, 2_000:2_003] = level
    assert found(sound) == [(CLIPPING, 2.0, 2.003)]


def test_channels_do_not_add_up_to_clipping() -> None:
    sound = tone(1.0, channels=2)
    sound[0, 500:502], sound[1, 502:504] = FULL, FULL
    assert found(sound) == []


def test_clipping_that_is_near_is_one_stretch() -> None:
    sound = tone(6.0)
    for at in (1_000, 1_900, 2_800, 5_000):
        sound[0, at : at + 4] = FULL
    assert found(sound) == [(CLIPPING, 1.0, 2.804), (CLIPPING, 5.0, 5.004)]


@pytest.mark.parametrize(("seconds", "expected"), [(1.8, []), (2.0, [(SILENCE, 1.0, 3.0)])])
def test_silence_counts_from_two_seconds_on(seconds: float, expected: list[tuple[str, float, float]]) -> None:
    sound = tone(5.0)
    sound[0, 1_000 : 1_000 + round(seconds * RATE)] = 0
    assert found(sound) == expected


@pytest.mark.parametrize(("level", "silent"), [(20, True), (60, False)])  # -64 and -55 dBFS
def test_near_silence_is_below_60_dbfs(level: int, silent: bool) -> None:
    assert bool(found(tone(4.0, level))) == silent


def test_one_silent_channel_is_no_silence_and_a_click_is_not_long() -> None:
    sound = tone(5.0, channels=2)
    sound[0] = 0
    assert found(sound) == []
    sound[:] = 0
    sound[:, 2_500] = 15_000
    assert found(sound) == [(SILENCE, 0.0, 2.5), (SILENCE, 2.6, 5.0)]


def test_a_film_silent_to_its_last_sample() -> None:
    sound = np.concatenate([tone(1.0), np.zeros((1, 2_345), np.int16)], axis=1)
    assert found(sound) == [(SILENCE, 1.0, 3.345)]
    assert found(np.zeros((1, 0), np.int16)) == []


def test_what_is_not_heard_is_not_looked_at() -> None:
    sound = np.zeros((1, 20_000), np.int16)
    sound[0, 5_000:5_010] = FULL
    sound[0, 15_000:15_010] = FULL
    assert found(sound, audible=[(14.0, 16.0), (1.0, 4.5)]) == [(SILENCE, 1.0, 4.5), (CLIPPING, 15.0, 15.01)]
    assert found(sound, audible=[]) == []


def test_silence_that_is_wanted_is_asked_for_when_it_is_over() -> None:
    """Silence on purpose that is known only after the parts of a film were read is known in time."""
    known: list[tuple[float, float]] = []
    detector = FlagDetector(RATE, intended_silence=lambda: known)
    detector.add(tone(1.0))
    detector.add(np.zeros((1, 10_000), np.int16))
    known.append((1.0, 8.5))
    detector.add(tone(1.0))
    assert detector.listed() == [{"start_s": 8.5, "end_s": 11.0, "what": SILENCE}]


def plainly(
    sound: np.ndarray, audible: list[tuple[float, float]] | None, wanted: list[tuple[float, float]]
) -> list[tuple[str, float, float]]:
    """The same, sample by sample."""
    n = sound.shape[1]

    def is_heard(at: int) -> bool:
        return audible is None or any(a <= at / RATE < b for a, b in audible)

    clipped: list[list[int]] = []
    for at in range(n):
        three = np.abs(sound[:, max(0, at - 2) : at + 1].astype(int)) >= FULL
        if at >= 2 and three.all(axis=1).any() and is_heard(at):
            if clipped and at - (clipped[-1][1] - 1) <= RATE:
                clipped[-1][1] = at + 1
            else:
                clipped.append([at - 2, at + 1])
    out = [(CLIPPING, a / RATE, b / RATE) for a, b in clipped]
    silent_from = None
    for first in [*range(0, n, 100), n]:
        hop = sound[:, first : first + 100].astype(float)
        silent = first < n and np.sqrt((hop**2).mean()) < FULL / 1000
        if silent and silent_from is None:
            silent_from = first
        if not silent and silent_from is not None:
            span, silent_from = (silent_from / RATE, first / RATE), None
            if span[1] - span[0] >= 2:
                pieces = (
                    [span] if audible is None else [(max(a, span[0]), min(b, span[1])) for a, b in audible]
                )
                pieces = without([p for p in pieces if p[0] < p[1]], wanted)
                out += [(SILENCE, *p) for p in pieces if p[1] - p[0] >= 2]
    return sorted(out, key=lambda f: f[1:])


spans = st.lists(st.integers(0, 12), max_size=4, unique=True).map(
    lambda cuts: [(float(a), float(b)) for a, b in zip(sorted(cuts)[::2], sorted(cuts)[1::2], strict=False)]
)


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(
        st.tuples(st.sampled_from([0, 5, 8_000, FULL, -32_768]), st.sampled_from([1, 2, 3, 4, 90, 1_100, 2_300])),
        min_size=1,
        max_size=12,
    ),
    cuts=st.lists(st.integers(0, 12_000), max_size=12),
    audible=st.none() | spans,
    wanted=spans,
    channels=st.integers(1, 2),
)  # fmt: skip
def test_how_the_sound_is_cut_changes_nothing(
    pieces: list[tuple[int, int]],
    cuts: list[int],
    audible: list[tuple[float, float]] | None,
    wanted: list[tuple[float, float]],
    channels: int,
) -> None:
    mono = np.concatenate([np.full(n, level, np.int16) for level, n in pieces])
    sound = np.stack([np.roll(mono, k) for k in range(channels)])
    expected = plainly(sound, audible, wanted)
    assert found(sound, audible=audible, intended_silence=lambda: wanted) == expected
    assert found(sound, cuts, audible=audible, intended_silence=lambda: wanted) == expected


def test_the_list_is_short_and_has_both_kinds() -> None:
    detector = FlagDetector(RATE)
    for k in range(60):
        loud = tone(2.0)
        loud[0, 700 : 703 + k] = FULL
        detector.add(loud)
        detector.add(np.zeros((1, 2_000 + 100 * k), np.int16))
    listed = detector.listed()
    assert detector.n_detected == 120 and len(listed) == flags.MOST_LISTED
    assert [f["start_s"] for f in listed] == sorted(f["start_s"] for f in listed)
    for what in (CLIPPING, SILENCE):
        mine = [f["end_s"] - f["start_s"] for f in listed if f["what"] == what]
        assert len(mine) == 10 and min(mine) >= 50 / RATE  # the longest of them
    assert detector.listed() == listed


def test_one_kind_may_fill_the_list() -> None:
    detector = FlagDetector(RATE)
    for _ in range(30):
        detector.add(np.zeros((1, 3_000), np.int16))
        detector.add(tone(1.0))
    assert len(detector.listed()) == flags.MOST_LISTED and detector.n_detected == 30


def test_memory_does_not_grow_with_the_film() -> None:
    detector = FlagDetector(RATE)
    noisy = tone(20.0)
    noisy[0, ::7] = FULL
    quiet = np.zeros((1, 20_000), np.int16)

    def run(times: int) -> int:
        tracemalloc.reset_peak()
        for _ in range(times):
            detector.add(noisy)
            detector.add(quiet)
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        run(30)
        short, long = run(5), run(200)
    finally:
        tracemalloc.stop()
    assert long < 1.2 * short


@pytest.mark.parametrize(
    ("spans", "others", "left"),
    [
        ([(0, 10)], [], [(0, 10)]),
        ([(0, 10)], [(2, 3), (5, 20)], [(0, 2), (3, 5)]),
        ([(0, 4), (6, 10)], [(3, 7)], [(0, 3), (7, 10)]),
        ([(0, 4)], [(0, 4)], []),
        ([(0, 4)], [(4, 9)], [(0, 4)]),
    ],
)
def test_without(
    spans: list[tuple[float, float]], others: list[tuple[float, float]], left: list[tuple[float, float]]
) -> None:
    assert without(spans, others) == left

"""Generated against true sound of recordings. The expected figures come from plain loops over the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from v2a_models.metrics import recorded
from v2a_models.metrics.recorded import (
    RATE,
    TOLERANCES,
    measure_clip,
    onset_pairs,
    recorded_figures,
    rising_onsets,
    rms_dbfs,
)


def beats(seed: int, seconds: float = 6.0, n: int = 9, noise: float = 0.004) -> np.ndarray:
    """Decaying bursts at random times over noise, float32 [n] at RATE."""
    rng = np.random.default_rng(seed)
    sound = noise * rng.standard_normal(round(seconds * RATE))
    for time_s in np.sort(rng.uniform(0.2, seconds - 0.4, n)):
        start, burst = (
            round(time_s * RATE),
            rng.standard_normal(RATE // 3) * np.exp(-np.arange(RATE // 3) / 1500),
        )
        sound[start : start + len(burst)] += rng.uniform(0.1, 0.5) * burst[: len(sound) - start]
    return sound.astype(np.float32)


def plain_onsets(sound: np.ndarray) -> list[float]:
    """Definition, step by step: levels of 10 ms, smoothed; rises over 4; local peaks above a threshold, apart."""
    raw = []
    for start in range(0, len(sound) - 219, 220):
        raw.append(math.log(math.sqrt(sum(float(x) ** 2 for x in sound[start : start + 220]) / 220) + 0.001))
    padded = [0.0, *raw, 0.0]
    level = [sum(padded[k : k + 3]) / 3 for k in range(len(raw))]
    rise = [max(0.0, level[k + 4] - level[k]) for k in range(len(level) - 4)]
    least = max(0.5, float(np.percentile(rise, 90)))
    found: list[int] = []
    for k, value in enumerate(rise):
        near = rise[max(0, k - 8) : k + 9]
        if value >= least and value == max(near) and (not found or k > found[-1] + 10):
            found.append(k)
    return [(k + 2) * 220 / 22050 for k in found]


def plain_hits(generated: list[float], true: list[float], tolerance_s: float) -> int:
    """For each true onset, the nearest generated one that no other has taken."""
    free, hits = list(generated), 0
    for time_s in true:
        near = sorted((abs(other - time_s), other) for other in free)
        if near and near[0][0] <= tolerance_s:
            free.remove(near[0][1])
            hits += 1
    return hits


def plain_f1(generated: list[list[float]], true: list[list[float]], tolerance_s: float) -> float:
    hits = sum(plain_hits(a, b, tolerance_s) for a, b in zip(generated, true, strict=True))
    return 2 * hits / sum(map(len, [*generated, *true]))


def test_the_figures_are_those_of_their_definitions() -> None:
    true = [beats(k) for k in range(5)]
    generated = [
        0.3 * np.roll(true[k], round((0.02 + 0.03 * k) * RATE)) + beats(10 + k, n=2) for k in range(5)
    ]
    generated[1][RATE : 3 * RATE] = 0
    own, theirs = [plain_onsets(sound) for sound in generated], [plain_onsets(sound) for sound in true]
    for sound, times_s in zip([*generated, *true], [*own, *theirs], strict=True):
        assert rising_onsets(sound) == pytest.approx(times_s)
    figures = recorded_figures([measure_clip(a, b) for a, b in zip(generated, true, strict=True)])
    assert [each.tolerance_s for each in figures.onsets] == list(TOLERANCES) == [0.05, 0.1, 0.2]
    for each in figures.onsets:
        shifts = [plain_f1(own[k:] + own[:k], theirs, each.tolerance_s) for k in range(1, 5)]
        assert each.f1.value == pytest.approx(plain_f1(own, theirs, each.tolerance_s))
        assert each.wrong.value == pytest.approx(sum(shifts) / 4)
        assert each.ratio.value == pytest.approx(each.f1.value / each.wrong.value)
        assert each.f1.low < each.f1.value < each.f1.high and each.f1.n == 5
        assert each.wrong.low < each.wrong.high and each.ratio.low < each.ratio.high
    levels = [
        10 * math.log10(float(np.mean(a.astype(float) ** 2)) / float(np.mean(b.astype(float) ** 2)))
        for a, b in zip(generated, true, strict=True)
    ]
    assert figures.level_db.value == pytest.approx(sorted(levels)[2], abs=1e-3)
    assert figures.level_quartiles_db == pytest.approx((sorted(levels)[1], sorted(levels)[3]), abs=1e-3)
    assert figures.near_silence.value == pytest.approx(2 / 30)


@pytest.mark.parametrize("seed", range(4))
def test_close_onsets_are_told_apart_by_their_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sound = 0.001 * rng.standard_normal(4 * RATE)
    for start in np.cumsum(rng.integers(900, 3500, 34)):
        sound[start : start + 200] += rng.uniform(0.02, 0.5) * rng.standard_normal(200)
    times_s = rising_onsets(sound.astype(np.float32))
    assert times_s == pytest.approx(plain_onsets(sound.astype(np.float32))) and len(times_s) > 8
    assert np.diff(times_s).min() > 0.105


def test_a_sound_meets_itself() -> None:
    figures = recorded_figures([measure_clip(sound, sound) for sound in map(beats, range(4))])
    for each in figures.onsets:
        assert (each.f1.value, each.f1.low, each.f1.high) == (1, 1, 1)
        assert each.wrong.value < 0.7 and each.ratio.low > 1
    assert figures.level_db.value == figures.near_silence.value == 0


def test_silence_is_near_silence_whose_only_onset_is_its_end() -> None:
    scores = [measure_clip(np.zeros(6 * RATE, np.float32), beats(k)) for k in range(3)]
    figures = recorded_figures(scores)
    assert figures.near_silence.value == figures.near_silence.low == 1
    assert figures.level_db.value < -100
    for score in scores:
        assert score.generated_onsets == pytest.approx([6 - 0.04], abs=0.01)


def test_seconds_without_audible_true_sound_do_not_count() -> None:
    true = np.concatenate([beats(0, 2.0), np.zeros(2 * RATE, np.float32)])
    score = measure_clip(np.zeros(len(true)), true)
    assert (score.audible_s, score.near_silent_s) == (2, 2)
    none = recorded_figures([measure_clip(true, np.zeros(len(true)))])
    assert not none.near_silence.available and "audible" in none.near_silence.note


@pytest.mark.parametrize(("by_s", "hits"), [(0.03, (1, 1, 1)), (0.15, (0, 0, 1)), (0.25, (0, 0, 0))])
def test_a_shift_counts_within_the_tolerance(by_s: float, hits: tuple[int, ...]) -> None:
    true = np.array([0.5, 1.5, 2.5, 3.5])
    assert [len(onset_pairs(true + by_s, true, tolerance_s)) for tolerance_s in TOLERANCES] == [
        4 * h for h in hits
    ]


def test_every_onset_has_one_partner() -> None:
    assert onset_pairs(np.array([1.0]), np.array([0.95, 1.0]), 0.1) == [(0, 0)]  # in the order of time
    assert onset_pairs(np.array([1.0, 1.04]), np.array([1.01, 1.05]), 0.1) == [(0, 0), (1, 1)]
    assert onset_pairs(np.zeros(0), np.ones(3), 0.1) == onset_pairs(np.ones(3), np.zeros(0), 0.1) == []


def test_one_clip_has_no_interval_and_no_wrong_clips() -> None:
    figures = recorded_figures([measure_clip(beats(0), beats(0))])
    assert figures.onsets[0].f1.value == 1 and math.isnan(figures.onsets[0].f1.low)
    assert not figures.onsets[0].wrong.available and "no wrong clips" in figures.onsets[0].ratio.note
    with pytest.raises(ValueError, match="no clips"):
        recorded_figures([])


def test_two_clips_have_an_interval_from_the_resamples_that_hold_both() -> None:
    figures = recorded_figures([measure_clip(beats(k), beats(k)) for k in range(2)])
    assert figures.onsets[2].wrong.low == figures.onsets[2].wrong.high == figures.onsets[2].wrong.value > 0


def test_resampled_clips_are_weighed_as_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resample that holds clips twice has the figures of a list that does, but for pairs of copies."""
    clips = [measure_clip(beats(10 + k) + beats(k), beats(k)) for k in range(4)]
    counts = np.array([[1, 1, 1, 1], [2, 0, 1, 1]])
    found = np.array([len(clip.true_onsets) + len(clip.generated_onsets) for clip in clips])
    seen: list[np.ndarray] = []
    monkeypatch.setattr(recorded, "_estimate", lambda figures, n, missing: seen.append(figures))
    recorded._agreement(clips, counts, counts @ found, 0.1)
    f1, wrong, _ = seen
    resample = [clips[0], clips[0], clips[2], clips[3]]
    assert f1[1] == pytest.approx(recorded_figures_f1(resample))
    pairs = [(a, b) for a in resample for b in resample if a is not b]
    hits = sum(len(onset_pairs(a.generated_onsets, b.true_onsets, 0.1)) for a, b in pairs)
    assert wrong[1] == pytest.approx(2 * (hits / len(pairs)) * 4 / (counts @ found)[1])


def recorded_figures_f1(clips: list[recorded.RecordedClip]) -> float:
    found = sum(len(clip.true_onsets) + len(clip.generated_onsets) for clip in clips)
    return 2 * sum(clip.hits(0.1) for clip in clips) / found


@pytest.mark.parametrize("n", [0, 1, 219, 800, 1100])
def test_very_short_sounds_have_no_onset(n: int) -> None:
    score = measure_clip(np.zeros(n, np.float32), np.zeros(n, np.float32))
    assert score.audible_s == 0 and score.level_db == 0
    assert n > 900 or len(score.true_onsets) == 0
    assert rms_dbfs(np.zeros(n)) == pytest.approx(-180)

"""Onsets that pictures alone give away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import onset_sight
from v2a_models.training.sync_task import SyncTask


def jumps(at: tuple[int, ...], n: int = 100) -> np.ndarray:
    """A picture that is another from each of these frames on."""
    frames = np.zeros((n, 64, 64, 3), np.uint8)
    for k, frame in enumerate(at):
        frames[frame:] = 60 * (k + 1)
    return frames


def test_peaks_are_where_pictures_change() -> None:
    found = onset_sight.peaks(onset_sight.difference(jumps((20, 50, 80))), 0.96)
    assert np.allclose(found, (np.array([20, 50, 80]) + 0.5) / 25)
    assert np.allclose(onset_sight.peaks(onset_sight.rise(jumps((20, 50))), 0.96), [0.82, 2.02])


def test_a_curve_that_knows_is_far_above_the_wrong_clips() -> None:
    rng = np.random.default_rng(0)
    times = [tuple(sorted(int(t) for t in rng.choice(np.arange(8, 92), 4, replace=False))) for _ in range(8)]
    true = [np.array(at) / 25 + 0.02 for at in times]
    own, wrong, _ = onset_sight.scored([onset_sight.difference(jumps(at)) for at in times], true)
    random, random_wrong, _ = onset_sight.scored(
        [onset_sight.chance(jumps(at, 90 + k)) for k, at in enumerate(times)], true
    )
    assert own > 0.8 and own > 2 * wrong
    assert random < 0.6 and random < 2 * random_wrong


def test_a_trained_task_gives_two_curves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(SyncTask().state_dict(), tmp_path / "task.pt")
    curves = onset_sight.of_task(tmp_path / "task.pt")
    assert set(curves) == {"onset head", "expected rise"}
    assert all(way(jumps((20,), 40)).shape == (40,) for way in curves.values())


def test_wrong_usage_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        onset_sight.main([str(tmp_path)])
    assert ended.value.code == 2 and "fewer than two clips" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        onset_sight.main([str(tmp_path / "none")])

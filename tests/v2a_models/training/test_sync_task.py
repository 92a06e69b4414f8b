"""The synchrony task: onsets of a sound, and that training finds which way a sound is shifted."""

from __future__ import annotations

import numpy as np
import torch

from v2a_models.encoders.motion import CELL_DIM, CELLS
from v2a_models.training.sync_task import SyncTask, onset_steps


def pulses(seed: int, n_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Motion (T, 64, 11) and sound (samples,) of something that flashes and clicks at random times."""
    rng = np.random.default_rng(seed)
    cells = 0.02 * rng.standard_normal((n_frames, CELLS**2, CELL_DIM)).astype(np.float32)
    sound = 1e-4 * rng.standard_normal(n_frames * 1764).astype(np.float32)
    for frame in np.flatnonzero(rng.random(n_frames) < 0.12):
        cells[frame, int(rng.integers(64)), :4] += 1.0
        click = 0.3 * rng.standard_normal(1500).astype(np.float32)
        sound[frame * 1764 : (frame + 1) * 1764][: len(click)] += click
    return torch.from_numpy(cells), torch.from_numpy(sound)


def test_onsets_of_a_sound_are_at_its_strokes() -> None:
    sound = 1e-4 * torch.randn(1, 50 * 1764, generator=torch.Generator().manual_seed(0))
    for step in (10, 30):
        sound[0, step * 1764 + 200 : step * 1764 + 1500] += 0.3 * torch.randn(1300)
    steps = onset_steps(SyncTask().coarse_spectrum(sound, 50))[0]
    found = set(torch.nonzero(steps)[:, 0].tolist())
    assert {9, 10, 11, 29, 30, 31} <= found <= {*range(8, 13), *range(28, 33)}
    sound[0, 20 * 1764 :] = 0.3 * torch.randn(30 * 1764)  # goes on: an onset where it begins only
    steps = onset_steps(SyncTask().coarse_spectrum(sound, 50))[0]
    assert 20 in torch.nonzero(steps)[:, 0] and not steps[24:].any()


def test_training_finds_the_shift_of_a_sound() -> None:
    torch.manual_seed(0)
    task = SyncTask()
    optimiser = torch.optim.Adam(task.parameters(), 2e-3)
    for step in range(60):
        cells, sound = zip(*(pulses(4 * step + k, 90) for k in range(4)), strict=True)
        losses = task(torch.stack(cells), torch.stack(sound))
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    task.eval()
    cells, sound = pulses(10_000, 140)
    assert task.offset(cells[None], sound[None]) == 0
    assert task.offset(cells[None], sound.roll(4 * 1764)[None]) == 4  # late
    assert task.offset(cells[None], sound.roll(-4 * 1764)[None]) == -4

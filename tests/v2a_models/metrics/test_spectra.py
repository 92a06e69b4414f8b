"""Spectra in blocks against the packages that know no blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import welch

from v2a_models.metrics.spectra import power_blocks, welch_power

NOISE = np.random.default_rng(0).normal(size=60_000).astype(np.float32)


@pytest.mark.parametrize(("n_fft", "hop", "window"), [(1024, 120, 600), (2048, 512, 2048), (512, 50, 241)])
def test_blocks_are_the_spectrogram_of_torch(n_fft: int, hop: int, window: int) -> None:
    whole = torch.stft(
        torch.from_numpy(NOISE),
        n_fft,
        hop,
        window,
        torch.hann_window(window),
        center=False,
        return_complex=True,
    )
    blocks = list(power_blocks(NOISE, n_fft, hop, window))
    assert len(blocks) > 1
    torch.testing.assert_close(torch.cat(blocks), whole.abs().square().T, rtol=1e-4, atol=1e-4)


def test_a_sound_shorter_than_a_frame_has_no_block() -> None:
    assert not list(power_blocks(NOISE[:511], 512, 50, 240))
    (only,) = power_blocks(NOISE[:512], 512, 50, 240)
    assert only.shape == (1, 257)


@pytest.mark.parametrize("length", [1000, 1001])
def test_averaged_power_is_that_of_scipy(length: int) -> None:
    _, theirs = welch(NOISE.astype(np.float64), nperseg=length, scaling="spectrum")
    np.testing.assert_allclose(welch_power(NOISE, length, len(theirs)), theirs, rtol=1e-4)
    np.testing.assert_allclose(welch_power(NOISE, length, 30), theirs[:30], rtol=1e-4)

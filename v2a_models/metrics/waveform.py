"""Waveform distances (MSE, MAE, multi-resolution STFT), and the frame-rate tone of 2308.12408."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from v2a_models.metrics.spectra import power_blocks, welch_power

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""Resolutions of Yamamoto et al. 2020 (1910.11480): n_fft, hop and window in samples."""

_PERIODS = 16
"""Frame periods per spectrum: lines at multiples of the frame rate then lie 16 bins apart."""
_FLOOR = 1e-12
"""Floor of the power per bin, -120 dB of full scale: below the resolution of 16-bit sound."""


def mse(generated: np.ndarray, reference: np.ndarray) -> float:
    """Mean squared error of two sounds [n] or [channels, n]. Raises ValueError for different shapes."""
    return float(np.mean(_difference(generated, reference) ** 2))


def mae(generated: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute error of two sounds [n] or [channels, n]. Raises ValueError for different shapes."""
    return float(np.mean(np.abs(_difference(generated, reference))))


@dataclass(frozen=True)
class StftDistance:
    """STFT distances, averaged over the resolutions."""

    spectral_convergence: float
    """Spectral convergence: || |R| - |G| ||_F / || |R| ||_F."""
    log_magnitude: float
    """Log magnitude distance: mean of | ln|R| - ln|G| |."""

    @property
    def total(self) -> float:
        """Sum of both, the loss of the paper."""
        return self.spectral_convergence + self.log_magnitude


def multi_resolution_stft(
    generated: np.ndarray,
    reference: np.ndarray,
    resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS,
) -> StftDistance:
    """Distance of two mono sounds [n] in magnitude spectrograms of several resolutions.

    Yamamoto et al. 2020 (1910.11480): spectral convergence and log magnitude, averaged over the resolutions.
    `resolutions`: (n_fft, hop, window) in samples, Hann windows, frames centred with the ends mirrored.
    Magnitudes have a floor of 1e-4 (power 1e-8, as auraloss), so silence is far away and not infinitely far.

    Raises ValueError for different shapes, sounds that are not mono, no resolution, or no more than n_fft / 2
    samples.
    """
    _difference(generated, reference)
    return stft_distance(generated, stft_magnitudes(reference, resolutions), resolutions)


def stft_magnitudes(
    sound: np.ndarray, resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS
) -> list[torch.Tensor]:
    """Magnitude spectrograms of a mono sound [n], one per resolution: float32 (1 + n // hop, n_fft / 2 + 1).

    Used with `stft_distance` to compare one reference with many sounds. Raises like `multi_resolution_stft`.
    """
    if np.ndim(sound) != 1 or not resolutions:
        raise ValueError("expected mono sounds and at least one resolution")
    longest = max(n_fft for n_fft, _, _ in resolutions)
    if len(sound) <= longest // 2:
        raise ValueError(f"{len(sound)} samples are too few for n_fft {longest}")
    return [torch.cat(list(_magnitudes(sound, *resolution))) for resolution in resolutions]


def stft_distance(
    generated: np.ndarray,
    reference: Sequence[torch.Tensor],
    resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS,
) -> StftDistance:
    """`multi_resolution_stft` of a sound [n] and the `stft_magnitudes` of another of the same length."""
    convergence, magnitude = [], []
    for spectrum, resolution in zip(reference, resolutions, strict=True):
        start, logs, apart, whole = 0, 0.0, 0.0, 0.0
        for ours in _magnitudes(generated, *resolution):
            theirs = spectrum[start : start + len(ours)]
            start += len(ours)
            logs += float((theirs / ours).log_().abs_().sum())
            apart += float(torch.nn.functional.mse_loss(ours, theirs, reduction="sum"))
            whole += float(theirs.square().sum())
        magnitude.append(logs / spectrum.numel())
        convergence.append(math.sqrt(apart / whole))
    return StftDistance(float(np.mean(convergence)), float(np.mean(magnitude)))


def frame_rate_tone_db(sound: np.ndarray, rate: int, fps: float, harmonics: int = 16) -> float:
    """Level, in dB above their surroundings, of the spectral lines of a mono sound [n] at multiples of the frame rate.

    2308.12408 (figure 8) reports that sound made frame by frame jumps at frame borders, which adds a tone at the frame
    rate with its overtones. It gives no measure; this one is ours. Averaged spectra (Welch, Hann) of 16 frame
    periods put line k at bin 16 k. Its power (3 bins) is divided by the geometric mean of the bins on its
    left and right, halfway to the next lines, which removes the slope of the spectrum. The result is the
    mean of these levels over the first `harmonics` lines below half the sample rate: 0 for noise and for
    silence, large for a sound that repeats every frame. Levels are averaged, not powers, because the
    overtones distinguish a frame-rate tone from another tone that happens to fall on a line.

    Only what all frames have in common makes lines; jumps of random sign and size make none. A steady sound
    whose own pitch is the frame rate or a small multiple (a motor at 60 Hz in 30 fps) has such lines too:
    compare with the figure of the reference sound.

    Raises ValueError for a sound that is not mono, holds NaN or is shorter than 16 frames, for `harmonics`
    below one, and for a frame rate that is not positive or leaves no line below half the sample rate.
    """
    if sound.ndim != 1 or not np.isfinite(sound).all():
        raise ValueError("expected a mono sound without NaN")
    if not fps > 0 or harmonics < 1:
        raise ValueError(f"the frame rate and the harmonics must be positive, not {fps} and {harmonics}")
    length = round(_PERIODS * rate / fps)
    lines = min(harmonics, (length // 2 - _PERIODS // 2) // _PERIODS)
    if lines < 1:
        raise ValueError(f"{fps} frames per second leave no line below half of {rate} Hz")
    if len(sound) < length:
        raise ValueError(f"{len(sound)} samples are shorter than {_PERIODS} frames ({length})")
    power = welch_power(sound, length, _PERIODS * lines + 9) + _FLOOR
    at = _PERIODS * np.arange(1, lines + 1)[:, None]
    line = power[at + np.arange(-1, 2)].mean(1)
    left = power[at + np.arange(-8, -3)].mean(1)
    right = power[at + np.arange(4, 9)].mean(1)
    return float(10 * np.mean(np.log10(line) - (np.log10(left) + np.log10(right)) / 2))


def _difference(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    if np.shape(generated) != np.shape(reference) or not np.size(reference):
        raise ValueError(f"expected sounds of one shape, got {np.shape(generated)} and {np.shape(reference)}")
    return np.asarray(generated, np.float64) - np.asarray(reference, np.float64)


def _magnitudes(sound: np.ndarray, n_fft: int, hop: int, window: int) -> Iterator[torch.Tensor]:
    """Blocks (frames, n_fft / 2 + 1) of magnitudes with their floor; frames centred, the ends mirrored."""
    padded = np.pad(np.asarray(sound, np.float32), n_fft // 2, mode="reflect")
    for power in power_blocks(padded, n_fft, hop, window):
        yield power.clamp_min_(1e-8).sqrt_()

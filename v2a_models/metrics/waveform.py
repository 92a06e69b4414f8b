"""Waveform against waveform (MSE, MAE, multi-resolution STFT), and the frame-rate tone of 2308.12408."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import welch

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""n_fft, hop and window of Yamamoto et al. 2020 (1910.11480), in samples."""

_PERIODS = 16
"""Frame periods per spectrum: lines at multiples of the frame rate then lie 16 bins apart."""
_FLOOR = 1e-12
"""Power per bin (-120 dB of full scale) that counts as nothing: below the step of 16-bit sound."""


def mse(generated: np.ndarray, reference: np.ndarray) -> float:
    """Mean squared error of two sounds [n] or [channels, n]. Raises ValueError for different shapes."""
    return float(np.mean(_difference(generated, reference) ** 2))


def mae(generated: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute error of two sounds [n] or [channels, n]. Raises ValueError for different shapes."""
    return float(np.mean(np.abs(_difference(generated, reference))))


@dataclass(frozen=True)
class StftDistance:
    """Means over the resolutions."""

    spectral_convergence: float
    """|| |R| - |G| ||_F / || |R| ||_F"""
    log_magnitude: float
    """Mean of | ln|R| - ln|G| |"""

    @property
    def total(self) -> float:
        """The loss of the paper: the sum of both."""
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
    return stft_distance(stft_powers(generated, resolutions), stft_powers(reference, resolutions))


def stft_powers(
    sound: np.ndarray, resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS
) -> list[torch.Tensor]:
    """Power spectrograms of a mono sound [n], one per resolution: float32 (n_fft / 2 + 1, 1 + n // hop).

    For `stft_distance` where one reference is compared with many sounds. Raises as `multi_resolution_stft`.
    """
    if np.ndim(sound) != 1 or not resolutions:
        raise ValueError("mono sounds and at least one resolution are wanted")
    longest = max(n_fft for n_fft, _, _ in resolutions)
    if len(sound) <= longest // 2:
        raise ValueError(f"{len(sound)} samples are too few for n_fft {longest}")
    return [_power(sound, *resolution) for resolution in resolutions]


def stft_distance(generated: Sequence[torch.Tensor], reference: Sequence[torch.Tensor]) -> StftDistance:
    """`multi_resolution_stft` of the `stft_powers` of two sounds of one length."""
    convergence, magnitude = [], []
    for ours, theirs in zip(generated, reference, strict=True):
        # Of powers: one logarithm and no hypot, which is most of the time this takes.
        magnitude.append(float((theirs / ours).log_().abs_().mean() / 2))
        ours, theirs = ours.sqrt(), theirs.sqrt()
        convergence.append(float(torch.linalg.norm(theirs - ours) / torch.linalg.norm(theirs)))
    return StftDistance(float(np.mean(convergence)), float(np.mean(magnitude)))


def frame_rate_tone_db(sound: np.ndarray, rate: int, fps: float, harmonics: int = 16) -> float:
    """Level in dB of the lines at multiples of the frame rate over their neighbourhood, of a mono sound [n].

    2308.12408 (figure 8) reports that sound made frame by frame jumps at frame borders, a tone at the frame
    rate with its overtones; it gives no measure, this one is ours. Averaged spectra (Welch, Hann) of 16 frame
    periods put line k at bin 16 k. Its power (3 bins) is divided by the geometric mean of the bins on its
    left and right, halfway to the next lines, which takes out the slope of the spectrum. The result is the
    mean of these levels over the first `harmonics` lines below half the sample rate: 0 for noise and for
    silence, large for a sound that repeats every frame. Levels are averaged, not powers, because the
    overtones are what tells a frame-rate tone from another tone that happens to fall on a line.

    Only what all frames have in common makes lines; jumps of random sign and size make none. A steady sound
    whose own pitch is the frame rate or a small multiple (a motor at 60 Hz in 30 fps) has such lines too:
    compare with the figure of the reference sound.

    Raises ValueError for a sound that is not mono, holds NaN or is shorter than 16 frames, for `harmonics`
    below one, and for a frame rate that is not positive or leaves no line below half the sample rate.
    """
    if sound.ndim != 1 or not np.isfinite(sound).all():
        raise ValueError("a mono sound without NaN is wanted")
    if not fps > 0 or harmonics < 1:
        raise ValueError(f"the frame rate and the harmonics must be positive, not {fps} and {harmonics}")
    length = round(_PERIODS * rate / fps)
    lines = min(harmonics, (length // 2 - _PERIODS // 2) // _PERIODS)
    if lines < 1:
        raise ValueError(f"{fps} frames per second leave no line below half of {rate} Hz")
    if len(sound) < length:
        raise ValueError(f"{len(sound)} samples are shorter than {_PERIODS} frames ({length})")
    _, power = welch(np.asarray(sound, np.float64), rate, nperseg=length, scaling="spectrum")
    power = power + _FLOOR
    at = _PERIODS * np.arange(1, lines + 1)[:, None]
    line = power[at + np.arange(-1, 2)].mean(1)
    left = power[at + np.arange(-8, -3)].mean(1)
    right = power[at + np.arange(4, 9)].mean(1)
    return float(10 * np.mean(np.log10(line) - (np.log10(left) + np.log10(right)) / 2))


def _difference(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    if np.shape(generated) != np.shape(reference) or not np.size(reference):
        raise ValueError(f"sounds of one shape are wanted: {np.shape(generated)}, {np.shape(reference)}")
    return np.asarray(generated, np.float64) - np.asarray(reference, np.float64)


def _power(sound: np.ndarray, n_fft: int, hop: int, window: int) -> torch.Tensor:
    spectrum = torch.stft(
        torch.from_numpy(np.asarray(sound, np.float32)),
        n_fft,
        hop,
        window,
        torch.hann_window(window),
        return_complex=True,
    )
    # Not a sum over the pairs of view_as_real: reducing an axis of two is ten times as slow.
    return (spectrum.real.square() + spectrum.imag.square()).clamp_min_(1e-8)

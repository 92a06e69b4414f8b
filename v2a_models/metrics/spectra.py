"""Power spectra: short ones in blocks of frames that fit a processor's cache, and averaged long ones.

A spectrogram of eight seconds is many megabytes at small hops, and fetching fresh memory for every step of it costs
more than the Fourier transforms do. In blocks nothing but the answer is ever large.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

_BLOCK = 2**17
"""Samples in a block's frames (half a MiB)."""


def power_blocks(sound: np.ndarray, n_fft: int, hop: int, window: int) -> Iterator[torch.Tensor]:
    """|STFT|^2 of a mono sound [n], block by block: float32 (frames, n_fft / 2 + 1), each block owned by the caller.

    Frames lie wholly within the sound, one every `hop` samples: whoever wants them centred pads first. The Hann window
    (periodic, `window` samples) lies in the middle of n_fft. As `torch.stft` with center=False, which has no blocks.
    """
    wave = torch.from_numpy(np.ascontiguousarray(sound, np.float32))
    if len(wave) < n_fft:
        return
    left = (n_fft - window) // 2
    taper = torch.nn.functional.pad(torch.hann_window(window), (left, n_fft - window - left))
    for frames in wave.unfold(0, n_fft, hop).split(max(1, _BLOCK // n_fft)):
        pairs = torch.view_as_real(torch.fft.rfft(frames * taper)).square_()
        yield pairs[..., 0] + pairs[..., 1]  # a sum over an axis of two is ten times as slow


def welch_power(sound: np.ndarray, length: int, bins: int) -> np.ndarray:
    """The lowest bins of the power spectrum of a mono sound [n], averaged over half overlapping segments of `length`
    samples: float64 [bins].

    As `scipy.signal.welch` with scaling="spectrum", in float32 and without the bins that nobody asks for.
    """
    wave = torch.from_numpy(np.ascontiguousarray(sound, np.float32))
    segments = wave.unfold(0, length, length - length // 2)
    taper = torch.hann_window(length)
    spectrum = torch.fft.rfft((segments - segments.mean(1, keepdim=True)) * taper)[:, :bins].numpy()
    power = (np.abs(spectrum.astype(np.complex128)) ** 2).mean(0) / float(taper.sum()) ** 2
    power[1 : (length + 1) // 2] *= 2  # the negative frequencies; 0 Hz and half the rate have none
    return power

"""Power spectra: spectrograms in blocks of frames that fit a processor's cache, and Welch averages.

A spectrogram of eight seconds takes many megabytes at small hops, and allocating them costs more time than the Fourier
transforms. With blocks, only the result is large.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

_FRAME_BLOCK = 2**17
"""Samples in the frames of a block (half a MiB)."""


def power_blocks(sound: np.ndarray, n_fft: int, hop: int, window: int) -> Iterator[torch.Tensor]:
    """Power spectrogram |STFT|^2 of a mono sound [n] in blocks: float32 (frames, n_fft / 2 + 1), owned by the caller.

    Frames lie within the sound, one every `hop` samples; pad first for centred ones. The periodic Hann window of
    `window` samples lies in the middle of n_fft, as in `torch.stft` with center=False.
    """
    wave = torch.from_numpy(np.ascontiguousarray(sound, np.float32))
    if len(wave) < n_fft:
        return
    left = (n_fft - window) // 2
    taper = torch.nn.functional.pad(torch.hann_window(window), (left, n_fft - window - left))
    for frames in wave.unfold(0, n_fft, hop).split(max(1, _FRAME_BLOCK // n_fft)):
        pairs = torch.view_as_real(torch.fft.rfft(frames * taper)).square_()
        yield pairs[..., 0] + pairs[..., 1]  # a sum over an axis of two is ten times as slow


def welch_power(sound: np.ndarray, length: int, bins: int) -> np.ndarray:
    """Lowest bins of the power spectrum of a mono sound [n], averaged over half-overlapping segments of `length`
    samples: float64 [bins].

    Equals `scipy.signal.welch` with scaling="spectrum", but in float32 and limited to the lowest bins.
    """
    wave = torch.from_numpy(np.ascontiguousarray(sound, np.float32))
    segments = wave.unfold(0, length, length - length // 2)
    taper = torch.hann_window(length)
    spectrum = torch.fft.rfft((segments - segments.mean(1, keepdim=True)) * taper)[:, :bins].numpy()
    power = (np.abs(spectrum.astype(np.complex128)) ** 2).mean(0) / float(taper.sum()) ** 2
    power[1 : (length + 1) // 2] *= 2  # the negative frequencies; 0 Hz and half the rate have none
    return power

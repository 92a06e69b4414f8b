"""Baseline sounds that show the range of every metric: silence, shuffled clips, shaped noise."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy import fft


def silence(n: int) -> np.ndarray:
    """Digital silence: float32 zeros [n]. Raises ValueError for a negative length."""
    return np.zeros(n, np.float32)


def shuffled(labels: Sequence[Hashable], seed: int = 0) -> np.ndarray:
    """Permutation int64 [N] that gives every clip the sound of another clip.

    labels [N] are the clips' classes. As many clips as possible get a sound of another class: all of them
    unless one class holds more than half the clips. The same labels and seed give the same order.

    Raises ValueError for fewer than two clips.
    """
    n = len(labels)
    if n < 2:
        raise ValueError(f"at least two clips are needed to shuffle, not {n}")
    rng = np.random.default_rng(seed)
    classes: dict[Hashable, list[int]] = {}
    for clip, label in enumerate(labels):
        classes.setdefault(label, []).append(clip)
    blocks = [rng.permutation(clips) for clips in classes.values()]
    ring = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
    # Clips lie in a ring, sorted by class. Rotating by the size of the largest class moves every clip out of
    # its own class, or as many as possible.
    turn = max(len(block) for block in blocks)
    order = np.empty(n, np.int64)
    order[ring] = np.roll(ring, -turn if turn < n else -1)
    return order


def other_clips(labels: Sequence[Hashable]) -> list[int]:
    """Index of another clip for each clip, of another class where there is one; its own index if it is alone."""
    return [int(k) for k in shuffled(labels, 0)] if len(labels) > 1 else [0] * len(labels)


def spectrum_noise(reference: np.ndarray, seed: int = 0) -> np.ndarray:
    """Gaussian noise, float32 [n], with the long-term spectrum and the RMS of a mono sound [n].

    The reference's Fourier magnitudes with random phases (Theiler et al. 1992, surrogate data): everything
    about the sound but its timing. Peaks may pass 1 where the reference was close to it; nothing is clipped.
    Gaussian as a sum of many partials is: a reference of a few pure tones gives these tones again.

    Raises ValueError for a sound that is not [n], has no sample, or holds NaN or infinite values.
    """
    sound = np.asarray(reference, np.float64)
    if sound.ndim != 1 or not len(sound):
        raise ValueError(f"expected a mono sound of at least one sample, got shape {sound.shape}")
    if not np.isfinite(sound).all():
        raise ValueError("the sound holds NaN or infinite values")
    spectrum = fft.rfft(sound)
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(spectrum))
    phases[0] = 0.0
    if len(sound) % 2 == 0:
        phases[-1] = 0.0  # 0 Hz and half the sample rate have no phase; turning them would change the RMS
    return fft.irfft(spectrum * np.exp(1j * phases), len(sound)).astype(np.float32)

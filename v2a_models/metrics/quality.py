"""Inception score (IS) and divergence (KLD) of class probabilities, and the MFCC frames of FDM.

The probabilities come from a published classifier (PANNs, PaSST, ...). Fréchet distances are in `frechet`.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import rel_entr

from v2a_models import grid

if TYPE_CHECKING:
    from torchaudio.transforms import MFCC

FLOOR = 1e-12
"""Minimum probability of a generated class, which keeps divergences finite (27.6 nats at most)."""


def inception_score(
    probabilities: np.ndarray, splits: int = 10, seed: int | None = 2020
) -> tuple[float, float]:
    """Inception score of class probabilities (N, C) of generated clips: mean and standard deviation over
    splits.

    exp(mean_x KL(p(y|x) || p(y))) with p(y) the mean over the split (Salimans et al. 2016, 1606.03498): 1 if
    all clips get the same answer, C if every class is met equally often and surely. Ten splits of clips
    shuffled with seed 2020 are what av-benchmark takes (torch-fidelity); `seed=None` leaves the order. Splits
    smaller than the number of classes make the score too small: compare equal N only.

    Raises ValueError for rows that are no probabilities, or fewer clips than splits.
    """
    rows = _probabilities(probabilities)
    if not 1 <= splits <= len(rows):
        raise ValueError(f"{len(rows)} clips do not make {splits} splits")
    if seed is not None:
        rows = rows[np.random.RandomState(seed).permutation(len(rows))]
    edges = [i * len(rows) // splits for i in range(splits + 1)]
    parts = [rows[a:b] for a, b in pairwise(edges)]
    scores = [np.exp(rel_entr(part, part.mean(0)).sum(1).mean()) for part in parts]
    return float(np.mean(scores)), float(np.std(scores))


def kl_divergence(reference: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """KL(reference || generated) of each clip in nats: float64 (N,), from class probabilities (N, C) of both.

    The field's direction (SpecVQGAN 2021, AudioGen, av-benchmark): sum_c p_ref log(p_ref / p_gen), which
    punishes a class that is in the reference and missing in the generated sound. p_gen counts with `FLOOR` at
    least; some older scorers add 1e-6 instead, which lowers large divergences.

    Raises ValueError for different shapes or rows that are no probabilities.
    """
    p, q = _probabilities(reference), _probabilities(generated)
    if p.shape != q.shape:
        raise ValueError(f"expected pairs of clips, got shapes {p.shape} and {q.shape}")
    return np.maximum(rel_entr(p, np.maximum(q, FLOOR)).sum(1), 0.0)


def mfcc_frames(sound: np.ndarray, rate: int = grid.SAMPLE_RATE) -> np.ndarray:
    """MFCC of a mono sound [n], one row per frame: float32 (1 + m // 512, 64), m samples at 44.1 kHz.

    FDM (2407.10387) is the Fréchet distance over these rows: the first 64 cepstral coefficients of 128 mel
    bands, n_fft 2048, hop 512, 44.1 kHz; other rates are resampled first. The paper says no more: Slaney's
    mel scale from 0 to 22.05 kHz (the HTK scale leaves its lowest bands empty at this n_fft), power in dB
    down to 80 dB below the clip's peak, and an orthonormal DCT are ours. Frames are centred, with silence
    beyond the ends.

    Raises ValueError for a sound that is not [n], has no sample, or holds NaN or infinite values.
    """
    import torch
    from torchaudio.functional import resample

    from v2a_models.metrics.spectra import power_blocks

    row = np.asarray(sound, np.float32)
    if row.ndim != 1 or not len(row):
        raise ValueError(f"expected a mono sound of at least one sample, got shape {row.shape}")
    if not np.isfinite(row).all():
        raise ValueError("the sound holds NaN or infinite values")
    waveform = torch.from_numpy(row)
    if rate != grid.SAMPLE_RATE:
        waveform = resample(waveform, rate, grid.SAMPLE_RATE)
    transform = _mfcc()
    spectrum = transform.MelSpectrogram
    padded = np.pad(waveform.numpy(), spectrum.n_fft // 2)
    with torch.inference_mode():
        bands = torch.cat(
            [
                power @ spectrum.mel_scale.fb
                for power in power_blocks(padded, spectrum.n_fft, spectrum.hop_length, spectrum.n_fft)
            ]
        )
        return (transform.amplitude_to_DB(bands) @ transform.dct_mat).numpy()


@lru_cache(maxsize=1)
def _mfcc() -> MFCC:
    from torchaudio.transforms import MFCC

    spectrum = dict(
        n_fft=2048, hop_length=grid.HOP, n_mels=128, mel_scale="slaney", norm="slaney", pad_mode="constant"
    )
    return MFCC(grid.SAMPLE_RATE, n_mfcc=64, melkwargs=spectrum)


def _probabilities(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2:
        raise ValueError(f"class probabilities must be (N, C), not {rows.shape}")
    # NaN fails both comparisons; 1e-3 lets float16 rows pass.
    if not ((rows >= 0).all() and (np.abs(rows.sum(1) - 1) < 1e-3).all()):
        raise ValueError("rows are not probabilities: they must be at least 0 and sum to 1")
    return rows / rows.sum(1, keepdims=True)

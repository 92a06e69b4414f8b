"""Alignment of sound and video in the space of a SCAV (`networks.sight.Scav`)."""

from __future__ import annotations

import numpy as np
import torch

from v2a_models.scav import interpolated_euclidean


def nearer(video: np.ndarray, sound: np.ndarray, other: np.ndarray) -> bool:
    """True if a sound (T, D) is nearer to a video (T', D) than `other` (T, D), in SCAV's space.

    Alignment accuracy is the fraction of clips for which this holds against the true sound of another clip: 0.5 by
    chance. (2411.05679 uses Diff-Foley's classifier, for which there is no maintained package.)
    """
    ours, theirs = (
        float(interpolated_euclidean(*(torch.from_numpy(np.array(x))[None] for x in (video, audio))))
        for audio in (sound, other)
    )
    return ours < theirs

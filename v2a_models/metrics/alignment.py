"""Does a sound belong to its pictures? Told in the space of a SCAV (`networks_sight.Scav`)."""

from __future__ import annotations

import numpy as np
import torch

from v2a_models.scav import interpolated_euclidean


def nearer(seen: np.ndarray, sound: np.ndarray, other: np.ndarray) -> bool:
    """Whether a sound (T, D) is nearer to the pictures `seen` (T', D) than another sound (T, D) is, in SCAV's space.

    The share of clips of which this holds, with the true sound of another clip as the other, is the alignment
    accuracy: 0.5 by chance. (2411.05679 takes the share that Diff-Foley's classifier calls aligned, of which there is
    no kept package.)
    """
    ours, theirs = (
        float(interpolated_euclidean(*(torch.from_numpy(np.array(x))[None] for x in (seen, heard))))
        for heard in (sound, other)
    )
    return ours < theirs

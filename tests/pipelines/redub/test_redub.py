"""The samples of a redubbed film: new within the part, those of before outside of it."""

from __future__ import annotations

import numpy as np

from pipelines.redub.redub import patched
from pipelines.soundtrack.mixing import AudioFormat


def test_only_samples_of_the_part_change() -> None:
    fmt = AudioFormat(1000, 1, 4000)
    old, new = np.full((1, 4000), 100, np.int16), np.full((1, 4000), -900, np.int16)
    sound = np.concatenate(list(patched([old[:, :700], old[:, 700:]], [new], (1.0, 3.0), fmt)), 1)
    assert sound.dtype == np.int16 and sound.shape == (1, 4000)
    assert (sound[:, :1000] == 100).all() and (sound[:, 3000:] == 100).all()
    assert (sound[:, 1100:2900] == -900).all()
    start, end = sound[0, 1000:1100].astype(int), sound[0, 2900:3000].astype(int)
    assert (np.diff(start) <= 0).all() and (np.diff(end) >= 0).all() and len(set(start)) > 10

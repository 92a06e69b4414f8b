"""The streams of a copy: time code in its place in every container."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.mux import remux
from pipelines.mux.track import Track
from tests.support.mp4_boxes import handler, tracks
from tests.support.muxing import RATE
from tests.support.odd_streams import write_film

CODES = {".mov": ("01:02:03:04", 25), ".mp4": ("01:02:03;04", Fraction(30_000, 1001))}
"""Time code, with drop frames at 29.97 pictures per second."""


@pytest.mark.parametrize("suffix", CODES)
def test_the_time_code_stays_a_track_or_becomes_a_tag(tmp_path: Path, suffix: str) -> None:
    code, fps = CODES[suffix]
    source = write_film(tmp_path / f"a{suffix}", [], {"timecode": code}, fps=fps)
    assert b"tmcd" in map(handler, tracks(source))
    for target in (suffix, ".mkv"):
        copy = tmp_path / f"copy{target}"
        result = remux.mux(str(source), [np.zeros((1, RATE), np.int16)], copy, Track(RATE, 0.0))
        assert result.dropped == ()
        with av.open(str(copy)) as film:
            found = {key.lower(): value for key, value in film.streams.video[0].metadata.items()}
        assert found["timecode"] == code
        if target != ".mkv":
            assert [handler(track) for track in tracks(copy)] == [b"vide", b"soun", b"tmcd"]

"""A copy of any container shows the pictures of its source at their times, by a reader that knows nothing of v2a."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import media_files
from tests.support.muxing import dub

CODECS = {
    ".mp4": "libx264",
    ".mov": "libx264",
    ".3gp": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx",
    ".ts": "libx264",
    ".mpg": "mpeg2video",
    ".vob": "mpeg2video",
    ".flv": "libx264",
    ".wmv": "wmv2",
    ".nut": "libx264",
    ".ogg": "libvpx",
}
COUNTED = (".mpg", ".vob", ".wmv", ".ogg")
"""Containers whose codecs know few clocks: their pictures lie on multiples of 1/25 s."""

WITHOUT_NEGATIVE = (".mkv", ".webm", ".flv", ".wmv", ".nut", ".ogg")
"""Containers in which FFmpeg writes times before zero as other ones."""


def shown(path: Path) -> list[tuple[float, int]]:
    """(time after the first picture in seconds, number) of every picture that a player shows."""
    found: list[tuple[float, int]] = []
    with av.open(str(path)) as film:
        video: Any = film.streams.video[0]
        for packet in film.demux(video):
            with contextlib.suppress(av.InvalidDataError):
                for frame in packet.decode():
                    number = media_files.number_of(frame.to_ndarray(format="rgb24"))
                    found.append((float(frame.pts * video.time_base), number))
    return [(time_s - found[0][0], number) for time_s, number in found]


@pytest.mark.parametrize("suffix", CODECS)
@settings(max_examples=4, deadline=None)
@given(
    steps=st.lists(st.integers(1, 20), min_size=8, max_size=24),
    start=st.sampled_from([0, 33, 750_000, 2_375_000]) | st.integers(-50, 500),
    bframes=st.integers(0, 3),
    fine=st.integers(1, 9),
    silent=st.booleans(),
)
def test_any_film(suffix: str, steps: list[int], start: int, bframes: int, fine: int, silent: bool) -> None:
    """Variable steps, late and negative starts, a day and more from zero, pictures out of order."""
    fine = 0 if suffix in COUNTED else fine
    bframes = bframes if CODECS[suffix] in ("libx264", "mpeg2video") else 0
    if suffix in WITHOUT_NEGATIVE:
        start = max(start, 60 * bframes)  # pictures are decoded up to three steps before they are shown
    times_s = [sum(steps[:k]) * (0.04 + fine / 1000) for k in range(len(steps))]
    # NUT takes no times before zero, at which other coders begin.
    coders = dict.fromkeys((".ts", ".mpg", ".vob"), "mp2") | {".ogg": "libopus", ".nut": "pcm_s16le"}
    sound: dict[str, Any] = {} if silent else {"sound": "silent", "audio_codec": coders.get(suffix)}
    with tempfile.TemporaryDirectory() as folder:
        film = media_files.write_video(
            Path(folder, f"a{suffix}"), codec=CODECS[suffix], bframes=bframes, times_s=times_s, start_s=start / 25,
            duration_s=1.0, sound_start_s=max(0, start) / 25, rate=48_000,
            size=(176, 144) if suffix == ".3gp" else (96, 64), **sound,
        )  # fmt: skip
        want = shown(film)
        # mp4 cannot hold times before zero: FFmpeg hides those pictures by an edit list.
        assert start < 0 or [number for _, number in want] == list(range(len(steps)))
        copy, _ = dub(film, Path(folder, "out"), default=silent)
        found = shown(copy)
    assert [number for _, number in found] == [number for _, number in want]
    assert [time_s for time_s, _ in found] == pytest.approx([time_s for time_s, _ in want], abs=0.00101)

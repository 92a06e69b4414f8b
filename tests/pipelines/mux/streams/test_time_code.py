"""Time codes stay in every container that has a place for them; one that mov cannot count is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from pipelines.mux import remux
from pipelines.mux.streams import time_code
from pipelines.mux.track import Track
from tests.support.muxing import RATE
from tests.support.odd_streams import write_film


def copied(source: Path, name: str) -> tuple[Path, remux.MuxResult]:
    copy = source.parent / f"copy-{name}"
    return copy, remux.mux(str(source), [np.zeros((1, RATE), np.int16)], copy, Track(RATE, 0.0))


def time_codes(path: Path) -> set[str]:
    """Time codes of a film and its tracks."""
    with av.open(str(path)) as film:
        found = [film.metadata, *(stream.metadata for stream in film.streams)]
    return {value for tags in found for name, value in tags.items() if name.lower() == "timecode"}


@pytest.mark.parametrize(("name", "copy"), [("a.mov", "a.mov"), ("a.mp4", "a.mp4"), ("a.mov", "a.mkv")])
def test_a_time_code_stays(tmp_path: Path, name: str, copy: str) -> None:
    path, result = copied(write_film(tmp_path / name, [], {"timecode": "10:00:00:05"}), copy)
    assert time_codes(path) == {"10:00:00:05"} and result.dropped == ()


COUNTED = [
    ("1:00:00:00", 25, True),
    ("1:00:00;00", 30, True),
    ("1:00:00;00", 25, False),
    ("1:00:00:00", None, False),
]
"""A time code, pictures per second, and whether mov holds it."""


@pytest.mark.parametrize(("code", "rate", "held"), COUNTED)
def test_a_time_code_that_mov_cannot_count_is_named(code: str, rate: int | None, held: bool) -> None:
    picture: Any = SimpleNamespace(
        type="video", index=0, metadata={}, average_rate=rate, guessed_rate=rate, codec_context=None
    )
    film = SimpleNamespace(streams=SimpleNamespace(data=[]), metadata={"timecode": code})
    copy = SimpleNamespace(metadata={}, codec_context=SimpleNamespace(framerate=None))
    told = time_code.add_time_code(film, picture, copy, "mov")
    assert (told == "", copy.codec_context.framerate) == (held, rate if held else None)
    assert held or code in told


def test_where_there_is_no_place_a_track_of_time_codes_is_named(tmp_path: Path) -> None:
    source = write_film(tmp_path / "a.mp4", [], {"timecode": "10:00:00:05"}, codec="libvpx-vp9")
    _, result = copied(source, "a.webm")
    assert [told for told in result.dropped if "webm holds no time code" in told]

"""A configuration that comes again does no harm to the header of a Matroska file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from pipelines.mux.streams.configurations import settled
from pipelines.mux.track import MuxFailed
from tests.support import media_files
from tests.support.muxing import dub


def twice(tmp_path: Path, rates: tuple[int, int] = (44_100, 44_100)) -> Path:
    """A recording in FLV whose sender started again."""
    parts = [
        media_files.write_video(tmp_path / f"{k}.flv", sound="audible", rate=rate).read_bytes()
        for k, rate in enumerate(rates)
    ]
    film = tmp_path / "a.flv"
    film.write_bytes(parts[0] + parts[1][13:])
    return film


def test_a_recording_that_started_again_can_be_read(tmp_path: Path) -> None:
    film = twice(tmp_path)
    copy, _ = dub(film, tmp_path / "out", default=False)
    with av.open(str(film)) as source, av.open(str(copy)) as made:
        assert [stream.type for stream in made.streams] == ["video", "audio", "audio"]
        before, after = ([bytes(p) for p in f.demux(audio=0) if p.size] for f in (source, made))
    assert before == after


def test_another_configuration_is_a_failure(tmp_path: Path) -> None:
    film = twice(tmp_path, (44_100, 22_050))
    with pytest.raises(MuxFailed, match="ContainerCannotHold: a sound track goes on with another config"):
        dub(film, tmp_path / "out", default=False)
    assert not list((tmp_path / "out").iterdir())


def test_other_packets_stay_as_they_are(tmp_path: Path) -> None:
    film = media_files.write_video(tmp_path / "a.flv", sound="audible", duration_s=0.2)
    with av.open(str(film)) as source:
        packets: list[Any] = [packet for packet in source.demux() if packet.size]
        assert all(settled(packet, "matroska") is packet for packet in packets)

"""Packets that an edit list hides are left out where nothing else needs them."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from pipelines.mux.containers import container_of
from pipelines.mux.times.hidden_packets import HiddenPackets
from pipelines.mux.track import MuxFailed
from tests.support import media_files
from tests.support.mp4_edits import set_edits


def left_out(path: Path, target: str) -> list[tuple[str, int]]:
    """(type of stream, number of the packet) of the packets that a copy lacks."""
    found = []
    with av.open(str(path)) as film:
        hidden = HiddenPackets(film.streams, container_of(target))
        numbers = {stream.index: 0 for stream in film.streams}
        for packet in film.demux():
            if packet.size:
                if hidden.leaves_out(packet):
                    found.append((packet.stream.type, numbers[packet.stream_index]))
                numbers[packet.stream_index] += 1
    return sorted(found)


def test_a_trimmed_end_is_left_out(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mp4", duration_s=1, gop=50)
    set_edits(source, [(0.4, 0)])
    hidden = left_out(source, "b.mkv")
    assert hidden and hidden == [("video", 10 + k) for k in range(len(hidden))]
    assert left_out(source, "b.mov") == []


def test_sound_that_is_trimmed_is_left_out_but_for_what_its_coder_needs(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mp4", duration_s=1, sound="audible")
    assert left_out(source, "b.mkv") == []
    set_edits(source, [(0.4, 0.5)], track=1)
    hidden = [number for kind, number in left_out(source, "b.mkv") if kind == "audio"]
    first = int(0.5 * 44_100 / 1024)
    assert hidden[: first - 3] == list(range(first - 3)) and first not in hidden


def test_pictures_that_others_need_are_a_reason(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mp4", duration_s=1, gop=50)
    set_edits(source, [(0.4, 0.2)])
    with pytest.raises(MuxFailed, match="ContainerCannotHold"):
        left_out(source, "b.mkv")
    assert left_out(source, "b.mp4") == []


def test_other_films_keep_every_packet(tmp_path: Path) -> None:
    for name in ("a.mkv", "a.mp4", "a.ts"):
        assert left_out(media_files.write_video(tmp_path / name, bframes=2, sound="audible"), "b.mkv") == []

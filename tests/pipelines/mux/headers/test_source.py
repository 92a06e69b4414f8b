"""Language tags and names of tracks stay, whichever of mp4 and Matroska a film comes from."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.mux import remux
from pipelines.mux.files import Source
from pipelines.mux.headers.source import SourceHeaders, read_source
from pipelines.mux.track import Track
from tests.support import ebml, media_files, mp4_boxes
from tests.support.ebml import ENTRY, SEGMENT, TRACKS
from tests.support.mp4_boxes import box
from tests.support.muxing import RATE, title_of


def copied(source: Path, name: str) -> Path:
    copy = source.parent / "out" / name
    copy.parent.mkdir(exist_ok=True)
    result = remux.mux(str(source), [np.zeros((1, RATE), np.int16)], copy, Track(RATE, 0.0))
    assert result.dropped == ()
    return copy


def tags(path: Path) -> list[str]:
    """Language tags of the tracks of a Matroska file that have one."""
    entries = ebml.find(path.read_bytes(), SEGMENT, TRACKS, ENTRY)
    return [
        found[0x22B59D].decode() for entry in entries if 0x22B59D in (found := dict(ebml.elements(entry)))
    ]


def film(path: Path) -> Path:
    """A film whose sound is in Portuguese of Brazil."""
    source = media_files.write_video(
        path, sound="audible", rate=48_000, codec="libvpx-vp9", audio_codec="libopus"
    )
    if path.suffix == ".mp4":
        tag = box(b"elng", bytes(4) + b"pt-BR\0")
        source.write_bytes(mp4_boxes.edited(source.read_bytes(), (b"mdia",), tag, b"soun"))
    else:
        ebml.add(source, (TRACKS, ENTRY), (0x22B59D, b"pt-BR"), entry=1)
    return source


@pytest.mark.parametrize(("name", "copy"), [("a.mkv", "a.mkv"), ("a.webm", "a.webm"), ("a.mp4", "a.mkv")])
def test_a_language_tag_stays_on_its_track(tmp_path: Path, name: str, copy: str) -> None:
    path = copied(film(tmp_path / name), copy)
    assert tags(path) == ["pt-BR"]
    with av.open(str(path)) as opened:
        assert [title_of(s) for s in opened.streams.audio if title_of(s)] == ["v2a (generated)"]
        number = next(s.index for s in opened.streams.audio if not title_of(s))
    entry = dict(ebml.elements(ebml.find(path.read_bytes(), SEGMENT, TRACKS, ENTRY)[number]))
    assert entry[0x22B59D] == b"pt-BR"


@pytest.mark.parametrize(("name", "copy"), [("a.mp4", "a.mov"), ("a.wmv", "a.mov")])
@pytest.mark.parametrize("code", ["deu", "gsw"])
def test_codes_of_languages_stay_in_mov(tmp_path: Path, name: str, copy: str, code: str) -> None:
    plain = media_files.write_video(tmp_path / f"plain{Path(name).suffix}", codec="mpeg4", sound="audible")
    source = tmp_path / name
    with av.open(str(plain)) as one, av.open(str(source), "w") as out:
        copies = [out.add_stream_from_template(stream, opaque=True) for stream in one.streams]
        copies[1].metadata["language"] = code
        for packet in one.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    with av.open(str(source)) as opened:
        wanted = opened.streams.audio[0].language
    path = copied(source, copy)
    with av.open(str(path)) as opened:
        languages = {title_of(s): s.language for s in opened.streams.audio}
    assert languages.pop("v2a (generated)") == "zxx"
    assert wanted in (code, "ger", None) and [*languages.values()] == [wanted]


def test_a_track_of_mp4_keeps_its_name_in_matroska(tmp_path: Path) -> None:
    plain = media_files.write_video(tmp_path / "plain.mp4", sound="audible")
    source = tmp_path / "a.mp4"
    with av.open(str(plain)) as one, av.open(str(source), "w") as out:
        copies = [out.add_stream_from_template(stream, opaque=True) for stream in one.streams]
        copies[1].metadata["handler_name"] = "Kommentar"
        for packet in one.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    with av.open(str(copied(source, "a.mkv"))) as opened:
        assert {s.metadata.get("title") for s in opened.streams.audio} == {"v2a (generated)", "Kommentar"}
        assert "title" not in opened.streams.video[0].metadata


def test_damaged_headers_have_no_facts(tmp_path: Path) -> None:
    whole = film(tmp_path / "a.mkv").read_bytes()
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(whole.replace(b"\x16\x54\xae\x6b", b"\x16\x54\xae\x6c"))
    with broken.open("rb") as file:
        assert not read_source(Source(file), "matroska").languages
        assert file.tell() == 0 and read_source(Source(file), "mp4") == SourceHeaders()

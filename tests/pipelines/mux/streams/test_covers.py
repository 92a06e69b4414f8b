"""Cover pictures stay files beside the film in Matroska, whatever container they come from."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from pipelines.mux import remux
from pipelines.mux.headers.matroska import elements
from pipelines.mux.track import Track
from tests.support import media_files
from tests.support.muxing import RATE

_SEGMENT, _CLUSTER, _TRACKS, _ATTACHMENTS = 0x18538067, 0x1F43B675, 0x1654AE6B, 0x1941A469


def jpeg(folder: Path) -> bytes:
    cover = media_files.write_video(folder / "cover.mkv", codec="mjpeg", pix_fmt="yuvj420p", duration_s=0.04)
    with av.open(str(cover)) as film:
        return next(bytes(packet) for packet in film.demux(video=0))


def film_with_cover(path: Path) -> tuple[Path, bytes]:
    data = jpeg(path.parent)
    plain = media_files.write_video(path.with_name("plain.mp4"), duration_s=0.2)
    with av.open(str(plain)) as film, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(film.streams.video[0], opaque=True)
        if path.suffix == ".mkv":
            out.add_attachment("poster.jpg", "image/jpeg", data)
        else:
            cover = out.add_stream("mjpeg", rate=25)
            cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"  # type: ignore[attr-defined]
            cover.disposition = Disposition.attached_pic  # type: ignore[assignment]
            picture = av.Packet(data)
            picture.stream = cover
            picture.pts = picture.dts = 0
            out.mux(picture)
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    return path, data


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_cover_becomes_no_second_film(tmp_path: Path, name: str) -> None:
    source, data = film_with_cover(tmp_path / name)
    copy = tmp_path / "copy.mkv"
    result = remux.mux(str(source), [np.zeros((1, RATE), np.int16)], copy, Track(RATE, 0.0))
    segment = next(content for kind, content in elements(copy.read_bytes()) if kind == _SEGMENT)
    parts = {kind: content for kind, content in elements(segment) if kind != _CLUSTER}
    entries = [dict(elements(content)) for kind, content in elements(parts[_TRACKS]) if kind == 0xAE]
    assert [int.from_bytes(entry[0x83], "big") for entry in entries] == [1, 2]  # a picture and a sound
    [file] = [dict(elements(content)) for kind, content in elements(parts[_ATTACHMENTS]) if kind == 0x61A7]
    assert file[0x465C] == data and file[0x4660] == b"image/jpeg"
    assert file[0x466E] == (b"poster.jpg" if name == "a.mkv" else b"cover.jpg")
    assert result.dropped == () and len(result.digests.video) == 1
    with av.open(str(copy)) as film:
        assert sum(1 for _ in film.decode(video=0)) == 5

"""Data of a film beside picture and sound survives the copy."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.media import video as media_video
from pipelines.mux import child, remux
from pipelines.mux.track import Track
from tests.support import media_files

COLOURS = {"color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 1}
"""BT.2020, PQ, limited range: HDR10, as numbers of ITU-T H.273."""


def copied(source: Path, folder: Path) -> Path:
    with source.open("rb") as file:
        probe = media_video.probe(file)
    n = round(probe.duration_s * 44_100)
    folder.mkdir(exist_ok=True)
    out = folder / source.name
    child.mux_in_child(
        str(source), [np.zeros((1, n), np.int16)], out, Track(n_samples=n, video_start_s=probe.video_start_s)
    )
    return out


def times(path: Path, kind: str) -> list[tuple[Fraction, Fraction]]:
    """(dts, pts) of the packets of the first track of a kind, in seconds."""
    with av.open(str(path)) as film:
        stream = next(s for s in film.streams if s.type == kind and remux.TITLE not in s.metadata.values())
        return [(p.dts * p.time_base, p.pts * p.time_base) for p in film.demux(stream) if p.dts is not None]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("start_s", [0.0, 0.4])
def test_timestamps(tmp_path: Path, name: str, start_s: float) -> None:
    source = media_files.write_video(
        tmp_path / name, times_s=[0, 0.04, 0.3, 0.31, 0.6, 0.95, 1.2], bframes=2, start_s=start_s, sound="silent",
        sound_start_s=start_s,
    )  # fmt: skip
    out = copied(source, tmp_path / "out")
    for kind in ("video", "audio"):
        assert times(out, kind) == times(source, kind) != []


def hdr(path: Path) -> Path:
    """Ten bits of H.265 or H.264 with HDR10's colours in the container and in the stream."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx265" if path.suffix != ".mov" else "libx264", rate=25)
        video.width, video.height, video.pix_fmt = 128, 64, "yuv420p10le"
        video.options = {
            "x265-params": (
                "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:hdr10=1:max-cll=1000,400:"
                "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
            )
        } if path.suffix != ".mov" else {"preset": "ultrafast"}  # fmt: skip
        for key, value in COLOURS.items():
            setattr(video.codec_context, key, value)
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(media_files.numbered(number, 128, 64), format="rgb24")
            frame = frame.reformat(format="yuv420p10le")
            frame.pts = number
            for key, value in COLOURS.items():
                if hasattr(frame, key):
                    setattr(frame, key, value)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def colours(path: Path) -> tuple[dict[str, int], list[tuple[str, bytes]]]:
    """Colour tags of the first picture's stream, and the light levels that travel with the picture."""
    with av.open(str(path)) as film:
        frame = next(film.decode(video=0))
        context: Any = film.streams.video[0].codec_context
        light = [
            (str(d.type), bytes(d))
            for d in frame.side_data
            if "MASTERING" in str(d.type) or "LIGHT" in str(d.type)
        ]
        return {key: int(getattr(context, key)) for key in COLOURS}, sorted(light)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_colour_tags_and_hdr(tmp_path: Path, name: str) -> None:
    source = hdr(tmp_path / name)
    out = copied(source, tmp_path / "out")
    tags, light = colours(source)
    assert tags == COLOURS
    assert name == "a.mov" or len(light) == 2
    assert colours(out) == (tags, light)


def test_colour_atom_of_mp4(tmp_path: Path) -> None:
    """Players that never look into the stream read `colr`."""
    source = hdr(tmp_path / "a.mp4")
    out = copied(source, tmp_path / "out").read_bytes()
    data = source.read_bytes()
    at = data.index(b"colrnclx")
    assert out[out.index(b"colrnclx") :][:15] == data[at : at + 15]


@pytest.mark.parametrize("turn", [90, 180, 270])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_rotation(tmp_path: Path, name: str, turn: int) -> None:
    out = copied(media_files.write_video(tmp_path / name, rotation=turn), tmp_path / "out")
    with out.open("rb") as file:
        assert media_video.probe(file).rotation == turn


def test_rotation_from_mov_to_matroska(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mov", rotation=90)
    out = tmp_path / "out.mkv"
    remux.mux(str(source), [np.zeros((1, 44_100), np.int16)], out, Track(n_samples=44_100, video_start_s=0.0))
    with out.open("rb") as file:
        assert media_video.probe(file).rotation == 90


def several(path: Path, text: str) -> Path:
    """Two pictures, two sounds and two subtitles, with languages, titles and dispositions."""
    film = media_files.write_video(path.with_stem("film"), sound=("audible", "quiet"))
    other = media_files.write_video(path.with_stem("other"), size=(64, 48))
    with av.open(str(film)) as one, av.open(str(other)) as two, av.open(str(path), "w") as out:
        copies = {s: out.add_stream_from_template(s, opaque=True) for s in [*one.streams, *two.streams]}
        for copy, language in zip(
            [c for c in copies.values() if c.type == "audio"], ("deu", "fra"), strict=True
        ):
            copy.metadata.update({"language": language, "title": f"Ton {language}"})
        subtitles: list[Any] = [out.add_mux_stream(text) for _ in range(2)]
        for stream, language in zip(subtitles, ("deu", "eng"), strict=True):
            stream.metadata["language"] = language
        out.start_encoding()
        for part in (one, two):
            for packet in part.demux():
                if packet.dts is not None:
                    packet.stream = copies[packet.stream]
                    out.mux(packet)
        for k, stream in enumerate(subtitles):
            words = f"line {k}".encode()
            packet = av.Packet(words if text == "subrip" else len(words).to_bytes(2, "big") + words)
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 1000), 200, 200
            packet.duration = 400
            out.mux(packet)
    return path


def tracks(path: Path) -> list[tuple[str, str, list[bytes]]]:
    """(type, language, packets) of every track but the generated one."""
    with av.open(str(path)) as film:
        chosen = [
            s for s in film.streams
            if s.type in ("video", "audio", "subtitle")
            and remux.TITLE not in (s.metadata.get("title"), s.metadata.get("handler_name"))
        ]  # fmt: skip
        found: dict[int, list[bytes]] = {s.index: [] for s in chosen}
        for packet in film.demux(chosen):
            if packet.size:
                found[packet.stream_index].append(bytes(packet))
        return sorted((s.type, s.metadata.get("language", "und"), found[s.index]) for s in chosen)


@pytest.mark.parametrize(("name", "text"), [("a.mkv", "subrip"), ("a.mp4", "mov_text")])
def test_several_tracks_of_every_kind(tmp_path: Path, name: str, text: str) -> None:
    source = several(tmp_path / name, text)
    out = copied(source, tmp_path / "out")
    expected = tracks(source)
    assert [kind for kind, _, _ in expected] == ["audio"] * 2 + ["subtitle"] * 2 + ["video"] * 2
    assert tracks(out) == expected

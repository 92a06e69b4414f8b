"""Captions as subtitles: their times, SubRip text, and tracks in films."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.mux import child, packet_hashes, remux, subtitles
from pipelines.mux.track import Track
from tests.support.toy_generators import write_video

CUES = [(0.0, 0.4, "a drum"), (0.4, 1.0, "rain, “heavy” <b>")]


def read(path: Path) -> tuple[Any, list[tuple[float, float, str]]]:
    """The subtitle stream's facts, and its cues in seconds."""
    with av.open(str(path)) as film:
        stream = film.streams.subtitles[0]
        found = []
        for packet in film.demux(stream):
            data = bytes(packet)
            text = data[2:].decode() if stream.codec_context.name == "mov_text" else data.decode()
            if packet.size and text:
                start_s = float(packet.pts * packet.time_base)
                found.append((start_s, start_s + float(packet.duration * packet.time_base), text))
        return (
            stream.codec_context.name,
            stream.metadata,
            bytes(stream.codec_context.extradata or b""),
        ), found


def test_neighbours_that_say_the_same_become_one() -> None:
    told = [
        (3.8, 7.4, " a  drum"),
        (0.0, 3.8, "a drum"),
        (7.4, 11.0, "rain"),
        (14.6, 18.2, "a\nbell --> gone"),
    ]
    found = subtitles.cues([*told, (18.2, 20.0, "")], 17.0)
    assert [text for _, _, text in found] == ["a drum", "rain", "a bell -> gone"]
    assert np.allclose([cue[:2] for cue in found], [(0, 7.4), (7.4, 11.0), (14.6, 17.0)])
    assert subtitles.cues([(0.0, 4.0, "rain")], 0.5) == [(0.0, 0.5, "rain")]
    assert subtitles.cues([], 8.0) == []


def test_srt_text() -> None:
    text = subtitles.srt([(0.0, 1.5, "a drum"), (3599.9996, 3601.25, "rain")])
    assert text == ("1\n00:00:00,000 --> 00:00:01,500\na drum\n\n2\n01:00:00,000 --> 01:00:01,250\nrain\n\n")


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "srt"), (".mp4", "mov_text"), (".mov", "mov_text")])
def test_a_film_gets_them_as_a_track(tmp_path: Path, suffix: str, codec: str) -> None:
    source, sound = tmp_path / f"film{suffix}", np.zeros((1, 44_100), np.int16)
    write_video(source, 1.0)
    given: dict[str, Any] = dict(n_samples=44_100, video_start_s=0.0, captions=CUES)
    made = child.mux_in_child(str(source), [sound], tmp_path / f"a{suffix}", Track(**given))
    (name, tags, header), found = read(tmp_path / f"a{suffix}")
    assert name == codec and tags["language"] == "eng"
    assert subtitles.SUBTITLE_TITLE in tags.values()
    assert [text for _, _, text in found] == [text for _, _, text in CUES]
    assert np.allclose([cue[:2] for cue in found], [cue[:2] for cue in CUES], atol=0.002)
    if codec == "mov_text":  # players of mp4 want a font table
        assert b"ftab" in header
    # Nothing else is touched, and the same again gives the same bytes.
    assert packet_hashes.video_digest(str(source)) == packet_hashes.video_digest(str(tmp_path / f"a{suffix}"))
    again = remux.mux(str(source), [sound], tmp_path / f"b{suffix}", Track(**given))
    assert again.size == made.size
    a, b = (hashlib.sha256((tmp_path / f"{x}{suffix}").read_bytes()).digest() for x in "ab")
    assert a == b


def test_a_container_that_holds_none_gets_none(tmp_path: Path) -> None:
    write_video(tmp_path / "film.avi", 1.0)
    sound = np.zeros((1, 44_100), np.int16)
    remux.mux(
        str(tmp_path / "film.avi"),
        [sound],
        tmp_path / "a.avi",
        Track(n_samples=44_100, video_start_s=0.0, captions=CUES),
    )
    with av.open(str(tmp_path / "a.avi")) as film:
        assert not film.streams.subtitles and len(film.streams.audio) == 1

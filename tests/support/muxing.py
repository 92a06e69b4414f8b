"""Dubbing a made film, and reading what came of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from pipelines.media import container
from pipelines.media import video as media_video
from pipelines.mux import packet_hashes, remux
from pipelines.mux.track import Track

RATE = 44_100
CLICK = 24_000


def clicks(n_samples: int, at_s: float, channels: int = 1) -> np.ndarray:
    """Silence but for a click of 32 samples: int16 [channels, n]."""
    sound = np.zeros((channels, n_samples), np.int16)
    start = round(at_s * RATE)
    sound[:, start : start + 32] = CLICK
    return sound


@dataclass
class Facts:
    """Facts about a dubbed file, by an independent reader."""

    sound: np.ndarray
    """Samples of the generated track, float [channels, n]."""
    rate: int
    sound_start_s: float
    length: float | None
    """Samples that the container announces for the track."""
    picture_start_s: float
    n_pictures: int
    titles: list[str]
    defaults: list[bool]
    """Default flags of the sound tracks, in order."""
    kinds: list[str]
    metadata: dict[str, str]
    codec: str

    @property
    def click_s(self) -> float:
        """Time of the click, with the first picture at zero."""
        return (
            int(np.argmax(np.abs(self.sound[0]) > 0.3)) / self.rate
            + self.sound_start_s
            - self.picture_start_s
        )


def title_of(stream: Any) -> str:
    return stream.metadata.get("title") or stream.metadata.get("handler_name", "")


def decode_track(path: Path, stream_index: int) -> tuple[np.ndarray, float, int]:
    with av.open(str(path)) as film:
        frames = list(film.decode(film.streams[stream_index]))
        blocks = []
        for frame in frames:
            block = frame.to_ndarray()
            if frame.format.is_packed:
                block = block.reshape(-1, frame.layout.nb_channels).T
            scale = {"int16": 2.0**15, "int32": 2.0**31}.get(block.dtype.name, 1.0)
            blocks.append(block / scale)
        return (
            np.concatenate(blocks, axis=1),
            float(frames[0].pts * frames[0].time_base),
            frames[0].sample_rate,
        )


def picture_times(path: Path, most: int = 1_000_000) -> list[float]:
    """Times of the pictures that decode, in order."""
    times: list[float] = []
    with av.open(str(path)) as film:
        video = next(s for s in film.streams.video if not container.is_attached(s))
        for packet in film.demux(video):
            with contextlib.suppress(av.InvalidDataError):  # one bad picture is not the end of a film
                times += [float(frame.pts * frame.time_base) for frame in packet.decode()]
            if len(times) >= most:
                break
    return times


def read(path: Path, most: int = 1_000_000) -> Facts:
    """Decode a file as a player would: all of the new sound and at least `most` pictures."""
    with av.open(str(path)) as film:
        audio = list(film.streams.audio)
        titles = [title_of(stream) for stream in audio]
        track = audio[titles.index(remux.TITLE)]
        index = track.index
        length = None if track.duration is None else float(track.duration * track.time_base * RATE)
        defaults = [bool(stream.disposition & Disposition.default) for stream in audio]
        kinds = [stream.type for stream in film.streams]
        codec = track.codec_context.name
        facts = dict(film.metadata)
    pictures = picture_times(path, most)
    sound, start_s, rate = decode_track(path, index)
    return Facts(
        sound, rate, start_s, length, pictures[0], len(pictures), titles, defaults, kinds, facts, codec
    )


def dub(source: Path, folder: Path, at_s: float = 0.5, channels: int = 1, **more: Any) -> tuple[Path, int]:
    """Mux a click into a copy of `source` under its proper name; (copy, samples)."""
    with source.open("rb") as file:
        probe = media_video.probe(file)
    n_samples = round(probe.duration_s * RATE)
    name = remux.output_name(source.name, container=probe.container, video_codec=probe.video_codec)
    folder.mkdir(exist_ok=True)
    remux.mux(
        str(source),
        [clicks(n_samples, at_s, channels)],
        folder / name,
        Track(n_samples=n_samples, video_start_s=probe.video_start_s, channels=channels, **more),
    )
    return folder / name, n_samples


def check(source: Path, copy: Path, n_samples: int, at_s: float = 0.5) -> Facts:
    """Checks that apply to every copy."""
    facts = read(copy)
    nal_units = source.suffix in (".ts", ".flv", ".dav")
    assert packet_hashes.video_digest(str(copy), nal_units=nal_units) == packet_hashes.video_digest(
        str(source), nal_units=nal_units
    )
    with av.open(str(source)) as film:
        kept = [s.type for s in film.streams if s.type in ("video", "audio")]
    assert facts.n_pictures == len(picture_times(source))
    assert sorted(k for k in facts.kinds if k in ("video", "audio")) == sorted([*kept, "audio"])
    assert facts.titles.count(remux.TITLE) == 1
    assert facts.click_s == pytest.approx(at_s, abs=0.003)
    lead = 0
    if facts.codec == "flac":
        assert facts.sound.shape[1] == n_samples
    elif facts.codec == "pcm_s16le":
        lead = max(0, round(facts.picture_start_s * RATE))
        assert facts.sound.shape[1] == n_samples + lead
    elif facts.codec == "opus":
        assert abs(facts.sound.shape[1] - n_samples * 48_000 / RATE) <= 2
    else:
        # Whole frames of 1024 samples; the edit list gives the exact end, and the exact start where the
        # picture starts with the file.
        late = round((facts.picture_start_s) * RATE) > 0
        extra = facts.sound.shape[1] - n_samples
        assert 0 <= extra < 1024 + (1024 if late else 0)
        assert facts.length is not None
        assert facts.length == pytest.approx(n_samples + (1024 if late else 0), abs=1)
    return facts

"""A long AAC track is coded in sections by several coders: nothing may be heard, or counted, where they meet."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.mux import remux
from pipelines.mux.audio_encoder import FRAME, pieces
from pipelines.mux.track import Track
from tests.support.media_files import write_video

RATE = 16_000
SECONDS = 22.0


@given(rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000]))
def test_sections_are_whole_frames_and_shorter_than_what_muxers_hold_back(rate: int) -> None:
    plan = pieces("aac", rate, rate)
    assert plan.size % FRAME == plan.before % FRAME == plan.after % FRAME == 0
    assert plan.size < 10 * rate
    assert pieces("flac", rate, rate).before == pieces("aac", rate, rate + 1).before == 0


def foley(channels: int) -> np.ndarray:
    """Noise that swells, with knocks, some of them where sections meet: int16 [channels, n]."""
    rng, n = np.random.default_rng(3), round(SECONDS * RATE)
    t = np.arange(n) / RATE
    sound = rng.standard_normal((channels, n)) * 0.02 * (1.2 + np.sin(t))
    joins = range(pieces("aac", RATE, RATE).size, n - RATE, pieces("aac", RATE, RATE).size)
    for at in [*rng.integers(0, n - RATE, 20), *joins, *(join - 200 for join in joins)]:
        knock = np.exp(-np.arange(RATE // 4) / 400) * np.sin(np.arange(RATE // 4) * rng.uniform(0.1, 1.5))
        sound[:, at : at + RATE // 4] += rng.uniform(0.1, 0.4) * knock
    return np.asarray(np.clip(sound, -1, 1) * 32767).astype(np.int16)


def tracks_of(path: Path) -> list[tuple[list[int], np.ndarray]]:
    """(times of the packets, float [channels, n]) of every sound track."""
    found = []
    with av.open(str(path)) as film:
        count = len(film.streams.audio)
    for k in range(count):
        with av.open(str(path)) as film:
            times = [p.pts for p in film.demux(film.streams.audio[k]) if p.pts is not None]
        with av.open(str(path)) as film:
            blocks = [frame.to_ndarray() for frame in film.decode(film.streams.audio[k])]
        found.append((times, np.concatenate(blocks, axis=1)))
    return found


def coded_alone(sound: np.ndarray, path: Path) -> np.ndarray:
    """The same sound through one coder of FFmpeg's from its start to its end."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=RATE, options={"aac_coder": "fast"})
        stream.codec_context.layout = "mono" if len(sound) == 1 else "stereo"
        stream.codec_context.bit_rate = 192_000
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound.T).reshape(1, -1), "s16", stream.codec_context.layout.name
        )
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tracks_of(path)[0][1]


@pytest.mark.parametrize(("channels", "tracks"), [(1, 1), (2, 1), (1, 2)])
def test_sections_meet_unheard(tmp_path: Path, channels: int, tracks: int) -> None:
    film = write_video(tmp_path / "film.mp4", duration_s=SECONDS, fps=5)
    sound = np.concatenate([foley(channels)] * tracks)
    target = tmp_path / "dubbed.mp4"
    remux.mux(
        str(film),
        [sound],
        target,
        Track(
            n_samples=sound.shape[1], video_start_s=0.0, channels=channels, sample_rate=RATE, tracks=tracks
        ),
    )
    alone = coded_alone(sound[:channels], tmp_path / "alone.mp4")
    size = pieces("aac", RATE, RATE).size
    for times, heard in tracks_of(target):
        assert set(np.diff(times)) == {FRAME} and times[0] <= 0
        assert heard.shape == alone.shape
        n = sound.shape[1] // FRAME
        wanted = sound[:channels, : n * FRAME] / 32768

        def errors(coded: np.ndarray, wanted: np.ndarray = wanted, n: int = n) -> np.ndarray:
            missed = (coded[:, : n * FRAME] - wanted).reshape(channels, n, FRAME)
            return np.asarray(np.square(missed).mean(axis=(0, 2)))

        ours, one = errors(heard), errors(alone)
        joins = np.arange(size // FRAME, n, size // FRAME)
        assert len(joins) >= 3
        near = np.unique(np.concatenate([joins + d for d in range(-2, 3)]))
        # Frame by frame no farther from the sound than one coder's, which gives more bits to some and fewer to others.
        assert (ours[near] < 4 * np.maximum(one[near], np.median(one))).all()
        assert ours.sum() < 1.2 * one.sum()

"""Streams without a container: length and times of pictures follow the rate that is stated, in the file or for it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines import storage
from pipelines.media import raw_streams
from pipelines.media.video import View
from pipelines.mux import child
from pipelines.mux.track import Track
from pipelines.sandbox.decoder import Sandbox
from tests.support import media_files, picture_files

N = 48

CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "b.h264": ("libx264", "h264", {"preset": "fast", "bf": "2"}),
    "a.hevc": ("libx265", "hevc", {"preset": "ultrafast", "x265-params": "log-level=0:bframes=0"}),
    "silent.hevc": (
        "libx265",
        "hevc",
        {"preset": "ultrafast", "x265-params": "log-level=0:vui-timing-info=0"},
    ),
    "a.m4v": ("mpeg4", "m4v", {}),
    "a.mjpeg": ("mjpeg", "mjpeg", {}),
}
"""Encoder, muxer and options by name; all but two state that they have 12 pictures per second."""

UNSTATED = ("silent.hevc", "a.mjpeg")


def write(path: Path) -> Path:
    codec, muxer, options = CODECS[path.name]
    with path.open("wb") as file, av.open(file, "w", format=muxer) as out:
        stream: Any = out.add_stream(codec, rate=12)
        stream.width, stream.height, stream.gop_size, stream.options = 96, 64, 12, options
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(N):
            frame = av.VideoFrame.from_ndarray(media_files.numbered(number, 96, 64), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 12)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("streams")
    return {name: str(write(folder / name)) for name in CODECS}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("rate", [None, Fraction(25, 2), Fraction(24000, 1001)])
def test_length_and_pictures_follow_the_rate(
    streams: dict[str, str], name: str, rate: Fraction | None
) -> None:
    uri = streams[name] if rate is None else storage.rated(streams[name], rate)
    true = rate or (25 if name in UNSTATED else 12)
    with Sandbox() as sandbox:
        facts = sandbox.probe(uri)
        [early] = sandbox.decode_views(uri, [View(float(true), 48, 32, "squeeze")], 0.0, float(8 / true))
        start_s = float(30 / true)
        [late] = sandbox.decode_views(uri, [View(float(true), 48, 32, "squeeze")], start_s, float(36 / true))
    assert facts.duration_s == pytest.approx(float(N / true), abs=1e-5)
    assert (facts.n_frames, facts.fps) == (N, pytest.approx(float(true), rel=1e-5))
    assert picture_files.numbers_of(early) == list(range(8))
    assert picture_files.numbers_of(late) == list(range(30, 36))
    assert facts.note == (raw_streams.NOTE if rate is None and name in UNSTATED else "")


@pytest.mark.parametrize("name", ["a.hevc", "a.m4v", "a.mjpeg"])
def test_a_copy_has_the_times_of_the_rate(streams: dict[str, str], name: str, tmp_path: Path) -> None:
    rate, destination = Fraction(18), tmp_path / "copy.mkv"
    n_samples = round(N / rate * 44_100)
    track = Track(n_samples, 0.0)
    child.mux_in_child(
        storage.rated(streams[name], rate), [np.zeros((1, n_samples), np.int16)], destination, track
    )
    with av.open(str(destination)) as copy:
        times = sorted(
            float(packet.dts * packet.time_base) for packet in copy.demux(video=0) if packet.dts is not None
        )
    assert len(times) == N
    assert times == pytest.approx([k / 18 for k in range(N)], abs=0.001)


def test_the_rate_changes_no_film_in_a_container(tmp_path: Path) -> None:
    film = media_files.write_video(tmp_path / "a.mkv", duration_s=2, fps=12)
    with Sandbox() as sandbox:
        plain = sandbox.probe(str(film))
        assert sandbox.probe(storage.rated(str(film), Fraction(18))) == plain

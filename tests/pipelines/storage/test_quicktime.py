"""FFmpeg reads the header with every coding, and finds each picture and its time."""

from __future__ import annotations

import io
import itertools
from fractions import Fraction

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.storage import FORMATS, quicktime
from tests.support import media_files, picture_files


@pytest.mark.parametrize("suffix", picture_files.CODECS)
def test_every_coding_is_read_with_the_times_of_its_pictures(suffix: str) -> None:
    pictures = [picture_files.coded(suffix, number) for number in (3, 60, 21, 7)]
    lasts, rate = [1, 1, 4, 2], Fraction(24000, 1001)
    header = quicktime.header(FORMATS[f".{suffix}"], list(map(len, pictures)), lasts, rate)
    with av.open(io.BytesIO(header + b"".join(pictures))) as film:
        video = film.streams.video[0]
        shown = [
            (frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")) for frame in film.decode(video)
        ]
        assert video.duration * video.time_base == 8 / rate
    assert [media_files.number_of(picture) for _, picture in shown] == [3, 60, 21, 7]
    assert [time for time, _ in shown] == [start / rate for start in (0, 1, 2, 6)]


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 40)), min_size=1, max_size=30),
    st.fractions(1, 120, max_denominator=1001),
)
def test_packets_are_the_files(pictures: list[tuple[int, int]], rate: Fraction) -> None:
    files = [bytes([number % 251]) * size for number, (size, _) in enumerate(pictures)]
    header = quicktime.header(b"png ", list(map(len, files)), [lasts for _, lasts in pictures], rate)
    with av.open(io.BytesIO(header + b"".join(files))) as film:
        packets = [packet for packet in film.demux(video=0) if packet.size]
    assert [bytes(packet) for packet in packets] == files
    starts = itertools.accumulate((lasts for _, lasts in pictures), initial=0)
    assert [packet.pts * packet.time_base for packet in packets] == [
        s / rate for s, _ in zip(starts, files, strict=False)
    ]

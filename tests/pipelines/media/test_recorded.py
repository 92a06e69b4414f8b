"""Times of recording in the metadata and the first picture of a film."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.media import recorded
from tests.support import decoding, media_files

UUID = bytes.fromhex("17ee8c60f84d11d98cd60800200c9a66")

DATES = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(microsecond=0))


def tagged(source: Path, path: Path, **tags: str) -> Path:
    """A copy of a film with these tags."""
    options = {"movflags": "use_metadata_tags"} if path.suffix == ".mov" else {}
    with av.open(str(source)) as film, av.open(str(path), "w", options=options) as out:
        stream = film.streams.video[0]
        copy = out.add_stream_from_template(stream)
        out.metadata.update(tags)
        for packet in film.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media_files.write_video(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=0.4)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_the_time_of_creation_is_read(film: Path, tmp_path: Path, name: str) -> None:
    copy = tagged(film, tmp_path / name, creation_time="2026-01-03T12:05:00Z")
    assert decoding.probe(copy).recorded_at == "2026-01-03T12:05:00Z"
    assert decoding.probe(film).recorded_at == ""


def test_a_phones_own_time_with_its_zone_comes_first(film: Path, tmp_path: Path) -> None:
    own = {"com.apple.quicktime.creationdate": "2013-12-22T15:54:25-0500"}
    copy = tagged(film, tmp_path / "a.mov", creation_time="2014-02-02T00:00:00Z", **own)
    assert decoding.probe(copy).recorded_at == "2013-12-22T15:54:25-05:00"


@pytest.mark.parametrize("text", ["1904-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z", "2026-02-30T00:00:00Z",
                                  "2026", "2026-01-03", "yesterday", ""])  # fmt: skip
def test_a_clock_that_was_never_set_and_a_day_alone_are_no_time(text: str) -> None:
    assert recorded.parse_stamp(text) == ""


@given(time=DATES, minutes=st.none() | st.integers(-14 * 60, 14 * 60))
def test_a_stamp_keeps_its_time_and_zone(time: datetime, minutes: int | None) -> None:
    zoned = time if minutes is None else time.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert datetime.fromisoformat(recorded.parse_stamp(zoned.isoformat())) == zoned
    assert recorded.text_of(time.replace(tzinfo=UTC)).endswith("Z")


def bcd(time: datetime, form: str) -> bytes:
    return bytes.fromhex(time.strftime(form))


@given(time=DATES)
def test_the_date_of_an_avchd_camera_is_read(time: datetime) -> None:
    tags = b"\x18\x00" + bcd(time, "%Y%m") + b"\x19" + bcd(time, "%d%H%M%S")
    unit = UUID + b"MDPM\x02" + tags
    escaped = unit.replace(b"\x00\x00\x00", b"\x00\x00\x03\x00")
    packet = b"\x00\x00\x00\x01\x06\x05" + bytes([len(unit)]) + escaped + b"\x80" + b"\x00\x00\x01\x65picture"
    assert recorded._of_avchd(packet) == time.isoformat()


def test_a_film_of_an_avchd_camera_has_its_date(film: Path, tmp_path: Path) -> None:
    stream = tmp_path / "a.h264"
    with av.open(str(film)) as opened, stream.open("wb") as out:
        video = opened.streams.video[0]
        annex_b = av.BitStreamFilterContext("h264_mp4toannexb", video)
        unit = (
            UUID
            + b"MDPM\x02\x18\x22"
            + bcd(datetime(2011, 5, 6), "%Y%m")
            + b"\x19"
            + bytes.fromhex("06071523")
        )
        out.write(b"\x00\x00\x00\x01\x06\x05" + bytes([len(unit)]) + unit + b"\x80")
        for packet in opened.demux(video):
            for made in annex_b.filter(packet):
                out.write(bytes(made))
    assert decoding.probe(stream).recorded_at == "2011-05-06T07:15:23"


def test_the_date_of_a_dv_tape_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.dv"
    with av.open(str(path), "w", options={}) as out:
        out.metadata["creation_time"] = "1999-08-07T06:05:04Z"
        video = out.add_stream("dvvideo", rate=25)
        video.width, video.height, video.pix_fmt = 720, 576, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=48_000, layout="stereo")
        for _ in range(3):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 2 * 1920), np.int16), format="s16", layout="stereo"
            )
            frame.sample_rate = 48_000
            out.mux(sound.encode(frame))
            out.mux(
                video.encode(av.VideoFrame.from_ndarray(np.zeros((576, 720, 3), np.uint8), format="rgb24"))
            )
        out.mux(video.encode(None))
    assert decoding.probe(path).recorded_at == "1999-08-07T06:05:04"


@given(data=st.binary(max_size=400))
def test_no_bytes_of_a_picture_raise(data: bytes) -> None:
    for read in (recorded._of_dv, recorded._of_avchd):
        assert read(UUID + b"MDPM" + data) == "" or datetime.fromisoformat(read(UUID + b"MDPM" + data))
        read(data)

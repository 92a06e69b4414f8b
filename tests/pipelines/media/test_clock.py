"""Films whose clock starts again or jumps go on where they were."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.media import audio as media_audio
from pipelines.media import video as media_video
from pipelines.media.clock import ContinuousClock, has_leaps, note
from tests.support import media_files
from tests.support.mp4_edits import shown
from tests.support.muxing import dub
from v2a_models.recipe import View

TICK = Fraction(1, 90_000)
STEP = 3600


@dataclass
class Packet:
    """A packet of a transport stream, without its content."""

    stream_index: int
    dts: int | None
    pts: int | None
    duration: int = STEP
    time_base: Fraction = TICK


def part(start: int, n: int, delay: int, sound_ahead: int = 0) -> list[Packet]:
    """Pictures (stream 0, shown `delay` steps after decoding) and sound (1) from `start` on, interleaved."""
    pictures = [Packet(0, start + k * STEP, start + (k + delay) * STEP) for k in range(n)]
    sounds = [Packet(1, start + k * STEP, start + k * STEP) for k in range(n)]
    mixed = itertools.chain.from_iterable(zip(pictures, sounds, strict=True))
    return sorted(mixed, key=lambda p: (p.dts or 0) - p.stream_index * (sound_ahead * STEP + 1))


def corrected(packets: Sequence[Packet]) -> tuple[list[Packet], ContinuousClock]:
    clock = ContinuousClock(0, STEP * float(TICK))
    return list(clock.corrected(packets)), clock


def times(packets: Sequence[Packet], stream: int) -> list[int]:
    return [p.pts or 0 for p in packets if p.stream_index == stream]


@settings(max_examples=100, deadline=None)
@given(
    starts=st.lists(st.integers(0, 2**34), min_size=1, max_size=4),
    n=st.integers(30, 60),
    delay=st.integers(0, 4),
    sound_ahead=st.integers(0, 8),
    late=st.integers(0, 3),
)
def test_parts_follow_each_other(starts: list[int], n: int, delay: int, sound_ahead: int, late: int) -> None:
    for one, next_ in itertools.pairwise(starts):
        end = one + n * STEP
        if -9_000 <= next_ - end <= 20 * 90_000 or abs(next_ - one) < 1000:
            return  # no leap, but a gap
    packets: list[Packet] = []
    for start in starts:
        begin = part(start, n, delay, sound_ahead)
        # Packets of sound at the end of a part may come after the first pictures of the next one.
        packets[len(packets) - late : len(packets)], tail = [], packets[len(packets) - late :] if late else []
        opening = next(k for k, p in enumerate(begin) if p.stream_index == 0) if tail else 0
        packets += [p for p in tail if p.stream_index == 0]
        packets += begin[opening : opening + 1] if tail else []
        packets += [p for p in tail if p.stream_index == 1]
        packets += [p for k, p in enumerate(begin) if not tail or k != opening]
    found, clock = corrected(packets)
    assert len(found) == len(packets)
    for stream, shift in ((0, delay), (1, 0)):
        expected = [starts[0] + (k + shift) * STEP for k in range(n * len(starts))]
        assert times(found, stream) == pytest.approx(expected, abs=2 if stream == 0 else STEP * (delay + 1))
    assert len(clock.leaps) == len(starts) - 1


def test_gaps_and_stills_are_no_leaps() -> None:
    still = [
        Packet(0, 0, 0),
        *(Packet(1, k * STEP, k * STEP) for k in range(1000)),
        Packet(0, 40 * 90_000, 40 * 90_000),
    ]
    slow = [Packet(0, k * 15 * 90_000, k * 15 * 90_000, 15 * 90_000) for k in range(5)]
    pause = [Packet(0, 0, 0), Packet(0, 9 * 90_000, 9 * 90_000)]
    silence = [
        *(Packet(0, k * STEP, k * STEP) for k in range(600)),
        Packet(1, 0, 0),
        Packet(1, 500 * STEP, 500 * STEP),
    ]
    for packets, step_s in ((still, 0.04), (slow, 15.0), (pause, 0.04), (silence, 0.04)):
        clock = ContinuousClock(0, step_s)
        before = [(p.stream_index, p.pts) for p in packets]
        assert [(p.stream_index, p.pts) for p in clock.corrected(packets)] == before and not clock.leaps


def test_sound_that_leaps_alone_goes_on() -> None:
    pictures = [Packet(0, k * STEP, k * STEP) for k in range(100)]
    sounds = [Packet(1, k * STEP + (k > 50) * 10**9, k * STEP + (k > 50) * 10**9) for k in range(100)]
    found, clock = corrected([p for pair in zip(pictures, sounds, strict=True) for p in pair])
    assert times(found, 0) == times(found, 1) == [k * STEP for k in range(100)] and not clock.leaps


def test_times_that_are_missing_stay_missing() -> None:
    found, _ = corrected(
        [Packet(0, None, 0), Packet(0, None, None), Packet(0, None, 10**8), Packet(0, None, 10**8)]
    )
    assert [(p.dts, p.pts) for p in found] == [(None, 0), (None, None), (None, STEP), (None, STEP)]


LEAPS = {
    "again": (10.0, 10.0),
    "back": (300.0, 10.0),
    "forth": (10.0, 130.0),
    "far back": (100_000.0, 5.0),
    "at the wrap": (2**33 / 90_000 - 1, 2**33 / 90_000 - 1),
    "a little back": (10.0, 10.52),
}


def joined(
    folder: Path,
    starts: tuple[float, float],
    bframes: int,
    sound: bool = True,
    codec: str = "libx264",
    duration_s: float = 1.2,
    gop: int = 12,
) -> Path:
    parts = [
        media_files.write_video(
            folder / f"part{k}.ts",
            duration_s=duration_s,
            gop=gop,
            start_s=start_s,
            sound_start_s=start_s,
            codec=codec,
            bframes=bframes,
            sound="audible" if sound else (),
            picture=lambda n, w, h, k=k: media_files.numbered(n + 30 * k, w, h),  # type: ignore[misc]
        )
        for k, start_s in enumerate(starts)
    ]
    film = folder / "joined.ts"
    film.write_bytes(b"".join(path.read_bytes() for path in parts))
    return film


@pytest.mark.parametrize("starts", LEAPS.values(), ids=LEAPS)
@pytest.mark.parametrize(
    ("bframes", "codec", "sound"), [(0, "libx264", True), (2, "libx264", False), (0, "mpeg2video", True)]
)
def test_joined_transport_streams(
    tmp_path: Path, starts: tuple[float, float], bframes: int, codec: str, sound: bool
) -> None:
    film = joined(tmp_path, starts, bframes, sound, codec)
    with film.open("rb") as file:
        probe = media_video.probe(file)
    assert probe.n_frames == 60 and has_leaps(probe.note)
    assert probe.note == "its clock leaps at 1.2 s"
    assert probe.duration_s == pytest.approx(2.4, abs=0.002) and probe.fps == pytest.approx(25, abs=0.02)
    copy, _ = dub(film, tmp_path / "out", default=not sound)
    pictures = shown(copy)
    assert [number for _, number in pictures] == [*range(30), *range(30, 60)]
    assert [time_s for time_s, _ in pictures] == pytest.approx([k / 25 for k in range(60)], abs=0.0011)


def test_sound_is_read_on_the_clock_of_the_pictures(tmp_path: Path) -> None:
    film = joined(tmp_path, (300.0, 10.0), 0)
    with film.open("rb") as file:
        start_s = media_video.probe(file).video_start_s
        sound = media_audio.decode_sound(file, 0.0, 2.4, origin_s=start_s, channels=1)
    loud = abs(sound[0, 2000:101_000]).reshape(-1, 100).max(axis=1)
    assert (loud > 0.2).mean() > 0.95  # the tone goes on through the join, but for the coder's start


def test_every_stretch_is_decoded_at_its_time(tmp_path: Path) -> None:
    film = joined(tmp_path, (10.0, 14.0), 2, duration_s=5.0, gop=12)
    view = View(25.0, 96, 64)
    with film.open("rb") as file:
        note_ = media_video.probe(file).note
        for start_s in (0.0, 4.8, 8.0):
            [pictures] = media_video.decode_views(
                file, [view], start_s, start_s + 0.4, seeks=not has_leaps(note_)
            )
            first = round(start_s * 25)
            expected = [n % 64 if n < 125 else (n - 125 + 30) % 64 for n in range(first, first + 10)]
            assert [media_files.number_of(picture) for picture in pictures] == expected


def test_words_about_leaps() -> None:
    assert note([], 0.0) == "" and not has_leaps("") and not has_leaps(None)
    assert has_leaps(f"ends early; {note([2.0, 5.0], 1.0)}")
    assert note([2.0, 5.0], 1.0) == "its clock leaps at 1.0, 4.0 s"
    assert note([float(k) for k in range(9)], 0.0).endswith("4.0 s ...")


@pytest.mark.parametrize("start_s", [0.0, 3.0])
@pytest.mark.parametrize("bframes", [0, 2])
def test_a_live_stream_that_started_again(tmp_path: Path, start_s: float, bframes: int) -> None:
    """A recorder of FLV goes on writing tags when its sender starts again."""
    parts = [
        media_files.write_video(
            tmp_path / f"part{k}.flv", duration_s=1.2, bframes=bframes, start_s=begin,
            sound="audible", sound_start_s=begin,
            picture=lambda n, w, h, k=k: media_files.numbered(n + 30 * k, w, h),  # type: ignore[misc]
        ).read_bytes()
        for k, begin in enumerate((5.0, start_s or 0.08))
    ]  # fmt: skip
    film = tmp_path / "joined.flv"
    film.write_bytes(parts[0] + parts[1][13:])
    with film.open("rb") as file:
        probe = media_video.probe(file)
    assert probe.n_frames == 60 and probe.note == "its clock leaps at 1.2 s"
    copy, _ = dub(film, tmp_path / "out", default=False)
    pictures = shown(copy)
    assert [number for _, number in pictures] == list(range(60))
    assert [time_s for time_s, _ in pictures] == pytest.approx([k / 25 for k in range(60)], abs=0.0021)


def test_a_still_of_a_live_stream_is_no_leap(tmp_path: Path) -> None:
    film = media_files.write_video(tmp_path / "a.flv", times_s=[0, 0.04, 60.0, 60.04, 4000.0])
    with film.open("rb") as file:
        probe = media_video.probe(file)
    assert probe.note == "" and probe.duration_s == pytest.approx(4000.04, abs=0.01)


def test_milliseconds_of_31_bits_wrap(tmp_path: Path) -> None:
    """FFmpeg's own muxer counts so; its demuxer expects 32 bits."""
    film = media_files.write_video(tmp_path / "a.flv", duration_s=1, start_s=-0.4, codec="flv")
    with film.open("rb") as file:
        probe = media_video.probe(file)
    assert probe.duration_s == pytest.approx(1.0, abs=0.01) and has_leaps(probe.note)

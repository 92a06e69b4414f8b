"""A film whose times go back is no pile of pictures, but a failure with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest

from pipelines.mux.packets import repair_times
from pipelines.mux.times.squeezed import MOST_MOVED, SqueezedPictures
from pipelines.mux.track import MuxFailed


@dataclass
class Packet:
    """A packet of pictures, without its content."""

    pts: int | None
    dts: int | None
    stream_index: int = 0
    size: int = 1
    duration: int = 40
    is_discard: bool = False
    time_base: Fraction = Fraction(1, 1000)


def copy(packets: list[Packet]) -> list[int | None]:
    """Times of the packets in a copy."""
    last_dts: dict[int, int] = {}
    squeezed = SqueezedPictures()
    for packet in packets:
        wanted = packet.pts
        repair_times(packet, last_dts, 0)
        squeezed.note(packet, wanted)
    squeezed.finish()
    return [packet.pts for packet in packets]


def test_a_clock_that_starts_again_is_a_failure() -> None:
    part = range(0, 4000, 40)
    with pytest.raises(MuxFailed, match=r"ClockGoesBack: .*go back by \d\.\d s") as caught:
        copy([Packet(t, t) for t in [*part, *part]])
    assert caught.value.stage == "mux"


def test_half_of_a_short_film_is_a_failure_too() -> None:
    with pytest.raises(MuxFailed, match="ClockGoesBack"):
        copy([Packet(t, t) for t in [*range(0, 480, 40), *range(0, 480, 40)]])


def test_single_damaged_times_are_none() -> None:
    times = [t if t % 400 else max(0, t - 2000) for t in range(0, 8000, 40)]
    assert len(copy([Packet(t, t) for t in times])) == 200
    assert sum(t % 400 == 0 for t in range(0, 8000, 40)) < MOST_MOVED


def test_pictures_that_are_decoded_earlier_or_have_no_time_are_none() -> None:
    reordered = [Packet(t + (160 if k % 3 else 40), t) for k, t in enumerate(range(0, 8000, 40))]
    assert [packet.pts for packet in reordered] == copy(reordered)
    copy([Packet(None, t) for t in range(0, 8000, 40)])
    copy([Packet(t, t, is_discard=t >= 4000) for t in [*range(0, 8000, 40), *range(4000, 8000, 40)]])

"""Times of recording by the names of files."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.archive import wall_clock

NOON = "2026-01-03T12:05:00"


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("20260103_120500.mp4", [NOON]),
        ("20260103120500.mp4", [NOON]),
        ("VID_20260103_120500123.mp4", [NOON]),
        ("2026-01-03 12.05.00.mov", [NOON]),
        ("2026-01-03T12:05:00Z.mp4", [NOON + "Z"]),
        ("WhatsApp Video 2026-01-03 at 12.05.00.mp4", [NOON]),
        ("cam 2/2026_01_03-12-05-00_front.ts", [NOON]),
        ("ch01_20260103120500_20260103121000.dav", [NOON, "2026-01-03T12:10:00"]),
        ("1767441900.mp4", [NOON + "Z"]),
        ("1767441900123.mp4", [NOON + "Z"]),
        ("20260103_120500/clip.mp4", []),  # of the folder: its films begin at other times
        ("1003120500.mp4", []),  # 3 October, 12:05, as likely as a day of 2001
        ("20261303_120500.mp4", []),
        ("20260103.mp4", []),
        ("120260103120500.mp4", []),
        ("cam1_120000.ts", []),
        ("reel 7.mp4", []),
    ],
)
def test_names_of_cameras_are_read(name: str, times: list[str]) -> None:
    assert wall_clock.times_in_name(name) == times


@given(
    time=st.datetimes(datetime(1950, 1, 1), datetime(2090, 1, 1)).map(lambda t: t.replace(microsecond=0)),
    form=st.sampled_from(
        ["%Y%m%d_%H%M%S", "%Y-%m-%d %H.%M.%S", "%Y%m%d%H%M%S", "%Y_%m_%d_%H_%M_%S", "%Y.%m.%dT%H-%M-%S"]
    ),
    around=st.sampled_from(["{}", "ch01_{}", "{}_F", "CAM {} (2)"]),
)
def test_a_time_in_a_name_is_the_time_it_was_made_of(time: datetime, form: str, around: str) -> None:
    assert wall_clock.times_in_name(around.format(time.strftime(form)) + ".mp4") == [time.isoformat()]


@given(name=st.text(max_size=40))
def test_any_name_gives_times_or_none(name: str) -> None:
    for time in wall_clock.times_in_name(name):
        datetime.fromisoformat(time)


def test_metadata_come_before_the_name() -> None:
    assert wall_clock.recorded(NOON + "Z", "20200101_000000.mp4") == (NOON + "Z", "metadata")
    assert wall_clock.recorded("", "20260103_120500.mp4") == (NOON, "name")
    assert wall_clock.recorded("", "reel.mp4") == (None, None)


def test_time_passes_only_between_clocks_that_are_comparable() -> None:
    assert wall_clock.passed_s(NOON, "2026-01-03T12:05:03") == 3
    assert wall_clock.passed_s(NOON + "Z", "2026-01-03T12:05:00+01:00") == -3600
    assert wall_clock.passed_s(NOON, NOON + "Z") is None

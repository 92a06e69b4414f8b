"""One progress for files, clips and seconds of footage."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jobs.common import progress as module
from jobs.common.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that `progress` takes for the time; the test moves them."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_footage_is_measured_with_speed_and_time_left(clock: list[float]) -> None:
    console = Console(file=io.StringIO(), width=200)
    with Progress(console, 4, 600.0) as progress:
        clock[0] += 30
        progress.advance(150.0, finished=1, failed=True)
        assert progress.fraction == 0.25 and progress.left_s == pytest.approx(90.0)
        clock[0] += 1
        progress.advance(450.0, finished=3)
    assert lines(console) == [
        "1/4 files (1 failed) · 2.5/10.0 min · 5.0x real time · 1:30 left",
        "4/4 files (1 failed) · 10.0/10.0 min · 19.4x real time",
    ]


def test_without_footage_units_are_measured(clock: list[float]) -> None:
    console = Console(file=io.StringIO(), width=200)
    with Progress(console, 10, doing="rendering", unit="clips") as progress:
        for _ in range(10):
            clock[0] += 2
            progress.advance(finished=1)
    shown = lines(console)
    assert shown[0] == "1/10 clips · 0:18 left" and shown[-1] == "10/10 clips" and len(shown) == 10


def test_a_total_that_grows_and_no_plain_lines(clock: list[float]) -> None:
    console = Console(file=io.StringIO(), width=200)
    with Progress(console, None, doing="listing", plain=False) as progress:
        clock[0] += 60
        progress.advance(finished=3)
        assert progress.note() == "3 files" and progress.left_s is None
        progress.expect(6, "reading")
        assert progress.note() == "3/6 files" and progress.left_s == pytest.approx(60.0)
    assert lines(console) == []


def test_on_a_terminal_there_is_a_bar(clock: list[float]) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with Progress(console, 2, doing="rendering", unit="clips") as progress:
        progress.advance(finished=1)
        assert progress._bar is not None
        assert progress._bar.tasks[0].percentage == 50
        progress.expect(4, "drawing")
        assert (progress._bar.tasks[0].percentage, progress._bar.tasks[0].description) == (25, "drawing")

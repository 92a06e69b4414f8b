"""A short run of the campaign of `make chaos`, and its summary however it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

from tests.chaos import __main__
from tests.chaos.kinds import Summary


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kinds",
    [("actor", "driver", "s3-errors"), ("torn-part", "torn-row", "torn-config", "source-gone")],
)
def test_a_few_faults_lose_nothing(kinds: tuple[str, ...]) -> None:
    with __main__.within(10):
        summary = __main__.campaign(len(kinds), seed=5, kinds=kinds, films=3)
    assert not summary.bad, "\n".join(summary.lines())
    assert summary.compared >= 3 and sum(summary.injected.values()) >= 1


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("time", 0, "stopped: --minutes 0.005 are over"),
        ("SIGINT", 130, "stopped: interrupted"),
        ("SIGTERM", 130, "stopped: interrupted"),
        ("error", None, "stopped: an error of the campaign itself"),
        ("end", 1, "lost: 1"),
    ],
)
def test_the_summary_is_printed_however_it_ends(
    how: str,
    code: int | None,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def campaign(faults: int, seed: int, *, summary: Summary, **_: Any) -> Summary:
        summary.injected["driver"] += 3
        if how == "end":
            summary.lost.append("a film")
            return summary
        if how == "error":
            raise AssertionError
        if how.startswith("SIG"):
            threading.Timer(0.2, os.kill, (os.getpid(), getattr(signal, how))).start()
        time.sleep(60)
        return summary

    monkeypatch.setattr(__main__, "campaign", campaign)
    minutes = "0.005" if how == "time" else "60"
    if code is None:
        with pytest.raises(AssertionError):
            __main__.main(["--minutes", minutes])
    else:
        assert __main__.main(["--minutes", minutes]) == code
    told = capsys.readouterr().out
    assert told.startswith("3 faults in 0 rounds") and words in told
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and signal.getitimer(signal.ITIMER_REAL)[0] == 0

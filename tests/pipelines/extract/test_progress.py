"""Reasons to stop an extraction early."""

from __future__ import annotations

from pipelines.extract.progress import LEAST_ROWS, PUT_OFF_IN_A_ROW, Counts, Ledger


def wrote(ledger: Ledger, rows: int, failed: int) -> str:
    failures = [{"clip_id": f"{id(object())}-{k}-{len(ledger.counts.failures)}"} for k in range(failed)]
    return ledger.add(
        {"stage": "write", "rows": rows, "seconds": 1.0, "footage_s": 2.0 * rows, "failures": failures}
    )


def test_a_share_of_failures_counts_once_there_are_enough_rows() -> None:
    ledger = Ledger(max_failed=0.05)
    assert wrote(ledger, 1, LEAST_ROWS - 2) == ""
    assert "failed" in wrote(ledger, 1, 0)
    assert wrote(Ledger(max_failed=0.05), 95, 5) == ""
    assert wrote(Ledger(max_failed=None), 0, 500) == ""
    assert wrote(Ledger(max_failed=0.0), 100, 0) == ""
    assert "--max-failed" in wrote(Ledger(max_failed=0.0), 100, 1)


def test_a_retried_task_does_not_count_its_failures_twice() -> None:
    ledger = Ledger(max_failed=0.5)
    for _ in range(3):
        ledger.add({"failures": [{"clip_id": str(k)} for k in range(10)]})
    assert len(ledger.counts.failures) == 10


def test_storage_that_stays_away_ends_the_run_and_one_that_comes_back_does_not() -> None:
    ledger = Ledger()
    half = [str(k) for k in range(PUT_OFF_IN_A_ROW // 2 + 1)]
    assert ledger.add({"put_off": half, "reason": "503"}) == ""
    assert ledger.add({"stage": "decode", "rows": 1, "seconds": 1.0, "footage_s": 4.0}) == ""
    assert ledger.add({"put_off": half, "reason": "503"}) == ""
    assert "is not responding: 503" in ledger.add({"put_off": half, "reason": "503"})


def test_throughput_is_footage_per_core_second() -> None:
    ledger = Ledger()
    ledger.add({"stage": "encode", "rows": 2, "seconds": 4.0, "footage_s": 8.0})
    assert ledger.counts.throughput() == {"encode": 2.0}


def test_what_is_known_survives_a_ledger_that_begins_anew() -> None:
    known = Counts()
    first, second = Ledger(), Ledger()
    wrote(first, 5, 0)
    first.add({"failures": [{"clip_id": "a"}, {"clip_id": "b"}]})
    first.add({"put_off": ["x"], "reason": "503"})
    known.merge(first.read())
    wrote(second, 1, 0)
    second.add({"failures": [{"clip_id": "b"}, {"clip_id": "c"}]})
    known.merge(second.read())
    assert (
        known.rows["write"] == 5
        and known.failures.keys() == {"a", "b", "c"}
        and known.put_off == {"x": "503"}
    )
    wrote(second, 9, 0)
    known.merge(second.read())
    assert known.rows["write"] == 10

"""Tries while storage does not answer: as many as asked for, and none after an answer."""

from __future__ import annotations

import pytest

from pipelines import retry, storage


def tries_until(errors: list[BaseException], tries: int) -> int:
    """Number of attempts, each of which raises the next error, if one is left."""
    n = 0
    for attempt in retry.storage_attempts(retry.RetryPolicy(tries, 0.0)):
        with attempt:
            n += 1
            if errors:
                raise errors.pop(0)
    return n


def test_storage_is_asked_again_until_it_answers() -> None:
    assert tries_until([storage.StorageError("slow down")] * 2, 3) == 3


def test_the_last_error_is_raised_when_all_tries_are_used_up() -> None:
    errors: list[BaseException] = [storage.StorageError(str(k)) for k in range(5)]
    with pytest.raises(storage.StorageError, match="2"):
        tries_until(errors, 3)
    assert len(errors) == 2


@pytest.mark.parametrize(
    "error",
    [storage.StorageNotFound("gone"), storage.StorageDenied("no"), ValueError("other"), KeyboardInterrupt()],
)
def test_what_another_try_does_not_change_is_raised_at_once(error: BaseException) -> None:
    errors = [error, storage.StorageError("slow down")]
    with pytest.raises(type(error)):
        tries_until(errors, 3)
    assert len(errors) == 1


def test_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)
    with pytest.raises(storage.StorageError):
        for attempt in retry.storage_attempts(retry.RetryPolicy(4, 1.0)):
            with attempt:
                raise storage.StorageError("slow down")
    assert len(pauses) == 3
    assert all(2**k <= pause <= 2**k + 0.5 for k, pause in enumerate(pauses))

"""Retries of storage operations, with growing pauses."""

from __future__ import annotations

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from pipelines.storage import StorageDenied, StorageError, StorageNotFound

FINAL = (StorageNotFound, StorageDenied)
"""Answers of storage that another try does not change."""


def storage_attempts(tries: int, pause_s: float) -> Retrying:
    """At most `tries` attempts, for `for attempt in storage_attempts(...): with attempt: ...`.

    The first pause is `pause_s` and up to half as long again, so that not all workers come back at the same moment;
    each further one is twice as long. The last StorageError is raised, and any other error, FINAL among them, at once.
    """
    return Retrying(
        stop=stop_after_attempt(tries),
        wait=wait_exponential_jitter(initial=pause_s, jitter=pause_s / 2),
        retry=retry_if_exception(
            lambda error: isinstance(error, StorageError) and not isinstance(error, FINAL)
        ),
        reraise=True,
    )

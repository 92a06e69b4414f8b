"""Retries of storage operations, with growing pauses."""

from __future__ import annotations

from dataclasses import dataclass

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from pipelines.storage import StorageDenied, StorageError, StorageNotFound

FINAL = (StorageNotFound, StorageDenied)
"""Answers of storage that another try does not change."""


@dataclass(frozen=True)
class RetryPolicy:
    """Number of tries while storage does not answer, and the pause between them."""

    tries: int
    pause_s: float
    """Shortest length of the first pause."""


SCAN = RetryPolicy(3, 1.0)
DUB = RetryPolicy(3, 2.0)
EXTRACTION = RetryPolicy(6, 1.0)
"""A window that is lost is missing from the store, where dub tries a failed film again in its next run."""


def storage_attempts(policy: RetryPolicy) -> Retrying:
    """Attempts under a policy, for `for attempt in storage_attempts(...): with attempt: ...`.

    The first pause is up to half as long again, so that not all workers come back at the same moment; each further one
    is twice as long. The last StorageError is raised, and any other error, FINAL among them, at once.
    """
    return Retrying(
        stop=stop_after_attempt(policy.tries),
        wait=wait_exponential_jitter(initial=policy.pause_s, jitter=policy.pause_s / 2),
        retry=retry_if_exception(
            lambda error: isinstance(error, StorageError) and not isinstance(error, FINAL)
        ),
        reraise=True,
    )

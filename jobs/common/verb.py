"""What all verbs that run a job share: how they end, and what they say when they cannot go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jobs.cli import INTERRUPTED, SOME_FAILED, WRONG_USAGE, without_password

if TYPE_CHECKING:
    from rich.console import Console


class WrongUsage(Exception):
    """The command cannot be run as given; the message says what to change."""


class Stopped(Exception):
    """The job cannot go on; the message says why."""


def run_verb(name: str, again: str, body: Callable[[Console], int]) -> int:
    """Runs `body` with a console; its exit code, or that of what it raised, which is said with what to do next.

    `again` is the command that goes on where the job stopped.
    """
    from rich.console import Console

    from pipelines.storage import StorageError

    console = Console(highlight=False, soft_wrap=True)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return body(console)
    except WrongUsage as problem:
        errors.print(without_password(f"v2a {name}: {problem}"), markup=False)
        return WRONG_USAGE
    except (Stopped, StorageError) as problem:
        text = f"v2a {name}: {problem}\nTo go on where it stopped:\n  {again}"
        errors.print(without_password(text), markup=False)
        return SOME_FAILED
    except KeyboardInterrupt:
        errors.print(f"\nInterrupted. To go on where it stopped:\n  {again}", markup=False)
        return INTERRUPTED


def reason_of(error: BaseException) -> str:
    """The first line of what a worker raised, without Ray's own stack."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).strip().splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Lines that name the settings in which an output that is there differs from what is asked; empty if none."""
    names = [name for name in now if before.get(name) != now[name]]
    return "\n".join(f"  {name}: {before.get(name)} there, {now[name]} now" for name in names)

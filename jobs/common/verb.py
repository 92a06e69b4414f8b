"""Start and end of every verb: console, error messages, exit codes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jobs.cli import INTERRUPTED, MACHINE_ERRORS, SOME_FAILED, WRONG_USAGE, without_password
from jobs.common.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 160
"""Columns of tables that do not go to a terminal: room for long names."""


class WrongUsage(Exception):
    """The command cannot run as given; the message says what to change."""


class Stopped(Exception):
    """The job cannot go on; the message says why."""


def run_verb(name: str, again: str, body: Callable[[Console], int], sandbox: str = "auto") -> int:
    """Run `body` with a console and return its exit code. This is the one place that maps errors to exit codes.

    WrongUsage gives 2, as does a sandbox that is less than demanded, or a machine without a folder for temporary files;
    Stopped, StorageError, a full disk (`MACHINE_ERRORS`) and a decoder that does not start give 1; Ctrl-C gives 130.
    Each is printed to standard error. `again` is the command that resumes the job; empty for verbs without anything to
    resume. sandbox: the demand on children that read films, "auto" or "strict".
    """
    from pipelines.media.errors import DecoderNotStarted
    from pipelines.sandbox.confinement import NotConfined
    from pipelines.sandbox.escape.demand import demanded
    from pipelines.storage import StorageError

    resume = f"\nTo resume, run:\n  {again}" if again else ""
    _running[:] = [name, resume]
    try:
        tempfile.gettempdir()
    except FileNotFoundError as problem:
        print_error(name, f"{problem.strerror}: set TMPDIR to a folder that can be written")
        return WRONG_USAGE
    try:
        with demanded(sandbox):
            return body(_console())
    except (WrongUsage, NotConfined) as problem:
        print_error(name, str(problem))
        return WRONG_USAGE
    except (Stopped, StorageError, DecoderNotStarted) as problem:
        print_error(name, f"{problem}{resume}")
        return SOME_FAILED
    except OSError as problem:
        if problem.errno not in MACHINE_ERRORS:
            raise
        print_error(name, f"{problem}{resume}")
        return SOME_FAILED
    except KeyboardInterrupt:
        print_error(name, f"interrupted{resume}")
        return INTERRUPTED


_running = ["", ""]


def ended(problem: str) -> str:
    """The text of an error that ends the verb that runs now, for another process that prints it in its place."""
    name, resume = _running
    return _shown(f"v2a {name}: {problem}{resume}")


def print_error(name: str, problem: str) -> None:
    """Print a problem of the verb `name` to standard error, without the passwords of URLs, and with the control
    characters of names as escape sequences."""
    from rich.console import Console

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    errors.print(_shown(f"v2a {name}: {problem}"), markup=False)


def _shown(text: str) -> str:
    return "\n".join(map(printable, without_password(text).split("\n")))


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=PIPED_WIDTH)


def reason_of(error: BaseException) -> str:
    """The first line of a worker's error, without Ray's stack trace."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).strip().splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Lines that name the settings in which an existing output differs from the command; empty if none."""
    names = [name for name in now if before.get(name) != now[name]]
    return "\n".join(f"  {name}: {before.get(name)} there, {now[name]} now" for name in names)

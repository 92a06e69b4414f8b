"""Self-test of the sandbox: a child that is started as every decoder is tries to escape.

`v2a doctor` lists the results: they are what holds on this machine, and not what should. An attempt that succeeds does
no harm: its victims are files and a process made for it.
"""

from __future__ import annotations

import codecs
import contextlib
from dataclasses import asdict, dataclass, fields
from typing import IO, Any

from pipelines.sandbox.child import ChildFailed, converse, serve
from pipelines.sandbox.confinement import MEASURES
from pipelines.sandbox.escape import on_files, on_processes
from pipelines.sandbox.escape.attempts import ATTEMPTS, MEMORY_MB, WRITES, Impossible, Victims, victims

__all__ = ["ATTEMPTS", "SelfTest", "attempt_all", "try_escapes", "victims"]

_MODULES = (on_files, on_processes)
"""Modules that add to ATTEMPTS when they are imported."""


@dataclass(frozen=True)
class SelfTest:
    """Result of the attempts of one child."""

    escaped: tuple[str, ...]
    """Names of the attempts that succeeded."""
    missing: dict[str, str]
    """Measures that the child could not take, each with the reason."""

    def failures(self, measure: str) -> list[str]:
        """Names of the attempts that succeeded although `measure` should prevent them."""
        return [name for name in self.escaped if ATTEMPTS[name][0] == measure]

    @property
    def complete(self) -> bool:
        """True if every measure holds and nothing escaped."""
        return not (self.escaped or self.missing)


def try_escapes() -> SelfTest:
    """Start a child as every decoder is started, and let it try to escape.

    Raises ChildFailed if it does not answer, NotConfined if the user demands more than this machine has.
    """
    with victims() as them:
        answer = converse(
            "pipelines.sandbox.escape.self_test",
            asdict(them),
            MEMORY_MB,
            60.0,
            fds=(them.source, them.output),
            writes=WRITES,
        )
    try:
        escaped = tuple(str(name) for name in answer["escaped"] if ATTEMPTS[name])
        return SelfTest(escaped, {str(k): str(v) for k, v in answer["missing"].items() if MEASURES[k]})
    except (KeyError, TypeError, AttributeError) as error:
        raise ChildFailed("Crashed", f"invalid reply: {error}") from None


def attempt_all(them: Victims) -> list[str]:
    """Names of the attempts that succeed in this process."""
    succeeded = []
    for name, (_, attempt) in ATTEMPTS.items():
        with contextlib.suppress(OSError, MemoryError, ValueError, RuntimeError, Impossible):
            attempt(them)
            succeeded.append(name)
    return succeeded


def answer(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    them = Victims(**{field.name: order[field.name] for field in fields(Victims)})
    return {"escaped": attempt_all(them), "missing": order["missing"]}


def load_codecs() -> None:
    """Load what Python loads when a name is resolved."""
    codecs.lookup("idna")


if __name__ == "__main__":
    serve(answer, load_codecs)

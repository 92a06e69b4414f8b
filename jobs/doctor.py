"""`v2a doctor`: what this machine offers, and what of the sandbox holds on it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.cli import DONE, SOME_FAILED, version
from jobs.common.options import SandboxLevel
from jobs.common.verb import run_verb

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.sandbox.escape.self_test import SelfTest


@dataclass
class DoctorConfig:
    """Show what this machine offers: versions, GPUs, memory, and which measures of the sandbox hold.

    Films are read by child processes that can open no file, reach no network, start no program and see no secret. Which
    of these measures a system has depends on its kernel and on the container. A child tries each escape that a measure
    should prevent, so the table shows what holds here, and not what should.

    Exit codes: 0 nothing escapes (measures may be missing), 1 an escape succeeds, 2 a measure is missing and --sandbox
    strict demands it.
    """

    escapes: bool = False
    """List every attempt to escape, with the measure that prevents it."""
    json: bool = False
    """Print one JSON object instead of tables."""
    sandbox: SandboxLevel = "auto"


def run(config: DoctorConfig) -> int:
    """Print the findings. Returns the exit code."""
    return run_verb("doctor", "", lambda console: _run(config, console), config.sandbox)


def _run(config: DoctorConfig, console: Console) -> int:
    from pipelines.sandbox.escape import self_test

    facts, result = machine(), self_test.try_escapes()
    if config.json:
        print(json.dumps(facts | {"sandbox": as_json(result)}, indent=2))
    else:
        width = max(map(len, facts))
        for name, fact in facts.items():
            console.print(f"{name:<{width}}  {fact}", markup=False)
        console.print()
        print_measures(console, result)
        if config.escapes:
            print_escapes(console, result)
    return SOME_FAILED if unprevented(result) else DONE


def machine() -> dict[str, str]:
    """Facts about this machine and the libraries that read films, as lines of text by name."""
    import av
    import psutil

    from pipelines.sandbox import landlock

    gib = 1 << 30
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / gib
    facts = {
        "v2a": f"{version()}, Python {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} on {platform.machine()}",
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / gib:.1f} GiB, {psutil.virtual_memory().available / gib:.1f} free",
        "temporary files": f"{folder}, {free:.1f} GiB free",
        "FFmpeg": f"{av.ffmpeg_version_info}, in PyAV {av.__version__}",
        "Landlock": f"version {landlock.version()}" if landlock.version() else "none",
        "GPUs": ", ".join(gpus()) or "none",
    }
    if os.path.isdir("/dev/shm"):
        facts["shared memory"] = f"/dev/shm, {shutil.disk_usage('/dev/shm').free / gib:.1f} GiB free"
    return facts


def gpus() -> list[str]:
    """Names of the GPUs that torch can use."""
    import torch

    if torch.backends.mps.is_available():
        return ["Apple (mps)"]
    return [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]


def unprevented(result: SelfTest) -> list[str]:
    """Names of the attempts that succeeded although every measure that prevents them is said to hold."""
    from pipelines.sandbox.escape.attempts import ATTEMPTS

    return [name for name in result.escaped if ATTEMPTS[name][0] not in result.missing]


def level(result: SelfTest) -> str:
    """One word for the sandbox of this machine: full, partial, or broken."""
    if unprevented(result):
        return "broken"
    return "full" if result.complete else "partial"


def as_json(result: SelfTest) -> dict[str, Any]:
    """The findings about the sandbox as JSON."""
    from pipelines.sandbox.confinement import MEASURES
    from pipelines.sandbox.escape.attempts import ATTEMPTS

    return {
        "level": level(result),
        "measures": {name: name not in result.missing for name in MEASURES},
        "missing": result.missing,
        "escapes": {
            name: {"prevented_by": measure, "succeeded": name in result.escaped}
            for name, (measure, _) in ATTEMPTS.items()
        },
    }


def print_measures(console: Console, result: SelfTest) -> None:
    """Print a line for each measure, and one for all."""
    from rich.table import Table

    from pipelines.sandbox.confinement import MEASURES
    from pipelines.sandbox.escape.attempts import ATTEMPTS

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("sandbox", "holds", "escapes tried", "a child"):
        table.add_column(name, overflow="fold")
    for name, words in MEASURES.items():
        tried = sum(measure == name for measure, _ in ATTEMPTS.values())
        failed = len(result.failures(name))
        holds = "no" if name in result.missing else "NO" if failed else "yes"
        why = f"{words}; missing here: {result.missing[name]}" if name in result.missing else words
        table.add_row(
            name, holds, f"{tried}, {failed} succeeded" if failed else str(tried) if tried else "", why
        )
    console.print(table, soft_wrap=False)
    console.print()
    advice = {
        "full": "every measure holds; --sandbox strict is possible",
        "partial": "some measures are missing; what that means is in docs/security.md",
        "broken": "an escape succeeds that a measure should prevent; please report it (docs/security.md)",
    }
    console.print(f"The sandbox is {level(result)}: {advice[level(result)]}.", markup=False)


def print_escapes(console: Console, result: SelfTest) -> None:
    """Print a line for each attempt to escape."""
    from rich.table import Table

    from pipelines.sandbox.escape.attempts import ATTEMPTS

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("a film's code ...", "prevented by", "result"):
        table.add_column(name)
    for name, (measure, _) in ATTEMPTS.items():
        table.add_row(name, measure, "SUCCEEDED" if name in result.escaped else "fails")
    console.print()
    console.print(table, soft_wrap=False)


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["doctor", *sys.argv[1:]]))

"""Confinement of a child process that touches untrusted bytes: what it gives up before it reads the first of them.

A child keeps the descriptors that it was given, its memory, its threads and the clock. It gives up files, the network,
other processes and programs, its user's rights, and the environment of its parent. Each measure has a name in
`MEASURES`; a system that lacks one goes without it, unless the user demands all of them (`strict`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys
import threading
import time
from dataclasses import dataclass

from pipelines.media.errors import DecoderNotStarted
from pipelines.sandbox.landlock import LandlockUnavailable, forbid_files_and_ports
from pipelines.sandbox.seccomp import NO_NEW_PRIVS, SeccompUnavailable, forbid_other_calls

MEASURES = {
    "environment": "gets a short list of environment variables, without secrets",
    "descriptors": "has only the descriptors that it was given",
    "memory": "has a limit on its memory and CPU time, and dumps no core",
    "end": "ends with its parent, at once",
    "privileges": "has no capabilities and can gain none",
    "namespaces": "is alone in a user, network, mount and IPC namespace",
    "files": "can open, create, rename or remove no file (Landlock)",
    "system calls": "can start no program or process, open no socket, reach no other process (seccomp)",
}
"""Measures by name, with what each does to a child."""

VARIABLE = "V2A_SANDBOX"
"""Environment variable that carries the user's demand, `strict`, to the processes of a job."""

OPEN_FILES = 64
"""Descriptors that a child may have open."""

THREADS = 64
"""Threads that a child may have, where it has a user namespace of its own."""

_NAMESPACES = 0x10000000 | 0x40000000 | 0x00020000 | 0x08000000 | 0x04000000
"""CLONE_NEWUSER, NEWNET, NEWNS, NEWIPC, NEWUTS."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAP_AMBIENT = 1, 4, 47
_CLEAR_ALL = 4
"""PR_CAP_AMBIENT_CLEAR_ALL."""

_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION = 0x20080522


class NotConfined(DecoderNotStarted):
    """The user demands every measure, and this system lacks some; the message names them."""

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Limits:
    """Limits of one child."""

    memory_mb: int
    """Address space."""
    writes: int = 0
    """Bytes that any file may grow to by its writing."""
    cpu_s: int = 0
    """CPU time, of all threads together; 0 for none."""


def is_strict() -> bool:
    """True if children may run only with every measure in force."""
    return os.environ.get(VARIABLE) == "strict"


def confine(parent_pid: int, limits: Limits) -> dict[str, str]:
    """Confine this process for good. It must have one thread, and everything imported that it will need.

    Returns the measures that do not hold, each with the reason. Raises NotConfined if there are any and the user
    demands all, MemoryError if the limit is less than what this process has already.
    """
    missing = {
        name: reason
        for name, reason in (
            # A namespace can be left only by a process of one thread. Capabilities are dropped in it, and dropping
            # them clears the signal of the parent's death. After the filter nothing else can be set.
            ("memory", _limit(limits)),
            ("namespaces", _enter_namespaces()),
            ("privileges", _drop_privileges()),
            ("end", _end_with_parent(parent_pid)),
            ("files", _forbid_files()),
            ("system calls", _forbid_calls()),
        )
        if reason
    }
    if missing and is_strict():
        raise NotConfined(refusal(missing))
    return missing


def refusal(missing: dict[str, str]) -> str:
    """The error for measures that do not hold although all are demanded."""
    lacking = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    return f"the sandbox is not complete on this machine ({lacking}): see `v2a doctor`, or run without --sandbox strict"


def _limit(limits: Limits) -> str:
    import resource

    bounds = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, limits.writes),
    ]
    if limits.cpu_s:
        bounds.append((resource.RLIMIT_CPU, limits.cpu_s))
    if sys.platform == "linux":
        with open("/proc/self/statm", "rb") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        if used > limits.memory_mb << 20:
            raise MemoryError(
                f"{limits.memory_mb} MB are less than a child has when it starts ({used >> 20} MB)"
            )
        bounds.append((resource.RLIMIT_AS, limits.memory_mb << 20))
    for resource_id, bound in bounds:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource_id, (bound, bound))
    return "" if sys.platform == "linux" else f"{sys.platform} limits no address space"


def _enter_namespaces() -> str:
    import resource

    if sys.platform != "linux":
        return f"{sys.platform} has none"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NAMESPACES):
        return f"this system lets no process make them ({os.strerror(ctypes.get_errno())})"
    # The kernel counts per user and namespace: outside one of its own, other processes of the user would count.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NPROC, (THREADS, THREADS))
    return ""


def _drop_privileges() -> str:
    number = _CAPSET.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return f"not known how on {sys.platform} ({platform.machine()})"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0):
        return "the kernel has no no_new_privs"
    libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)
    if libc.syscall(number, header, none):
        return f"capset: {os.strerror(ctypes.get_errno())}"
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return ""


def _end_with_parent(parent_pid: int) -> str:
    """Ask the kernel for SIGKILL when the thread that started this process ends (`pipelines.sandbox.starter`)."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is not None and not libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        if os.getppid() != parent_pid:
            os._exit(0)  # it ended before
        return ""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    return "it looks once a second, and not while it is stopped"


def _forbid_files() -> str:
    try:
        forbid_files_and_ports()
        return ""
    except LandlockUnavailable as error:
        return str(error)


def _forbid_calls() -> str:
    try:
        forbid_other_calls()
        return ""
    except SeccompUnavailable as error:
        return str(error)

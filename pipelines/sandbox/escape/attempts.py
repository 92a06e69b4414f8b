"""The list of attempts to escape, the victims they are made on, and plain system calls to make them with."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines import safe_path, scratch

SECRET = b"a secret that no child may know"

MEMORY_MB = 1024
"""Address space of the child that makes the attempts."""

WRITES = 1 << 16
"""Bytes that it may write to its output."""


@dataclass(frozen=True)
class Victims:
    """Things that an attempt is made on; all but the descriptors are out of a confined child's reach."""

    folder: str
    original: str
    """Path of a file that is lent for reading, whose content is a secret."""
    source: int
    """Descriptor of `original`, for reading."""
    output: int
    """Descriptor of the file to write."""
    port: int
    """TCP port on this machine that accepts connections."""
    process: int
    """Process id of an innocent process of the same user."""
    parent: int


class Impossible(Exception):
    """This machine offers no way to make the attempt."""


Attempt = Callable[[Victims], Any]
ATTEMPTS: dict[str, tuple[str, Attempt]] = {}
"""By name: the measure that prevents it, and the attempt, which raises an error if it fails."""


@contextlib.contextmanager
def victims() -> Iterator[Victims]:
    """Victims for one round of attempts, removed afterwards."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch.folder())
        original = folder / "original"
        original.write_bytes(SECRET)
        source = stack.enter_context(original.open("rb"))
        output = stack.enter_context((folder / "output").open("xb"))
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)"], env=safe_path.environment()
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        port = server.getsockname()[1]
        yield Victims(
            str(folder), str(original), source.fileno(), output.fileno(), port, process.pid, os.getpid()
        )


def attempt(name: str, prevented_by: str) -> Callable[[Attempt], Attempt]:
    def register(made: Attempt) -> Attempt:
        ATTEMPTS[name] = prevented_by, made
        return made

    return register


_SYSTEM_CALLS: dict[str, tuple[int, int]] = {
    "execve": (59, 221), "ptrace": (101, 117), "process_vm_readv": (310, 270), "pidfd_open": (434, 434),
    "mount": (165, 40), "chroot": (161, 51), "unshare": (272, 97), "bpf": (321, 280), "perf_event_open": (298, 241),
    "keyctl": (250, 219), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "memfd_create": (319, 279),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "setns": (308, 268), "capget": (125, 90),
    "personality": (135, 92), "setpriority": (141, 140), "utimensat": (280, 88), "fsetxattr": (190, 7),
    "mknodat": (259, 33), "clone": (56, 220), "add_key": (248, 217), "sched_setaffinity": (203, 122),
    "openat2": (437, 437), "quotactl": (179, 60), "syslog": (103, 116), "acct": (163, 89), "swapon": (167, 224),
    "shmget": (29, 194), "msgget": (68, 186), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
    "fallocate": (285, 47),
}  # fmt: skip
"""System calls on x86-64 and arm64."""

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> int:
    """Result of a system call. Raises OSError."""
    column = {"x86_64": 0, "aarch64": 1}.get(platform.machine())
    if column is None or sys.platform != "linux":
        raise Impossible
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(_SYSTEM_CALLS[name][column], *wide))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def reaches(name: str, *arguments: Any, fails_with: int) -> None:
    """Succeed if the kernel takes the system call seriously: it complains about an argument that is wrong on purpose.

    Raises OSError if it refuses the call itself.
    """
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno != fails_with:
            raise

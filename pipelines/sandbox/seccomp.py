"""A seccomp filter: the list of system calls that a process may still make, enforced by the kernel.

Every call that is not listed fails with EPERM, and the process goes on. Listed are calls that work on memory, threads,
time and descriptors that are already open; none opens a file or a socket, starts a program or a process, or reaches
another process. Numbers and structures are those of the Linux headers (`linux/seccomp.h`, `linux/filter.h`,
`asm/unistd.h`); the manual page is seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterable, Mapping

NO_NEW_PRIVS = 38
"""Number of the option PR_SET_NO_NEW_PRIVS of prctl(2)."""

_SECCOMP_SET_MODE_FILTER = 1
_FLAG_ALL_THREADS = 1
"""SECCOMP_FILTER_FLAG_TSYNC."""

_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

_X32 = 0x40000000
"""Bit of the numbers of the x32 interface, a second way to call the same kernel functions on x86-64."""

_CLONE_THREAD = 0x00010000
_PROT_EXEC = 4
_AT_EMPTY_PATH = 0x1000
_FCNTL_DESCRIPTORS = (0, 1, 2, 3, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC; not F_SETOWN, which sends signals to others, and not F_SETFL,
which changes how the parent reads and writes what it has lent."""

_NEWEST_KNOWN = 424
"""Numbers from here on are new calls, the same on every machine. C libraries try them and take the older call if the
kernel does not have them (ENOSYS), but not if they are refused."""

# (x86-64, arm64); None where the machine has no such call.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # Descriptors that are open; not `fallocate`, which takes disk space beyond the limit on the size of a file.
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "lseek": (8, 62), "close": (3, 57), "fstat": (5, 80), "dup": (32, 23),
    "dup2": (33, None), "dup3": (292, 24), "ftruncate": (77, 46), "fsync": (74, 82),
    "fdatasync": (75, 83), "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "recvfrom": (45, 207), "recvmsg": (47, 212), "sendto": (44, 206), "sendmsg": (46, 211), "shutdown": (48, 210),
    "getsockname": (51, 204), "getsockopt": (55, 209),
    # Memory.
    "brk": (12, 214), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233), "msync": (26, 227),
    "mincore": (27, 232),
    # Threads of this process and their locks.
    "futex": (202, 98), "set_robust_list": (273, 99), "get_robust_list": (274, 100), "set_tid_address": (218, 96),
    "rseq": (334, 293), "membarrier": (324, 283), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    # Signals to itself, and the end.
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94),
    # Time and facts.
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrusage": (98, 165),
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "uname": (63, 160), "sysinfo": (99, 179), "getrlimit": (97, 163),
    "getrandom": (318, 278),
    # Checked by their arguments.
    "clone": (56, 220), "mmap": (9, 222), "mprotect": (10, 226), "fcntl": (72, 25), "tgkill": (234, 131),
    "prlimit64": (302, 261), "newfstatat": (262, 79), "statx": (332, 291),
    # Refused as if the kernel did not have it: C libraries then take `clone`, whose arguments can be checked.
    "clone3": (435, 435),
}  # fmt: skip

_MACHINES = {"x86_64": (0xC000003E, 0, 317), "aarch64": (0xC00000B7, 1, 277)}
"""By name: number of the machine in the kernel (AUDIT_ARCH), column of `_NUMBERS`, number of `seccomp` itself."""

Instruction = tuple[int, int, int, int]
"""Code, jumps if true and if false, and operand of one instruction of the filter."""


class SeccompUnavailable(Exception):
    """The kernel or the machine has no seccomp filters; the message says what is missing."""


def forbid_other_calls() -> None:
    """Allow this process, with all its threads, the listed system calls only; it cannot be undone.

    Raises SeccompUnavailable.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _MACHINES:
        raise SeccompUnavailable(f"no filter for {sys.platform} on {machine}")
    architecture, column, number = _MACHINES[machine]
    known = {name: columns[column] for name, columns in _NUMBERS.items()}
    instructions = program(architecture, {n: v for n, v in known.items() if v is not None}, os.getpid())
    code = b"".join(struct.pack("=HBBI", *each) for each in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0):
        raise SeccompUnavailable("the kernel has no no_new_privs")
    if libc.syscall(number, _SECCOMP_SET_MODE_FILTER, _FLAG_ALL_THREADS, header):
        raise SeccompUnavailable(f"seccomp: {os.strerror(ctypes.get_errno())}")


def program(architecture: int, numbers: Mapping[str, int], pid: int) -> list[Instruction]:
    """The filter for a process `pid`: numbers of the system calls by name, in the order in which they are tried."""
    checked: dict[str, Callable[[int], list[Instruction]]] = {
        "clone": lambda _: [_argument(0), (_ANY_BIT, 0, 1, _CLONE_THREAD), *_then(_ALLOW), *_fail(errno.EPERM)],
        "mmap": lambda _: _without_bits(2, _PROT_EXEC),
        "mprotect": lambda _: _without_bits(2, _PROT_EXEC),
        "fcntl": lambda _: [*_one_of(1, _FCNTL_DESCRIPTORS), *_fail(errno.EPERM)],
        "tgkill": lambda _: [*_one_of(0, [pid]), *_fail(errno.EPERM)],
        # Own limits may be read, by a null pointer to new ones.
        "prlimit64": lambda _: [
            _argument(0), (_EQUAL, 0, 5, 0), _argument(2), (_EQUAL, 0, 3, 0), _argument(2, high=True),
            (_EQUAL, 0, 1, 0), *_then(_ALLOW), *_fail(errno.EPERM),
        ],
        "newfstatat": lambda _: [_argument(3), (_ANY_BIT, 0, 1, _AT_EMPTY_PATH), *_then(_ALLOW), *_fail(errno.EPERM)],
        "statx": lambda _: [_argument(2), (_ANY_BIT, 0, 1, _AT_EMPTY_PATH), *_then(_ALLOW), *_fail(errno.EPERM)],
        "clone3": lambda _: _fail(errno.ENOSYS),
    }  # fmt: skip
    lines: list[Instruction] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, architecture),
        *_then(_KILL),
        (_LOAD, 0, 0, 0),
    ]
    for name, number in numbers.items():
        body = checked[name](number) if name in checked else _then(_ALLOW)
        lines += [(_EQUAL, 0, len(body), number), *body]
    newer = [(_AT_LEAST, 2, 0, _X32), (_AT_LEAST, 0, 1, _NEWEST_KNOWN)]
    return [*lines, *newer, *_fail(errno.ENOSYS), *_fail(errno.EPERM)]


def _argument(argument: int, high: bool = False) -> Instruction:
    """Load half of an argument (counted from 0); flags and numbers fit into the lower half."""
    return _LOAD, 0, 0, 16 + 8 * argument + (4 if high else 0)


def _then(action: int) -> list[Instruction]:
    return [(_RETURN, 0, 0, action)]


def _fail(number: int) -> list[Instruction]:
    return _then(_FAIL | number)


def _without_bits(argument: int, bits: int) -> list[Instruction]:
    return [_argument(argument), (_ANY_BIT, 1, 0, bits), *_then(_ALLOW), *_fail(errno.EPERM)]


def _one_of(argument: int, values: Iterable[int]) -> list[Instruction]:
    return [
        _argument(argument),
        *(line for value in values for line in ((_EQUAL, 0, 1, value), *_then(_ALLOW))),
    ]

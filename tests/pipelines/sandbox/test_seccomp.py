"""The filter of system calls, run by a small interpreter of its instructions as seccomp(2) describes them."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sandbox import seccomp

ARCHITECTURE, COLUMN, _ = seccomp._MACHINES["x86_64"]
NUMBERS = {name: columns[COLUMN] for name, columns in seccomp._NUMBERS.items() if columns[COLUMN] is not None}
PID = 4711
PROGRAM = seccomp.program(ARCHITECTURE, {k: v for k, v in NUMBERS.items() if v is not None}, PID)

ALLOW, KILL = 0x7FFF0000, 0x80000000
CHECKED = {"clone", "mmap", "mprotect", "fcntl", "tgkill", "prlimit64", "newfstatat", "statx", "clone3"}


def answer(number: int, arguments: list[int] | None = None, architecture: int = ARCHITECTURE) -> int:
    """The filter's verdict on a system call."""
    values = [*(arguments or []), 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<iIQ6Q", number & 0x7FFFFFFF, architecture, 0, *(v & (1 << 64) - 1 for v in values))
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, operand = PROGRAM[at]
        if code == 0x06:
            return operand
        if code == 0x20:
            [loaded] = struct.unpack_from("<I", data, operand)
            at += 1
            continue
        holds = {0x15: loaded == operand, 0x35: loaded >= operand, 0x45: bool(loaded & operand)}[code]
        at += 1 + (if_true if holds else if_false)


def fails_with(number: int) -> int:
    return 0x00050000 | number


def call(name: str, *arguments: int) -> int:
    number = NUMBERS[name]
    assert number is not None
    return answer(number, list(arguments))


@given(st.integers(0, 423))
def test_calls_that_are_not_listed_are_refused(number: int) -> None:
    if number not in NUMBERS.values():
        assert answer(number) == fails_with(errno.EPERM)


@given(st.integers(424, 0x3FFFFFFF))
def test_newer_calls_look_as_if_the_kernel_had_none(number: int) -> None:
    assert answer(number) == fails_with(errno.ENOSYS)


@given(st.integers(0, 1000))
def test_the_second_interface_is_refused(number: int) -> None:
    assert answer(0x40000000 | number) == fails_with(errno.EPERM)


@given(st.integers(0, 1000), st.sampled_from([0x40000003, 0xC00000B7, 0]))
def test_calls_of_another_machine_end_the_process(number: int, architecture: int) -> None:
    assert answer(number, architecture=architecture) == KILL


def test_listed_calls_are_allowed() -> None:
    for name in set(NUMBERS) - CHECKED:
        assert call(name) == ALLOW, name


@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("clone", [0x3D0F00], True),  # a thread of glibc
        ("clone", [17], False),  # a process: SIGCHLD alone
        ("clone", [0x4100 | 17], False),  # vfork
        ("mmap", [0, 4096, 3, 0x22], True),
        ("mmap", [0, 4096, 7, 0x22], False),
        ("mmap", [0, 4096, 4, 0x22], False),
        ("mprotect", [0, 4096, 1], True),
        ("mprotect", [0, 4096, 5], False),
        ("fcntl", [3, 3, 0], True),
        ("fcntl", [3, 4, 0x4000], False),  # F_SETFL
        ("fcntl", [3, 8, 1], False),  # F_SETOWN
        ("fcntl", [3, 1024, 1], False),  # F_SETLEASE
        ("fcntl", [3, 1030, 1], True),
        ("tgkill", [PID, 1, 6], True),
        ("tgkill", [1, 1, 6], False),
        ("prlimit64", [0, 7, 0, 1], True),
        ("prlimit64", [0, 7, 1 << 32, 0], False),  # a pointer whose lower half is zero
        ("prlimit64", [0, 7, 4096, 0], False),
        ("prlimit64", [1, 7, 0, 1], False),
        ("newfstatat", [3, 0, 0, 0x1000], True),
        ("newfstatat", [-100, 1, 1, 0], False),
        ("statx", [3, 0, 0x1000, 0], True),
        ("statx", [-100, 1, 0, 0], False),
    ],
)
def test_arguments_decide(name: str, arguments: list[int], allowed: bool) -> None:
    assert call(name, *arguments) == (ALLOW if allowed else fails_with(errno.EPERM))


def test_clone3_looks_as_if_the_kernel_had_none() -> None:
    assert call("clone3") == fails_with(errno.ENOSYS)


def test_both_machines_have_the_calls_that_every_child_makes() -> None:
    for name in ("read", "write", "mmap", "munmap", "futex", "clone", "exit_group", "recvmsg", "lseek"):
        assert None not in seccomp._NUMBERS[name]

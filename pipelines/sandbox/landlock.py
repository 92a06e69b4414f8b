"""Landlock: this process may open, create, rename or remove no file, and connect to no port, whatever its rights.

The rule set handles every kind of access that the kernel knows and allows none. What is open stays usable. Numbers are
those of `linux/landlock.h`; the manual page is landlock(7).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

from pipelines.sandbox.seccomp import NO_NEW_PRIVS

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
"""System calls, with the same numbers on every machine."""

_CREATE_RULESET_VERSION = 1

_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of kinds of access to files, by the version of Landlock that brought the last of them."""

_NET_RIGHTS = 3
"""Binding and connecting TCP ports, from version 4 on."""

_SCOPES = 3
"""Abstract Unix sockets and signals to processes outside, from version 6 on."""


class LandlockUnavailable(Exception):
    """The kernel has no Landlock, or it is turned off; the message says which."""


def version() -> int:
    """Version of the kernel's Landlock; 0 if there is none or it is turned off."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)))


def forbid_files_and_ports() -> int:
    """Restrict the calling thread and those that it starts. Returns the version of Landlock.

    Raises LandlockUnavailable.
    """
    found = version()
    if not found:
        raise LandlockUnavailable("the kernel has no Landlock (Linux 5.13 or newer, with lsm=landlock)")
    rights = max(count for since, count in _FILE_RIGHTS.items() if since <= found)
    fields = [(1 << rights) - 1, _NET_RIGHTS if found >= 4 else 0, _SCOPES if found >= 6 else 0]
    size = 8 * (3 if found >= 6 else 2 if found >= 4 else 1)
    attributes = struct.pack("=QQQ", *fields)[:size]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0):
        raise LandlockUnavailable("the kernel has no no_new_privs")
    ruleset = int(libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0))
    if ruleset < 0:
        raise LandlockUnavailable(f"Landlock: {os.strerror(ctypes.get_errno())}")
    try:
        if libc.syscall(_RESTRICT_SELF, ruleset, 0):
            raise LandlockUnavailable(f"Landlock: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(ruleset)
    return found

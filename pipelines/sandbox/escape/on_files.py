"""Attempts on files: by their names, through what was lent, and beyond the limits of what may be written."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import stat
import sys
from pathlib import Path

from pipelines import safe_path
from pipelines.sandbox.escape.attempts import (
    MEMORY_MB,
    SECRET,
    WRITES,
    Impossible,
    Victims,
    attempt,
    call,
    reaches,
)


@attempt("reads the parent's environment", "files")
def _parent_environment(them: Victims) -> None:
    Path(f"/proc/{them.parent}/environ").read_bytes()


@attempt("has a variable of the environment that is not passed on", "environment")
def _other_variables(them: Victims) -> None:
    allowed = {*safe_path.environment(), "LC_CTYPE"}
    if not set(os.environ) - allowed:
        raise ValueError


@attempt("has a descriptor that it was not given", "descriptors")
def _other_descriptors(them: Victims) -> None:
    given = {0, 1, 2, them.source, them.output}
    for fd in range(4096):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            if fd not in given:
                return
    raise ValueError


@attempt("reads a file by its name", "files")
def _read_by_name(them: Victims) -> None:
    Path(them.original).read_bytes()


@attempt("reads a file by its name, by openat2", "files")
def _openat2(them: Victims) -> None:
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0)
    call("openat2", -100, os.fsencode(them.original) + b"\0", how, ctypes.sizeof(how))


@attempt("reads the password file", "files")
def _passwords(them: Victims) -> None:
    Path("/etc/passwd").read_bytes()


@attempt("lists a folder", "files")
def _list(them: Victims) -> None:
    os.listdir(them.folder)


@attempt("creates a file", "files")
def _create(them: Victims) -> None:
    Path(them.folder, "created").write_bytes(b"x")


@attempt("overwrites an original by its name", "files")
def _overwrite(them: Victims) -> None:
    with open(them.original, "r+b") as file:
        file.write(SECRET)


@attempt("truncates an original by its name", "system calls")
def _truncate(them: Victims) -> None:
    os.truncate(them.original, len(SECRET))


@attempt("renames a file", "files")
def _rename(them: Victims) -> None:
    os.rename(them.original, them.original + ".new")
    os.rename(them.original + ".new", them.original)


@attempt("makes a folder and removes it", "files")
def _make_folder(them: Victims) -> None:
    os.mkdir(f"{them.folder}/folder")
    os.rmdir(f"{them.folder}/folder")


@attempt("makes a link to an original", "files")
def _link(them: Victims) -> None:
    os.link(them.original, f"{them.folder}/link")


@attempt("makes a symbolic link", "files")
def _symlink(them: Victims) -> None:
    os.symlink("/etc", f"{them.folder}/symlink")


@attempt("makes a named pipe", "files")
def _mknod(them: Victims) -> None:
    call("mknodat", -100, os.fsencode(f"{them.folder}/pipe"), stat.S_IFIFO | 0o600, 0)


@attempt("changes the rights of an original by its name", "system calls")
def _chmod(them: Victims) -> None:
    os.chmod(them.original, 0o600)


@attempt("makes shared memory under a name", "files")
def _shared_memory(them: Victims) -> None:
    name = f"/dev/shm/v2a-escape-{os.getpid()}"
    with open(name, "xb"):
        os.unlink(name)


@attempt("opens a lent file again, for writing", "files")
def _open_again(them: Victims) -> None:
    os.close(os.open(f"/proc/self/fd/{them.source}", os.O_RDWR))


@attempt("opens a lent file again, by its handle", "system calls")
def _by_handle(them: Victims) -> None:
    handle = ctypes.create_string_buffer((128).to_bytes(4, sys.byteorder) + bytes(132))
    where = ctypes.c_int()
    call("name_to_handle_at", them.source, b"\0", handle, ctypes.byref(where), 0x1000)
    os.close(call("open_by_handle_at", them.source, handle, os.O_RDWR))


@attempt("changes a lent file through its memory", "descriptors")
def _writable_map(them: Victims) -> None:
    with mmap.mmap(them.source, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as memory:
        memory[:1] = b"A"


@attempt("writes to a lent file", "descriptors")
def _write(them: Victims) -> None:
    os.write(them.source, b"A")


@attempt("changes the rights of a lent file", "system calls")
def _fchmod(them: Victims) -> None:
    os.fchmod(them.source, 0o600)


@attempt("changes the times of a lent file", "system calls")
def _futimens(them: Victims) -> None:
    call("utimensat", them.source, None, None, 0)


@attempt("changes attributes of a lent file", "system calls")
def _fsetxattr(them: Victims) -> None:
    reaches("fsetxattr", them.source, b"user.v2a\0", b"x", 1, 99, fails_with=errno.EINVAL)  # 99: no such flag


@attempt("takes more memory than allowed", "memory")
def _memory(them: Victims) -> None:
    mmap.mmap(-1, (MEMORY_MB + 1) << 20).close()


@attempt("writes more than allowed", "memory")
def _output(them: Victims) -> None:
    if os.pwrite(them.output, b"x", 2 * WRITES) == 1:
        os.ftruncate(them.output, 0)


@attempt("takes more of the disk than it may write", "system calls")
def _reserve(them: Victims) -> None:
    try:
        call("fallocate", them.output, 1, 0, 2 * WRITES)  # FALLOC_FL_KEEP_SIZE: the file seems to stay small
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise Impossible from None
        raise
    os.ftruncate(them.output, 0)


@attempt("changes how its parent writes to the output", "system calls")
def _flags(them: Victims) -> None:
    fcntl.fcntl(them.output, fcntl.F_SETFL, fcntl.fcntl(them.output, fcntl.F_GETFL))

"""Attempts to escape, made by a confined child as hostile code in a decoder would make them.

`try_escapes` starts a child in the way every decoder starts, and the child tries each of `ATTEMPTS` with plain system
calls. `v2a doctor` lists the results: they are what holds on this machine, and not what should. An attempt that
succeeds does no harm: its victims are files and a process made for it.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from pipelines import safe_path
from pipelines.sandbox.child import ChildFailed, converse, serve
from pipelines.sandbox.confinement import MEASURES

MEMORY_MB = 1024

_SECRET = b"a secret that no child may know"
_WRITES = 1 << 16
"""Bytes that the child may write to its output."""


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
            "pipelines.sandbox.escape",
            asdict(them),
            MEMORY_MB,
            60.0,
            fds=(them.source, them.output),
            writes=_WRITES,
        )
    try:
        escaped = tuple(str(name) for name in answer["escaped"] if ATTEMPTS[name])
        return SelfTest(escaped, {str(k): str(v) for k, v in answer["missing"].items() if MEASURES[k]})
    except (KeyError, TypeError, AttributeError) as error:
        raise ChildFailed("Crashed", f"invalid reply: {error}") from None


@contextlib.contextmanager
def victims() -> Iterator[Victims]:
    """Victims for one round of attempts, removed afterwards."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="v2a-escape-"))
        original = Path(folder, "original")
        original.write_bytes(_SECRET)
        source = stack.enter_context(original.open("rb"))
        output = stack.enter_context(Path(folder, "output").open("xb"))
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)"], env=safe_path.environment()
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        port = server.getsockname()[1]
        yield Victims(folder, str(original), source.fileno(), output.fileno(), port, process.pid, os.getpid())


def attempt_all(them: Victims) -> list[str]:
    """Names of the attempts that succeed in this process."""
    succeeded = []
    for name, (_, attempt) in ATTEMPTS.items():
        with contextlib.suppress(OSError, MemoryError, ValueError, RuntimeError, Impossible):
            attempt(them)
            succeeded.append(name)
    return succeeded


# ------------------------------------------------------------------------------- attempts, in the child


def _attempt(name: str, prevented_by: str) -> Callable[[Attempt], Attempt]:
    def register(attempt: Attempt) -> Attempt:
        ATTEMPTS[name] = prevented_by, attempt
        return attempt

    return register


_NUMBERS: dict[str, tuple[int, int]] = {
    "execve": (59, 221), "ptrace": (101, 117), "process_vm_readv": (310, 270), "pidfd_open": (434, 434),
    "mount": (165, 40), "chroot": (161, 51), "unshare": (272, 97), "bpf": (321, 280), "perf_event_open": (298, 241),
    "keyctl": (250, 219), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "memfd_create": (319, 279),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "setns": (308, 268), "capget": (125, 90),
    "personality": (135, 92), "setpriority": (141, 140), "utimensat": (280, 88), "fsetxattr": (190, 7),
    "mknodat": (259, 33), "clone": (56, 220), "add_key": (248, 217), "sched_setaffinity": (203, 122),
    "openat2": (437, 437), "quotactl": (179, 60), "syslog": (103, 116), "acct": (163, 89), "swapon": (167, 224),
    "shmget": (29, 194), "msgget": (68, 186), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
}  # fmt: skip
"""System calls on x86-64 and arm64."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> int:
    """Result of a system call. Raises OSError."""
    column = {"x86_64": 0, "aarch64": 1}.get(platform.machine())
    if column is None or sys.platform != "linux":
        raise Impossible
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(_NUMBERS[name][column], *wide))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _reaches(name: str, *arguments: Any, fails_with: int) -> None:
    """Succeed if the kernel takes the system call seriously: it complains about an argument that is wrong on purpose.

    Raises OSError if it refuses the call itself.
    """
    try:
        _call(name, *arguments)
    except OSError as error:
        if error.errno != fails_with:
            raise


@_attempt("reads the parent's environment", "files")
def _parent_environment(them: Victims) -> None:
    Path(f"/proc/{them.parent}/environ").read_bytes()


@_attempt("has a variable of the environment that is not passed on", "environment")
def _other_variables(them: Victims) -> None:
    allowed = {*safe_path.environment(), "LC_CTYPE"}
    if not set(os.environ) - allowed:
        raise ValueError


@_attempt("has a descriptor that it was not given", "descriptors")
def _other_descriptors(them: Victims) -> None:
    given = {0, 1, 2, them.source, them.output}
    for fd in range(4096):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            if fd not in given:
                return
    raise ValueError


@_attempt("reads a file by its name", "files")
def _read_by_name(them: Victims) -> None:
    Path(them.original).read_bytes()


@_attempt("reads a file by its name, by openat2", "files")
def _openat2(them: Victims) -> None:
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0)
    _call("openat2", -100, os.fsencode(them.original) + b"\0", how, ctypes.sizeof(how))


@_attempt("reads the password file", "files")
def _passwords(them: Victims) -> None:
    Path("/etc/passwd").read_bytes()


@_attempt("lists a folder", "files")
def _list(them: Victims) -> None:
    os.listdir(them.folder)


@_attempt("creates a file", "files")
def _create(them: Victims) -> None:
    Path(them.folder, "created").write_bytes(b"x")


@_attempt("overwrites an original by its name", "files")
def _overwrite(them: Victims) -> None:
    with open(them.original, "r+b") as file:
        file.write(_SECRET)


@_attempt("truncates an original by its name", "system calls")
def _truncate(them: Victims) -> None:
    os.truncate(them.original, len(_SECRET))


@_attempt("renames a file", "files")
def _rename(them: Victims) -> None:
    os.rename(them.original, them.original + ".new")
    os.rename(them.original + ".new", them.original)


@_attempt("makes a folder and removes it", "files")
def _make_folder(them: Victims) -> None:
    os.mkdir(f"{them.folder}/folder")
    os.rmdir(f"{them.folder}/folder")


@_attempt("makes a link to an original", "files")
def _link(them: Victims) -> None:
    os.link(them.original, f"{them.folder}/link")


@_attempt("makes a symbolic link", "files")
def _symlink(them: Victims) -> None:
    os.symlink("/etc", f"{them.folder}/symlink")


@_attempt("makes a named pipe", "files")
def _mknod(them: Victims) -> None:
    _call("mknodat", -100, os.fsencode(f"{them.folder}/pipe"), stat.S_IFIFO | 0o600, 0)


@_attempt("changes the rights of an original by its name", "system calls")
def _chmod(them: Victims) -> None:
    os.chmod(them.original, 0o600)


@_attempt("makes shared memory under a name", "files")
def _shared_memory(them: Victims) -> None:
    name = f"/dev/shm/v2a-escape-{os.getpid()}"
    with open(name, "xb"):
        os.unlink(name)


@_attempt("opens a lent file again, for writing", "files")
def _open_again(them: Victims) -> None:
    os.close(os.open(f"/proc/self/fd/{them.source}", os.O_RDWR))


@_attempt("opens a lent file again, by its handle", "system calls")
def _by_handle(them: Victims) -> None:
    handle = ctypes.create_string_buffer((128).to_bytes(4, sys.byteorder) + bytes(132))
    where = ctypes.c_int()
    _call("name_to_handle_at", them.source, b"\0", handle, ctypes.byref(where), 0x1000)
    os.close(_call("open_by_handle_at", them.source, handle, os.O_RDWR))


@_attempt("changes a lent file through its memory", "descriptors")
def _writable_map(them: Victims) -> None:
    with mmap.mmap(them.source, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as memory:
        memory[:1] = b"A"


@_attempt("writes to a lent file", "descriptors")
def _write(them: Victims) -> None:
    os.write(them.source, b"A")


@_attempt("changes the rights of a lent file", "system calls")
def _fchmod(them: Victims) -> None:
    os.fchmod(them.source, 0o600)


@_attempt("changes the times of a lent file", "system calls")
def _futimens(them: Victims) -> None:
    _call("utimensat", them.source, None, None, 0)


@_attempt("changes attributes of a lent file", "system calls")
def _fsetxattr(them: Victims) -> None:
    _reaches(
        "fsetxattr", them.source, b"user.v2a\0", b"x", 1, 99, fails_with=errno.EINVAL
    )  # 99: no such flag


@_attempt("connects to a server", "system calls")
def _connect(them: Victims) -> None:
    with socket.create_connection(("127.0.0.1", them.port), 2):
        pass


@_attempt("makes a socket for datagrams", "system calls")
def _datagrams(them: Victims) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


@_attempt("makes a socket to local services", "system calls")
def _local_socket(them: Victims) -> None:
    socket.socket(socket.AF_UNIX).close()


@_attempt("offers a service", "system calls")
def _listen(them: Victims) -> None:
    socket.create_server(("127.0.0.1", 0)).close()


@_attempt("executes a program", "system calls")
def _execute(them: Victims) -> None:
    _reaches("execve", b"/no/such/program\0", None, None, fails_with=errno.ENOENT)


@_attempt("starts a process", "system calls")
def _fork(them: Victims) -> None:
    pid = _call("clone", signal.SIGCHLD, None, None, None, None)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@_attempt("starts a program", "system calls")
def _spawn(them: Victims) -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", ""], {})
    os.waitpid(pid, 0)


@_attempt("makes executable memory", "system calls")
def _executable_memory(them: Victims) -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


@_attempt("traces another process", "system calls")
def _trace(them: Victims) -> None:
    _call("ptrace", 0x4206, them.process, None, None)  # PTRACE_SEIZE
    with contextlib.suppress(OSError):
        _call("ptrace", 17, them.process, None, None)  # PTRACE_DETACH


@_attempt("reads the memory of its parent", "system calls")
def _parent_memory(them: Victims) -> None:
    _reaches("process_vm_readv", them.parent, None, 0, None, 0, 99, fails_with=errno.EINVAL)


@_attempt("opens the memory of another process", "files")
def _process_memory(them: Victims) -> None:
    with open(f"/proc/{them.process}/mem", "r+b"):
        pass


@_attempt("sends a signal to its parent", "system calls")
def _signal(them: Victims) -> None:
    os.kill(them.parent, 0)


@_attempt("takes hold of another process", "system calls")
def _pidfd(them: Victims) -> None:
    os.close(_call("pidfd_open", them.process, 0))


@_attempt("lets the kernel send signals to another process", "system calls")
def _own_signals(them: Victims) -> None:
    fcntl.fcntl(them.source, 8, them.process)  # F_SETOWN


@_attempt("slows its parent down", "system calls")
def _priority(them: Victims) -> None:
    _call("setpriority", 0, them.process, 5)


@_attempt("limits another process", "system calls")
def _limit_other(them: Victims) -> None:
    if sys.platform != "linux":
        raise Impossible
    core = resource.prlimit(them.process, resource.RLIMIT_CORE)
    resource.prlimit(them.process, resource.RLIMIT_CORE, core)


@_attempt("raises its own limits", "system calls")
def _raise_limits(them: Victims) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE))


@_attempt("has capabilities", "privileges")
def _capabilities(them: Victims) -> None:
    # Asked of the kernel where that is still allowed, else of what a capability would let it do.
    header = ctypes.create_string_buffer((0x20080522).to_bytes(4, sys.byteorder) + bytes(4))
    sets = (ctypes.c_uint32 * 6)()
    _call("capget", header, sets)
    if not any(sets):
        raise ValueError


@_attempt("mounts a file system", "system calls")
def _mount(them: Victims) -> None:
    _reaches("mount", b"v2a\0", b"/no/such/folder\0", b"tmpfs\0", 0, None, fails_with=errno.ENOENT)


@_attempt("changes its root folder", "system calls")
def _chroot(them: Victims) -> None:
    _reaches("chroot", b"/no/such/folder\0", fails_with=errno.ENOENT)


@_attempt("makes namespaces", "system calls")
def _unshare(them: Victims) -> None:
    _call("unshare", 0)


@_attempt("enters the namespace of its parent", "files")
def _enter(them: Victims) -> None:
    os.close(os.open(f"/proc/{them.parent}/ns/net", os.O_RDONLY))


@_attempt("loads a program into the kernel", "system calls")
def _bpf(them: Victims) -> None:
    _reaches("bpf", 99, None, 0, fails_with=errno.EINVAL)


@_attempt("measures the kernel", "system calls")
def _perf(them: Victims) -> None:
    _reaches("perf_event_open", None, 0, -1, -1, 0, fails_with=errno.EFAULT)


@_attempt("reads keys of the kernel", "system calls")
def _keys(them: Victims) -> None:
    _reaches("keyctl", 0, -3, 0, 0, 0, fails_with=errno.ENOKEY)


@_attempt("handles page faults itself", "system calls")
def _page_faults(them: Victims) -> None:
    _reaches("userfaultfd", 0x40000000, fails_with=errno.EINVAL)


@_attempt("opens files through io_uring", "system calls")
def _io_uring(them: Victims) -> None:
    _reaches("io_uring_setup", 0, None, fails_with=errno.EFAULT)


@_attempt("makes a file in memory", "system calls")
def _memory_file(them: Victims) -> None:
    os.close(_call("memfd_create", b"v2a\0", 0))


@_attempt("makes shared memory by number", "system calls")
def _system_v(them: Victims) -> None:
    _reaches("shmget", 0, 0, 0o1000, fails_with=errno.EINVAL)


@_attempt("makes a message queue", "system calls")
def _queue(them: Victims) -> None:
    _reaches("msgget", 0x76326100, 0, fails_with=errno.ENOENT)


@_attempt("watches files", "system calls")
def _watch(them: Victims) -> None:
    os.close(_call("inotify_init1", 0))


@_attempt("turns off address randomisation", "system calls")
def _personality(them: Victims) -> None:
    _call("personality", 0xFFFFFFFF)


@_attempt("reads the kernel's log", "system calls")
def _kernel_log(them: Victims) -> None:
    _call("syslog", 10, None, 0)


@_attempt("takes more memory than allowed", "memory")
def _memory(them: Victims) -> None:
    mmap.mmap(-1, (MEMORY_MB + 1) << 20).close()


@_attempt("writes more than allowed", "memory")
def _output(them: Victims) -> None:
    if os.pwrite(them.output, b"x", 2 * _WRITES) == 1:
        os.ftruncate(them.output, 0)


def _answer(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    them = Victims(**{field.name: order[field.name] for field in fields(Victims)})
    return {"escaped": attempt_all(them), "missing": order["missing"]}


def _load() -> None:
    """Load what Python loads when a name is resolved."""
    codecs.lookup("idna")


if __name__ == "__main__":
    serve(_answer, _load)

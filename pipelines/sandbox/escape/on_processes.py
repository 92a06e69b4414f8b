"""Attempts on the network, other processes, and the kernel."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import sys

from pipelines.sandbox.escape.attempts import Impossible, Victims, attempt, call, reaches


@attempt("connects to a server", "system calls")
def _connect(them: Victims) -> None:
    with socket.create_connection(("127.0.0.1", them.port), 2):
        pass


@attempt("makes a socket for datagrams", "system calls")
def _datagrams(them: Victims) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


@attempt("makes a socket to local services", "system calls")
def _local_socket(them: Victims) -> None:
    socket.socket(socket.AF_UNIX).close()


@attempt("offers a service", "system calls")
def _listen(them: Victims) -> None:
    socket.create_server(("127.0.0.1", 0)).close()


@attempt("executes a program", "system calls")
def _execute(them: Victims) -> None:
    reaches("execve", b"/no/such/program\0", None, None, fails_with=errno.ENOENT)


@attempt("starts a process", "system calls")
def _fork(them: Victims) -> None:
    pid = call("clone", signal.SIGCHLD, None, None, None, None)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@attempt("starts a program", "system calls")
def _spawn(them: Victims) -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", ""], {})
    os.waitpid(pid, 0)


@attempt("makes executable memory", "system calls")
def _executable_memory(them: Victims) -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


@attempt("traces another process", "system calls")
def _trace(them: Victims) -> None:
    call("ptrace", 0x4206, them.process, None, None)  # PTRACE_SEIZE
    with contextlib.suppress(OSError):
        call("ptrace", 17, them.process, None, None)  # PTRACE_DETACH


@attempt("reads the memory of its parent", "system calls")
def _parent_memory(them: Victims) -> None:
    reaches("process_vm_readv", them.parent, None, 0, None, 0, 99, fails_with=errno.EINVAL)


@attempt("opens the memory of another process", "files")
def _process_memory(them: Victims) -> None:
    with open(f"/proc/{them.process}/mem", "r+b"):
        pass


@attempt("sends a signal to its parent", "system calls")
def _signal(them: Victims) -> None:
    os.kill(them.parent, 0)


@attempt("takes hold of another process", "system calls")
def _pidfd(them: Victims) -> None:
    os.close(call("pidfd_open", them.process, 0))


@attempt("lets the kernel send signals to another process", "system calls")
def _own_signals(them: Victims) -> None:
    fcntl.fcntl(them.source, 8, them.process)  # F_SETOWN


@attempt("slows its parent down", "system calls")
def _priority(them: Victims) -> None:
    call("setpriority", 0, them.process, 5)


@attempt("limits another process", "system calls")
def _limit_other(them: Victims) -> None:
    if sys.platform != "linux":
        raise Impossible
    core = resource.prlimit(them.process, resource.RLIMIT_CORE)
    resource.prlimit(them.process, resource.RLIMIT_CORE, core)


@attempt("raises its own limits", "system calls")
def _raise_limits(them: Victims) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE))


@attempt("has capabilities", "privileges")
def _capabilities(them: Victims) -> None:
    # Asked of the kernel where that is still allowed, else of what a capability would let it do.
    header = ctypes.create_string_buffer((0x20080522).to_bytes(4, sys.byteorder) + bytes(4))
    sets = (ctypes.c_uint32 * 6)()
    call("capget", header, sets)
    if not any(sets):
        raise ValueError


@attempt("mounts a file system", "system calls")
def _mount(them: Victims) -> None:
    reaches("mount", b"v2a\0", b"/no/such/folder\0", b"tmpfs\0", 0, None, fails_with=errno.ENOENT)


@attempt("changes its root folder", "system calls")
def _chroot(them: Victims) -> None:
    reaches("chroot", b"/no/such/folder\0", fails_with=errno.ENOENT)


@attempt("makes namespaces", "system calls")
def _unshare(them: Victims) -> None:
    call("unshare", 0)


@attempt("enters the namespace of its parent", "files")
def _enter(them: Victims) -> None:
    os.close(os.open(f"/proc/{them.parent}/ns/net", os.O_RDONLY))


@attempt("loads a program into the kernel", "system calls")
def _bpf(them: Victims) -> None:
    reaches("bpf", 99, None, 0, fails_with=errno.EINVAL)


@attempt("measures the kernel", "system calls")
def _perf(them: Victims) -> None:
    reaches("perf_event_open", None, 0, -1, -1, 0, fails_with=errno.EFAULT)


@attempt("reads keys of the kernel", "system calls")
def _keys(them: Victims) -> None:
    reaches("keyctl", 0, -3, 0, 0, 0, fails_with=errno.ENOKEY)


@attempt("handles page faults itself", "system calls")
def _page_faults(them: Victims) -> None:
    reaches("userfaultfd", 0x40000000, fails_with=errno.EINVAL)


@attempt("opens files through io_uring", "system calls")
def _io_uring(them: Victims) -> None:
    reaches("io_uring_setup", 0, None, fails_with=errno.EFAULT)


@attempt("makes a file in memory", "system calls")
def _memory_file(them: Victims) -> None:
    os.close(call("memfd_create", b"v2a\0", 0))


@attempt("makes shared memory by number", "system calls")
def _system_v(them: Victims) -> None:
    reaches("shmget", 0, 0, 0o1000, fails_with=errno.EINVAL)


@attempt("makes a message queue", "system calls")
def _queue(them: Victims) -> None:
    reaches("msgget", 0x76326100, 0, fails_with=errno.ENOENT)


@attempt("watches files", "system calls")
def _watch(them: Victims) -> None:
    os.close(call("inotify_init1", 0))


@attempt("turns off address randomisation", "system calls")
def _personality(them: Victims) -> None:
    call("personality", 0xFFFFFFFF)


@attempt("reads the kernel's log", "system calls")
def _kernel_log(them: Victims) -> None:
    call("syslog", 10, None, 0)

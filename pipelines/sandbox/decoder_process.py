"""Parent side of the decoding child: its start, its end, and the error for a child that has died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
from collections.abc import Iterator

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from pipelines.media.errors import DecodeFailed, DecoderNotStarted
from pipelines.sandbox import answers, starter
from pipelines.sandbox.child import signal_name
from pipelines.sandbox.confinement import NotConfined
from pipelines.sandbox.pipe import Reader
from pipelines.sandbox.shared_memory import SharedMemory

_REQUEST_PATIENCE = 30
"""Time limit of a request that keeps reporting progress, as a multiple of `timeout_s`."""

_START_S = 180.0
"""Time for a child to start, on a machine under load."""

START_TRIES = 5
START_PAUSE_S = 1.0
"""Pause after a failed start; each further one is twice as long, 15 s in all."""


class DecoderProcess:
    """One decoding child at a time, with `memory_mb` of address space, and the memory that it shares."""

    def __init__(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        self.child: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None
        """Socket for requests, and for the descriptors of the files to decode."""
        self.shared: SharedMemory | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the child, if one runs."""
        return self.child.pid if self.child is not None and self.child.poll() is None else None

    def close(self) -> None:
        """End the child for good."""
        self._closed = True
        self.end()

    def end(self) -> None:
        """End the child; the next request starts another."""
        child, self.child = self.child, None
        if child is not None:
            child.kill()
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            child.wait()
        control, self.control = self.control, None
        if control is not None:
            control.close()
        shared, self.shared = self.shared, None
        if shared is not None:
            shared.close()

    @contextlib.contextmanager
    def listening(self, verb: str, timeout_s: float) -> Iterator[Reader]:
        """A reader of the answers of the running child to one request, `verb`.

        Raises DecodeFailed for whatever goes wrong in the block: no progress for `timeout_s`, 30 times as long
        in all, the end of the child, or answers that were not asked for.
        """
        assert self.child is not None and self.child.stdout is not None and self.control is not None
        self.control.settimeout(timeout_s)  # a child that answers and reads no request would block its parent
        reader = Reader(self.child.stdout.fileno(), timeout_s, timeout_s * _REQUEST_PATIENCE)
        try:
            yield reader
        except DecodeFailed as error:
            if error.error_class == "DecoderOutOfMemory":
                self.end()  # its heap is in pieces: start afresh
            raise
        except TimeoutError:
            self.end()
            message = f"no progress for {timeout_s:g} s" if reader.stalled else "takes too long in all"
            raise DecodeFailed("DecoderTimeout", message, verb) from None
        except (OSError, EOFError):
            raise self._autopsy(verb) from None
        except (ValueError, KeyError, TypeError) as error:
            self.end()
            raise DecodeFailed("DecoderCrashed", f"invalid reply from the decoder: {error}", verb) from None

    def running(self) -> tuple[socket.socket, SharedMemory]:
        """The control socket and the memory of the child, which is started if none runs.

        Raises DecoderNotStarted if it does not start, not even after pauses: the kernel may have ended it for want of
        memory, which others give back. Raises NotConfined if it may not start.
        """
        if self._closed:
            raise RuntimeError("this sandbox is closed")
        if self.child is None or self.child.poll() is not None:
            for attempt in Retrying(
                stop=stop_after_attempt(START_TRIES),
                wait=wait_exponential(START_PAUSE_S),
                retry=retry_if_exception(_may_start_later),
                reraise=True,
            ):
                with attempt:
                    self._start()
        assert self.control is not None and self.shared is not None
        return self.control, self.shared

    def _start(self) -> None:
        """Start a child once. Raises DecoderNotStarted, NotConfined."""
        self.end()
        if self._closed:
            raise RuntimeError("this sandbox is closed")
        try:  # a slow or failed start is not the fault of the file
            self.shared = SharedMemory()
            self.control, theirs = socket.socketpair()
            with theirs:
                child = self.child = start_decoder(self.memory_mb, self.shared.fd, theirs.fileno())
            assert child.stdout is not None
            ready = answers.parse(Reader(child.stdout.fileno(), _START_S, _START_S).line())
        except (OSError, EOFError, ValueError, MemoryError) as error:
            reason = (
                "it does not reply"
                if isinstance(error, TimeoutError)
                else self._autopsy("open").message
                if self.child is not None
                else str(error) or type(error).__name__
            )
            self.end()
            raise DecoderNotStarted(reason) from error
        if "refused" in ready:
            self.end()
            raise NotConfined(str(ready["refused"]))

    def _autopsy(self, verb: str) -> DecodeFailed:
        """The error for a child that has ended; reads the reason from its standard error."""
        child, text = self.child, ""
        if child is not None and child.stderr is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=5)
            os.set_blocking(child.stderr.fileno(), False)
            text = (child.stderr.read() or b"").decode(errors="replace").strip()
        code = child.poll() if child is not None else None
        self.end()
        if "MemoryError" in text or "Cannot allocate memory" in text:
            return DecodeFailed("DecoderOutOfMemory", f"needs more than {self.memory_mb} MB", verb)
        if code is not None and code < 0:
            return DecodeFailed("DecoderCrashed", f"ended by {signal_name(-code)}", verb)
        last = text.splitlines()[-1] if text else f"exit code {code}"
        return DecodeFailed("DecoderCrashed", last, verb)


def _may_start_later(error: BaseException) -> bool:
    return isinstance(error, DecoderNotStarted) and not isinstance(error, NotConfined)


def start_decoder(memory_mb: int, shared_fd: int, control_fd: int) -> subprocess.Popen[bytes]:
    """Start a child that may use `memory_mb` and the file `shared_fd`, and gets its requests from `control_fd`.

    Its first line reports that it is ready.
    """
    read_end, write_end = os.pipe()
    # Standard error is read only after a crash: a full pipe must drop text, not block the child.
    os.set_blocking(write_end, False)
    try:
        arguments = memory_mb, os.getpid(), shared_fd
        child = starter.start(
            "pipelines.sandbox.decoder_child",
            *arguments,
            stdin=control_fd,
            stderr=write_end,
            pass_fds=(shared_fd,),
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    child.stderr = open(read_end, "rb", buffering=0)  # noqa: SIM115 (closed with the child)
    with contextlib.suppress(AttributeError, OSError):
        assert child.stdout is not None
        fcntl.fcntl(child.stdout.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
    return child

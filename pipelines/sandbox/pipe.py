"""The parent's end of the pipes to the decoding child: checked answers in, requests out.

The file may have taken the child over, so nothing from it is trusted: lines have a largest length, arrays must have the
requested shapes, and waiting ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipelines import storage
from pipelines.media.errors import DecodeFailed
from pipelines.sandbox import answers

Shapes = Sequence[Sequence[int]]

_LONGEST_LINE = 1 << 20


class Reader:
    """Reader of lines and arrays from a pipe, with two time limits.

    stall_s: longest time without progress. total_s: longest time of the whole conversation. Every method that reads
    raises TimeoutError when either has passed (`stalled` is true for the first) and EOFError when the pipe ends.
    """

    def __init__(self, fd: int, stall_s: float, total_s: float) -> None:
        self.fd, self.stall_s, self.stalled = fd, stall_s, False
        self.end = time.monotonic() + total_s
        self.buffer = bytearray()
        self.poll = select.poll()
        self.poll.register(fd, select.POLLIN)
        self.progress()

    def progress(self) -> None:
        """Restart the time without progress."""
        self.stall = time.monotonic() + self.stall_s

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop both clocks for the block: the child is not waited for."""
        since = time.monotonic()
        yield
        self.end += time.monotonic() - since
        self.progress()

    def answer(self) -> dict[str, Any]:
        """The next answer that is more than a sign of life. Raises DecodeFailed or StorageError if it is an error."""
        while "tick" in (answer := answers.parse(self.line())):
            self.progress()
        self.progress()
        if "failed" in answer:
            failed = answers.checked(answers.FailedAnswer, answer["failed"])
            raise DecodeFailed(failed.error_class, failed.message, failed.stage)
        if "storage" in answer:
            raise storage.StorageError(str(answer["storage"])[:1000])
        return answer

    def line(self) -> bytes:
        """The next line without its end. Raises ValueError if it is too long."""
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > _LONGEST_LINE:
                raise ValueError("endless line")
            self._wait()
            if not (part := os.read(self.fd, 65536)):
                raise EOFError
            self.buffer += part
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line

    def array(self, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
        """The next raw bytes, as an array of this shape."""
        array = np.empty(shape, dtype)
        view = array.reshape(-1).view(np.uint8).data
        at = min(len(self.buffer), len(view))
        view[:at] = self.buffer[:at]
        del self.buffer[:at]
        while at < len(view):
            self._wait()
            if not (n := os.readv(self.fd, [view[at:]])):
                raise EOFError
            at += n
        return array

    def _wait(self) -> None:
        while True:
            now = time.monotonic()
            left = min(self.stall, self.end) - now
            if left <= 0:
                self.stalled = self.stall <= self.end
                raise TimeoutError
            if self.poll.poll(min(left, 1.0) * 1000):
                return


def agree(shapes: Shapes, expected: Shapes) -> list[tuple[int, ...]]:
    """The announced shapes. Raises ValueError if they are not the expected ones (-1 stands for any small number)."""
    if len(shapes) != len(expected):
        raise ValueError("another number of arrays than requested")
    for got, wanted in zip(shapes, expected, strict=True):
        fits = len(got) == len(wanted) and all(
            g == w or (w == -1 and 0 < g <= answers.MAX_CHANNELS) for g, w in zip(got, wanted, strict=True)
        )
        if not fits:
            raise ValueError(f"an array of {tuple(got)} instead of {wanted}")
    return [tuple(int(n) for n in shape) for shape in shapes]


def send(control: socket.socket, message: dict[str, Any] | bytes, *fds: int) -> None:
    """Send one line, as JSON unless it is bytes, with descriptors. Raises OSError if the child is gone."""
    line = memoryview(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")
    if fds:
        line = line[socket.send_fds(control, [line], fds) :]
    control.sendall(line)

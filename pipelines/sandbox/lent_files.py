"""Files that a child may use without being able to open any: it gets descriptors, never a name.

The parent opens a local file and lends its descriptor. It keeps an S3 object to itself, with the network and the
credentials, the pictures of a sequence, and several files that are read as one, and answers the child's reads over a
socket (`Service`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from pipelines import storage
from pipelines.storage.virtual_file import VirtualFile

_READ = struct.Struct("<QQ")
"""A request for bytes: offset, number."""

_MESSAGE = struct.Struct("<Bq")
"""Head of every message of a service: 1 if it is an answer and not an error, and its length in bytes."""

_LONGEST_REQUEST = 1 << 20
_LONGEST_READ = 4 << 20


NEXT = b"next\n"
"""Line of the parent, without JSON: it is done with a stretch, and the memory may be filled again."""

_MOST_DESCRIPTORS = 4
"""Descriptors that one message may bring."""


class Refused(OSError):
    """The parent did not do what a child asked for."""


# ------------------------------------------------------------------------------------ in the parent


class Service:
    """A thread that answers a child's requests over a socket until the child closes it. A context manager.

    handle: gets a request, of at most a MiB, and returns the answer. When it raises, the child gets an error without
    the reason, which is kept in `error`.
    """

    def __init__(self, handle: Callable[[bytes], bytes]) -> None:
        self._handle = handle
        self._ours, self._childs = socket.socketpair()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def fd(self) -> int:
        """The child's end."""
        return self._childs.fileno()

    def __enter__(self) -> Service:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._childs.close()
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._ours.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError):
            while True:
                _, request = _receive(self._ours, _LONGEST_REQUEST)
                try:
                    answer = self._handle(request)
                except Exception as error:
                    self.error = self.error or error
                    self._ours.sendall(_MESSAGE.pack(0, 0))
                else:
                    self._ours.sendall(_MESSAGE.pack(1, len(answer)))
                    self._ours.sendall(answer)


@dataclass(frozen=True)
class LentFile:
    """An open file for a child."""

    uri: str
    fd: int
    """A descriptor of the file, or of the socket of its service."""
    size: int
    """Bytes of the file when it was opened."""
    served: bool = False
    parts: tuple[int, ...] = ()
    """Bytes of each of the files that are read as one."""
    _service: Service | None = field(default=None, repr=False)

    def to_json(self, fd: int | None = None) -> dict[str, Any]:
        """The form that `borrowed` reads. fd: the number of the descriptor in the child, if it is another one."""
        rate = storage.rate_of(self.uri)
        return {
            "fd": self.fd if fd is None else fd,
            "size": self.size,
            "served": self.served,
            "parts": self.parts,
            "rate": "" if rate is None else str(rate),
        }

    def check(self) -> None:
        """Raise the error of storage that the child saw as a failed read, if there was one."""
        if self._service is not None and self._service.error is not None:
            raise self._service.error

    def failed(self, reason: str) -> storage.StorageError:
        """The error for a read that failed in the child."""
        return storage.StorageError(f"{self.uri}: {reason}")


@contextlib.contextmanager
def lend(uri: str) -> Iterator[LentFile]:
    """The file at `uri`, opened for a child to read. Raises StorageError."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(storage.open_read(uri))
        if not (
            storage.is_remote(storage.unrated(uri)) or storage.is_sequence(uri) or storage.is_joined(uri)
        ):
            yield LentFile(uri, file.fileno(), os.fstat(file.fileno()).st_size)
            return

        def read(request: bytes) -> bytes:
            offset, n = _READ.unpack(request)
            with storage.translated(uri):
                file.seek(min(offset, size))
                return file.read(min(n, _LONGEST_READ))

        size = file.seek(0, os.SEEK_END)
        service = stack.enter_context(Service(read))
        parts = tuple(map(storage.size, storage.parts_of(uri))) if storage.is_joined(uri) else ()
        yield LentFile(uri, service.fd, size, True, parts, service)


# ------------------------------------------------------------------------------------- in the child


class Requests:
    """Reader of lines from a socket, and of the descriptors that come with them."""

    def __init__(self, control: socket.socket) -> None:
        self._control, self._buffer = control, bytearray()
        self.fds: list[int] = []
        """Descriptors that came with the last lines and belong to nobody yet."""

    def line(self) -> bytes:
        """The next line with its end; what there is, or nothing, when the parent has closed its end."""
        while (end := self._buffer.find(b"\n")) < 0:
            part, fds, _, _ = socket.recv_fds(self._control, 1 << 16, _MOST_DESCRIPTORS)
            self.fds += fds
            if not part:
                break
            self._buffer += part
        line = bytes(self._buffer[: end + 1] if end >= 0 else self._buffer)
        del self._buffer[: len(line)]
        return line


def borrowed(lent: dict[str, Any], fd: int | None = None) -> BinaryIO:
    """The file that the parent has lent, at its start, with the attribute `rate` (`raw_streams.demuxer_options`).

    fd: its descriptor, if the order does not name it.
    """
    number = int(lent["fd"]) if fd is None else fd
    file: Any
    if lent["served"]:
        file = _ServedFile(socket.socket(fileno=number), int(lent["size"]), lent.get("parts", ()))
    else:
        file = os.fdopen(number, "rb")
        file.seek(0)
    file.rate = lent["rate"]
    return cast(BinaryIO, file)


def ask(service: socket.socket, request: bytes) -> bytes:
    """The answer of a `Service`. Raises Refused."""
    service.sendall(_MESSAGE.pack(1, len(request)) + request)
    is_answer, answer = _receive(service, 1 << 31)
    if not is_answer:
        raise Refused("the parent cannot read the file")
    return answer


class _ServedFile(VirtualFile):
    """A file that the parent reads."""

    def __init__(self, service: socket.socket, size: int, parts: Sequence[int] = ()) -> None:
        super().__init__(size)
        self._service, self.parts = service, tuple(parts)

    def read(self, n: int | None = -1) -> bytes:
        wanted = self._size - self._at if n is None or n < 0 else n
        parts = []
        while wanted > 0 and (part := ask(self._service, _READ.pack(self._at, wanted))):
            parts.append(part)
            self._at += len(part)
            wanted -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._service.close()
        super().close()


def _receive(end: socket.socket, longest: int) -> tuple[bool, bytes]:
    """One message. Raises EOFError if the other end is closed, ValueError if the message is too long."""
    kind, n = _MESSAGE.unpack(_exactly(end, _MESSAGE.size))
    if not 0 <= n <= longest:
        raise ValueError(f"a message of {n} bytes")
    return bool(kind), _exactly(end, n)


def _exactly(end: socket.socket, n: int) -> bytes:
    data = bytearray(n)
    view = memoryview(data)
    while view:
        got = end.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return bytes(data)

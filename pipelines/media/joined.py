"""Films of several files with headers of their own (mp4, mov), whose packets follow each other.

The file is all of them, one after another (`storage.joined`); its attribute `parts` has the bytes of each. Files of
other formats simply follow each other, and need nothing of this.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from types import SimpleNamespace, TracebackType
from typing import Any

from pipelines.media.clock import JOINED
from pipelines.media.errors import DecodeFailed

BY_PACKETS = ("mov,mp4,m4a,3gp,3g2,mj2",)
"""FFmpeg's demuxers of the formats that are joined here. Each packet has a decoding time, which shows where the clock
starts again; Matroska leaves out those of the first pictures."""


class Window:
    """Bytes from `start` to `stop` of a file, as a file to read from."""

    def __init__(self, file: Any, start: int, stop: int) -> None:
        self._file, self._start, self._size, self._at = file, start, stop - start, 0

    def read(self, n: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        self._file.seek(self._start + self._at)
        data = bytes(self._file.read(left if n < 0 else min(n, left)))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at


def windows(file: Any) -> list[Window]:
    """The files that an open file is made of; none for an ordinary one."""
    ends = list(accumulate(getattr(file, "parts", ())))
    return [Window(file, start, stop) for start, stop in zip([0, *ends], ends, strict=False)]


class JoinedContainer:
    """The container of a first file, which goes on with the packets of others. A context manager.

    rest: the other files; open_part: opens the container in one of them. The clock of each file starts again, which
    `clock.ContinuousClock` mends.
    """

    def __init__(self, first: Any, rest: Sequence[Window], open_part: Callable[[Window], Any]) -> None:
        self._first, self._rest, self._open_part = first, rest, open_part
        self._opened = [first]
        self.format = SimpleNamespace(name=JOINED)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._first, name)

    def __enter__(self) -> JoinedContainer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for container in self._opened:
            container.close()

    def demux(self, *streams: Any) -> Iterator[Any]:
        """Packets of streams of the first file, and of those at their places in the others.

        Raises DecodeFailed (`CannotJoin`) for a file whose streams differ.
        """
        yield from self._first.demux(*streams)
        for number, window in enumerate(self._rest, start=2):
            window.seek(0, os.SEEK_SET)
            container = self._open_part(window)
            self._opened.append(container)
            fitting = {_fitting(stream, container, number).index: stream for stream in streams}
            for packet in container.demux(*(container.streams[index] for index in fitting)):
                if packet.is_discard and packet.stream.type == "audio":
                    continue  # samples from before its start, which its edit list hides
                packet.stream = fitting[packet.stream_index]
                yield packet


def _fitting(stream: Any, container: Any, number: int) -> Any:
    """The stream of another file that goes on with `stream`."""
    others = container.streams
    other = others[stream.index] if stream.index < len(others) else None
    if other is None or _form(other) != _form(stream):
        message = f"file {number} does not go on with the {stream.type} of the first: its coding or clock is another"
        raise DecodeFailed("CannotJoin", message, "open")
    return other


def _form(stream: Any) -> tuple[Any, ...]:
    """Facts that are equal in two streams if the packets of one can follow those of the other."""
    context = stream.codec_context
    coded = None if context is None else (context.codec.canonical_name, bytes(context.extradata or b""))
    return stream.type, stream.time_base, coded

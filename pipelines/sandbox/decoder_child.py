"""Child process that decodes untrusted files and may do nothing else: `python -P -m pipelines.sandbox.decoder_child`.

It is confined (`pipelines.sandbox.confinement`) before it gets the first request, and can open nothing. Requests are
lines of JSON from the socket on standard input, each with a descriptor of the file to decode. Answers are lines on
standard output, sound as raw bytes after its line, and pictures in memory that both processes map
(`pipelines.sandbox.shared_memory`).
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from pipelines import storage
from pipelines.media import audio, video
from pipelines.media.errors import DecodeFailed
from pipelines.media.frames import carve
from pipelines.media.video import View
from pipelines.sandbox.child import load_decoders
from pipelines.sandbox.confinement import Limits, NotConfined, confine
from pipelines.sandbox.lent_files import NEXT, Requests, borrowed
from pipelines.sandbox.shared_memory import KEPT
from pipelines.storage import hashing


class _Watched:
    """A file that keeps the error of storage while FFmpeg reads it; without a name, so that only the content decides
    the format."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.parts, self.rate = file, getattr(file, "parts", ()), getattr(file, "rate", "")
        self.error: storage.StorageError | None = None
        self.hash: hashing.Running | None = None

    def read(self, n: int = -1) -> bytes:
        try:
            offset = self.file.tell()
            data = self.file.read(n)
            if self.hash is not None:
                self.hash.update(offset, data)
            return data
        except MemoryError:
            raise
        except Exception as error:
            self.error = storage.StorageError(str(error))
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError):
            return -1  # before the start: only a broken index leads there

    def tell(self) -> int:
        return self.file.tell()

    def check(self) -> None:
        """Raise the error of storage, which FFmpeg takes for the end of the file."""
        if self.error is not None:
            raise self.error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class _Frames:
    """Places for the pictures of one request: the halves of the shared memory in turn."""

    def __init__(self, memory: np.ndarray, half: int, requests: Requests) -> None:
        self.memory, self.half, self.requests, self.n_sent = memory, half, requests, 0

    def allocate(self, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        # The parent still uses the other half; this one must be free.
        if self.n_sent >= 2 and self.requests.line() != NEXT:
            os._exit(0)  # the parent is gone, or has stopped iterating
        at = self.n_sent % 2 * self.half
        return carve(self.memory[at : at + self.half], shapes)


_Answer = tuple[dict[str, Any], np.ndarray]
"""The line that ends a request, and the samples that follow it."""


class _Server:
    """Server of requests, one at a time."""

    def __init__(self, out: BinaryIO, shared_fd: int, requests: Requests) -> None:
        self.out, self.shared_fd, self.requests = out, shared_fd, requests
        self.memory = np.empty(0, np.uint8)
        self.last_sent = time.monotonic()

    def answer(self, request: dict[str, Any]) -> bool:
        """Serve one request, about the file whose descriptor came with it. False if this process cannot go on."""
        verb = request["verb"]
        watched: _Watched | None = None
        try:
            with borrowed(request["file"], self.requests.fds.pop()) as file:
                watched = _Watched(file)
                serve = {
                    "probe": self._probe,
                    "decode": self._decode,
                    "sound": self._sound,
                    "sound_facts": self._sound_facts,
                    "track": self._track,
                    "sound_blocks": self._sound_blocks,
                }[verb]
                answer, sound = serve(request, watched)
            watched.check()
        except MemoryError as error:
            self._fail("DecoderOutOfMemory", str(error) or "more memory than allowed", verb)
            return False
        except Exception as raised:
            cause = watched.error if watched is not None and watched.error is not None else raised
            if isinstance(cause, DecodeFailed) and isinstance(cause.__cause__, MemoryError):
                self._fail("DecoderOutOfMemory", "more memory than allowed", cause.stage)
                return False
            if isinstance(cause, storage.StorageError):
                self._send({"storage": str(cause)})
            elif isinstance(cause, DecodeFailed):
                self._fail(cause.error_class, cause.message, cause.stage)
            else:
                self._fail(type(cause).__name__, str(cause), verb)
            return True
        self._send_sound(answer, sound)
        return True

    def _probe(self, request: dict[str, Any], file: Any) -> _Answer:
        file.hash = running = hashing.Running()  # a probe reads the whole file anyway
        facts = video.probe(file, tick=self._tick).to_json()
        file.hash = None
        return {"result": facts | {"sha256": running.finish(file, self._tick)}, "shapes": []}, np.empty(0)

    def _sound(self, request: dict[str, Any], file: Any) -> _Answer:
        names = ("start_s", "end_s", "sample_rate", "origin_s", "channels", "seeks")
        sound = video.decode_sound(file, tick=self._tick, **{name: request[name] for name in names})
        return {"result": {}, "shapes": [list(sound.shape)]}, sound

    def _sound_facts(self, request: dict[str, Any], file: Any) -> _Answer:
        facts = zip(("samples", "rate", "channels"), audio.sound_facts(file, tick=self._tick), strict=True)
        return {"result": dict(facts), "shapes": []}, np.empty(0)

    def _track(self, request: dict[str, Any], file: Any) -> _Answer:
        facts = zip(("rate", "channels"), audio.track_facts(file, request["track"]), strict=True)
        return {"result": dict(facts), "shapes": []}, np.empty(0)

    def _sound_blocks(self, request: dict[str, Any], file: Any) -> _Answer:
        names = ("n_samples", "sample_rate", "channels", "origin_s", "block", "track", "skip")
        last: np.ndarray | None = None
        # Sent one behind: the last block is announced when nothing can go wrong any more.
        for sound in audio.iter_sound(file, tick=self._tick, **{name: request[name] for name in names}):
            if last is not None:
                file.check()
                self._send_sound({"result": {}, "shapes": [list(last.shape)]}, last)
            last = sound
        assert last is not None
        return {"result": {}, "shapes": [list(last.shape)]}, last

    def _send_sound(self, answer: dict[str, Any], sound: np.ndarray) -> None:
        self._send(answer)
        self.out.write(np.ascontiguousarray(sound).reshape(-1).view(np.uint8).data)
        self.out.flush()

    def _decode(self, request: dict[str, Any], file: Any) -> _Answer:
        half, size = request["memory"]
        self._map(size)
        frames = _Frames(self.memory, half, self.requests)
        n_left = len(request["ends_s"]) - request["skip"]
        answer: dict[str, Any] = {}
        damage: list[tuple[float, float]] = []
        for arrays in video.iter_views(
            file,
            [View(*view) for view in request["views"]],
            request["start_s"],
            request["ends_s"],
            request["threads"],
            self._tick,
            frames.allocate,
            request["skip"],
            damage,
            request["seeks"],
        ):
            answer = {"result": {}, "shapes": [list(array.shape) for array in arrays]}
            frames.n_sent, n_left = frames.n_sent + 1, n_left - 1
            if n_left:  # the last one is announced when nothing can go wrong any more
                file.check()
                self._send(answer)
        return answer | {"result": {"damage": damage}}, np.empty(0)

    def _map(self, size: int) -> None:
        """Map `size` bytes of the shared memory; they count as this process's memory. Raises MemoryError."""
        if size > self.memory.size or self.memory.size > max(KEPT, size):
            self.memory = np.empty(0, np.uint8)
            try:
                self.memory = np.frombuffer(mmap.mmap(self.shared_fd, size), np.uint8)
            except OSError as error:
                raise MemoryError(str(error)) from error

    def _tick(self) -> None:
        if time.monotonic() - self.last_sent > 1:
            self._send({"tick": 1})

    def _fail(self, error_class: str, message: str, stage: str) -> None:
        message = message.encode(errors="replace").decode()[:2000]
        self._send({"failed": {"error_class": error_class, "message": message, "stage": stage}})

    def _send(self, message: dict[str, Any]) -> None:
        self.last_sent = time.monotonic()
        self.out.write(json.dumps(message).encode() + b"\n")
        self.out.flush()


def main() -> None:
    """Serve requests until the parent closes its end."""
    memory_mb, parent_pid, shared_fd = map(int, sys.argv[1:4])
    load_decoders()
    gc.freeze()  # modules stay: collecting the rest after each file is fast then
    # Answers get a descriptor of their own: text that a library prints must not end up between them.
    with os.fdopen(os.dup(1), "wb", buffering=1 << 16) as out:
        os.dup2(2, 1)
        requests = Requests(socket.socket(fileno=0))
        server = _Server(out, shared_fd, requests)
        try:
            confine(parent_pid, Limits(memory_mb))
        except NotConfined as error:
            server._send({"refused": str(error)})
            return
        server._send({"ready": 1})
        while line := requests.line():
            # After a failure the parent may have sent NEXT for a stretch that never came.
            if line != NEXT and not server.answer(json.loads(line)):
                break


if __name__ == "__main__":
    main()

"""Decoding in a child process, because the files are untrusted and decoders are large C programs.

`Sandbox` owns one child (`pipelines.sandbox.decoder_child`) and restarts it when it dies. The child is confined
(`pipelines.sandbox.confinement`): it can open nothing and gets each file as a descriptor. The parent measures the time.
Whatever a file does to the child, the parent sees one exception.

Both exchange lines of JSON: one request, one answer. Sound follows its line as raw bytes. Pictures lie in memory that
the parent has made and both map; their line only reports that they are there. Nothing is unpickled, and every answer is
checked against its request and its schema before it is used. A compromised child can lie about the pictures and the
sound of the files that it is given, and do nothing else. With `--sandbox strict`, each file has a child of its own.

Stretches of pictures use the halves of that memory in turn. The child fills the second half while the caller uses the
first, then waits for NEXT, which the parent sends when the caller asks for another stretch.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from pipelines import storage
from pipelines.media import frames, video
from pipelines.media.audio import CHANNELS, STREAMED
from pipelines.media.errors import DecodeFailed
from pipelines.media.video import Probe, View
from pipelines.sandbox import answers, confinement
from pipelines.sandbox.decoder_process import DecoderProcess
from pipelines.sandbox.lent_files import NEXT, LentFile, lend
from pipelines.sandbox.pipe import Reader, Shapes, agree, send
from pipelines.sandbox.shared_memory import halves
from v2a_models import grid

__all__ = ["DecodeFailed", "Probe", "Sandbox", "View"]

T = TypeVar("T")

_sandboxes: dict[int, Sandbox] = {}


class Sandbox:
    """One decoding child, kept between calls. A context manager; safe to share between threads.

    memory_mb: address space of the child. timeout_s: longest time without progress; a long film that keeps decoding may
    take 30 times as long. retries: further tries after a crash, in case the machine and not the file caused it.

    All methods raise DecodeFailed for errors of the file and StorageError for errors of storage.
    """

    def __init__(
        self, memory_mb: int = 2048, timeout_s: float = 120.0, threads: int = 2, retries: int = 1
    ) -> None:
        self.memory_mb, self.timeout_s = memory_mb, timeout_s
        self.threads, self.retries = threads, retries
        self._process = DecoderProcess(memory_mb)
        self._lock = threading.Lock()
        self._last_uri = ""
        self._user: int | None = None
        """Identifier of the thread that holds the lock."""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the child, if one runs."""
        return self._process.pid

    def close(self) -> None:
        """End the child for good, at once, even if it is at work for another thread."""
        self._process.close()

    def probe(self, uri: str) -> Probe:
        """`video.probe` of the file at `uri`, with its SHA-256."""
        return self._facts("probe", uri, {}, answers.ProbeAnswer).probe()

    def decode_views(
        self,
        uri: str,
        views: Sequence[View],
        start_s: float,
        end_s: float,
        damage: list[tuple[float, float]] | None = None,
        seeks: bool = True,
    ) -> list[np.ndarray]:
        """`video.decode_views` of the file at `uri`: one uint8 [T, H, W, 3] per view, copied for the caller.

        damage: receives the times (start, end) between which pictures are damaged. seeks: as for `video.iter_views`.
        """
        [arrays] = self._iterate(uri, views, start_s, [end_s], copy=True, damage=damage, seeks=seeks)
        return arrays

    def iter_views(
        self, uri: str, views: Sequence[View], start_s: float, ends_s: Sequence[float], seeks: bool = True
    ) -> Iterator[list[np.ndarray]]:
        """`video.iter_views` of the file at `uri`: one uint8 [T, H, W, 3] per view for each stretch.

        The arrays are views of memory that is reused: they are valid until the next request to this sandbox, another
        stretch included. Meanwhile the child decodes one stretch ahead. Until the iteration ends or is closed, other
        threads wait, and another request by the same thread raises RuntimeError.
        """
        return self._iterate(uri, views, start_s, ends_s, seeks=seeks)

    def decode_sound(
        self,
        uri: str,
        start_s: float,
        end_s: float,
        sample_rate: int = grid.SAMPLE_RATE,
        origin_s: float | None = None,
        channels: int | None = None,
        seeks: bool = True,
    ) -> np.ndarray:
        """`audio.decode_sound` of the file at `uri`: float32 [channels, n]."""
        if not 0 <= start_s < end_s:
            raise ValueError(f"not a time span: {start_s} to {end_s}")
        if channels is not None and channels not in CHANNELS:
            raise ValueError(f"sound has 1 or 2 channels, or those of the file, not {channels}")
        request: dict[str, Any] = {"start_s": start_s, "end_s": end_s, "sample_rate": sample_rate}
        request |= {"origin_s": origin_s, "channels": channels, "seeks": seeks}
        shape = (-1 if channels is None else channels, grid.samples(end_s - start_s, sample_rate))
        return self._ask("sound", uri, request, [shape])[1][0]

    def sound_facts(self, uri: str) -> tuple[int, int, int]:
        """`audio.sound_facts` of the file at `uri`: samples at 44.1 kHz, rate, channels."""
        facts = self._facts("sound_facts", uri, {}, answers.SoundAnswer)
        return facts.samples, facts.rate, facts.channels

    def track_facts(self, uri: str, track: int | None = None) -> tuple[int, int]:
        """`audio.track_facts` of the file at `uri`: rate and channels."""
        facts = self._facts("track", uri, {"track": track}, answers.TrackAnswer)
        return facts.rate, facts.channels

    def iter_sound(
        self,
        uri: str,
        n_samples: int,
        sample_rate: int,
        channels: int,
        origin_s: float,
        track: int | None = None,
    ) -> Iterator[np.ndarray]:
        """`audio.iter_sound` of the file at `uri`: float32 [channels, n] blocks, copied for the caller.

        Until the iteration ends or is closed, other threads wait, as with `iter_views`.
        """
        if n_samples < 1:
            return
        request: dict[str, Any] = {"verb": "sound_blocks", "n_samples": n_samples}
        request |= {"sample_rate": sample_rate, "channels": channels, "origin_s": origin_s}
        request |= {"block": STREAMED, "track": track}
        sizes = [min(STREAMED, n_samples - at) for at in range(0, n_samples, STREAMED)]

        def converse(skip: int) -> Iterator[np.ndarray]:
            control, _ = self._process.running()
            with lend(uri) as file, self._listening("sound", file) as reader:
                send(control, {**request, "skip": skip, "file": file.to_json()}, file.fd)
                for size in sizes[skip:]:
                    [shape] = agree(reader.answer()["shapes"], [(channels, size)])
                    block = reader.array(shape, np.float32)
                    with reader.paused():
                        yield block

        yield from self._persist(uri, converse, len(sizes))

    def _ask(
        self, verb: str, uri: str, request: dict[str, Any], shapes: Shapes
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """One request with one answer, whose arrays (float32) come through the pipe."""

        def converse(done: int) -> Iterator[tuple[dict[str, Any], list[np.ndarray]]]:
            control, _ = self._process.running()
            with lend(uri) as file, self._listening(verb, file) as reader:
                send(control, {"verb": verb, **request, "file": file.to_json()}, file.fd)
                answer = reader.answer()
                arrays = [reader.array(shape, np.float32) for shape in agree(answer["shapes"], shapes)]
                yield dict(answer["result"]), arrays

        [result] = self._persist(uri, converse, 1)
        return result

    def _facts(self, verb: str, uri: str, request: dict[str, Any], schema: type[answers.A]) -> answers.A:
        """The answer to one request without arrays, checked against its schema."""
        facts, _ = self._ask(verb, uri, request, [])
        try:
            return answers.checked(schema, facts)
        except ValueError as error:
            self._process.end()  # a child that lies is not to be trusted with the next file
            raise DecodeFailed("DecoderCrashed", f"invalid reply from the decoder: {error}", verb) from None

    @contextlib.contextmanager
    def _listening(self, verb: str, file: LentFile) -> Iterator[Reader]:
        """`DecoderProcess.listening`, with the parent's own errors of storage instead of those of the child."""
        try:
            with self._process.listening(verb, self.timeout_s) as reader:
                yield reader
        except DecodeFailed:
            file.check()
            raise
        except storage.StorageError as error:
            file.check()
            raise file.failed(str(error)) from error

    def _iterate(
        self,
        uri: str,
        views: Sequence[View],
        start_s: float,
        ends_s: Sequence[float],
        copy: bool = False,
        damage: list[tuple[float, float]] | None = None,
        seeks: bool = True,
    ) -> Iterator[list[np.ndarray]]:
        """Stretches as in `iter_views`, copied if `copy`; `damage` receives the damage in the last answer."""
        shapes = video.stretch_shapes(views, start_s, ends_s)
        sizes = [sum(math.prod(shape) for shape in stretch) for stretch in shapes]
        half, size = halves(max(sizes))
        size = size if len(shapes) > 1 else half
        request: dict[str, Any] = {
            "verb": "decode",
            "views": [[view.fps, view.width, view.height, view.fit] for view in views],
            "start_s": start_s,
            "ends_s": [float(end_s) for end_s in ends_s],
            "threads": self.threads,
            "memory": [half, size],
            "seeks": seeks,
        }

        def converse(skip: int) -> Iterator[list[np.ndarray]]:
            if size > self.memory_mb << 20:
                raise DecodeFailed("DecoderOutOfMemory", f"needs more than {self.memory_mb} MB", "decode")
            control, shared = self._process.running()
            memory = shared.prepare(size)
            with lend(uri) as file, self._listening("decode", file) as reader:
                send(control, {**request, "skip": skip, "file": file.to_json()}, file.fd)
                for k, wanted in enumerate(shapes[skip:], start=1):
                    answer = reader.answer()
                    agree(answer["shapes"], wanted)
                    if damage is not None:
                        told = answers.checked(answers.StretchAnswer, answer["result"]).damage
                        damage[:] = [(start, end) for start, end in told]
                    arrays = frames.carve(memory[(k - 1) % 2 * half :], wanted)
                    if copy:
                        arrays = [array.copy() for array in arrays]
                        shared.trim()
                    with reader.paused():
                        yield arrays
                    if k + 1 < len(shapes) - skip:
                        send(control, NEXT)

        return self._persist(uri, converse, len(shapes))

    def _persist(self, uri: str, converse: Callable[[int], Iterator[T]], n: int) -> Iterator[T]:
        """The `n` answers of one request about a file, with up to `retries` more tries after a crash.

        converse: `converse(k)` requests the answers after the first k.
        """
        with self._held():
            if uri != self._last_uri and confinement.is_strict():
                self._process.end()
            self._last_uri = uri
            done, tries_left = 0, 1 + self.retries
            while True:
                try:
                    for answer in converse(done):
                        done += 1
                        yield answer
                        self._user = threading.get_ident()
                    return
                except DecodeFailed as error:
                    tries_left -= 1
                    if error.error_class != "DecoderCrashed" or tries_left <= 0:
                        raise
                except storage.StorageError:
                    raise
                except BaseException:
                    if done < n:  # interrupted: this child's next answer would be stale
                        self._process.end()
                    raise

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        if self._user == threading.get_ident():
            raise RuntimeError("an iter_views of this thread still uses this sandbox: close it first")
        with self._lock:
            self._user = threading.get_ident()
            try:
                yield
            finally:
                self._user = None


def shared_sandbox(threads: int = 1) -> Sandbox:
    """The sandbox that this process keeps for decoders with `threads` threads; it ends with the process.

    One thread is the default, because as many tasks decode at once as there are cores, and each further thread costs a
    fifth of the decoding.
    """
    if threads not in _sandboxes:
        _sandboxes[threads] = Sandbox(threads=threads)
        atexit.register(_sandboxes[threads].close)
    return _sandboxes[threads]

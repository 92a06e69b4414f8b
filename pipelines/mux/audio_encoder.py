"""Encoder of the new sound track, in threads beside the copying of packets.

Coding takes most of a mux. FFmpeg's AAC coder uses one core, so a long track is coded in sections of a few seconds,
two at a time, and their packets follow each other as if one coder had made them. An AAC frame is decoded from itself
and the previous one only (ISO/IEC 14496-3, 4.6.11), so two coders fit together at a frame where they choose the same
window. They do, a few frames after their input became the same.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import av
import numpy as np

from pipelines.mux.containers import layout, set_up
from pipelines.mux.packets import Output
from pipelines.mux.track import Track

BLOCK = 8192
"""Samples passed to an encoder at a time."""

FRAME = 1024
"""Samples of an AAC frame (AAC-LC)."""

SECTION_S = 5.0
"""Approximate length of a section of AAC. FFmpeg's muxers interleave tracks within ten seconds."""

WARM_UP = 8
"""AAC frames that a section's coder gets before its own. After four it chose the same window as the previous coder for
the frame where they meet, at each of 738 joins of foley and recorded sound."""

LOOK_AHEAD = 4
"""AAC frames that it gets after its own: it returns a frame when it has received two more."""


@dataclass(frozen=True)
class Pieces:
    """Division of a track into pieces for its coders, in samples."""

    size: int = BLOCK
    before: int = 0
    """Samples that a coder gets before its piece, whose packets are dropped."""
    after: int = 0
    threads: int = 1
    waiting: int = 4
    """Number of pieces that may wait to be coded or written."""

    @property
    def lead(self) -> int:
        """Samples by which the input must be ahead of the picture for the packets to be interleaved with it."""
        return (self.waiting + 1) * self.size + self.after


def pieces(codec: str, rate: int, coded_rate: int) -> Pieces:
    """Division for sound at `rate` that `codec` codes at `coded_rate`. Only AAC can be coded in sections."""
    if codec != "aac" or rate != coded_rate:
        return Pieces()
    size = max(4 * WARM_UP, round(SECTION_S * rate / FRAME)) * FRAME
    return Pieces(size, WARM_UP * FRAME, LOOK_AHEAD * FRAME, threads=2, waiting=2)


class Encoder:
    """Encoder of the new tracks, which passes their packets to the muxer. A context manager."""

    def __init__(self, out: Output, track: Track, shift_s: float) -> None:
        self._out, self._tracks, self._kind = out.container, out.tracks, out.kind
        self._rate, self._channels = track.sample_rate, track.channels
        self._next = round((track.video_start_s + shift_s) * track.sample_rate)
        self._hashes = [hashlib.sha256() for _ in out.tracks]
        self._pieces = pieces(out.kind.codec, track.sample_rate, out.tracks[0].rate)
        self._coders = ThreadPoolExecutor(self._pieces.threads, "coder")
        self._coded = deque[Future[list[list[Any]]]]()
        lead = 0
        if not out.kind.holds_start:
            lead, self._next = max(0, self._next), min(0, self._next)
        self._first = self._at = self._next
        """First sample of the track, and of the piece that is being collected."""
        self._held: list[np.ndarray] = []
        """Samples of that piece so far, with those before it."""
        self._held_from = self._next
        self._rest(lead)

    @property
    def position(self) -> Fraction:
        """Container time in seconds of the last picture for which enough samples were fed."""
        return Fraction(self._next - self._pieces.lead, self._rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._coders.shutdown(cancel_futures=True)

    def feed(self, block: np.ndarray) -> None:
        """Encode a block, int16 [tracks * channels, n]; its packets are written with one of the next blocks."""
        self._held.append(block)
        self._next += block.shape[1]
        while self._next >= self._at + self._pieces.size + self._pieces.after:
            self._submit(self._at + self._pieces.size)
        while len(self._coded) > self._pieces.waiting:
            self._write()

    def finish(self) -> None:
        self._rest(self._kind.tail)
        self._submit(None)
        while self._coded:
            self._write()

    @property
    def digests(self) -> list[str]:
        """SHA-256 in hex digits of the packets of each track so far."""
        return [running.hexdigest() for running in self._hashes]

    def _submit(self, stop: int | None) -> None:
        """Give the piece up to `stop`, or to the end, to its coders."""
        samples = np.concatenate([np.zeros((self._width, 0), np.int16), *self._held], axis=1)
        given = samples if stop is None else samples[:, : stop + self._pieces.after - self._held_from]
        self._coded.append(self._coders.submit(self._code, given, self._held_from, self._at, stop))
        if stop is not None:
            self._at = stop
            kept_from = max(self._held_from, stop - self._pieces.before)
            self._held = [samples[:, kept_from - self._held_from :]]
            self._held_from = kept_from

    def _code(self, samples: np.ndarray, given_from: int, start: int, stop: int | None) -> list[list[Any]]:
        """Packets of every track from `start` to `stop`, or to the end."""
        by_track, alone = [], self._pieces.threads == 1
        for k, track in enumerate(self._tracks):
            mine = samples[k * self._channels : (k + 1) * self._channels]
            packets = self._packets(track if alone else self._coder(track), mine, given_from, stop is None)
            packets = packets if alone else [p for p in packets if self._belongs(p, start, stop)]
            for packet in packets:
                packet.stream = track
            by_track.append(packets)
        return by_track

    def _packets(self, coder: Any, samples: np.ndarray, start: int, ends: bool) -> list[Any]:
        packets = []
        for at in range(0, samples.shape[1], BLOCK):
            block = np.ascontiguousarray(samples[:, at : at + BLOCK].T).reshape(1, -1)
            frame: Any = av.AudioFrame.from_ndarray(block, format="s16", layout=layout(self._channels))
            frame.sample_rate = self._rate
            frame.time_base = Fraction(1, self._rate)
            frame.pts = start + at
            packets += coder.encode(frame)
        return packets + (list(coder.encode(None)) if ends else [])

    def _coder(self, track: Any) -> Any:
        """A fresh coder with the settings of the track's own."""
        own: Any = track.codec_context
        like: Any = av.CodecContext.create(self._kind.codec, "w")
        set_up(like, self._kind, self._channels)
        like.sample_rate, like.format, like.time_base = own.sample_rate, own.format, Fraction(1, self._rate)
        like.flags = own.flags
        return like

    def _belongs(self, packet: Any, start: int, stop: int | None) -> bool:
        """True for a packet of the piece from `start` to `stop`. The first packets of a track precede its sound."""
        return (packet.pts >= start or start == self._first) and (stop is None or packet.pts < stop)

    def _write(self) -> None:
        for running, packets in zip(self._hashes, self._coded.popleft().result(), strict=True):
            for packet in packets:
                running.update(bytes(packet))
            self._out.mux(packets)

    @property
    def _width(self) -> int:
        return self._channels * len(self._tracks)

    def _rest(self, n_samples: int) -> None:
        for at in range(0, n_samples, BLOCK):
            self.feed(np.zeros((self._width, min(BLOCK, n_samples - at)), np.int16))


def checked_blocks(sound: Iterable[np.ndarray], track: Track) -> Iterator[np.ndarray]:
    """The sound in blocks of at most `BLOCK` samples: int16 [tracks * channels, n].

    Raises ValueError for sound that is not as `track` announces.
    """
    n_samples, channels = 0, track.tracks * track.channels
    for chunk in sound:
        if chunk.dtype != np.int16 or chunk.ndim != 2 or chunk.shape[0] != channels:
            raise ValueError(f"sound must be int16 [{channels}, n], not {chunk.dtype} {list(chunk.shape)}")
        n_samples += chunk.shape[1]
        if n_samples > track.n_samples:
            raise ValueError(f"the sound has more than the {track.n_samples} samples that were announced")
        for at in range(0, chunk.shape[1], BLOCK):
            yield chunk[:, at : at + BLOCK]
    if n_samples < track.n_samples:
        raise ValueError(f"the sound ends after {n_samples} of {track.n_samples} samples")

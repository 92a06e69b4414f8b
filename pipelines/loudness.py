"""Sound of a file: how loud each track is, and its samples at another rate."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from pipelines.media import Tick, is_encrypted, packets

SILENCE_DBFS = -60.0
"""A track whose loudest decoded sample lies at or below this is silent."""

FLOOR_DBFS = -120.0
"""Level reported for digital silence (a peak of exactly zero has no logarithm)."""


class Level:
    """Peak of one track, decoded packet by packet."""

    def __init__(self) -> None:
        self.peak, self.n_samples, self.n_bad, self.context = 0.0, 0, 0, None

    def add(self, packet: Any) -> None:
        self.context = packet.stream.codec_context
        if self.context is None or is_encrypted(packet):
            self.n_bad += 1
            return
        try:
            self._measure(packet.decode())
        except MemoryError:
            raise
        except av.FFmpegError:
            self.n_bad += 1

    def flush(self) -> None:
        if self.context is not None:
            with contextlib.suppress(av.FFmpegError):
                self._measure(self.context.decode(None))

    def _measure(self, frames: Iterable[Any]) -> None:
        for frame in frames:
            self.n_samples += frame.samples
            self.peak = max(self.peak, _peak(frame.to_ndarray()))

    @property
    def unreadable(self) -> bool:
        return self.n_samples == 0 and self.n_bad > 0


def _peak(samples: np.ndarray) -> float:
    """Largest magnitude, full scale 1, of samples in any of FFmpeg's sample formats."""
    if samples.size == 0:
        return 0.0
    if samples.dtype.kind == "f":
        return float(np.nan_to_num(max(samples.max(), -samples.min()), nan=0.0))
    if samples.dtype.kind == "u":
        return float(np.abs(samples.astype(np.int16) - 128).max()) / 128
    return max(float(samples.max()), -float(samples.min())) / -float(np.iinfo(samples.dtype).min)


def audio_state(levels: Sequence[Level]) -> tuple[str, float | None]:
    if not levels:
        return "none", None
    if not any(level.n_samples for level in levels):
        # What cannot be decoded may well be sound: never treat it as silence.
        return ("audible" if any(level.unreadable for level in levels) else "empty"), None
    peak = max(level.peak for level in levels)
    peak_dbfs = max(20 * math.log10(peak), FLOOR_DBFS) if peak > 0 else FLOOR_DBFS
    audible = peak_dbfs > SILENCE_DBFS or any(level.unreadable for level in levels)
    return ("audible" if audible else "silent"), peak_dbfs


def resampled(
    container: InputContainer, audio: Any, sample_rate: int, tick: Tick | None
) -> Iterator[tuple[float, np.ndarray]]:
    """(container time in seconds, float32 [channels, n]) at `sample_rate`, layout of the first frame."""
    resampler: AudioResampler | None = None
    shape: tuple[Any, ...] | None = None
    layout: Any = None

    def converted(frame: Any) -> Iterator[tuple[float, np.ndarray]]:
        assert resampler is not None
        for part in resampler.resample(frame):
            if part.pts is not None and part.time_base is not None:
                yield float(part.pts * part.time_base), part.to_ndarray()

    for number, packet in enumerate(packets(container, [audio])):
        if tick is not None and number % 256 == 0:
            tick()
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        for frame in frames:
            facts = (frame.format.name, frame.layout.name, frame.sample_rate)
            if facts != shape:
                if resampler is not None:
                    yield from converted(None)
                layout = layout or frame.layout
                resampler, shape = AudioResampler(format="fltp", layout=layout, rate=sample_rate), facts
            yield from converted(frame)
    if resampler is not None:
        yield from converted(None)

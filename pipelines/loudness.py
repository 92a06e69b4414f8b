"""Sound of a file: how loud each track is, and its samples by time at another rate."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from pipelines import media
from pipelines.media import DecodeFailed, Tick, is_encrypted, packets
from v2a_models import grid

SILENCE_DBFS = -60.0
"""A track whose loudest decoded sample lies at or below this is silent."""

FLOOR_DBFS = -120.0
"""Level reported for digital silence (a peak of exactly zero has no logarithm)."""


LAYOUTS = {1: "mono", 2: "stereo"}
"""FFmpeg's names of the layouts that sound can be mixed to, by number of channels."""


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
    container: InputContainer, audio: Any, sample_rate: int, tick: Tick | None, layout: Any = None
) -> Iterator[tuple[float, np.ndarray]]:
    """(container time in seconds, float32 [channels, n]) at `sample_rate`, in the layout of the first frame
    unless `layout` names one."""
    resampler: AudioResampler | None = None
    shape: tuple[Any, ...] | None = None

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


def decode_sound(
    file: BinaryIO,
    start_s: float,
    end_s: float,
    sample_rate: int = grid.SAMPLE_RATE,
    tick: Tick | None = None,
    origin_s: float | None = None,
    channels: int | None = None,
) -> np.ndarray:
    """Sound of one stretch of the default track, on the picture timeline: float32 [channels, n] with
    n = round((end_s - start_s) * sample_rate), zeros where the track has nothing.

    `origin_s` is the container time of the first picture (`Probe.video_start_s`); without it that picture
    is decoded to find it. `channels` 1 or 2 mixes the track to mono or stereo; None keeps its layout. The
    weights are FFmpeg's for float samples: two channels make (L + R) / sqrt(2), which may go beyond 1.
    Raises DecodeFailed (`NoAudioStream` if there is no track), ValueError for senseless arguments.
    """
    if not 0 <= start_s < end_s:
        raise ValueError(f"not a stretch of time: {start_s} to {end_s}")
    layout = None if channels is None else LAYOUTS.get(channels)
    if channels is not None and layout is None:
        raise ValueError(f"sound has 1 or 2 channels, or those of the file, not {channels}")
    if origin_s is None:
        origin_s = media.picture_start(file)
    file.seek(0)
    with media.opened(file) as container:
        if not container.streams.audio:
            raise DecodeFailed("NoAudioStream", "the file has no sound track", "sound")
        audio = media.default_stream(container.streams.audio)
        # A second ahead lets codecs with memory (AAC, MP3, Opus) settle before the first sample is kept.
        if origin_s + start_s > 2:
            media.seek(container, audio, origin_s + start_s - 1)
        n_samples = grid.samples(end_s - start_s, sample_rate)
        sound: np.ndarray | None = None
        expected: int | None = None
        for time_s, chunk in resampled(container, audio, sample_rate, tick, layout):
            if sound is None:
                sound = np.zeros((chunk.shape[0], n_samples), np.float32)
            at = round((time_s - origin_s - start_s) * sample_rate)
            # Timestamps jitter by their own rounding; only a real gap moves the sound.
            if expected is not None and abs(at - expected) < 0.02 * sample_rate:
                at = expected
            expected = at + chunk.shape[1]
            first, last = max(at, 0), min(expected, n_samples)
            if first < last and chunk.shape[0] == sound.shape[0]:
                sound[:, first:last] = chunk[:, first - at : last - at]
            if at >= n_samples:
                break
        return np.zeros((channels or 1, n_samples), np.float32) if sound is None else sound

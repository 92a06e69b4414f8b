"""Sound of a file: the peak level of each track, and samples by time at any rate."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.frame import format_dtypes
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from pipelines.media import container as media_container
from pipelines.media.container import Tick, is_encrypted, packets
from pipelines.media.errors import DecodeFailed
from v2a_models import grid

SILENCE_DBFS = -60.0
"""A track whose loudest decoded sample lies at or below this is silent."""

FLOOR_DBFS = -120.0
"""Level reported for digital silence (a peak of exactly zero has no logarithm)."""

LOWEST_RATE = 4000
"""Samples per second below which no track is believed: a rate is only a claim of the header."""

CHANNELS = (1, 2)
"""Numbers of channels that sound can be mixed to."""

STREAMED = 1 << 16
"""Samples per block of `iter_sound`."""

_SURROUND_SUM = 1 + 2 * math.sqrt(1 / 2)
"""Sum of FFmpeg's weights for one side of 5.1: front, centre and surround."""


class Level:
    """Peak level of one track, decoded packet by packet."""

    def __init__(self) -> None:
        self.peak, self.n_samples, self.n_bad, self.context = 0.0, 0, 0, None
        self.seconds = 0.0
        """Length of what was decoded."""

    def add(self, packet: Any) -> None:
        """Decode and measure a packet; count it as bad if it is encrypted or damaged."""
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
            self.seconds += frame.samples / max(frame.sample_rate, LOWEST_RATE)
            self.peak = max(self.peak, _peak(_samples(frame)))

    @property
    def unreadable(self) -> bool:
        return self.n_samples == 0 and self.n_bad > 0


def _samples(frame: Any) -> np.ndarray:
    """Samples of a frame in its own format: [channels, n] if it is planar, else [1, channels * n]."""
    n_channels = frame.layout.nb_channels
    if not frame.format.is_planar or n_channels < 8:
        return frame.to_ndarray()
    # PyAV 18.1 counts planes up to a null pointer, which is not guaranteed from 8 channels on: to_ndarray then reads
    # beyond the frame's memory and may crash.
    dtype = np.dtype(format_dtypes[frame.format.name])
    return np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes[:n_channels]])


def _peak(samples: np.ndarray) -> float:
    """Largest magnitude of samples in any FFmpeg sample format, with full scale 1."""
    if samples.size == 0:
        return 0.0
    if samples.dtype.kind == "f":
        return float(np.nan_to_num(max(samples.max(), -samples.min()), nan=0.0))
    if samples.dtype.kind == "u":
        return float(np.abs(samples.astype(np.int16) - 128).max()) / 128
    return max(float(samples.max()), -float(samples.min())) / -float(np.iinfo(samples.dtype).min)


def audio_state(levels: Sequence[Level]) -> tuple[str, float | None]:
    """State of a file's sound (`Probe.audio_state`), and its peak in dBFS over all tracks, None without samples."""
    if not levels:
        return "none", None
    if not any(level.n_samples for level in levels):
        # A track that cannot be decoded may hold sound: never treat it as silence.
        return ("audible" if any(level.unreadable for level in levels) else "empty"), None
    peak = max(level.peak for level in levels)
    peak_dbfs = max(20 * math.log10(peak), FLOOR_DBFS) if peak > 0 else FLOOR_DBFS
    audible = peak_dbfs > SILENCE_DBFS or any(level.unreadable for level in levels)
    return ("audible" if audible else "silent"), peak_dbfs


def mixing(layout: Any, channels: int | None) -> np.ndarray | None:
    """Weights [channels, channels of `layout`] to mix sound of an `av.AudioLayout`; None if no mixing is needed.

    The magnitudes of each row add up to 1 at most, so that the sum of loud channels cannot clip. Mono is the mean.
    Stereo from one channel is that channel twice. Stereo from more than two has FFmpeg's proportions (front 1, centre
    and surround sqrt(1/2), no low frequency effects), divided by 1 + 2 sqrt(1/2), the sum for 5.1, or by their own sum
    if that is larger (6.1, 7.1).
    """
    n = layout.nb_channels
    if channels is None or channels == n:
        return None
    mean = np.full((channels, n), 1 / n, np.float32)
    if channels == 1 or n == 1:
        return mean
    try:
        # One sample of each channel alone: the output is the weights.
        frame = av.AudioFrame.from_ndarray(np.eye(n, dtype=np.float32).reshape(1, -1), "flt", layout)
        frame.sample_rate = grid.SAMPLE_RATE
        parts = AudioResampler(format="fltp", layout="stereo", rate=grid.SAMPLE_RATE).resample(frame)
    except av.FFmpegError:  # channels without a position
        return mean
    weights = np.concatenate([part.to_ndarray() for part in parts], axis=1)
    return weights / max(_SURROUND_SUM, float(np.abs(weights).sum(axis=1).max()))


def resampled(
    container: InputContainer,
    audio: Any,
    sample_rate: int,
    tick: Tick | None,
    channels: int | None = None,
    strict: bool = False,
) -> Iterator[tuple[float, np.ndarray]]:
    """(container time in seconds, float32 [channels, n]) at `sample_rate`, mixed to `channels` by `mixing`.

    channels: None keeps the layout of the first frame. strict: raise DecodeFailed if no packet can be decoded; packets
    that cannot be decoded are left out otherwise.
    """
    resampler: AudioResampler | None = None
    shape: tuple[Any, ...] | None = None
    layout: Any = None
    weights: np.ndarray | None = None
    n_bad = 0

    def converted(frame: Any) -> Iterator[tuple[float, np.ndarray]]:
        assert resampler is not None
        for part in resampler.resample(frame):
            if part.pts is not None and part.time_base is not None:
                sound = _samples(part)
                yield float(part.pts * part.time_base), sound if weights is None else weights @ sound

    for number, packet in enumerate(packets(container, [audio])):
        if tick is not None and number % 256 == 0:
            tick()
        try:
            frames = packet.decode()
        except av.FFmpegError:
            n_bad += 1
            continue
        for frame in frames:
            facts = (frame.format.name, frame.layout.name, frame.sample_rate)
            if facts != shape:
                if resampler is not None:
                    yield from converted(None)
                if layout is None or channels is not None:
                    layout, weights = frame.layout, mixing(frame.layout, channels)
                resampler, shape = AudioResampler(format="fltp", layout=layout, rate=sample_rate), facts
            yield from converted(frame)
    if resampler is not None:
        yield from converted(None)
    elif strict and n_bad:
        raise DecodeFailed("InvalidData", "the sound track cannot be decoded", "sound")


def sound_facts(
    file: BinaryIO, sample_rate: int = grid.SAMPLE_RATE, tick: Tick | None = None
) -> tuple[int, int, int]:
    """Length of the default track in samples at `sample_rate`, decoded to its end, its own rate and its channels.

    Raises DecodeFailed (`NoAudioStream` if there is no track).
    """
    with media_container.opened(file) as container:
        if not container.streams.audio:
            raise DecodeFailed("NoAudioStream", "the file has no sound track", "sound")
        audio = media_container.default_stream(container.streams.audio)
        facts = int(audio.rate or 0), int(audio.channels)
        begin, end = math.inf, 0.0
        for time_s, chunk in resampled(container, audio, sample_rate, tick, 1):
            begin, end = min(begin, time_s), max(end, time_s + chunk.shape[1] / sample_rate)
        return max(0, round((end - begin) * sample_rate)) if end else 0, *facts


def track_facts(file: BinaryIO, track: int | None = None) -> tuple[int, int]:
    """Rate and channels of a sound track, as the file announces them.

    track: number of the track; None for the default one. Raises DecodeFailed (`NoAudioStream`).
    """
    with media_container.opened(file) as container:
        audio = _track(container, track)
        return int(audio.rate or 0), int(audio.channels)


def _track(container: InputContainer, track: int | None) -> Any:
    streams = container.streams.audio
    if not streams or (track is not None and track >= len(streams)):
        raise DecodeFailed("NoAudioStream", "the file has no such sound track", "sound")
    chosen: Any = media_container.default_stream(streams) if track is None else streams[track]
    if chosen.codec_context is None:
        raise DecodeFailed("UnknownCodec", "the sound track has a codec that cannot be decoded", "sound")
    return chosen


def iter_sound(
    file: BinaryIO,
    n_samples: int,
    sample_rate: int,
    channels: int,
    origin_s: float,
    *,
    block: int = STREAMED,
    track: int | None = None,
    skip: int = 0,
    tick: Tick | None = None,
) -> Iterator[np.ndarray]:
    """Blocks float32 [channels, n] of a whole sound track, from the first picture (`origin_s`, container time) on.

    Every block but the last has `block` samples; there are `n_samples` in total, zeros where the track has none. Always
    decodes from the start, so that the samples do not depend on where reading begins. track: number of the track; None
    for the default one. skip: number of blocks that are not yielded. Raises DecodeFailed.
    """
    with media_container.opened(file) as container:
        audio = _track(container, track)
        held, at, number = np.zeros((channels, min(block, n_samples)), np.float32), 0, 0
        expected: int | None = None
        for time_s, chunk in resampled(container, audio, sample_rate, tick, channels, strict=True):
            start = round((time_s - origin_s) * sample_rate)
            # Timestamps jitter by their rounding; only a real gap moves the sound.
            if expected is not None and abs(start - expected) < 0.02 * sample_rate:
                start = expected
            expected = start + chunk.shape[1]
            if start >= n_samples:
                break
            chunk = np.nan_to_num(chunk[:, max(0, at - start) :], nan=0.0, posinf=1.0, neginf=-1.0)
            start = max(start, at)
            while chunk.shape[1]:
                n = min(chunk.shape[1], at + held.shape[1] - start)
                if n > 0:
                    held[:, start - at : start - at + n] = chunk[:, :n]
                    chunk, start = chunk[:, n:], start + n
                if start < at + held.shape[1]:
                    break
                if number >= skip:
                    yield held
                at, number = at + held.shape[1], number + 1
                if at >= n_samples:
                    return
                held = np.zeros((channels, min(block, n_samples - at)), np.float32)
        while at < n_samples:
            if number >= skip:
                yield held
            at, number = at + held.shape[1], number + 1
            held = np.zeros((channels, min(block, max(0, n_samples - at))), np.float32)


def decode_sound(
    file: BinaryIO,
    start_s: float,
    end_s: float,
    sample_rate: int = grid.SAMPLE_RATE,
    tick: Tick | None = None,
    origin_s: float | None = None,
    channels: int | None = None,
    seeks: bool = True,
) -> np.ndarray:
    """Sound of one stretch of the default track on the picture timeline, float32 [channels, n].

    n = round((end_s - start_s) * sample_rate), with zeros where the track has no sound. origin_s: container time of the
    first picture (`Probe.video_start_s`); None decodes that picture to find it. channels: 1 or 2 mixes the track to
    mono (the mean of its channels) or stereo, with weights (`mixing`) that never exceed full scale; None keeps its
    layout. seeks: False for a film whose clock leaps, which is read from its start.
    Raises DecodeFailed (`NoAudioStream` if there is no track), ValueError for impossible arguments.
    """
    if not 0 <= start_s < end_s:
        raise ValueError(f"not a time span: {start_s} to {end_s}")
    if channels is not None and channels not in CHANNELS:
        raise ValueError(f"sound has 1 or 2 channels, or those of the file, not {channels}")
    if origin_s is None:
        origin_s = media_container.picture_start(file)
    file.seek(0)
    with media_container.opened(file) as container:
        if not container.streams.audio:
            raise DecodeFailed("NoAudioStream", "the file has no sound track", "sound")
        audio = media_container.default_stream(container.streams.audio)
        # A second ahead lets codecs with memory (AAC, MP3, Opus) settle before the first sample is kept.
        if seeks and origin_s + start_s > 2:
            media_container.seek(container, audio, origin_s + start_s - 1)
        n_samples = grid.samples(end_s - start_s, sample_rate)
        sound: np.ndarray | None = None
        expected: int | None = None
        for time_s, chunk in resampled(container, audio, sample_rate, tick, channels):
            if sound is None:
                sound = np.zeros((chunk.shape[0], n_samples), np.float32)
            at = round((time_s - origin_s - start_s) * sample_rate)
            # Timestamps jitter by their rounding; only a real gap moves the sound.
            if expected is not None and abs(at - expected) < 0.02 * sample_rate:
                at = expected
            expected = at + chunk.shape[1]
            first, last = max(at, 0), min(expected, n_samples)
            if first < last and chunk.shape[0] == sound.shape[0]:
                sound[:, first:last] = chunk[:, first - at : last - at]
            if at >= n_samples:
                break
        return np.zeros((channels or 1, n_samples), np.float32) if sound is None else sound

"""Conversions between seconds, video frames, codec frames and samples.

Time bugs are the worst bugs of video-to-audio tools, so no other module multiplies a rate by a length. All functions
are pure. Windows are laid out in samples: the finest grid, in integers that do not drift.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from v2a_models import grid

SAMPLE_RATE = 44_100
"""Samples per second of codec-based sound (Descript Audio Codec 44.1 kHz)."""

HOP = 512
"""Samples per codec frame: 2 * 4 * 8 * 8 (DAC 44.1 kHz), i.e. 86.13 codec frames per second."""

_EPSILON = 1e-6
"""Guards ceil/floor against the last bit of products like 0.1 * 30."""


def samples(duration_s: float, rate: int = SAMPLE_RATE) -> int:
    """Number of samples of a track that lasts `duration_s` seconds: `round(duration_s * rate)`."""
    if duration_s < 0:
        raise ValueError(f"a duration cannot be negative: {duration_s}")
    return round(duration_s * rate)


def seconds(n_samples: int, rate: int = SAMPLE_RATE) -> float:
    """Duration of `n_samples` samples in seconds."""
    return n_samples / rate


def codec_frames(n_samples: int, hop: int = HOP) -> int:
    """Number of codec frames that cover `n_samples` samples; the last may reach past the end."""
    return -(-n_samples // hop)


def samples_per_frame(fps: float, rate: int) -> int:
    """Samples per video frame. Raises ValueError if that is not a whole number."""
    exact = rate / fps
    if abs(exact - round(exact)) > _EPSILON:
        raise ValueError(
            f"a frame of {fps:g} per second lasts {exact:.3f} samples of {rate} per second: choose rates of which one "
            "divides the other"
        )
    return round(exact)


def frame_count(duration_s: float, fps: float) -> int:
    """Number of target times k / fps that lie before `duration_s`."""
    return max(0, math.ceil(duration_s * fps - _EPSILON))


def frame_times(start_s: float, duration_s: float, fps: float) -> np.ndarray:
    """Target times of a sampling at `fps`: float64 [frame_count], `start_s + k / fps`, in seconds."""
    return start_s + np.arange(frame_count(duration_s, fps)) / fps


def frame_index(time_s: float, fps: float) -> int:
    """Index of the last frame of a constant-rate sampling at or before `time_s`."""
    return math.floor(time_s * fps + _EPSILON)


@dataclass(frozen=True)
class SampleWindow:
    """Window of sound generated in one call. Starts and lengths are in samples."""

    index: int
    start: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.length

    @property
    def start_s(self) -> float:
        return self.start / SAMPLE_RATE


def windows(n_samples: int, length: int, overlap: int) -> Iterator[SampleWindow]:
    """Global window grid of a track: windows of `length` samples, neighbours sharing `overlap`.

    Every sample is covered; the last window may reach past the end (its input is padded by holding the last frame, its
    output is trimmed). An empty track has no window.

    Raises ValueError unless 0 <= overlap < length.
    """
    for index in range(window_count(n_samples, length, overlap)):
        yield SampleWindow(index, index * (length - overlap), length)


def window_count(n_samples: int, length: int, overlap: int) -> int:
    """Number of windows that `windows` yields."""
    if not 0 <= overlap < length:
        raise ValueError(f"overlap must be in [0, {length}), not {overlap}")
    if n_samples <= 0:
        return 0
    return 1 + max(0, -(-(n_samples - length) // (length - overlap)))


def resample_index(n_target: int, n_source: int) -> np.ndarray:
    """Fractional source positions, float64 [n_target], that resample a sequence of `n_source` cells.

    Cell centres are matched (`align_corners=False`), so features and codec frames of a window stay aligned in time at
    any rates.
    """
    return np.clip((np.arange(n_target) + 0.5) * n_source / n_target - 0.5, 0, max(n_source - 1, 0))


def decode_start(start_s: float, rates: Sequence[float]) -> float:
    """Latest time <= `start_s`, in seconds, that lies on the frame grid of every rate.

    Decoding a segment from there yields the same frames as decoding the whole film. For integer rates it is the last
    whole second.
    """
    period = math.lcm(*(Fraction(rate).limit_denominator(1001).denominator for rate in rates))
    # The guard keeps exact multiples from being rounded down.
    steps = math.floor(start_s / period + 1e-9)
    return float(steps * period)


def window_frames(
    start: int, window: int, decoded_from_s: float, fps: float, rate: int = grid.SAMPLE_RATE
) -> slice:
    """Slice of a decoded stretch that belongs to the window starting at sample `start`.

    The slice always has `grid.frame_count(window seconds, fps)` frames.
    """
    first = grid.frame_index(grid.seconds(start, rate) - decoded_from_s, fps)
    return slice(first, first + grid.frame_count(grid.seconds(window, rate), fps))


def frame_positions(start: int, n_samples: int, fps: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Fractional frames at `n_samples` samples from sample `start` on: float64 [n_samples].

    Frame k has position k in the middle of its time, which is half a frame after it appears.
    """
    return (start + np.arange(n_samples) + 0.5) * (fps / rate) - 0.5

"""Mixing of the generated sound into a film's track, before it is encoded.

    generated -> rate and channels -> gain -> only in its spans -> [limiter] -> added to the film's own sound, or alone
                                                                             -> 16 bits

Everything streams: a pass holds one block of the sound. A gain is known only at the end of a pass, so loudness costs
one more pass, and three more if peaks must be limited. Samples of the film's own sound that are kept are never
multiplied: they come out unchanged, in 16 bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pipelines.soundtrack import ebur128, limiter, resampling
from pipelines.soundtrack.ebur128 import Levels
from pipelines.soundtrack.limiter import CEILING_DBTP
from v2a_models import grid, pcm

RAMP_S = 0.05
"""Length of the ramps inside both ends of a span."""

MOST_GAIN_DB = 30.0
"""Largest gain: more would turn near-silence into noise."""

_BACK_OFF_DB = 0.3
"""Margin of the limiter's ceiling below the highest allowed peak."""

Seconds = tuple[float, float]
"""Start and end of a stretch of the film, in seconds."""


@dataclass(frozen=True)
class MixPolicy:
    """Policy for the generated sound and the film's own."""

    existing: str = "keep"
    """`keep`: a track beside the existing ones. `mix`: a track with the film's own sound and the generated one.
    `replace-silent-parts`: a track with the film's own sound, and the generated one in its silent parts."""
    loudness: float | None = None
    """Target integrated loudness in LUFS; None leaves the sound as it was generated."""
    mix_gain: float = 0.0
    """Gain of the generated sound in dB, before mixing."""
    silence_dbfs: float = -60.0
    """Peak in dBFS below which the film's own sound is silent, for at least a second."""
    channels: int = 0
    """1 or 2; 0 for those of the model, or of the film's own sound if the two become one track."""
    audio_codec: str = "auto"
    """A name in `containers.CODECS`; `auto` for the codec of the container."""
    sidecar: str = "none"
    """`wav` or `flac`: a sound file instead of a film."""

    def identity(self) -> dict[str, Any]:
        """Fields that differ from their defaults, so that outputs without a policy stay valid."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


NAMES = tuple(f.name for f in fields(MixPolicy))


@dataclass(frozen=True)
class Gains:
    """Gain and limiter of one track."""

    gain_db: float = 0.0
    ceiling_dbtp: float | None = None
    """Ceiling of the limiter; None for no limiter."""


@dataclass(frozen=True)
class AudioFormat:
    """Format of the new track."""

    rate: int
    channels: int
    n_samples: int
    """Total number of samples."""


Blocks = Iterator[np.ndarray]


@dataclass(frozen=True)
class TrackSources:
    """Sounds that a track is mixed from. Every call of a source returns the same sound from its start."""

    generated: Callable[[], Blocks]
    """int16 [tracks * channels, n] at `rate`."""
    rate: int
    channels: int
    """Channels of one track."""
    tracks: int = 1
    existing: Callable[[], Blocks] | None = None
    """Blocks float32 [channels, n] of the film's own sound, `AudioFormat.n_samples` in total, at the rate and with the
    channels of the new track; None to leave it out."""
    spans: Sequence[Seconds] | None = None
    """Stretches with generated sound; None for the whole film."""


def mixed_tracks(
    sources: TrackSources, policy: MixPolicy, output: AudioFormat, gains: Sequence[Gains]
) -> Blocks:
    """Blocks int16 [tracks * channels, n] of the mixed tracks, `output.n_samples` in total."""
    for block in _mixed(sources, policy, output, gains):
        yield pcm.quantise_exact(block)


def track_gains(sources: TrackSources, policy: MixPolicy, output: AudioFormat) -> list[Gains]:
    """Gains that bring every track to the target loudness, with no true peak above -1 dBTP.

    If a plain gain would exceed that peak, a limiter is used and its gain refined by measuring. Without a target, only
    mixtures get gains, so that two sounds together do not clip.
    """
    gains = [Gains()] * sources.tracks
    mixes = sources.existing is not None and policy.existing == "mix"
    if policy.loudness is None and not mixes:
        return gains
    raw = _measured(sources, policy, output, gains)
    gains = [first_gain(levels, policy.loudness) for levels in raw]
    # The last round may only lower a ceiling: a better loudness must not leave a peak too high.
    for target in (policy.loudness, policy.loudness, None):
        if all(g.ceiling_dbtp is None for g in gains):
            break
        measured = _measured(sources, policy, output, gains)
        gains = [next_gain(g, levels, target) for g, levels in zip(gains, measured, strict=True)]
    return gains


def first_gain(raw: Levels, target: float | None) -> Gains:
    """Gain that a sound with these levels needs for `target` LUFS, without a limiter if its peak allows that."""
    gain = 0.0 if target is None or not raw.loud else min(target - raw.lufs, MOST_GAIN_DB)
    if raw.true_peak_dbtp + gain <= CEILING_DBTP:
        return Gains(gain)
    return Gains(gain, CEILING_DBTP - _BACK_OFF_DB)


def next_gain(tried: Gains, measured: Levels, target: float | None) -> Gains:
    """Refine the gains from one measurement; leave tracks within 0.1 LU of the target alone."""
    if tried.ceiling_dbtp is None:
        return tried
    better = tried
    if target is not None and measured.loud and abs(measured.lufs - target) > 0.1:
        # A limiter takes part of a gain away, and more of a larger one.
        step = float(np.clip(target - measured.lufs, -6, 6))
        better = replace(better, gain_db=min(tried.gain_db + step, MOST_GAIN_DB))
    if (over := measured.true_peak_dbtp - CEILING_DBTP) > 0:
        better = replace(better, ceiling_dbtp=tried.ceiling_dbtp - over - 0.1)
    return better


def _measured(
    sources: TrackSources, policy: MixPolicy, output: AudioFormat, gains: Sequence[Gains]
) -> list[Levels]:
    """Levels of every track: of the mixture if sounds are mixed, of the generated sound otherwise."""
    alone = sources if policy.existing == "mix" else replace(sources, existing=None)
    meters = [ebur128.LoudnessMeter(output.rate, output.channels) for _ in range(sources.tracks)]
    for block in _mixed(alone, policy, output, gains):
        for k, meter in enumerate(meters):
            meter.add(block[k * output.channels : (k + 1) * output.channels])
    return [meter.levels() for meter in meters]


def _mixed(sources: TrackSources, policy: MixPolicy, output: AudioFormat, gains: Sequence[Gains]) -> Blocks:
    """Blocks float32 [tracks * channels, n] of the new tracks."""
    first = resampling.resampled(
        sources.generated(), sources.channels * sources.tracks, sources.rate, output.n_samples, output.rate
    )
    generated = _in_spans(first, sources, policy, output)
    existing = sources.existing() if sources.existing is not None else None
    together = existing is not None and policy.existing == "mix"
    if existing is not None and together:
        generated = _summed(generated, cut(existing), sources.tracks)
    levelled = _levelled(generated, output, gains)
    if existing is None or together:
        yield from levelled
        return
    shape, position = Envelope(sources.spans, output), 0
    for own, new in zip(cut(existing), cut(levelled), strict=True):
        weight = shape.at(position, own.shape[1])
        yield np.tile(own * (1 - weight), (sources.tracks, 1)) + new
        position += own.shape[1]


def _in_spans(
    blocks: Iterable[np.ndarray], sources: TrackSources, policy: MixPolicy, output: AudioFormat
) -> Blocks:
    """The generated sound in the track's channels, silent outside its spans."""
    lift = 10 ** (policy.mix_gain / 20) if policy.existing == "mix" and sources.existing is not None else 1.0
    shape, position = Envelope(sources.spans, output), 0
    for block in cut(blocks):
        sound = block.astype(np.float32) / pcm.EXACT_SCALE
        sound = in_channels(sound, sources.tracks, output.channels)
        if lift != 1.0:
            sound = sound * np.float32(lift)
        if sources.spans is not None:
            sound = sound * shape.at(position, sound.shape[1])
        position += sound.shape[1]
        yield sound


def in_channels(sound: np.ndarray, tracks: int, channels: int) -> np.ndarray:
    """Sound [tracks * any, n] as [tracks * channels, n]: mono is the mean, stereo from mono the same twice."""
    apart = sound.reshape(tracks, -1, sound.shape[1])
    if apart.shape[1] == channels:
        return sound
    mean = apart.mean(axis=1, keepdims=True)
    return np.repeat(mean, channels, axis=1).reshape(tracks * channels, -1)


def _summed(generated: Blocks, existing: Blocks, tracks: int) -> Blocks:
    for new, own in zip(generated, existing, strict=True):
        yield new + np.tile(own, (tracks, 1))


def _levelled(blocks: Blocks, output: AudioFormat, gains: Sequence[Gains]) -> Blocks:
    """Every track with its own gain, and through its own limiter if it has one."""
    if all(g == Gains() for g in gains):
        yield from blocks
        return
    lifts = np.repeat([np.float32(10 ** (g.gain_db / 20)) for g in gains], output.channels)[:, None]
    louder = (block * lifts for block in blocks)
    if all(g.ceiling_dbtp is None for g in gains):
        yield from louder
        return
    yield from _limited(louder, output, gains)


def _limited(blocks: Blocks, output: AudioFormat, gains: Sequence[Gains]) -> Blocks:
    # Limiters return blocks of any lengths: cut them to equal ones again.
    copies = itertools.tee(blocks, len(gains))
    c = output.channels

    def one(k: int) -> Blocks:
        mine = (block[k * c : (k + 1) * c] for block in copies[k])
        ceiling = gains[k].ceiling_dbtp
        return cut(mine if ceiling is None else limiter.limited(mine, output.rate, c, ceiling))

    for pieces in zip(*(one(k) for k in range(len(gains))), strict=True):
        yield np.concatenate(pieces)


def cut(blocks: Iterable[np.ndarray], n: int = resampling.BLOCK) -> Blocks:
    """The same sound in blocks of exactly `n` samples; the last may be shorter."""
    held: list[np.ndarray] = []
    have = 0
    for block in blocks:
        held.append(block)
        have += block.shape[1]
        while have >= n:
            whole = np.concatenate(held, axis=1) if len(held) > 1 else held[0]
            yield whole[:, :n]
            held, have = [whole[:, n:]], have - n
    if have:
        yield np.concatenate(held, axis=1)


class Envelope:
    """Gain envelope: 1 inside spans and 0 outside, with raised-cosine ramps inside their ends.

    A span that begins or ends with the film has no ramp there. spans: None for 1 everywhere.
    """

    def __init__(self, spans: Sequence[Seconds] | None, output: AudioFormat) -> None:
        self.everywhere, self.n_samples = spans is None, output.n_samples
        edges = np.rint(np.array(spans or [], float).reshape(-1, 2) * output.rate).astype(np.int64)
        edges = edges.clip(0, output.n_samples)
        self.edges = edges[edges[:, 0] < edges[:, 1]]
        """int64 [spans, 2], in samples, in order."""
        self.ramp = grid.samples(RAMP_S, output.rate)

    def at(self, position: int, n: int) -> np.ndarray:
        """Gain of the `n` samples from `position` on, float32 [n]."""
        if self.everywhere:
            return np.ones(n, np.float32)
        gain = np.zeros(n, np.float32)
        begin, end = (
            np.searchsorted(self.edges[:, 1], position),
            np.searchsorted(self.edges[:, 0], position + n),
        )
        for first, last in self.edges[begin:end]:
            ramp = min(self.ramp, int(last - first) // 2)
            k = np.arange(max(first, position), min(last, position + n))
            level = np.ones(len(k), np.float32)
            if ramp and first > 0:
                level = np.minimum(level, _rise((k - first + 0.5) / ramp))
            if ramp and last < self.n_samples:
                level = np.minimum(level, _rise((last - k - 0.5) / ramp))
            if len(k):
                gain[k[0] - position : k[-1] + 1 - position] = level
        return gain


def _rise(x: np.ndarray) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(np.pi * np.clip(x, 0, 1))).astype(np.float32)


def intersection(one: Sequence[Seconds], other: Sequence[Seconds]) -> list[Seconds]:
    """Intersection of two lists of stretches, in order."""
    common = [(max(a, c), min(b, d)) for a, b in one for c, d in other if max(a, c) < min(b, d)]
    return sorted(common)

"""What becomes of the generated sound before it is encoded: where it is heard, how loud, and beside what.

    generated -> rate and channels -> gain -> only where it is wanted -> [limiter] -> over or beside what is there
                                                                                   -> 16 bits

Everything streams: a pass over the sound holds a block of it. What a gain must be is known only at the end, so
loudness costs one more pass, and three more where peaks must be held down. Samples of the film's own sound that are
to stay are never multiplied by anything: they come out as they went in, in 16 bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pipelines.soundtrack import ebur128, resampling
from pipelines.soundtrack.ebur128 import CEILING_DBTP, Levels
from v2a_models import grid, pcm

EXISTING = ("keep", "mix", "replace-silent-parts")
"""What becomes of sound that is there already."""

SIDECARS = ("none", "wav", "flac")

RAMP_S = 0.05
"""Length of the ramps at both ends of a stretch, inside of it."""

MOST_GAIN_DB = 30.0
"""Nothing is made louder by more than this: near-silence would become noise."""

_BACK_OFF_DB = 0.3
"""How far the limiter's ceiling lies below the peak that is allowed."""

Seconds = tuple[float, float]
"""A stretch of the film, in seconds."""


@dataclass(frozen=True)
class MixPolicy:
    """How generated sound goes into a film."""

    existing: str = "keep"
    """`keep`: a track beside those that are there. `mix`: a track with the film's own sound and the generated one.
    `replace-silent-parts`: a track with the film's own sound, and the generated one where that is silent."""
    loudness: float | None = None
    """Integrated loudness in LUFS; None leaves it as it was generated."""
    mix_gain: float = 0.0
    """dB by which the generated sound is made louder before it is mixed."""
    silence_dbfs: float = -60.0
    """The film's own sound is silent where no sample is louder, for a second at least."""
    channels: int = 0
    """1 or 2; 0 for those of the model, or of the film's own sound where the two become one track."""
    audio_codec: str = "auto"
    """One of `containers.CODECS`, or that of the container."""
    sidecar: str = "none"
    """`wav` or `flac`: a sound file instead of a film."""

    def identity(self) -> dict[str, Any]:
        """What differs from a plain track, by name: an output that was made without stays valid."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


NAMES = tuple(f.name for f in fields(MixPolicy))


@dataclass(frozen=True)
class Gains:
    """What is done to the level of one track."""

    gain_db: float = 0.0
    ceiling_dbtp: float | None = None
    """Of the limiter; None for no limiter."""


@dataclass(frozen=True)
class AudioFormat:
    """Of the track that is made."""

    rate: int
    channels: int
    n_samples: int
    """In all."""


Blocks = Iterator[np.ndarray]


@dataclass(frozen=True)
class TrackSources:
    """What a track is made of. Every call gives the same sound from its start."""

    generated: Callable[[], Blocks]
    """int16 [tracks * channels, n] at `rate`."""
    rate: int
    channels: int
    """Of one track."""
    tracks: int = 1
    existing: Callable[[], Blocks] | None = None
    """float32 [channels, n], `AudioFormat.n_samples` in all, at the rate and with the channels of the track; None where
    nothing is to be heard beside it."""
    spans: Sequence[Seconds] | None = None
    """Where the generated sound is heard; None for everywhere."""


def treated(material: TrackSources, how: MixPolicy, made: AudioFormat, gains: Sequence[Gains]) -> Blocks:
    """int16 [tracks * channels, n] blocks, `made.n_samples` in all."""
    for block in _heard(material, how, made, gains):
        yield pcm.quantise_exact(block)


def settle(material: TrackSources, how: MixPolicy, made: AudioFormat) -> list[Gains]:
    """The gains that bring every track to the wanted loudness, with no true peak above -1 dBTP.

    Where a plain gain would exceed that peak, a limiter holds it down, and the gain is found by trying. Without a
    wanted loudness only a mixture is looked at, so that two sounds together do not clip.
    """
    gains = [Gains()] * material.tracks
    mixes = material.existing is not None and how.existing == "mix"
    if how.loudness is None and not mixes:
        return gains
    raw = _measured(material, how, made, gains)
    gains = [first_gain(levels, how.loudness) for levels in raw]
    # The last look may only lower a ceiling: no peak is left too high for a better loudness.
    for target in (how.loudness, how.loudness, None):
        if all(g.ceiling_dbtp is None for g in gains):
            break
        found = _measured(material, how, made, gains)
        better = [next_gain(g, levels, target) for g, levels in zip(gains, found, strict=True)]
        gains = better
    return gains


def first_gain(raw: Levels, target: float | None) -> Gains:
    """What a sound with these levels needs to reach `target` LUFS, by a plain gain if its peak allows that."""
    gain = 0.0 if target is None or not raw.loud else min(target - raw.lufs, MOST_GAIN_DB)
    if raw.true_peak_dbtp + gain <= CEILING_DBTP:
        return Gains(gain)
    return Gains(gain, CEILING_DBTP - _BACK_OFF_DB)


def next_gain(tried: Gains, found: Levels, target: float | None) -> Gains:
    """Nearer to the target after a try. What is good enough stays as it is."""
    if tried.ceiling_dbtp is None:
        return tried
    better = tried
    if target is not None and found.loud and abs(found.lufs - target) > 0.1:
        # A limiter takes away what a gain adds, the more so the more it has to do.
        step = float(np.clip(target - found.lufs, -6, 6))
        better = replace(better, gain_db=min(tried.gain_db + step, MOST_GAIN_DB))
    if (over := found.true_peak_dbtp - CEILING_DBTP) > 0:
        better = replace(better, ceiling_dbtp=tried.ceiling_dbtp - over - 0.1)
    return better


def _measured(
    material: TrackSources, how: MixPolicy, made: AudioFormat, gains: Sequence[Gains]
) -> list[Levels]:
    """Levels of every track: of the mixture where sounds are mixed, of what is generated otherwise."""
    alone = material if how.existing == "mix" else replace(material, existing=None)
    meters = [ebur128.Meter(made.rate, made.channels) for _ in range(material.tracks)]
    for block in _heard(alone, how, made, gains):
        for k, meter in enumerate(meters):
            meter.add(block[k * made.channels : (k + 1) * made.channels])
    return [meter.levels() for meter in meters]


def _heard(material: TrackSources, how: MixPolicy, made: AudioFormat, gains: Sequence[Gains]) -> Blocks:
    """float32 [tracks * channels, n] blocks of equal cuts for all tracks."""
    first = resampling.resampled(
        material.generated(), material.channels * material.tracks, material.rate, made.n_samples, made.rate
    )
    wanted = _wanted(first, material, how, made)
    existing = material.existing() if material.existing is not None else None
    together = existing is not None and how.existing == "mix"
    if existing is not None and together:
        wanted = _summed(wanted, cut(existing), material.tracks)
    levelled = _levelled(wanted, made, gains)
    if existing is None or together:
        yield from levelled
        return
    shape, position = Envelope(material.spans, made), 0
    for own, new in zip(cut(existing), cut(levelled), strict=True):
        weight = shape.at(position, own.shape[1])
        yield np.tile(own * (1 - weight), (material.tracks, 1)) + new
        position += own.shape[1]


def _wanted(
    blocks: Iterable[np.ndarray], material: TrackSources, how: MixPolicy, made: AudioFormat
) -> Blocks:
    """The generated sound in the track's channels, before it is mixed, where it is wanted."""
    lift = 10 ** (how.mix_gain / 20) if how.existing == "mix" and material.existing is not None else 1.0
    shape, position = Envelope(material.spans, made), 0
    for block in cut(blocks):
        sound = block.astype(np.float32) / pcm.EXACT_SCALE
        sound = in_channels(sound, material.tracks, made.channels)
        if lift != 1.0:
            sound = sound * np.float32(lift)
        if material.spans is not None:
            sound = sound * shape.at(position, sound.shape[1])
        position += sound.shape[1]
        yield sound


def in_channels(sound: np.ndarray, tracks: int, channels: int) -> np.ndarray:
    """[tracks * any, n] as [tracks * channels, n]: mono is the mean, stereo from mono the same twice."""
    apart = sound.reshape(tracks, -1, sound.shape[1])
    if apart.shape[1] == channels:
        return sound
    mean = apart.mean(axis=1, keepdims=True)
    return np.repeat(mean, channels, axis=1).reshape(tracks * channels, -1)


def _summed(generated: Blocks, existing: Blocks, tracks: int) -> Blocks:
    for new, own in zip(generated, existing, strict=True):
        yield new + np.tile(own, (tracks, 1))


def _levelled(blocks: Blocks, made: AudioFormat, gains: Sequence[Gains]) -> Blocks:
    """Every track by its own gain, and through its own limiter if it has one."""
    if all(g == Gains() for g in gains):
        yield from blocks
        return
    lifts = np.repeat([np.float32(10 ** (g.gain_db / 20)) for g in gains], made.channels)[:, None]
    louder = (block * lifts for block in blocks)
    if all(g.ceiling_dbtp is None for g in gains):
        yield from louder
        return
    # All tracks go through a limiter at once, each in its own time: their blocks are cut alike again afterwards.
    yield from _limited(louder, made, gains)


def _limited(blocks: Blocks, made: AudioFormat, gains: Sequence[Gains]) -> Blocks:
    copies = itertools.tee(blocks, len(gains))
    c = made.channels

    def one(k: int) -> Blocks:
        mine = (block[k * c : (k + 1) * c] for block in copies[k])
        ceiling = gains[k].ceiling_dbtp
        return cut(mine if ceiling is None else ebur128.limited(mine, made.rate, c, ceiling))

    for pieces in zip(*(one(k) for k in range(len(gains))), strict=True):
        yield np.concatenate(pieces)


def cut(blocks: Iterable[np.ndarray], n: int = resampling.BLOCK) -> Blocks:
    """The same sound in blocks of exactly `n` samples but for the last."""
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
    """1 inside of spans, 0 outside, raised-cosine ramps inside their ends; no ramp where a span begins or ends with the
    film. None for spans: 1 everywhere."""

    def __init__(self, spans: Sequence[Seconds] | None, made: AudioFormat) -> None:
        self.everywhere, self.n_samples = spans is None, made.n_samples
        edges = np.rint(np.array(spans or [], float).reshape(-1, 2) * made.rate).astype(np.int64)
        edges = edges.clip(0, made.n_samples)
        self.edges = edges[edges[:, 0] < edges[:, 1]]
        """int64 [spans, 2], in samples, in order."""
        self.ramp = grid.samples(RAMP_S, made.rate)

    def at(self, position: int, n: int) -> np.ndarray:
        """float32 [n]: for the samples from `position` on."""
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


def meet(one: Sequence[Seconds], other: Sequence[Seconds]) -> list[Seconds]:
    """Where both are, in order."""
    found = [(max(a, c), min(b, d)) for a, b in one for c, d in other if max(a, c) < min(b, d)]
    return sorted(found)

"""Foley scene: what sounds when, drawn from a seed and a library of recordings.

Pure functions of (library, seed, index). Events are the attacks of the recordings that are laid down, so picture and
sound agree to the sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipelines.foley.recordings import FoleyClass, Library, Recording, foley_classes
from pipelines.synthfoley.physics import Event, generator, split_of

CURVE_RATE = 100
"""Samples per second of the level curve of a sound that goes on."""

QUIET = "nothing"
"""Label of a scene in which nothing sounds but the room."""


@dataclass(frozen=True)
class Placed:
    """Recording laid down in a scene."""

    recording: Recording
    at_s: float
    """Time of its first sample; before 0 for one that has begun already."""
    gain: float
    speed: float
    """Rate of playing: 2 is an octave up."""
    fade_s: float = 0.0
    """Length of the fade at the end of a recording that is cut short."""


@dataclass(frozen=True)
class FoleyScene:
    """One scene. Times are seconds from the first frame."""

    seed: int
    index: int
    split: str
    duration_s: float
    label: str
    """Class of what is seen and heard, or `QUIET`."""
    actor: str
    """Motion that shows it (`pipelines.foley.actors`)."""
    events: tuple[Event, ...]
    """Visible events; empty for a sound that goes on."""
    placed: tuple[Placed, ...]
    curve: np.ndarray = field(compare=False, repr=False)
    """Level of the motion in [0, 1] at `CURVE_RATE`, and of the sound if it goes on."""
    bed: tuple[Placed, ...] = ()
    """Sound of the place, and sounds from outside the picture."""
    seen: bool = True
    """False if the picture does not show what sounds."""

    @property
    def goes_on(self) -> bool:
        """True if the sound has a level that changes, instead of events."""
        return not self.events and self.label != QUIET

    def level(self, t: float) -> float:
        """Level of the motion at a time."""
        return float(np.interp(t * CURVE_RATE, self._places, self.curve))

    def phase(self, t: float) -> float:
        """Integral of the level: turns of a wheel that turns once a second at full level."""
        return float(np.interp(t * CURVE_RATE, self._places, self._turns))

    @cached_property
    def _places(self) -> np.ndarray:
        return np.arange(len(self.curve))

    @cached_property
    def _turns(self) -> np.ndarray:
        return np.cumsum(self.curve) / CURVE_RATE

    def rng(self, stream: int) -> np.random.Generator:
        """Random generator of one part of the scene."""
        return generator(self.seed, self.index, 100 + stream)


def label_of(library: Library, seed: int, index: int) -> str:
    """Class of a scene: each block of scenes holds every class once, and a quiet one for every twelve."""
    every = [*library.labels, *([QUIET] * (len(library.labels) // 12))]
    block, place = divmod(index, len(every))
    return every[int(generator(seed, block, 107).permutation(len(every))[place])]


def make_scene(
    library: Library, seed: int, index: int, duration_s: float = 8.0, *, label: str | None = None
) -> FoleyScene:
    """Draw scene `index` of corpus `seed`. Raises ValueError for a label that the library has no sound of."""
    label = label or label_of(library, seed, index)
    if label != QUIET and label not in library.labels:
        raise ValueError(f"the library has no sound of {label!r}")
    split, rng = split_of(index), generator(seed, index, 100)
    bed = _bed(library, rng, split, label, duration_s)
    still = np.zeros(round(duration_s * CURVE_RATE) + 2)
    if label == QUIET:
        actor = str(rng.choice(["still", "sway", "people", "gesture"]))
        curve = np.full_like(still, 0.3 * rng.uniform() if actor != "still" else 0.0)
        return FoleyScene(seed, index, split, duration_s, label, actor, (), (), curve, bed)
    kind = foley_classes()[label]
    actor = str(rng.choice(kind.actors))
    seen = bool(rng.uniform() > 0.06)
    if kind.has_events:
        placed, events = _events(library, rng, split, kind, duration_s)
        return FoleyScene(seed, index, split, duration_s, label, actor, events, placed, still, bed, seen)
    curve = _pass_by(rng, still) if actor == "passer" else _levels(rng, still)
    recording = library.of(label, split)[int(rng.integers(len(library.of(label, split))))]
    speed = float(2 ** rng.uniform(-0.2, 0.2))
    begun = -float(rng.uniform(0, max(0.0, recording.length / 44100 / speed - 1.0)))
    return FoleyScene(seed, index, split, duration_s, label, actor, (),
                      (Placed(recording, begun, 1.0, speed),), curve, bed, seen)  # fmt: skip


def _events(
    library: Library, rng: np.random.Generator, split: str, kind: FoleyClass, duration_s: float
) -> tuple[tuple[Placed, ...], tuple[Event, ...]]:
    """Recordings one after the other, and the attacks in them."""
    session = session_of(library.of(kind.name, split), rng)
    shortest, longest = kind.gaps_s
    tempo = float(np.exp(rng.uniform(np.log(shortest), np.log(longest))))
    regular = kind.regular or rng.uniform() < 0.25
    speed = float(2 ** rng.uniform(-0.25, 0.25))
    base = rng.uniform(0.45, 1.0)
    placed: list[Placed] = []
    events: list[Event] = []
    t = float(rng.uniform(0.1, max(0.3, min(1.8, duration_s / 3))))
    while t < duration_s - 0.1:
        take = session[int(rng.integers(len(session)))]
        strength = float(np.clip(base * rng.uniform(0.5, 1.3), 0.15, 1.0))
        rate = speed * float(2 ** rng.uniform(-0.03, 0.03))
        start = t - take.onsets_s[0] / rate
        placed.append(Placed(take, start, strength, rate))
        for attack in take.onsets_s:
            at = start + attack / rate
            if at < duration_s - 0.02 and (not events or at - events[-1].onset_s > 0.07):
                events.append(Event(float(at), strength, kind.name))
        busy = start + 0.6 * take.length / 44100 / rate
        gap = tempo * (float(rng.normal(1, 0.04)) if regular else float(rng.exponential(1) * 0.7 + 0.3))
        t = max(t + max(shortest, gap), busy)
        if rng.uniform() < 0.08:
            t += float(rng.uniform(0.8, 2.5))
    return tuple(placed), tuple(events)


def session_of(takes: list[Recording], rng: np.random.Generator) -> list[Recording]:
    """Takes of one session, a few of them: the same thing is heard again and again."""
    groups = sorted({take.group for take in takes})
    chosen = groups[int(rng.integers(len(groups)))]
    same = [take for take in takes if take.group == chosen]
    few = min(len(same), int(rng.integers(1, 5)))
    return [same[int(k)] for k in rng.choice(len(same), few, replace=False)]


def _levels(rng: np.random.Generator, still: np.ndarray) -> np.ndarray:
    """Level that stays, or changes from time to time within a third of a second."""
    level = float(rng.uniform(0.3, 1.0))
    curve = np.full_like(still, level)
    if rng.uniform() < 0.5:
        return curve
    t = 0.0
    if rng.uniform() < 0.4:
        t = float(rng.uniform(0.4, 2.5))
        curve[: int(t * CURVE_RATE)] = 0.0
    while (t := t + float(rng.uniform(1.2, 3.5))) < len(curve) / CURVE_RATE - 0.8:
        curve[int(t * CURVE_RATE) :] = float(rng.uniform(0.15, 1.0)) if rng.uniform() > 0.15 else 0.0
    smooth = np.hanning(35)
    return np.convolve(np.pad(curve, 17, mode="edge"), smooth / smooth.sum(), "valid")


def _pass_by(rng: np.random.Generator, still: np.ndarray) -> np.ndarray:
    """Level of something that comes and goes: the inverse of its distance."""
    t = np.arange(len(still)) / CURVE_RATE
    nearest, width = rng.uniform(0.2, 0.8) * t[-1], rng.uniform(0.7, 2.5)
    return 1 / np.sqrt(1 + ((t - nearest) / width) ** 2)


def _bed(
    library: Library, rng: np.random.Generator, split: str, label: str, duration_s: float
) -> tuple[Placed, ...]:
    """Sound of the place, in nine scenes of ten, and a sound from outside the picture in one of ten."""
    bed: list[Placed] = []
    places = [
        name
        for name in ("room", "street", "forest", "crowd", "wind")
        if name in library.labels and name != label
    ]
    if places and (label == QUIET or rng.uniform() < 0.9):
        quiet = label == QUIET
        name = "room" if quiet and "room" in places else str(rng.choice(places))
        takes = library.of(name, split)
        take = takes[int(rng.integers(len(takes)))]
        begun = -float(rng.uniform(0, max(0.0, take.length / 44100 - 1.0)))
        bed.append(
            Placed(
                take,
                begun,
                float(10 ** (rng.uniform(-48, -38) / 20 if quiet else rng.uniform(-40, -24) / 20)),
                1.0,
            )
        )
    if rng.uniform() < 0.1:
        outside = [name for name in library.labels if foley_classes()[name].has_events and name != label]
        takes = library.of(str(rng.choice(outside)), split)
        take = takes[int(rng.integers(len(takes)))]
        bed.append(
            Placed(
                take, float(rng.uniform(0, duration_s - 1)), float(10 ** (rng.uniform(-30, -20) / 20)), 1.0
            )
        )
    return tuple(bed)

"""Foley scenes that are seen as one thing and heard as another: training data for models that follow text.

If the caption always named what is seen, a model could ignore it. Here the same motion also gets sounds of other
classes at the same times, so timing can only be learned from the picture, and the kind of sound only from the text.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from pipelines import synthfoley
from pipelines.foley.corpus import DRAWN, LABELS
from pipelines.foley.recordings import Library, Recording, foley_classes
from pipelines.foley.scene import CURVE_RATE, QUIET, FoleyScene, Placed, session_of
from pipelines.synthfoley.physics import Event, generator
from v2a_models import grid

OTHER_KIND = 0.3
"""Fraction of the scenes with events one of whose other sounds goes on, or is silence."""
_QUIET_PLACE = 10 ** (-44 / 20)
"""Loudest sound of the place in which nothing sounds, as in `scene`."""
_FADE_S = 0.03
_FEW = 4
"""Takes of a single attack below which those of several, cut short, are used too."""


def sounding_like(library: Library, scene: FoleyScene, label: str) -> FoleyScene:
    """Scene with the sound of another class, or `QUIET`, at the same times; its place and its pictures stay.

    Events keep their times and strengths, each with one attack of the other class. A sound that goes on keeps the level
    of the motion, and an even one where the motion is events or nothing; the result then has no events. Raises
    ValueError for a class that the library has no sound of, and for events that the scene does not have.
    """
    if label == scene.label:
        return scene
    if label == QUIET:
        place = tuple(replace(item, gain=min(item.gain, _QUIET_PLACE)) for item in scene.bed)
        return replace(scene, label=label, events=(), placed=(), curve=np.zeros_like(scene.curve), bed=place)
    if label not in library.labels:
        raise ValueError(f"the library has no sound of {label!r}")
    rng = generator(scene.seed, scene.index, 108, LABELS.index(label))
    takes = library.of(label, scene.split)
    speed = float(2 ** rng.uniform(-0.2, 0.2))
    if foley_classes()[label].has_events:
        if not scene.events:
            raise ValueError(f"{scene.label} cannot sound like {label}: the scene has no events")
        single = [take for take in takes if len(take.onsets_s) == 1]
        session = session_of(single if len(single) >= _FEW else takes, rng)
        placed = tuple(
            _placed(
                session[int(rng.integers(len(session)))],
                event,
                gap_s,
                speed * float(2 ** rng.uniform(-0.03, 0.03)),
            )
            for event, gap_s in zip(scene.events, _gaps_s(scene), strict=True)
        )
        events = tuple(Event(event.onset_s, event.strength, label) for event in scene.events)
        return replace(scene, label=label, events=events, placed=placed)
    take = takes[int(rng.integers(len(takes)))]
    begun = -float(rng.uniform(0, max(0.0, take.length / grid.SAMPLE_RATE / speed - 1.0)))
    curve = scene.curve if scene.goes_on else np.ones_like(scene.curve)
    return replace(scene, label=label, events=(), placed=(Placed(take, begun, 1.0, speed),), curve=curve)


def others_of(library: Library, scene: FoleyScene, n: int) -> list[str]:
    """Random selection of `n` other classes that a scene can sound like, seeded by the scene.

    Raises ValueError if the library has fewer.
    """
    rng = scene.rng(8)
    struck, steady = (
        [
            label
            for label in library.labels
            if foley_classes()[label].has_events == events and label != scene.label
        ]
        for events in (True, False)
    )
    chosen = [str(label) for label in rng.permutation(struck if scene.events else steady)[:n]]
    if len(chosen) < n:
        raise ValueError(
            f"the library has {len(chosen)} other classes that {scene.label} can sound like, not {n}"
        )
    if scene.label != QUIET and rng.uniform() < OTHER_KIND:
        pool = [*steady, QUIET] if scene.events else [QUIET]
        chosen[-1] = pool[int(rng.integers(len(pool)))]
    return chosen


def of_drawing(scene: synthfoley.Scene) -> FoleyScene:
    """SynthFoley scene as a Foley scene without a sound of its own: class, events or level, and no place."""
    struck = scene.label in synthfoley.IMPACTS
    times = np.arange(round(scene.duration_s * CURVE_RATE) + 2) / CURVE_RATE
    level = np.zeros_like(times) if struck else synthfoley.physics.curve_at(scene, "level", times)
    return FoleyScene(
        scene.seed, scene.index, scene.split, scene.duration_s, DRAWN[scene.label], "", scene.events if struck else (),
        (), level,
    )  # fmt: skip


def _gaps_s(scene: FoleyScene) -> list[float]:
    """Seconds from each event to the next, or to the end."""
    times = [*(event.onset_s for event in scene.events), scene.duration_s]
    return [later - earlier for earlier, later in pairwise(times)]


def _placed(take: Recording, event: Event, gap_s: float, speed: float) -> Placed:
    """First attack of a take at an event. Like a scene's own takes, it rings on little longer than until the next."""
    first = take.onsets_s[0]
    until = first + gap_s / 0.6 * speed
    if len(take.onsets_s) > 1:
        until = min(until, take.onsets_s[1] - 0.01)
    length = min(take.length, max(1, round(until * grid.SAMPLE_RATE)))
    fade_s = _FADE_S if length < take.length else 0.0
    cut = replace(take, length=length, onsets_s=(first,))
    return Placed(cut, event.onset_s - first / speed, event.strength, speed, fade_s)

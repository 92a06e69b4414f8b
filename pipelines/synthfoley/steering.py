"""SynthFoley scenes that are seen as one class and heard as another.

The same motion gets the sound of another class, with the same times and strengths. So the sound that a prompt asks for
is known exactly.

    scene = make_scene(seed, index)
    other = resounded(scene, "anvil")        # a drum that sounds like an anvil
"""

from __future__ import annotations

import dataclasses

import numpy as np

from pipelines import synthfoley
from pipelines.synthfoley.captions import caption
from pipelines.synthfoley.physics import Event, Scene, generator, moving


def resounded(scene: Scene, label: str) -> Scene:
    """Scene with the sound and caption of another class and the same events. Render its picture from `scene`: that of
    the result would not match.

    Raises ValueError for an unknown class, or one of the other kind: impacts have instantaneous events, continuous
    sounds changes of level.
    """
    if label not in synthfoley.CLASSES:
        raise ValueError(f"unknown class {label!r}; choose one of {', '.join(synthfoley.CLASSES)}")
    if (label in synthfoley.IMPACTS) != (scene.label in synthfoley.IMPACTS):
        raise ValueError(f"{scene.label} cannot sound like {label}: one is an impact, the other continuous")
    params = dict(scene.params)
    if label in synthfoley.CONTINUOUS:
        speed, phase = moving(label, np.asarray(params["level"], np.float64), params)
        params |= {"speed": speed, "phase": phase}
    events = tuple(Event(e.onset_s, e.strength, label) for e in scene.events)
    rng = generator(scene.seed, scene.index, 3, synthfoley.CLASSES.index(label))
    text = caption(label, events, params, rng, scene.duration_s)
    return dataclasses.replace(scene, label=label, events=events, params=params, caption=text)


def others_of(scene: Scene, n: int) -> list[str]:
    """Random selection of `n` other classes of the same kind, seeded by the scene; all of them if there are fewer."""
    kind = synthfoley.IMPACTS if scene.label in synthfoley.IMPACTS else synthfoley.CONTINUOUS
    choices = [label for label in kind if label != scene.label]
    return [str(label) for label in generator(scene.seed, scene.index, 4).permutation(choices)[:n]]

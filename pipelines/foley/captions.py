"""Captions of Foley scenes: the table `captions.csv`, and words for how often and how fast something sounds."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from pipelines.foley.scene import CURVE_RATE, FoleyScene

TIMES = ("once", "twice", "three times", "four times")
"""Words for a few events."""
PACES = ("slowly", "again and again", "fast")
"""Words for the pace of more events."""
COURSES = ("with a pause", "louder and louder", "fading away")
"""Words for the level of a sound that goes on."""
MANNERS = (*TIMES, *PACES, *COURSES)


@dataclass(frozen=True)
class Wording:
    """Words for one class of sound, or for silence."""

    sentences: tuple[str, ...]
    """Sentences that say what is seen and heard."""
    names: tuple[str, ...]
    """Names of the sound and of what makes it, as a prompt gives them."""
    signs: tuple[str, ...]
    """Words that tell this class from the others."""


@cache
def wordings() -> dict[str, Wording]:
    """Words by class of sound, `QUIET` first."""
    text = files(__package__).joinpath("captions.csv").read_text(encoding="utf-8")
    return {
        row["class"]: Wording(*(tuple(row[name].split("; ")) for name in ("sentences", "names", "signs")))
        for row in csv.DictReader(io.StringIO(text))
    }


def caption(scene: FoleyScene, rng: np.random.Generator, start_s: float, length_s: float) -> str:
    """Caption of `length_s` seconds of a scene from `start_s` on: what is heard, in half of all cases also how."""
    sentences = wordings()[scene.label].sentences
    text = sentences[int(rng.integers(len(sentences)))]
    manner = manner_of(scene, start_s, length_s)
    return f"{text}, {manner}" if manner and rng.random() < 0.5 else text


def manner_of(scene: FoleyScene, start_s: float, length_s: float) -> str:
    """Number and pace of the events in a stretch of a scene, or the course of its level; empty where there is none."""
    if scene.goes_on:
        level = scene.curve[round(start_s * CURVE_RATE) : round((start_s + length_s) * CURVE_RATE) + 1]
        return _course(level / max(float(level.max()), 1e-6))
    n = sum(start_s <= event.onset_s < start_s + length_s for event in scene.events)
    if not n:
        return ""
    if n <= len(TIMES):
        return TIMES[n - 1]
    return PACES[int(n / length_s >= 1.25) + int(n / length_s > 3)]


def _course(level: np.ndarray) -> str:
    first, *_, last = (float(part.mean()) for part in np.array_split(level, 4))
    if level.min() < 0.1 and min(first, last) > 0.3:
        return COURSES[0]
    if last > 1.7 * first:
        return COURSES[1]
    return COURSES[2] if first > 1.7 * last else ""


def label_in(text: str) -> str | None:
    """Class of sound that a caption names before any comma, by its longest sign; None if it names none."""
    said = f" {' '.join(re.findall(r'[a-z]+', text.partition(',')[0].lower()))} "
    found = [
        (len(sign), label)
        for label, words in wordings().items()
        for sign in words.signs
        if f" {sign} " in said
    ]
    return max(found)[1] if found else None

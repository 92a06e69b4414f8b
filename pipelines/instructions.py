"""Rows of a V2A Instruction set (2411.05679, section 4): what is asked, and the caption of what is heard.

The paper's captions were written by an audio-language model. Ours come from labels, SynthFoley's events and texts that
are there, by templates and other words for the same thing. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from v2a_models.vatt.instructions import INSTRUCTIONS

THINGS: dict[str, tuple[str, ...]] = {
    "drum": ("a drum", "drum beats", "a drum being played", "drumming with a stick"),
    "hammer_wood": (
        "a hammer on wood",
        "a wooden hammer",
        "hammering on wood",
        "a hammer hitting a wooden block",
    ),
    "anvil": (
        "an anvil",
        "a metal hammer on an anvil",
        "metallic blows on an anvil",
        "a blacksmith at an anvil",
    ),
    "bouncing_ball": (
        "a bouncing ball",
        "a rubber ball",
        "a ball that bounces",
        "a rubber ball on the floor",
    ),
    "clap": ("hand claps", "clapping hands", "someone clapping", "two hands clapping"),
    "water_drip": ("dripping water", "water drops", "drops of water", "a dripping tap"),
    "glass": ("breaking glass", "shattering glass", "glass that breaks", "a glass breaking into shards"),
    "bell": ("a bell", "a ringing bell", "bell strokes", "the strokes of a bell"),
    "firework": ("fireworks", "exploding fireworks", "firework bursts", "bursts of fireworks"),
    "engine": ("an engine", "a running engine", "a machine", "a motor that runs"),
    "saw": ("a saw", "sawing wood", "a hand saw", "a saw in a log"),
    "rain": ("rain", "falling rain", "pouring rain", "rain on the ground"),
    "waves": ("sea waves", "ocean waves", "waves of the sea", "breaking waves"),
    "fan": ("a fan", "a spinning fan", "an electric fan", "the hum of a fan"),
}
"""Other words for SynthFoley's classes."""

FRAMES: tuple[str, ...] = (
    "{}",
    "the sound of {}",
    "the noise of {}",
    "we hear {}",
    "this sounds like {}",
    "{} can be heard",
    "make the sound of {}",
    "it should sound like {}",
)
"""Sentences around a thing that is heard."""

WITHOUT: tuple[str, ...] = ("", "", "", ", no music", ", nothing else")


def plain(label: str) -> str:
    """A label of any corpus as words: `hammer_wood` -> `hammer wood`."""
    return " ".join(label.replace("_", " ").replace("/", " ").split())


def reworded(label: str, text: str, rng: np.random.Generator) -> str:
    """The text, or the same in other words: half of the time as it is. One that is empty is made from the label."""
    if text and rng.random() < 0.5:
        return text
    things = THINGS.get(label, (plain(label),) if label else ())
    if not things:
        return text
    frame, thing = FRAMES[int(rng.integers(len(FRAMES)))], things[int(rng.integers(len(things)))]
    return frame.format(thing) + WITHOUT[int(rng.integers(len(WITHOUT)))]


def vocabulary() -> Iterator[str]:
    """Every frame, every thing, and every instruction: what a tokenizer must be able to write well."""
    yield from (frame.format("") for frame in FRAMES)
    yield from (thing for things in THINGS.values() for thing in things)
    yield from (text for text in WITHOUT if text)
    yield from INSTRUCTIONS


__all__: Sequence[str] = ["FRAMES", "THINGS", "plain", "reworded", "vocabulary"]

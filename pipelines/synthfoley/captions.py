"""Captions of SynthFoley scenes: plain sentences with adjectives that describe the events."""

from __future__ import annotations

import numpy as np

_NAMES = {
    "drum": (
        "{f} beats on a drum",
        "someone hits a drum with a stick, {l}",
        "a {l} drum being played, {f} hits",
    ),
    "hammer_wood": (
        "a {w} hammer hits a wooden block",
        "{f} {l} hammer blows on wood",
        "someone hammers on a block of wood, {l}",
    ),
    "anvil": (
        "a {w} hammer strikes an anvil",
        "a blacksmith hits an anvil, {l} and {f}",
        "{f} metallic hammer blows on an anvil with sparks",
    ),
    "bouncing_ball": (
        "a {w} ball bounces on the floor",
        "a rubber ball is dropped and bounces",
        "a bouncing ball hits the ground, {f} bounces",
    ),
    "clap": ("two hands clap, {f}", "someone claps {l}", "{l} hand claps"),
    "water_drip": (
        "water drips into a pool, {f}",
        "{f} drops of water fall from a tap",
        "a {w} water drip with ripples",
    ),
    "glass": (
        "glasses fall and shatter on the floor",
        "a {w} glass breaks into shards",
        "{l} breaking glass, {f} crashes",
    ),
    "bell": ("a {w} bell is struck", "a bell rings, {f} strokes", "{l} bell strokes ringing out"),
    "firework": ("fireworks explode in the sky", "{l} firework bursts, {f}", "{f} fireworks at night"),
    "engine": (
        "an engine with a turning wheel runs {s}",
        "a {s} running engine",
        "a machine engine turns {s}",
    ),
    "saw": (
        "a hand saw cuts a log with {s} strokes",
        "someone is sawing wood, {s}",
        "{s} sawing through a log",
    ),
    "rain": ("{h} rain falls", "it is raining, {h} rain on the ground", "{h} rain pouring down"),
    "waves": ("{h} waves roll in the sea", "sea waves swell and break, {h}", "{h} ocean waves"),
    "fan": ("an electric fan spins {s}", "a {s} spinning fan hums", "the blades of a fan turn {s}"),
}


def caption(label, events, params, rng: np.random.Generator, duration_s: float) -> str:
    """One sentence that names the class; its adjectives follow from size, mean strength and rate of the events."""
    mean = float(np.mean([e.strength for e in events])) if events else 0.5
    rate = len(events) / duration_s
    words = {
        "w": "heavy" if params["size"] > 0.6 else "light" if params["size"] < 0.35 else "plain",
        "l": "loud" if mean > 0.7 else "soft" if mean < 0.45 else "steady",
        "f": "fast" if rate > 1.25 else "slow" if rate < 0.7 else "repeated",
        "s": "fast" if mean > 0.65 else "slow" if mean < 0.4 else "steady",
        "h": "heavy" if mean > 0.65 else "light" if mean < 0.4 else "moderate",
    }
    text = _NAMES[label][int(rng.integers(len(_NAMES[label])))].format(**words)
    return text.replace("plain ", "").replace("a steady drum", "a drum")

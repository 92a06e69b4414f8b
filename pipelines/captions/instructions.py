"""Rows of a V2A instruction set (2411.05679, section 4): an instruction, and the caption of the sound.

The paper's captions were written by an audio-language model. Ours come from labels, events and existing texts, by
templates and synonyms. Pure functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.foley.captions import MANNERS, wordings
from v2a_models.vatt.instructions import INSTRUCTIONS

DRAWINGS: dict[str, tuple[str, ...]] = {
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
    "water_drip": ("dripping water", "water drops", "drops of water", "a dripping tap"),
    "firework": ("fireworks", "exploding fireworks", "firework bursts", "bursts of fireworks"),
    "engine": ("an engine", "a running engine", "a machine", "a motor that runs"),
    "saw": ("a saw", "sawing wood", "a hand saw", "a saw in a log"),
}
"""Synonyms of SynthFoley's classes that are no classes of sound of their own."""

THINGS: dict[str, tuple[str, ...]] = {label: words.names for label, words in wordings().items()} | DRAWINGS
"""Synonyms of the classes of sound, of silence, and of SynthFoley's classes."""

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
"""Sentence templates; the placeholder is the source of the sound."""

WITHOUT: tuple[str, ...] = ("", "", "", ", no music", ", nothing else")


def plain(label: str) -> str:
    """Label of any corpus in plain words: `hammer_wood` -> `hammer wood`."""
    return " ".join(label.replace("_", " ").replace("/", " ").split())


def reworded(label: str, text: str, rng: np.random.Generator) -> str:
    """Text unchanged in half of all cases, else paraphrased; an empty one is generated from the label."""
    if text and rng.random() < 0.5:
        return text
    things = THINGS.get(label, (plain(label),) if label else ())
    if not things:
        return text
    frame, thing = FRAMES[int(rng.integers(len(FRAMES)))], things[int(rng.integers(len(things)))]
    return frame.format(thing) + WITHOUT[int(rng.integers(len(WITHOUT)))]


TOKENS = 1600
"""Size of a tokenizer that has room for every word of `vocabulary`, and for some of other texts."""

ROW_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("instruction", pa.string()),
        ("caption", pa.string()),
        ("split", pa.string()),
        ("source", pa.string()),
    ]
)
"""Row of an instruction set. `source`: `text`, `label`, `events` or the captioning model's name."""


def counted(label: str, onsets_s: Sequence[float], length_s: float) -> str:
    """Number and rate of the events in a window, as text: `a drum, 4 times, fast`; empty without onsets."""
    if not onsets_s:
        return ""
    thing = THINGS.get(label, (plain(label),))[0]
    n, rate = len(onsets_s), len(onsets_s) / max(length_s, 1e-9)
    often = "once" if n == 1 else f"{n} times"
    pace = "fast" if rate > 1.25 else "slow" if rate < 0.7 else "repeated"
    return f"{thing}, {often}" + (f", {pace}" if n > 1 else "")


def clip_rows(
    clip: Mapping[str, Any],
    onsets_s: Sequence[float] | None,
    n: int,
    seed: int,
    written: Mapping[str, str] | None = None,
) -> list[dict[str, str]]:
    """At most `n` rows (ROW_SCHEMA) of one clip, with distinct captions.

    clip: clip_id, label, text, split, duration_s. onsets_s: onsets of its events in seconds from its start, or None.
    written: captions by the name of the model that wrote them. Random choices depend on (seed, clip_id) only, not on
    workers or order. A clip without label, text, events and written captions gives no rows.
    """
    label, text = str(clip["label"] or ""), " ".join(str(clip["text"] or "").split())
    digest = hashlib.sha256(f"{seed}/{clip['clip_id']}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    captions: dict[str, tuple[str, str]] = {}

    def add(caption: str, source: str) -> None:
        caption = " ".join(caption.split())
        if caption:
            captions.setdefault(caption.casefold().rstrip(" ."), (caption, source))

    add(text, "text")
    for model, caption in (written or {}).items():
        add(caption, model)
    if onsets_s is not None:
        add(counted(label, onsets_s, float(clip["duration_s"])), "events")
    for _ in range(8 * n):
        if len(captions) >= n or not label:
            break
        add(reworded(label, "", rng), "label")
    order = rng.permutation(len(INSTRUCTIONS))
    return [
        dict(
            clip_id=str(clip["clip_id"]), instruction=INSTRUCTIONS[order[at % len(order)]], caption=caption,
            split=str(clip["split"]), source=source,
        )
        for at, (caption, source) in enumerate(list(captions.values())[:n])
    ]  # fmt: skip


def check_splits(videos: Iterable[tuple[str, str]]) -> None:
    """Raises ValueError if any video, of pairs (video, split), is in several splits: training data would leak into the
    test split."""
    splits: dict[str, str] = {}
    both = sorted({video for video, split in videos if splits.setdefault(video, split) != split})
    if both:
        raise ValueError(
            f"{len(both)} videos are in more than one split, such as {', '.join(both[:3])}: extract a new store "
            "with one split per video"
        )


def vocabulary() -> Iterator[str]:
    """Every template, sentence, synonym and instruction, to train a tokenizer on."""
    yield from (frame.format("") for frame in FRAMES)
    yield from (thing for things in THINGS.values() for thing in things)
    yield from (sentence for words in wordings().values() for sentence in words.sentences)
    yield from MANNERS
    yield from (text for text in WITHOUT if text)
    yield from INSTRUCTIONS

"""Checks of a store's small columns and metadata; each answers with problems in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.store.store import SPLITS

NAMES_LISTED = 3
"""Number of names that a message lists."""


def repeated_clips(clip_ids: Sequence[pa.Array]) -> list[str]:
    """Problem of clips that are in the store more than once; empty if there are none."""
    counts = pa.chunked_array(list(clip_ids), pa.string()).value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if not repeated:
        return []
    clips_are = "clip is" if len(repeated) == 1 else "clips are"
    return [
        f"{len(repeated)} {clips_are} found more than once ({_few(sorted(repeated))}): two runs wrote at once, "
        "or files were copied in"
    ]


def in_two_splits(videos: Mapping[str, pa.Array]) -> list[str]:
    """Problems of files with windows in two splits, so that tests would use training data."""
    problems = []
    names = [name for name in SPLITS if name in videos]
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            shared = videos[one].filter(pc.is_in(videos[one], value_set=videos[other])).to_pylist()
            if shared:
                videos_have = "video has" if len(shared) == 1 else "videos have"
                problems.append(
                    f"{len(shared)} {videos_have} windows in both {one} and {other} ({_few(sorted(shared))})"
                )
    return problems


def recipe_problems(path: str, kind: pa.Schema, recipe: Mapping[str, Any]) -> list[str]:
    """Problems with the recipe in a file's metadata: missing, damaged, or not the store's."""
    text = (kind.metadata or {}).get(b"v2a_recipe")
    if text is None:
        return [f"{path}: no recipe in its metadata"]
    try:
        embedded = json.loads(text)
        if embedded == recipe:
            return []
        names = sorted(name for name in {*embedded, *recipe} if embedded.get(name) != recipe.get(name))
    except (ValueError, TypeError, AttributeError):
        return [f"{path}: the recipe in its metadata is damaged"]
    return [f"{path}: made with another recipe (differs in {', '.join(names)})"]


def _few(values: Sequence[str]) -> str:
    more = ", ..." if len(values) > NAMES_LISTED else ""
    return ", ".join(values[:NAMES_LISTED]) + more

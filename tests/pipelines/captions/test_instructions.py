"""Instruction rows: templates, other words, and what keeps a set sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.instructions import (
    THINGS,
    check_splits,
    clip_rows,
    counted,
    named,
    plain,
    reworded,
    vocabulary,
)
from pipelines.synthfoley import CLASSES, make_scene
from v2a_models.vatt.instructions import INSTRUCTIONS
from v2a_models.vatt.language import encode, own_tokenizer, train_tokenizer

CLIP = dict(clip_id="a", label="drum", text="Someone beats a drum.", split="val", duration_s=4.0)


@given(st.sampled_from([*CLASSES, "dog barking", ""]), st.sampled_from(["", "A drum."]), st.integers(1, 12))
def test_rows_of_a_clip_are_different_and_keep_its_split(label: str, text: str, n: int) -> None:
    rows = clip_rows(CLIP | {"label": label, "text": text}, None, n, seed=0)
    assert bool(rows) == bool(label or text) and len(rows) <= n
    captions = [row["caption"].casefold().rstrip(" .") for row in rows]
    assert len(set(captions)) == len(captions)
    assert all(row["split"] == "val" and row["instruction"] in INSTRUCTIONS for row in rows)
    assert rows == clip_rows(CLIP | {"label": label, "text": text}, None, n, seed=0)


def test_every_source_is_used_and_named() -> None:
    rows = clip_rows(CLIP, [0.5, 1.5, 2.5], 6, 0, {"vatt-mini": "a loud drum"})
    assert {row["source"] for row in rows} == {"text", "vatt-mini", "events", "label"}
    assert rows[0]["caption"] == CLIP["text"] and len(rows) == 6
    # What a model says in the same words again is no second caption.
    again = clip_rows(CLIP, None, 3, 0, {"vatt-mini": "someone beats a drum"})
    assert [row["source"] for row in again].count("vatt-mini") == 0


def test_events_are_counted() -> None:
    assert counted("drum", [0.1, 0.5, 0.9, 1.3, 2.0, 3.0], 4.0) == "a drum, 6 times, fast"
    assert counted("drum", [0.1], 4.0) == "a drum, once" and counted("drum", [], 4.0) == ""
    assert counted("dog_barking", [1, 2], 4.0) == "dog barking, 2 times, slow"


def test_other_words_never_name_another_class() -> None:
    rng = np.random.default_rng(0)
    only = {"drum": "drum", "anvil": "anvil|metal", "rain": "rain", "bell": "bell", "glass": "glass"}
    for label, words in only.items():
        for _ in range(30):
            assert any(word in reworded(label, "", rng) for word in words.split("|"))
    assert set(THINGS) == set(CLASSES) and plain("hammer_wood") == "hammer wood"


def test_the_small_tokenizer_knows_every_word_of_the_templates() -> None:
    tokenizer = own_tokenizer(train_tokenizer(vocabulary(), 640))
    words = {word.strip(",") for text in vocabulary() for word in text.split()}
    split = [word for word in words if len(encode(tokenizer, [word], 99)[0]) > 2]
    assert len(split) < 0.1 * len(words)


def test_a_video_in_two_splits_is_told() -> None:
    check_splits([("a", "train"), ("a", "train"), ("b", "test")])
    with pytest.raises(ValueError, match="such as a: extract"):
        check_splits([("a", "train"), ("a", "test")])


@given(st.integers(0, 2000), st.sampled_from(CLASSES), st.integers(0, 99))
def test_a_class_is_known_by_its_captions_in_any_words(index: int, label: str, seed: int) -> None:
    assert named(make_scene(9, index, 4.0, label=label).caption) == label
    assert named(reworded(label, "", np.random.default_rng(seed))) == label
    assert named("nothing at all") is None

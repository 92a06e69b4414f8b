"""Instruction rows: templates, other words, and what keeps a set sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.instructions import (
    THINGS,
    TOKENS,
    check_splits,
    clip_rows,
    counted,
    plain,
    reworded,
    vocabulary,
)
from pipelines.foley.captions import MANNERS, caption, label_in, wordings
from pipelines.foley.corpus import DRAWN, LABELS
from pipelines.foley.scene import FoleyScene
from pipelines.synthfoley import CLASSES
from pipelines.synthfoley.physics import Event
from v2a_models.vatt.instructions import INSTRUCTIONS
from v2a_models.vatt.language import encode, own_tokenizer, train_tokenizer

CLIP = dict(clip_id="a", label="drum", text="Someone beats a drum.", split="val", duration_s=4.0)


@given(
    st.sampled_from([*CLASSES, *LABELS, "dog barking", ""]),
    st.sampled_from(["", "A drum."]),
    st.integers(1, 12),
)
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


@given(st.sampled_from([*CLASSES, *LABELS]), st.integers(0, 99))
def test_other_words_never_name_another_class(label: str, seed: int) -> None:
    text = reworded(label, "", np.random.default_rng(seed))
    assert label_in(text) == DRAWN.get(label, label)


def test_every_class_has_names() -> None:
    assert set(THINGS) == {*CLASSES, *LABELS} and plain("hammer_wood") == "hammer wood"


def test_the_small_tokenizer_knows_the_words_of_captions() -> None:
    tokenizer = own_tokenizer(train_tokenizer(vocabulary(), TOKENS))
    known = [text for said in wordings().values() for text in said.sentences + said.names]
    words = {word for text in [*known, *MANNERS, *INSTRUCTIONS] for word in text.split()}
    split = [word for word in words if len(encode(tokenizer, [word], 99)[0]) > 2]
    assert len(split) < 0.02 * len(words)
    # Every caption fits into what the small converter reads, however it is put.
    rng = np.random.default_rng(0)
    for label, said in wordings().items():
        scene = FoleyScene(0, 0, "train", 4.0, label, "", (Event(1.0, 1.0, label),) * 3, (), np.zeros(402))
        texts = [caption(scene, rng, 0.0, 4.0) for _ in range(20)] + [
            reworded(label, "", rng) for _ in range(20)
        ]
        assert all(len(ids) <= 32 for ids in encode(tokenizer, [*texts, *said.sentences], 99))


def test_a_video_in_two_splits_is_told() -> None:
    check_splits([("a", "train"), ("a", "train"), ("b", "test")])
    with pytest.raises(ValueError, match="such as a: extract"):
        check_splits([("a", "train"), ("a", "test")])

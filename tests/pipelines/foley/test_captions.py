"""Captions of Foley scenes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.foley.captions import MANNERS, caption, label_in, manner_of, wordings
from pipelines.foley.corpus import DRAWN, LABELS
from pipelines.foley.recordings import Library
from pipelines.foley.scene import QUIET, FoleyScene, make_scene
from pipelines.synthfoley import CLASSES
from pipelines.synthfoley import make_scene as make_drawing
from pipelines.synthfoley.physics import Event


def test_every_class_has_captions_that_name_it() -> None:
    assert tuple(wordings()) == LABELS
    for label, words in wordings().items():
        assert len(words.sentences) >= 4 and len(words.names) >= 4
        wrong = {text: label_in(text) for text in words.sentences + words.names if label_in(text) != label}
        assert not wrong, label


def test_no_sentence_belongs_to_two_classes() -> None:
    texts = [text for words in wordings().values() for text in {*words.sentences, *words.names}]
    assert len(set(texts)) == len(texts)


@given(st.integers(0, 2000), st.sampled_from(CLASSES))
def test_captions_of_drawings_name_their_class_of_sound(index: int, label: str) -> None:
    assert label_in(make_drawing(9, index, 4.0, label=label).caption) == DRAWN[label]


def test_what_names_nothing_known_is_none() -> None:
    assert label_in("a unicorn neighs") is None and label_in("") is None
    assert label_in("a dog barks, no music, nothing else") == "dog"


def test_captions_name_what_is_heard(library: Library) -> None:
    rng = np.random.default_rng(0)
    for index in range(60):
        scene = make_scene(library, 4, index)
        said = {caption(scene, rng, 0.0, scene.duration_s) for _ in range(20)}
        assert {label_in(text) for text in said} == {scene.label} and len(said) > 2
        manners = {text.partition(", ")[2] for text in said} - {""}
        assert manners <= {*MANNERS} and len(manners) <= 1


def scene_of(label: str, onsets_s: list[float], curve: np.ndarray | None = None) -> FoleyScene:
    events = tuple(Event(t, 1.0, label) for t in onsets_s)
    level = np.ones(802) if curve is None else curve
    return FoleyScene(0, 0, "train", 8.0, label, "", events, (), level)


@pytest.mark.parametrize(
    ("onsets_s", "words"),
    [([1.0], "once"), ([1.0, 2.0], "twice"), ([0.1 * k for k in range(20)], "fast"),
     ([0.4 * k for k in range(6)], "again and again"), ([5.0], "")],
)  # fmt: skip
def test_events_of_the_stretch_are_counted(onsets_s: list[float], words: str) -> None:
    assert manner_of(scene_of("dog", onsets_s), 0.0, 4.0) == words


@pytest.mark.parametrize(
    ("curve", "words"),
    [(np.ones(802), ""), (np.linspace(0.1, 1, 802), "louder and louder"), (np.linspace(1, 0.1, 802), "fading away"),
     (np.r_[np.ones(300), np.zeros(200), np.ones(302)], "with a pause"), (np.zeros(802), "")],
)  # fmt: skip
def test_the_course_of_a_sound_that_goes_on(curve: np.ndarray, words: str) -> None:
    assert manner_of(scene_of("rain", [], curve), 0.0, 8.0) == words


def test_of_silence_there_is_no_course() -> None:
    assert manner_of(scene_of(QUIET, []), 0.0, 4.0) == ""

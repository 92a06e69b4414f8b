"""Foley scenes: labels, events and levels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipelines.foley.recordings import Library, foley_classes
from pipelines.foley.scene import QUIET, label_of, make_scene


def test_a_scene_depends_on_seed_and_index_alone(library: Library) -> None:
    first, again = make_scene(library, 3, 5), make_scene(library, 3, 5)
    assert first == again and np.array_equal(first.curve, again.curve)
    assert make_scene(library, 4, 5) != first and make_scene(library, 3, 6) != first


def test_each_block_holds_every_class(library: Library) -> None:
    labels = library.labels
    n = len(labels) + len(labels) // 12
    counts = Counter(label_of(library, 1, index) for index in range(n, 2 * n))
    assert {label for label in counts if label != QUIET} == set(labels)
    assert all(counts[label] == 1 for label in labels) and counts[QUIET] == len(labels) // 12


def test_events_are_the_attacks_of_what_is_laid_down(library: Library) -> None:
    for index in range(20):
        scene = make_scene(library, 0, index, label="dog")
        assert not scene.goes_on and scene.events
        attacks = np.array([p.at_s + a / p.speed for p in scene.placed for a in p.recording.onsets_s])
        times = [event.onset_s for event in scene.events]
        assert times == sorted(times) and min(np.diff(times), default=1.0) > 0.07
        assert all(np.abs(attacks - t).min() < 1e-6 for t in times)
        assert all(
            0 < t < scene.duration_s and 0 < e.strength <= 1 for t, e in zip(times, scene.events, strict=True)
        )


@pytest.mark.parametrize("label", ["stream", "fan", "car", "waves"])
def test_what_goes_on_has_a_level(library: Library, label: str) -> None:
    curves = [make_scene(library, 0, index, label=label) for index in range(12)]
    assert all(scene.goes_on and not scene.events for scene in curves)
    assert all(scene.curve.min() >= 0 and scene.curve.max() <= 1.0001 for scene in curves)
    assert all(scene.phase(8.0) == pytest.approx(scene.curve[:800].mean() * 8, rel=0.02) for scene in curves)
    assert len({float(scene.curve.std().round(3)) for scene in curves}) > 3


def test_splits_take_their_own_sessions(library: Library) -> None:
    for index in range(40):
        scene = make_scene(library, 0, index, label="dog")
        held_out = {placed.recording.held_out for placed in scene.placed}
        assert held_out == {scene.split != "train"}


def test_in_a_quiet_scene_nothing_happens(library: Library) -> None:
    scene = make_scene(library, 0, 0, label=QUIET)
    assert not scene.events and not scene.placed and not scene.goes_on and scene.bed


def test_an_unknown_label_is_refused(library: Library) -> None:
    with pytest.raises(ValueError, match="violin"):
        make_scene(library, 0, 0, label="violin")


def test_regular_classes_keep_time(library: Library) -> None:
    spread = []
    for index in range(15):
        times = [e.onset_s for e in make_scene(library, 2, index, label="footsteps").events]
        gaps = np.diff(times)
        if len(gaps) > 4:
            spread.append(float(np.median(np.abs(gaps - np.median(gaps))) / np.median(gaps)))
    assert foley_classes()["footsteps"].regular and np.median(spread) < 0.1

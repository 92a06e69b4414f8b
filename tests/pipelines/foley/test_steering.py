"""Foley scenes that are seen as one thing and heard as another."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import synthfoley
from pipelines.foley.corpus import DRAWN, LABELS
from pipelines.foley.mix import render_sound
from pipelines.foley.recordings import Library, foley_classes
from pipelines.foley.scene import QUIET, make_scene
from pipelines.foley.steering import of_drawing, others_of, sounding_like
from v2a_models.metrics.onsets import onsets


def struck(library: Library, events: bool = True) -> list[str]:
    return [label for label in library.labels if foley_classes()[label].has_events == events]


def test_events_stay_where_they_are_in_the_sound_of_every_class(library: Library) -> None:
    scene = make_scene(library, 3, 2, label="dog")
    for label in struck(library):
        other = sounding_like(library, scene, label)
        assert [(e.onset_s, e.strength) for e in other.events] == [
            (e.onset_s, e.strength) for e in scene.events
        ]
        assert {event.label for event in other.events} == {label} == {other.label}
        attacks = [p.at_s + p.recording.onsets_s[0] / p.speed for p in other.placed]
        assert attacks == pytest.approx([e.onset_s for e in scene.events])
        # One attack each: a second one would sound where nothing is seen.
        assert all(len(p.recording.onsets_s) == 1 and p.recording.label == label for p in other.placed)
        assert {p.recording.held_out for p in other.placed} <= {False, scene.split != "train"}


def test_other_sounds_are_heard_when_the_events_are(library: Library) -> None:
    found = total = 0
    for index in range(6):
        scene = make_scene(library, 1, index, label="dog")
        for label in ("hammer", "metal", "drum"):
            heard = onsets(render_sound(library, sounding_like(library, scene, label)), rise_db=4.0)
            strong = [e.onset_s for e in scene.events if e.strength > 0.3]
            total += len(strong)
            found += sum(bool(len(heard)) and np.abs(heard - t).min() < 0.03 for t in strong)
    assert found / total > 0.75


def test_a_recording_of_several_attacks_is_cut_before_the_second(library: Library) -> None:
    [twice] = [item for item in library.of("dog", "train") if len(item.onsets_s) > 1]
    only = Library(library.samples, [item for item in library.recordings if item.label != "dog"] + [twice])
    scene = make_scene(library, 1, 0, label="drum")
    other = sounding_like(only, scene, "dog")
    assert other.placed and all(
        p.recording.length / 44_100 < twice.onsets_s[1] and p.fade_s > 0 for p in other.placed
    )


def test_what_goes_on_keeps_its_level_and_replaces_events_evenly(library: Library) -> None:
    waves, dog = make_scene(library, 0, 4, label="waves"), make_scene(library, 0, 4, label="dog")
    for label in struck(library, events=False):
        other = sounding_like(library, waves, label)
        assert np.array_equal(other.curve, waves.curve) and (other.goes_on or label == "waves")
        even = sounding_like(library, dog, label)
        assert even.goes_on and not even.events and np.ptp(even.curve) == 0
    with pytest.raises(ValueError, match="waves cannot sound like dog"):
        sounding_like(library, waves, "dog")
    with pytest.raises(ValueError, match="violin"):
        sounding_like(library, waves, "violin")


def test_nothing_can_be_asked_for(library: Library) -> None:
    scene = make_scene(library, 0, 3, label="metal")
    quiet = sounding_like(library, scene, QUIET)
    assert not quiet.events and not quiet.placed and not quiet.goes_on
    assert np.abs(render_sound(library, quiet)).max() < 0.1 < np.abs(render_sound(library, scene)).max()


def test_a_scene_sounds_like_itself_and_the_place_stays(library: Library) -> None:
    scene = make_scene(library, 0, 6, label="metal")
    assert sounding_like(library, scene, "metal") is scene
    other = sounding_like(library, scene, "hammer")
    assert (other.bed, other.actor, other.split) == (scene.bed, scene.actor, scene.split)
    assert other == sounding_like(library, scene, "hammer")


def test_others_are_classes_that_the_scene_can_sound_like(library: Library) -> None:
    kinds = set()
    for index in range(60):
        scene = make_scene(library, 2, index)
        labels = others_of(library, scene, 3)
        assert len(set(labels)) == 3 and scene.label not in labels and set(labels) <= set(LABELS)
        assert labels == others_of(library, scene, 3)
        heard = [sounding_like(library, scene, label) for label in labels]
        kinds |= {(bool(scene.events), bool(other.events), other.label == QUIET) for other in heard}
    assert {(True, True, False), (True, False, False), (False, False, False), (True, False, True)} <= kinds
    with pytest.raises(ValueError, match="other classes"):
        others_of(library, make_scene(library, 2, 0), 50)


@pytest.mark.parametrize("label", ["anvil", "engine"])
def test_drawings_can_sound_like_recordings(library: Library, label: str) -> None:
    drawn = synthfoley.make_scene(1, 5, 6.0, label=label)
    scene = of_drawing(drawn)
    assert scene.label == DRAWN[label] and scene.goes_on == (label == "engine")
    if label == "anvil":
        assert scene.events == drawn.events
    else:
        level = synthfoley.physics.curve_at(drawn, "level", np.array([1.0, 3.0]))
        assert [scene.level(1.0), scene.level(3.0)] == pytest.approx(list(level), abs=0.01)
    other = sounding_like(library, scene, others_of(library, scene, 1)[0])
    assert render_sound(library, other).shape == (6 * 44_100,)

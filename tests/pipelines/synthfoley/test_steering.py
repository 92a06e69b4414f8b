"""Drawn scenes that are seen as one class and heard as another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import synthfoley
from pipelines.synthfoley.steering import others_of, resounded


@settings(max_examples=15)
@given(st.integers(0, 300), st.integers(1, 8))
def test_events_stay_where_they_are_and_the_sound_is_anothers(index: int, n: int) -> None:
    scene = synthfoley.make_scene(3, index, 4.0)
    labels = others_of(scene, n)
    kind = synthfoley.IMPACTS if scene.label in synthfoley.IMPACTS else synthfoley.CONTINUOUS
    assert len(set(labels)) == min(n, len(kind) - 1) and scene.label not in labels
    other = resounded(scene, labels[0])
    moments = lambda s: [(e.onset_s, e.strength) for e in s.events]  # noqa: E731
    assert moments(other) == moments(scene) and other.label == labels[0]
    assert other.caption == resounded(scene, labels[0]).caption
    assert not np.array_equal(synthfoley.render_sound(other), synthfoley.render_sound(scene))


def test_struck_things_cannot_go_on() -> None:
    scene = synthfoley.make_scene(3, 0, 4.0, label="drum")
    with pytest.raises(ValueError, match="drum cannot sound like rain"):
        resounded(scene, "rain")
    with pytest.raises(ValueError, match="choose one of drum"):
        resounded(scene, "piano")

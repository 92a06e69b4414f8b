"""Scenes that are seen as one class and heard as another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import synthfoley
from pipelines.synthfoley.steering_corpus import (
    BLOCK,
    SteerConfig,
    caption_of,
    load_steering,
    others_of,
    render_steering,
    resounded,
)


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


def test_a_caption_is_about_its_stretch() -> None:
    scene = synthfoley.make_scene(3, 0, 8.0, label="rain")
    words = {
        caption_of(scene, np.random.default_rng(k), start, 2.0) for k in range(8) for start in (0.0, 6.0)
    }
    assert len(words) > 2 and all("rain" in text for text in words)


def test_struck_things_cannot_go_on() -> None:
    scene = synthfoley.make_scene(3, 0, 4.0, label="drum")
    with pytest.raises(ValueError, match="drum cannot sound like rain"):
        resounded(scene, "rain")
    with pytest.raises(ValueError, match="choose one of drum"):
        resounded(scene, "piano")


def test_blocks_are_made_once_and_hold_what_the_encoders_give(tmp_path: Path) -> None:
    config = SteerConfig(blocks=1, seconds=1.5, others=1)
    render_steering(tmp_path, config, "mini", lambda text: None)
    before = (tmp_path / "0000.npz").stat().st_mtime_ns
    render_steering(tmp_path, config, "mini", lambda text: None)
    assert (tmp_path / "0000.npz").stat().st_mtime_ns == before
    (block,) = load_steering(tmp_path, config)
    assert block.semantic.shape == (BLOCK, 12, 128) and block.sync.shape == (BLOCK, 38, 128)
    assert block.codes.shape == (BLOCK, 2, 4, 130)
    assert all(own.label != other.label for own, other in block.scenes)
    heard = np.array([bool(sounds[0].events) for sounds in block.scenes])
    assert heard.any()
    assert (block.codes[heard, 0] != block.codes[heard, 1]).any((1, 2)).all()
    with pytest.raises(ValueError, match="another corpus"):
        render_steering(tmp_path, SteerConfig(blocks=1, seconds=2.0), "mini")

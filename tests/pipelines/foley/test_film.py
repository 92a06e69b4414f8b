"""Pictures of Foley scenes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.foley import film
from pipelines.foley.film import Film, film_of, render_frames
from pipelines.foley.recordings import Library
from pipelines.foley.scene import FoleyScene, make_scene

TIMES = np.arange(75) / 25


def clean(scene: FoleyScene, fps: float = 25.0) -> Film:
    """A tripod and a clean film."""
    return replace(film_of(scene), fps=fps, shake=0, pan=(0, 0), zoom=(1, 0), grain=0, flicker=0, scratches=False,
                   grey=False, gamma=1, contrast=1, blur=0, bars=0, front=False)  # fmt: skip


def test_frames_are_the_same_each_time_and_of_the_size_asked_for(library: Library) -> None:
    for index in range(10):
        scene = make_scene(library, 0, index, 3.0)
        frames = render_frames(scene, TIMES, 48)
        assert frames.shape == (75, 48, 48, 3) and frames.dtype == np.uint8
        assert np.array_equal(frames, render_frames(scene, TIMES, 48))


def test_a_film_of_few_frames_shows_each_for_longer(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene(library, 0, 1, 3.0, label="fan")
    monkeypatch.setattr(film, "film_of", lambda scene: clean(scene, 5.0))
    frames = render_frames(scene, TIMES)
    assert all(np.array_equal(frames[5 * k], frames[5 * k + 4]) for k in range(15))
    assert np.abs(frames[4].astype(int) - frames[5]).max() > 0


def test_a_flash_lights_the_picture_at_the_event(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "film_of", clean)
    monkeypatch.setattr(film, "_silent_movers", lambda scene: [])
    scene = replace(make_scene(library, 0, 3, 3.0, label="explosion"), seen=True)
    onset = scene.events[0].onset_s
    light = render_frames(scene, TIMES).mean((1, 2, 3))
    before, after = int(np.floor(onset * 25)), int(np.ceil(onset * 25))
    assert light[after] > light[before] + 5


def test_what_is_not_seen_is_not_drawn(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "film_of", clean)
    monkeypatch.setattr(film, "_silent_movers", lambda scene: [])
    scene = replace(make_scene(library, 0, 3, 3.0, label="fan"), seen=False)
    assert np.ptp(render_frames(scene, TIMES).astype(int), axis=0).max() <= 1


def test_films_differ(library: Library) -> None:
    films = [film_of(make_scene(library, 0, index, 2.0)) for index in range(120)]
    assert len({item.fps for item in films}) > 5
    assert 0.05 < np.mean([item.scratches for item in films]) < 0.3
    assert 0.2 < np.mean([item.shake > 0 for item in films]) < 0.6

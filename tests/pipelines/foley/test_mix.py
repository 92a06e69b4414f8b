"""Sound of Foley scenes."""

from __future__ import annotations

import numpy as np

from pipelines.foley.mix import EVENT_PEAK_DB, render_sound
from pipelines.foley.recordings import Library
from pipelines.foley.scene import QUIET, make_scene
from v2a_models.metrics.onsets import onsets


def level_db(wave: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(wave**2)) + 1e-9))


def test_sound_has_the_scenes_length_and_is_the_same_each_time(library: Library) -> None:
    for index in range(12):
        scene = make_scene(library, 0, index, 3.0)
        sound = render_sound(library, scene)
        assert sound.shape == (3 * 44_100,) and sound.dtype == np.float32
        assert np.isfinite(sound).all() and np.abs(sound).max() <= 0.951
        assert np.array_equal(sound, render_sound(library, scene))


def test_events_are_heard_when_they_are_due(library: Library) -> None:
    found = total = 0
    for index in range(10):
        scene = make_scene(library, 0, index, label="dog")
        heard = onsets(render_sound(library, scene), rise_db=4.0)
        strong = [e.onset_s for e in scene.events if e.strength > 0.3]
        total += len(strong)
        found += sum(bool(len(heard)) and np.abs(heard - t).min() < 0.03 for t in strong)
    assert found / total > 0.8


def test_levels_are_sensible(library: Library) -> None:
    for index in range(8):
        loud = render_sound(library, make_scene(library, 0, index, label="dog"))
        assert 10 ** (EVENT_PEAK_DB[0] / 20) * 0.95 < np.abs(loud).max() <= 0.951
        steady = render_sound(library, make_scene(library, 0, index, label="stream"))
        assert -45 < level_db(steady) < -12
        assert -75 < level_db(render_sound(library, make_scene(library, 0, index, label=QUIET))) < -30


def test_what_goes_on_is_as_loud_as_it_is_seen(library: Library) -> None:
    corners = []
    for index in range(20):
        scene = make_scene(library, 5, index, label="waves")
        sound = render_sound(library, scene)
        levels = [level_db(sound[k * 44_100 : (k + 1) * 44_100]) for k in range(8)]
        seen = [scene.curve[k * 100 : (k + 1) * 100].mean() for k in range(8)]
        if np.ptp(seen) > 0.3:
            corners.append(np.corrcoef(levels, seen)[0, 1])
    assert len(corners) > 3 and np.median(corners) > 0.6

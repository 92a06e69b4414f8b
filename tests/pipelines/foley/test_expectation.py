"""Sampled answers of an image classifier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.foley.expectation import Answers, Confusion
from pipelines.foley.recordings import Library
from pipelines.foley.scene import QUIET, make_scene
from v2a_models.encoders.efficientnet import imagenet_sounds
from v2a_models.encoders.sound_classes import SOUND_CLASSES


@pytest.fixture(scope="module")
def classifier() -> torch.Tensor:
    return torch.randn(1000, 256, generator=torch.Generator().manual_seed(0))


def strongest(features: np.ndarray) -> str:
    return SOUND_CLASSES[int((features[:, 1:] ** 2).mean(0).argmax())]


def test_answers_are_unit_vectors_and_repeatable(library: Library, classifier: torch.Tensor) -> None:
    sampler = Answers(classifier, imagenet_sounds())
    scene = make_scene(library, 0, 0, label="dog")
    drawn = sampler.draw(scene, 20, np.random.default_rng(1))
    assert drawn.shape == (20, 1 + len(SOUND_CLASSES))
    assert np.allclose((drawn**2).sum(1), 1, atol=1e-4)
    assert np.array_equal(drawn, sampler.draw(scene, 20, np.random.default_rng(1)))
    assert not np.array_equal(drawn, sampler.draw(scene, 20, np.random.default_rng(2)))


def test_a_clear_picture_shows_what_sounds_most_of_the_time(
    library: Library, classifier: torch.Tensor
) -> None:
    sampler = Answers(classifier, imagenet_sounds(), Confusion(clear=1.0))
    for label in ("dog", "waves", "car"):
        scene = replace(make_scene(library, 0, 0, label=label), seen=True)
        right = [strongest(sampler.draw(scene, 8, np.random.default_rng(k))) == label for k in range(40)]
        assert np.mean(right) > 0.6


def test_what_is_not_seen_is_not_known(library: Library, classifier: torch.Tensor) -> None:
    sampler = Answers(classifier, imagenet_sounds(), Confusion(clear=1.0))
    scene = replace(make_scene(library, 0, 0, label="car"), seen=False)
    assert (
        np.mean([strongest(sampler.draw(scene, 8, np.random.default_rng(k))) == "car" for k in range(40)])
        < 0.3
    )


def test_a_quiet_scene_shows_what_does_not_sound(library: Library, classifier: torch.Tensor) -> None:
    sampler = Answers(classifier, imagenet_sounds(), Confusion(clear=1.0))
    scene = make_scene(library, 0, 0, label=QUIET)
    nothing = [float((sampler.draw(scene, 8, np.random.default_rng(k))[:, 0] ** 2).mean()) for k in range(30)]
    assert np.median(nothing) > 0.5


def test_frames_change_slowly(library: Library, classifier: torch.Tensor) -> None:
    sampler = Answers(classifier, imagenet_sounds())
    drawn = sampler.draw(make_scene(library, 0, 0, label="dog"), 40, np.random.default_rng(0))
    steps = np.abs(np.diff(drawn, axis=0)).mean()
    apart = np.abs(drawn[:20] - drawn[20:]).mean()
    assert 0 < steps < apart

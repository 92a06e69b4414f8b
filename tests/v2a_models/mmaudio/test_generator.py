"""MMAudio as a generator: features, sound, seeds, prompts and the length of windows."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.filled_weights import filled
from v2a_models import build
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_generator, save_generator
from v2a_models.checkpoint_files import CheckpointError, read_config, writes_captions
from v2a_models.codec.level import OutputLevel
from v2a_models.mmaudio.config import SOUND_16K, SOUND_44K, SoundConfig, tiny
from v2a_models.mmaudio.generator import MMAudioGenerator, recipe_for
from v2a_models.recipe import Recipe


def generator(sound: SoundConfig = SOUND_16K, window_s: float = 1.0) -> MMAudioGenerator:
    settings = tiny(sound)
    network = MMAudioGenerator(recipe_for(settings, window_s=window_s), settings)
    return filled(network)  # type: ignore[return-value]


@functools.cache
def small() -> MMAudioGenerator:
    return generator()


def frames(rows: int, window_s: float = 1.0, seed: int = 0) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    sizes = dict(semantic=(8, 60), sync=(25, 224))
    return {
        name: torch.randint(
            0, 256, (rows, -int(-window_s * fps // 1), side, side, 3), generator=noise, dtype=torch.uint8
        )
        for name, (fps, side) in sizes.items()
    }


@functools.cache
def features(rows: int = 3) -> Batch:
    return small().features(frames(rows))


def row(batch: Batch, k: int) -> Batch:
    assert batch.semantic is not None and batch.sync is not None
    return Batch(semantic=batch.semantic[k : k + 1], sync=batch.sync[k : k + 1])


@pytest.mark.parametrize(("sound", "window_s"), [(SOUND_16K, 0.64), (SOUND_16K, 1.5), (SOUND_44K, 1.0)])
def test_sound_is_as_long_as_the_window(sound: SoundConfig, window_s: float) -> None:
    network = generator(sound, window_s)
    wave = network.generate_from_frames(frames(1, window_s), [7])
    assert wave.shape == (1, 1, round(window_s * sound.sample_rate)) and wave.dtype == torch.float32
    assert float(wave.std()) > 1e-3 and float(wave.abs().max()) <= 1


def test_a_row_depends_on_its_own_pictures_prompt_and_seed_only() -> None:
    network, batch = small(), features()
    prompts, seeds = ["rain", "a dog", ""], [5, 6, 7]
    together = network.generate(batch, seeds=seeds, prompts=prompts, negative=["", "music", "wind"])
    for k, negative in enumerate(["", "music", "wind"]):
        alone = network.generate(row(batch, k), seeds=[seeds[k]], prompts=prompts[k], negative=negative)
        assert torch.allclose(alone[0], together[k], atol=2e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [dict(seeds=[2]), dict(prompts="rain"), dict(negative="rain"), dict(guidance=2.0), dict(steps=3)],
)
def test_everything_that_is_asked_for_is_heard(change: dict[str, Any]) -> None:
    network, batch = small(), row(features(), 0)
    before = network.generate(batch, seeds=[1])
    after = network.generate(batch, **{"seeds": [1], **change})
    assert float((before - after).abs().max()) > 1e-4


def test_pictures_are_heard_and_silence_of_prompts_is_the_empty_prompt() -> None:
    network = small()
    one, other = (network.generate(row(features(), k), seeds=[1]) for k in (0, 1))
    assert float((one - other).abs().max()) > 1e-4
    assert torch.equal(one, network.generate(row(features(), 0), seeds=[1], prompts="", negative=""))
    stored = replace(row(features(), 0), text=["rain"])
    assert torch.equal(
        network.generate(stored, seeds=[1]),
        network.generate(row(features(), 0), seeds=[1], prompts=["rain"]),
    )


def test_text_alone_makes_sound() -> None:
    wave = small().generate(Batch(text=["rain", "wind"]), seeds=[1, 1])
    assert wave.shape == (2, 1, 16_000) and not torch.equal(wave[0], wave[1])


def test_what_cannot_be_made_is_explained() -> None:
    network, batch = small(), features()
    with pytest.raises(ValueError, match="8 CLIP and 16 sync features, not"):
        network.generate(Batch(semantic=batch.semantic[:, :5], sync=batch.sync), seeds=[1, 2, 3])
    with pytest.raises(ValueError, match="as many prompts"):
        network.generate(batch, seeds=[1, 2, 3], prompts=["rain", "wind"])
    with pytest.raises(ValueError, match="rank candidates"):
        network.generate(batch, seeds=[1, 2, 3], candidates=2)
    with pytest.raises(ValueError, match="guidance above 1"):
        network.generate(batch, seeds=[1, 2, 3], guidance=1.0, negative="music")
    with pytest.raises(ValueError, match="shorten it"):
        network.check_prompt("music " * 90)
    with pytest.raises(ValueError, match="cannot be trained yet"):
        network.task()
    with pytest.raises(ValueError, match="cannot be trained yet"):
        build.new_generator("mmaudio", network.recipe)
    with pytest.raises(ValueError, match=r"at least 0\.64"):
        recipe_for(tiny(), window_s=0.5)
    with pytest.raises(ValueError, match="semantic is"):
        MMAudioGenerator(Recipe("other"), tiny())
    with pytest.raises(ValueError, match="sample_rate is"):
        MMAudioGenerator(replace(network.recipe, sample_rate=44_100), tiny())


def test_another_length_of_windows_keeps_the_weights() -> None:
    network = generator()
    sounds = [network.with_options(window_s=window_s, steps=1) for window_s in (1.0, 2.4)]
    assert sounds[0] is sounds[1] and network.recipe.overlap_s == 1.0 and network.settings.steps == 1
    assert network.generate_from_frames(frames(1, 2.4), [1]).shape == (1, 1, 38_400)
    with pytest.raises(ValueError, match="cannot be changed, only"):
        network.with_options(depth=2)


def test_windows_of_a_film_see_pictures_at_the_same_phase() -> None:
    for sound in (SOUND_16K, SOUND_44K):
        recipe = recipe_for(tiny(sound))
        hop_s = recipe.window_s - recipe.overlap_s
        assert all((hop_s * view.fps).is_integer() for view in recipe.views.values())


def test_a_checkpoint_makes_the_same_sound(tmp_path: Path) -> None:
    network = generator()
    network.load_state_dict({key: value.half().float() for key, value in network.state_dict().items()})
    network.level = OutputLevel(gain_db=-6.0)
    save_generator(network, tmp_path / "model")
    again = load_generator(str(tmp_path / "model"))
    assert again.system == "mmaudio" and again.follows_text and again.level.gain_db == -6
    config = read_config(tmp_path / "model")
    assert config["follows_text"] and not writes_captions(config)
    batch = row(features(), 0)
    assert torch.allclose(again.generate(batch, seeds=[3]), network.generate(batch, seeds=[3]), atol=2e-4)
    with pytest.raises(CheckpointError):
        load_generator(str(tmp_path / "other"))


def test_half_precision_arithmetic_runs() -> None:
    network = generator()
    exact = network.generate_from_frames(frames(1), [1])
    network.precision = "bfloat16"
    rough = network.generate_from_frames(frames(1), [1])
    assert rough.dtype == torch.float32 and not torch.equal(exact, rough) and torch.isfinite(rough).all()

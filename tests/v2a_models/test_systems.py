"""The registry: untrained models of every system, and what cannot be made."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.stereo import in_stereo
from v2a_models import build, systems
from v2a_models.checkpoint_files import BUNDLED, CheckpointError, find_checkpoint, read_config
from v2a_models.encoders.shapes import feature_shapes
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.raw import generator as raw
from v2a_models.recipe import Encoder, Recipe, View


def bundled_recipe(sha256: str = "", **fields: object) -> Recipe:
    """The recipe of a store that the bundled encoders made."""
    config = read_config(find_checkpoint("mini"))
    encoders = tuple(
        Encoder(role, "mini", sha256 or config["sha256"]) for role in ("codec", "semantic", "sync")
    )
    recipe = dataclasses.replace(Recipe.from_dict(config["recipe"]), channels=1, encoders=encoders)
    return dataclasses.replace(recipe, **fields)  # type: ignore[arg-type]


def columns(recipe: Recipe, rows: int) -> dict[str, torch.Tensor]:
    shapes = feature_shapes(recipe)
    return dict(
        semantic=torch.randn(rows, *shapes["semantic"]),
        sync=torch.randn(rows, *shapes["sync"]),
        codes=torch.randint(0, 512, (rows, *shapes["codes"])),
    )


def raw_recipe() -> Recipe:
    view = View(fps=10, width=16, height=16)
    return Recipe(
        "small raw", sample_rate=1000, channels=2, window_s=0.8, overlap_s=0.0, frames=view, waveform=True
    )


@pytest.mark.parametrize("system", sorted(raw.GENERATORS))
def test_every_raw_system_can_be_trained(system: str) -> None:
    torch.manual_seed(0)
    recipe = raw_recipe()
    generator = build.new_generator(system, recipe, **({"stage": 2} if system == "vqvae-fc" else {}))
    assert generator.system == system and generator.makes_sound
    task = generator.task()
    assert generator.columns == ("frames", "waveform")
    batch = dict(
        frames=torch.randint(0, 256, (2, 8, 16, 16, 3), dtype=torch.uint8),
        waveform=torch.randint(-9000, 9000, (2, 2, 800), dtype=torch.int16),
    )
    losses = task(batch, seed=1)
    assert torch.isfinite(losses["loss"]) and task(batch, seed=1)["loss"] == losses["loss"]
    losses["loss"].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in task.parameters())
    with pytest.raises(ValueError, match="no pictures"):
        build.new_generator(system, bundled_recipe())


def test_an_option_reaches_the_part_that_has_it() -> None:
    fusion = build.new_generator("deep-fusion", raw_recipe(), video_width=4)
    assert fusion.config()["net"]["video_width"] == 4 and fusion.config()["video"] is None
    wavenet = build.new_generator("wavenet", raw_recipe(), video_width=4, layers=3, temperature=0.5)
    config = wavenet.config()
    assert (config["video"]["width"], config["net"]["layers"], config["temperature"]) == (4, 3, 0.5)
    for system in systems.SYSTEMS:
        names = build.option_names(system)
        assert len(names) == len(set(names))
    with pytest.raises(ValueError, match="unknown model options"):
        build.new_generator("vqvae-fc", raw_recipe(), video_attention=8)


@pytest.mark.parametrize("system", [name for name in sorted(systems.SYSTEMS) if name.startswith("maskvat")])
def test_every_maskvat_can_be_trained(system: str) -> None:
    torch.manual_seed(0)
    recipe = bundled_recipe()
    generator = build.new_generator(system, recipe, dim=32, depth=1, heads=2, encoder_depth=1)
    assert isinstance(generator, MaskVATGenerator)
    assert generator.maskvat.config.variant == system.removeprefix("maskvat-")
    task = generator.task()
    batch = columns(recipe, 2)
    assert set(generator.columns) <= set(batch)
    losses = task(batch, seed=1)
    assert torch.isfinite(losses["loss"]) and task(batch, seed=1)["loss"] == losses["loss"]
    losses["loss"].backward()
    trained = set(task.state_dict())
    assert trained == {f"maskvat.{key}" for key in generator.maskvat.state_dict()}  # nothing frozen in it
    assert all(p.grad is None for p in generator.codec.parameters())
    assert task.units and all(isinstance(unit, torch.nn.Module) for unit in task.units)


def test_what_cannot_be_made_is_explained() -> None:
    with pytest.raises(ValueError, match="maskvat-hybrid"):
        build.new_generator("maskvat-hybird", bundled_recipe())
    with pytest.raises(ValueError, match=r"known: .*depth"):
        build.new_generator("maskvat-adaln", bundled_recipe(), layers=3)
    with pytest.raises(CheckpointError, match="another release"):
        build.new_generator("maskvat-adaln", bundled_recipe(sha256="0" * 64))
    with pytest.raises(ValueError, match="lacks"):
        build.new_generator("maskvat-adaln", Recipe(name="bare"))


def test_going_on_from_a_checkpoint_takes_its_sizes() -> None:
    recipe = bundled_recipe()
    system = read_config(find_checkpoint("mini"))["system"]
    generator = build.new_generator(system, recipe, start="mini")
    assert generator.recipe == dataclasses.replace(recipe, channels=generator.recipe.channels)
    # How a store's windows overlap says nothing about one window, and nothing about how films are dubbed.
    apart = build.new_generator(system, bundled_recipe(overlap_s=0.0), start="mini")
    assert apart.recipe.overlap_s == recipe.overlap_s > 0
    with pytest.raises(ValueError, match="cannot be changed"):
        build.new_generator(system, recipe, start="mini", depth=2)
    other = next(name for name in systems.SYSTEMS if name != system)
    with pytest.raises(ValueError, match=f"not a {other}"):
        build.new_generator(other, recipe, start="mini")
    with pytest.raises(ValueError, match="window_s"):
        build.new_generator(system, bundled_recipe(window_s=2.0), start="mini")


def test_a_stereo_model_goes_on_from_the_codes_of_a_mono_store(tmp_path: Path) -> None:
    stereo = in_stereo(BUNDLED / "mini", tmp_path / "stereo")
    recipe = bundled_recipe()
    generator = build.new_generator(read_config(BUNDLED / "mini")["system"], recipe, start=stereo)
    assert generator.recipe == dataclasses.replace(recipe, channels=2)
    assert systems.recipe_difference(generator.recipe, recipe) == ""
    raw = raw_recipe()
    assert "channels 2 / 1" in systems.recipe_difference(raw, dataclasses.replace(raw, channels=1))


def test_a_model_dubs_with_overlap_whatever_its_store_has() -> None:
    for overlap_s in (0.0, 2.0):
        assert build.for_dubbing(Recipe(name="r", overlap_s=overlap_s)).overlap_s == 0.4
    assert build.for_dubbing(Recipe(name="r", window_s=0.5, overlap_s=0.0)).overlap_s == 0.0


def test_a_process_that_looks_at_no_pictures_loads_no_picture_networks() -> None:
    code = (
        "import sys; from v2a_models import build, checkpoint; "
        "found = {'open_clip', 'torchvision', 'transformers'} & set(sys.modules); assert not found, found; "
        "checkpoint.load_generator('mini'); "
        "found = {'open_clip', 'transformers'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""The raw-waveform systems behind the Generator surface: sizes, options, going on, saving."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from v2a_models.batch import Batch
from v2a_models.build import new_generator
from v2a_models.checkpoint import load_generator, save_generator
from v2a_models.raw.generator import GENERATORS
from v2a_models.recipe import Recipe, View

RECIPE = Recipe(
    "raw", window_s=0.8, overlap_s=0.0, semantic=None, sync=None, frames=View(10, 16, 16), sample_rate=400,
    channels=2, waveform=True,
)  # fmt: skip
"""Forty samples a frame, eight frames a window."""

SMALL: dict[str, dict[str, Any]] = {
    "deep-fusion": dict(frames=3, audio_width=4, video_width=4, depth=1, moments=3),
    "wavenet": dict(layers=3, stacks=1, channels=8, skip=8, video_width=4, crop_frames=2),
    "av-transformer": dict(context=16, dim=8, depth=1, heads=2, video_width=4, crop_frames=2),
    "vqvae-fc": dict(width=4, codebook_size=16, hidden=[8]),
}
STREAMING = [name for name in SMALL if GENERATORS[name].streams]


def small(name: str, recipe: Recipe = RECIPE, **options: Any) -> Any:
    torch.manual_seed(0)
    made: Any = new_generator(name, recipe, "mini", **{**SMALL[name], **options})
    return made.eval()


def heard(name: str, **options: Any) -> Any:
    """One that can be heard."""
    made = small(name, **options)
    return made if made.makes_sound else made.with_options(stage=2)


def window(rows: int = 2, frames: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    sound = torch.randn(rows, 2, frames * 40, generator=generator) * 8000
    pictures = torch.randint(0, 256, (rows, frames, 16, 16, 3), generator=generator)
    return dict(frames=pictures.byte(), waveform=sound.short())


@pytest.mark.parametrize("name", list(SMALL))
def test_training_lowers_the_loss_and_reaches_every_parameter(name: str) -> None:
    made = small(name)
    task = made.task().train()
    columns = {column: window()[column] for column in made.columns}
    optimizer = torch.optim.Adam(task.parameters(), 5e-3)
    losses = []
    for step in range(40):
        found = task(columns, step % 4)
        losses.append(found["loss"].detach())
        optimizer.zero_grad()
        found["loss"].backward()
        assert all(p.grad is not None for p in task.parameters())
        optimizer.step()
    assert sum(losses[-4:]) < 0.98 * sum(losses[:4])
    assert torch.equal(small(name).task()(columns, 5)["loss"], small(name).task()(columns, 5)["loss"])


@pytest.mark.parametrize("name", list(SMALL))
def test_a_row_is_the_same_whoever_shares_its_batch(name: str) -> None:
    made, frames = heard(name), window()["frames"]
    both = made.generate(Batch(frames=frames), seeds=[5, 6])
    turned = made.generate(Batch(frames=frames.flip(0)), seeds=[6, 5])
    assert both.shape == (2, 2, 320) and both.abs().max() <= 1
    assert torch.allclose(both, turned.flip(0), atol=1e-5)


@pytest.mark.parametrize("name", ["wavenet", "av-transformer"])
def test_seeds_decide_what_is_drawn(name: str) -> None:
    made, batch = small(name), Batch(frames=window()["frames"])
    assert not torch.equal(made.generate(batch, seeds=[1, 2]), made.generate(batch, seeds=[3, 2]))
    cold = made.generate(batch, seeds=[1, 2], temperature=0)
    assert torch.equal(cold, made.generate(batch, seeds=[3, 4], temperature=0))


@pytest.mark.parametrize("name", STREAMING)
def test_it_goes_on_from_its_own_past(name: str) -> None:
    """A film in two pieces, the second from the last part of the first only, as from all of it."""
    made = small(name, **({} if name == "deep-fusion" else dict(loss="mse")))
    frames = window(frames=30)["frames"]
    whole = made.generate(Batch(frames=frames), seeds=[1, 2])
    first = made.generate(Batch(frames=frames[:, :20]), seeds=[1, 2])
    assert torch.allclose(first, whole[..., : 20 * 40], atol=1e-4)
    back = made.context_frames
    assert back < 20
    second = made.generate(
        Batch(frames=frames[:, 20 - back :]), seeds=[1, 2], past=first[..., (20 - back) * 40 :]
    )
    assert second.shape == (2, 2, 10 * 40)
    assert torch.allclose(second, whole[..., 20 * 40 :], atol=1e-3)
    more = made.generate(Batch(frames=frames), seeds=[1, 2], past=first)
    assert torch.equal(second, more), "something further back than context_frames was listened to"


@pytest.mark.parametrize("name", STREAMING)
def test_a_film_shorter_than_the_context(name: str) -> None:
    made = small(name)
    assert made.generate(Batch(frames=window(frames=1)["frames"]), seeds=[1, 2]).shape == (2, 2, 40)
    columns = window(frames=1)
    assert torch.isfinite(made.task()(columns, 0)["loss"])
    with pytest.raises(ValueError, match="do not fit"):
        made.generate(Batch(frames=columns["frames"]), seeds=[1, 2], past=torch.zeros(2, 2, 41))


@pytest.mark.parametrize("name", list(SMALL))
def test_saved_and_loaded_it_makes_the_same_sound(name: str, tmp_path: Path) -> None:
    made = heard(name)
    for parameter in made.parameters():
        parameter.data = parameter.data.half().float()  # as checkpoints keep them
    save_generator(made, tmp_path / name)
    again = load_generator(str(tmp_path / name))
    assert again.system == name and again.config() == made.config() and again.makes_sound
    batch = Batch(frames=window()["frames"])
    assert torch.equal(made.generate(batch, seeds=[1, 2]), again.generate(batch, seeds=[1, 2]))


def test_the_first_stage_cannot_be_heard_and_is_kept_by_the_second(tmp_path: Path) -> None:
    first = small("vqvae-fc")
    assert not first.makes_sound and first.columns == ("frames",)
    with pytest.raises(ValueError, match="--set stage=2"):
        first.generate(Batch(frames=window()["frames"]), seeds=[1, 2])
    save_generator(first, tmp_path / "first")
    second: Any = new_generator("vqvae-fc", RECIPE, start=str(tmp_path / "first"), stage=2)
    assert second.makes_sound and second.columns == ("frames", "waveform")
    with pytest.raises(ValueError, match="cannot be changed"):
        new_generator("vqvae-fc", RECIPE, start=str(tmp_path / "first"), width=8)
    assert first.remarks({"perplexity": 8.0}) == []
    (remark,) = first.remarks({"perplexity": 0.5})
    assert "collapsed" in remark and "0.5 of 16" in remark


@pytest.mark.parametrize("attention", [0, 2])
def test_attention_over_frames_is_an_option_of_the_shared_embedding(attention: int) -> None:
    made = small("wavenet", video_attention=attention)
    assert made.net.video.config.attention == attention
    assert made.generate(Batch(frames=window()["frames"]), seeds=[1, 2]).shape == (2, 2, 320)


def test_mono_has_no_published_cross_entropy() -> None:
    with pytest.raises(ValueError, match="stereo"):
        small("wavenet", replace(RECIPE, channels=1), loss="signed-cross-entropy")
    assert small("wavenet", replace(RECIPE, channels=1)).generate(
        Batch(frames=window()["frames"]), seeds=[1, 2]
    ).shape == (2, 1, 320)  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "options", "says"),
    [
        (replace(RECIPE, frames=None, sync=View(10, 16, 16)), {}, "--recipe raw"),
        (replace(RECIPE, waveform=False), {}, "no samples"),
        (replace(RECIPE, sample_rate=403), {}, "40.300 samples"),
        (RECIPE, dict(depht=3), "known: "),
        (RECIPE, dict(loss="l2"), "choose one of"),
    ],
)
def test_what_a_raw_system_cannot_be_made_of(recipe: Recipe, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        new_generator("wavenet", recipe, "mini", **options)

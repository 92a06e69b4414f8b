"""VATT behind the Generator surface: modes, variants, prompts and checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tests.support.language_model import SMALL, TEXTS, base_folder
from tests.support.train_store import SHAPES, frames, recipe
from v2a_models import checkpoint_files
from v2a_models.batch import Batch
from v2a_models.build import new_generator
from v2a_models.checkpoint import CheckpointError, load_generator, save_generator
from v2a_models.vatt.language import train_tokenizer

TINY: dict[str, Any] = dict(dim=32, separate=1, shared=1, heads=2, steps=2, choice_temperature=2.0, top_k=0)


def saved_converter(folder: Path, **options: Any) -> str:
    if not options:
        options = dict(tokenizer=train_tokenizer(TEXTS, 200), **SMALL)
        options.pop("num_key_value_heads")
    torch.manual_seed(0)
    save_generator(new_generator("vatt-converter", recipe(), **options), folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved_converter(tmp_path_factory.mktemp("vatt") / "converter")


@pytest.fixture(scope="module")
def vatt(folder: str) -> Any:
    torch.manual_seed(1)
    return new_generator("vatt", recipe(), converter=folder, **TINY).eval()


def as_saved(model: Any) -> Any:
    """The model with weights rounded as a checkpoint rounds them. `half()` would round the rotary frequencies too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return model.eval()


def batch(rows: int = 2, **more: Any) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        semantic=torch.randn(rows, *SHAPES["semantic"], generator=generator),
        sync=torch.randn(rows, *SHAPES["sync"], generator=generator),
        **more,
    )


def test_sound_follows_the_prompt_in_every_way_it_can_be_given(vatt: Any) -> None:
    usual = vatt.codes(batch(), [1, 2])
    drum = vatt.codes(batch(), [1, 2], prompts="a drum")
    assert not torch.equal(usual, drum)
    assert torch.equal(drum, vatt.codes(batch(text=["a drum"] * 2), [1, 2]))
    assert torch.equal(usual, vatt.codes(batch(), [1, 2], prompts=""))
    both = vatt.codes(batch(), [1, 2], prompts=["a drum", "rain falls"])
    assert torch.equal(both[0], drum[0]) and not torch.equal(both[1], drum[1])
    assert not torch.equal(drum, vatt.codes(batch(), [1, 2], prompts="a drum", negative="rain"))


def test_waveform_has_the_windows_length_and_a_row_is_its_own(vatt: Any) -> None:
    sound = vatt.generate(batch(), seeds=[1, 2], prompts="a drum")
    assert sound.shape == (2, 1, vatt.recipe.window) and sound.abs().max() <= 1
    # In batches of equal size, as dub fills them: in others sums round otherwise, and of even chances, which untrained
    # weights give, one may fall the other way.
    one, company = batch(), batch()
    company.semantic[0], company.sync[0] = 0, 0  # type: ignore[index]
    assert torch.equal(
        vatt.codes(company, [7, 2], prompts="a drum")[1], vatt.codes(one, [1, 2], prompts="a drum")[1]
    )


def test_candidates_are_judged_by_the_moments_that_the_model_itself_does_not_see(folder: str) -> None:
    blind = new_generator("vatt", recipe(), converter=folder, sync_dim=0, **TINY).eval()
    assert blind.scav is not None  # type: ignore[attr-defined]
    assert blind.generate_from_frames(frames(4.0), [1], candidates=2).shape == (1, 1, blind.recipe.window)


def test_the_language_model_is_asked_once_whatever_the_steps_and_candidates(
    vatt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, inner = [], vatt.converter.hidden_states
    monkeypatch.setattr(vatt.converter, "hidden_states", lambda *a: calls.append(1) or inner(*a))
    vatt.generate(batch(), seeds=[1, 2], candidates=3, steps=4)
    assert len(calls) == 1


def test_unasked_it_may_follow_its_own_caption(vatt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = vatt.codes(batch(), [1, 2])
    monkeypatch.setattr(vatt, "settings", dataclasses.replace(vatt.settings, own_caption=True))
    monkeypatch.setattr(
        vatt, "captions", lambda batch: ["a drum", "word " * 99]
    )  # one too long to be read again
    assert torch.equal(vatt.codes(batch(), [1, 2]), vatt.codes(batch(), [1, 2], prompts=["a drum", ""]))
    assert not torch.equal(vatt.codes(batch(), [1, 2]), usual)


def test_known_codes_stay(vatt: Any) -> None:
    known = torch.randint(0, 512, (1, *SHAPES["codes"]))
    mask = torch.zeros_like(known, dtype=torch.bool)
    mask[..., :100] = True
    made = vatt.codes(batch(1), [1], known_codes=known, known_mask=mask)
    assert torch.equal(made[..., :100], known[..., :100])


def test_captions_of_silent_windows(vatt: Any) -> None:
    captions = vatt.captions(batch())
    assert len(captions) == 2 and all(isinstance(text, str) for text in captions)


def test_unusable_prompts_are_refused(vatt: Any) -> None:
    with pytest.raises(ValueError, match="tokens, the model reads at most 32"):
        vatt.codes(batch(), [1, 2], prompts="a drum and " * 30)
    with pytest.raises(ValueError, match="2 rows need as many prompts"):
        vatt.codes(batch(), [1, 2], prompts=["a drum"])
    with pytest.raises(ValueError, match="guidance"):
        vatt.codes(batch(), [1, 2], negative="rain", guidance=1.0)


@pytest.mark.parametrize("system", ["vatt", "vatt-cross-attn", "vatt-v"])
def test_saved_and_loaded_it_gives_the_same_codes_and_holds_no_encoders(
    system: str, folder: str, tmp_path: Path
) -> None:
    options = TINY if system == "vatt-v" else {**TINY, "converter": folder}
    made = as_saved(new_generator(system, recipe(), **options))
    save_generator(made, tmp_path / "model")
    again = load_generator(str(tmp_path / "model"))
    assert again.system == system and again.follows_text == (system != "vatt-v")
    assert torch.equal(made.codes(batch(1), [3]), again.codes(batch(1), [3]))  # type: ignore[operator]
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        parts = {name.split(".")[0] for name in file.keys()}  # noqa: SIM118
    assert parts == ({"audio"} if system == "vatt-v" else {"audio", "converter"})
    assert again.scav is not None


def test_one_with_encoders_of_its_own_needs_no_other_model(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = as_saved(new_generator("vatt", recipe(), converter=folder, **TINY))
    made.recipe = dataclasses.replace(made.recipe, encoders=())
    save_generator(made, tmp_path / "model")
    monkeypatch.setattr(checkpoint_files, "BUNDLED", tmp_path / "nothing")
    again: Any = load_generator(str(tmp_path / "model"))
    assert torch.equal(made.codes(batch(1), [3]), again.codes(batch(1), [3]))
    assert torch.equal(made.decode(made.codes(batch(1), [3])), again.decode(made.codes(batch(1), [3])))
    seen = made.features(frames(4.0)), again.features(frames(4.0))
    for name in ("semantic", "sync"):
        ours, theirs = (getattr(features, name) for features in seen)
        assert torch.allclose(ours, theirs, atol=1e-2), name


def test_a_converter_of_other_encoders_is_refused(folder: str, tmp_path: Path) -> None:
    other: Any = load_generator(folder)
    other.recipe = dataclasses.replace(other.recipe, encoders=())
    save_generator(other, tmp_path / "other")
    with pytest.raises(ValueError, match="features of an encoder of its own, the store has those of mini"):
        new_generator("vatt", recipe(), converter=str(tmp_path / "other"), **TINY)


def test_without_language_there_are_no_prompts() -> None:
    made = new_generator("vatt-v", recipe(), **TINY).eval()
    with pytest.raises(ValueError, match="takes no text prompts"):
        made.codes(batch(), [1, 2], prompts="a drum")  # type: ignore[operator]
    with pytest.raises(ValueError, match="no captions"):
        made.captions(batch())  # type: ignore[operator]


def test_of_a_published_model_the_adapter_and_the_projection_are_saved(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "gemma", "gemma")
    where = saved_converter(tmp_path / "converter", base=str(base))
    made = new_generator("vatt", recipe(), converter=where, **TINY).eval()
    save_generator(made, tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.startswith("converter.")]  # noqa: SIM118
    assert names and all(".lora_" in name or ".project." in name for name in names)
    loaded = load_generator(str(tmp_path / "model"))
    assert torch.equal(
        as_saved(made).codes(batch(1), [3], prompts="rain"),
        loaded.codes(batch(1), [3], prompts="rain"),  # type: ignore[operator]
    )
    base_folder(base, "gemma", seed=5)
    with pytest.raises(CheckpointError, match=r"belongs to .*gemma with sha256"):
        load_generator(str(tmp_path / "model"))


def test_training_losses_of_every_stage(folder: str) -> None:
    columns = dict(
        semantic=torch.randn(2, *SHAPES["semantic"]),
        sync=torch.randn(2, *SHAPES["sync"]),
        codes=torch.randint(0, 512, (2, *SHAPES["codes"])),
    )
    for stage in (1, 2):
        made = new_generator("vatt", recipe(), converter=folder, stage=stage, masking="moving", **TINY)
        assert ("text" in made.columns) == (stage == 2)
        task = made.task().train()
        given: dict[str, Any] = columns | ({"text": ["a drum", ""]} if stage == 2 else {})
        loss = task(given, 0)["loss"]
        loss.backward()
        assert torch.isfinite(loss) and int(task.passes) == 1
        assert all(name.startswith("audio.") for name, _ in task.named_parameters())


def test_what_steers_vatt_mini_can_be_asked_for(tmp_path: Path) -> None:
    options = dict(tokenizer=train_tokenizer(TEXTS, 200), words=True, **SMALL)
    options.pop("num_key_value_heads")
    folder = saved_converter(tmp_path / "words", **options)
    asked = dict(modulated=10, masking="arccos", guided=0.5, top_k=8, own_caption=True)
    made = new_generator("vatt", recipe(), converter=folder, **TINY | asked)
    assert made.settings.converter.words and made.audio.config.condition_dim == 2 * made.converter.width
    assert (made.settings.sampling.guided, made.settings.sampling.top_k) == (0.5, 8)
    assert made.settings.own_caption and made.settings.masking.distribution == "arccos"
    losses = made.task()(
        dict(semantic=batch().semantic, sync=batch().sync, codes=torch.zeros(2, *SHAPES["codes"])), 0
    )
    losses["loss"].backward()
    assert all(p.grad is not None for p in made.audio.parameters())  # or data-parallel training stops
    assert torch.isfinite(losses["loss"])


def test_wrong_options_and_converters_are_told(folder: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"known: .*converter"):
        new_generator("vatt", recipe(), width=3)
    with pytest.raises(ValueError, match="true or false"):
        new_generator("vatt", recipe(), converter=folder, own_caption="no")
    with pytest.raises(ValueError, match="choose 1"):
        new_generator("vatt", recipe(), converter=folder, stage=7)
    with pytest.raises(ValueError, match="a store with texts"):
        new_generator("vatt-converter", recipe())
    with pytest.raises(CheckpointError, match="has no converter"):
        new_generator("vatt", recipe(), converter="mini")
    with pytest.raises(ValueError, match="makes no sound"):
        load_generator(folder).generate(batch(), seeds=[1, 2])

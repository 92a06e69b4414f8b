"""VATT Converter: language models that see, their adapters, their prompts, and what is wrong with those."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.language_model import TEXTS, base_folder, converter, own
from v2a_models.checkpoint_files import CheckpointError
from v2a_models.vatt.converter import Converter, ConverterConfig, ConverterTask
from v2a_models.vatt.instructions import DEFAULT, INSTRUCTIONS
from v2a_models.vatt.language import TextError, base_digest, find_base, own_tokenizer

FEATURES = torch.eye(3).repeat(1, 2)[:, None].expand(3, 8, 6).contiguous()


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base") / "gemma", "gemma")


def fitted(module: Converter, stage: int, steps: int, rate: float) -> float:
    task = ConverterTask(module, stage).train()
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=rate)
    for step in range(steps):
        loss = task(dict(semantic=FEATURES, text=list(TEXTS)), step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


# text


@settings(max_examples=30)
@given(st.text("abcdefghijklmnopqrstuvwxyz ,.'-", max_size=30))
def test_the_small_tokenizer_writes_and_reads_any_plain_text(text: str) -> None:
    tokenizer = own_tokenizer(own().tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    letters = lambda words: "".join(words.split())  # noqa: E731
    assert letters(tokenizer.decode(ids)) == letters(text)


def test_ten_instructions_none_of_which_says_what_is_heard() -> None:
    assert len(set(INSTRUCTIONS)) == 10
    from pipelines.synthfoley import CLASSES

    words = {word for label in CLASSES for word in label.split("_")}
    assert not words & {word for text in INSTRUCTIONS for word in text.split()}


def test_a_prompt_that_is_too_long_is_told_with_its_length() -> None:
    module = converter()
    n = 1 + len(module.tokenizer("drum " * 40, add_special_tokens=False)["input_ids"])
    with pytest.raises(TextError, match=f"has {n} tokens, the model reads at most 32: shorten"):
        module.check(["drum " * 40])


def test_what_the_tokenizer_cannot_write_is_named() -> None:
    with pytest.raises(TextError, match="'☃'"):
        converter().check(["a drum ☃ here"])
    assert converter().check(["Á Drüm!"]) == converter().check(["a drum!"])


def test_an_empty_prompt_is_the_first_instruction() -> None:
    module = converter()
    a, b = (module.hidden_states(FEATURES, [text] * 3)[0] for text in ("  ", DEFAULT))
    assert torch.equal(a, b)


# states


def test_states_depend_on_picture_and_text_and_not_on_the_other_rows() -> None:
    module = converter()
    states, valid = module.hidden_states(FEATURES, ["a drum", "rain falls, heavy, loud", "a drum"])
    assert states.shape == (3, 3 + 32, 32) and valid.shape == states.shape[:2]
    alone, _ = module.hidden_states(FEATURES[:1], ["a drum"])
    assert torch.allclose(states[:1][valid[:1]], alone[valid[:1]], atol=1e-5)
    n = int(valid[0].sum())
    assert not torch.allclose(states[0, n - 1], states[2, n - 1], atol=1e-3)
    other, _ = module.hidden_states(FEATURES[:1], ["a rain"])
    assert not torch.allclose(states[0, n - 1], other[0, n - 1], atol=1e-3)


def test_words_stand_beside_states_whatever_is_seen() -> None:
    torch.manual_seed(0)
    module = Converter(dataclasses.replace(own(6), words=True)).eval()
    states, valid = module.hidden_states(FEATURES, ["a drum"] * 3)
    assert states.shape[-1] == module.states_dim == 2 * module.width
    said, word = states[:, 3:][:, : int(valid[0, 3:].sum())].chunk(2, -1)
    assert torch.equal(word[0], word[2]) and not torch.allclose(said[0], said[2], atol=1e-3)
    other, _ = module.hidden_states(FEATURES[:1], ["a rain"])
    assert not torch.allclose(word[0], other[0, 3 : 3 + len(word[0])].chunk(2, -1)[1], atol=1e-3)


def test_learns_captions_and_writes_them_greedy_or_by_beams() -> None:
    module = converter()
    assert fitted(module, 1, 60, 1e-2) < 0.1
    module.eval()
    assert module.captions(FEATURES) == list(TEXTS)
    assert module.captions(FEATURES, beams=2) == list(TEXTS)


def test_rows_without_caption_count_nothing() -> None:
    task = ConverterTask(converter(), 1).eval()
    both = task(dict(semantic=FEATURES[:2], text=[TEXTS[0], ""]), 0)["loss"]
    one = task(dict(semantic=FEATURES[:1], text=[TEXTS[0]]), 0)["loss"]
    assert float(both) == pytest.approx(float(one), rel=1e-5)
    assert float(task(dict(semantic=FEATURES[:1], text=[""]), 0)["loss"]) == 0


# published layouts


@pytest.mark.parametrize("kind", ["gemma", "llama"])
def test_published_layouts_train_projection_then_lora(kind: str, tmp_path: Path) -> None:
    config = ConverterConfig(6, base=str(base_folder(tmp_path / kind, kind)), visual_tokens=3)
    module = Converter(config)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    fitted(module, 1, 2, 1e-2)
    moved = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"project.weight", "project.bias"}
    fitted(module, 2, 2, 1e-2)
    moved = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if module.stored(name)}
    assert any(".v_proj.lora_B" in name for name in moved)
    lora = next(m for name, m in module.named_modules() if name.endswith("q_proj"))
    assert (lora.r["default"], lora.lora_alpha["default"]) == (16, 32)
    module.eval()
    assert module.hidden_states(FEATURES, ["a drum"] * 3)[0].shape == (3, 3 + 64, 32)
    assert len(module.captions(FEATURES, max_tokens=3)) == 3


def test_an_adapter_for_another_base_is_refused(gemma: Path, tmp_path: Path) -> None:
    config = Converter(ConverterConfig(6, base=str(gemma))).config
    assert config.base_sha256 == base_digest(gemma)
    other = base_folder(tmp_path / "other", "gemma", seed=1)
    with pytest.raises(CheckpointError, match=f"belongs to {other} with sha256 {config.base_sha256[:16]}"):
        Converter(dataclasses.replace(config, base=str(other)))


def test_missing_base_weights_say_which_where_and_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"google/gemma-2b.*Hugging Face.*Gemma Terms of Use"):
        find_base("google/gemma-2b")
    with pytest.raises(CheckpointError, match="model card"):
        find_base("nobody/knows")
    base_folder(tmp_path / "google" / "gemma-2b", "gemma")
    monkeypatch.setenv("V2A_WEIGHTS", str(tmp_path))
    assert find_base("google/gemma-2b") == tmp_path / "google" / "gemma-2b"


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"not opened")
    with pytest.raises(CheckpointError, match="safetensors"):
        find_base(str(tmp_path))


def test_a_damaged_base_is_told(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "gemma", "gemma")
    (folder / "config.json").write_text('{"model_type": "no such thing"}')
    with pytest.raises(CheckpointError, match="no usable language model"):
        Converter(ConverterConfig(6, base=str(folder)))


def test_a_wrong_stage_lists_the_choices() -> None:
    with pytest.raises(ValueError, match="1 or 2"):
        ConverterTask(converter(), 3)

"""Distillation of mini into vatt-mini: what the teacher sees, and what VATT Audio begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.mini import distil, steering_corpus
from jobs.mini.steering_corpus import Crop
from pipelines.foley.corpus import LABELS
from v2a_models.encoders.untrained import sound_expectation
from v2a_models.maskvat.model import MaskVAT, sized
from v2a_models.vatt.audio import VATTAudio
from v2a_models.vatt.audio import sized as vatt_sized

SOUNDS = 5
WIDTH = 12


def test_the_teacher_sees_the_sound_of_the_caption(trained: Path) -> None:
    scenes = steering_corpus.scenes_of(steering_corpus.mini_of(trained / "work"), "train")
    struck = [scene for scene in scenes if scene.label in ("dog", "drum", "car", "cat", "bell", "train")]
    crops = [Crop(replace(scene, seen=False), True, 0.0, 2.0) for scene in struck] * 4
    own = torch.zeros(len(crops), 5, len(LABELS))
    own[..., 0] = 1
    text = ["words"] * (len(crops) - 1) + [""]
    answers = distil.answers_to(
        distil.clear_answers(sound_expectation()), crops, text, own, np.random.default_rng(0)
    )
    named = answers[:-1].mean(1).argmax(-1)
    right = [int(best) == LABELS.index(crop.scene.label) for best, crop in zip(named, crops, strict=False)]
    assert crops and all(right)
    assert torch.equal(answers[-1], own[-1])
    # Answers are roots of shares; for the last fit, of a sound that is beyond doubt.
    certain = distil.answers_to(
        distil.clear_answers(sound_expectation()), crops, text, own, np.random.default_rng(0), distil.CLEARER
    )
    shares = [
        float(each[:, LABELS.index(crop.scene.label)].square().min())
        for each, crop in zip(certain[:-1], crops, strict=False)
    ]
    assert min(shares) >= distil.CLEARER - 1e-5


def teacher_and_pupil() -> tuple[MaskVAT, VATTAudio]:
    torch.manual_seed(0)
    sizes = dict(n_codebooks=2, codebook_size=8, dim=32, sync_dim=6)
    teacher = MaskVAT(sized("hybrid", "mini", **sizes, semantic_dim=SOUNDS, depth=3, audio_dim=0))
    for layer in [conditioner.modulation for conditioner in teacher.conditioners] + [
        teacher.final_modulation
    ]:
        torch.nn.init.normal_(layer.weight, std=0.3)  # type: ignore[arg-type, union-attr]
    pupil = VATTAudio(
        vatt_sized("mini", **sizes, condition_dim=WIDTH, separate=1, shared=2, modulated=2)
    ).eval()
    pupil.embed.load_state_dict(teacher.embed.state_dict())
    pupil.heads.load_state_dict(teacher.heads.state_dict())
    return teacher.eval(), pupil


def batch_of(step: int) -> dict[str, Any]:
    """Random pictures; the text is the number of the sound that the teacher is shown."""
    rng = np.random.default_rng(step)
    sounds = torch.from_numpy(rng.integers(SOUNDS, size=16))
    return dict(
        semantic=torch.zeros(16, 5, SOUNDS), text=[str(int(sound)) for sound in sounds],
        answers=torch.eye(SOUNDS)[sounds][:, None].expand(-1, 5, -1),
        sync=torch.from_numpy(rng.standard_normal((16, 10, 6)).astype(np.float32)),
        codes=torch.from_numpy(rng.integers(8, size=(16, 2, 20))),
    )  # fmt: skip


def states(semantic: torch.Tensor, text: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two visual tokens and one of text, which names the sound."""
    tokens = torch.zeros(len(text), 3, WIDTH)
    tokens[torch.arange(len(text)), 2, [int(words) for words in text]] = 1
    return tokens, torch.ones(len(text), 3, dtype=torch.bool)


def test_a_pupil_begins_with_text_that_matters() -> None:
    """The right text changes the logits as the right picture changes the teacher's, before any training on sounds."""
    teacher, pupil = teacher_and_pupil()
    lines: list[str] = []
    distil.begin_from(pupil, teacher, batch_of, states, 150, lines.append)
    assert "explains 0.9" in lines[0] or "explains 1.0" in lines[0]
    batch = batch_of(77_777)
    wanted = teacher.semantic_mlp(batch["answers"]).mean(1)  # type: ignore[misc]
    near = torch.cdist(pupil.summarised(*states(batch["semantic"], batch["text"])), wanted).argmin(1)
    assert [batch["text"][row] for row in near] == batch["text"]
    assert torch.equal(pupil.layers[1].qkv.weight, teacher.blocks[1].attention.qkv.weight)
    # Of the same summary and motion, it makes the same frames.
    summary = wanted[:, None].expand(-1, 10, -1)
    ours = torch.nn.functional.silu(pupil.fuse(torch.cat([summary, pupil.sync(batch["sync"])], -1)))  # type: ignore[misc]
    theirs = teacher.fuse(torch.cat([summary, teacher.sync_mlp(batch["sync"])], -1))  # type: ignore[misc]
    assert torch.allclose(ours, theirs, atol=1e-5)
    masked = torch.full((16, 2, 20), pupil.mask_id)
    others = [str((int(words) + 1) % SOUNDS) for words in batch["text"]]
    right, wrong = (
        pupil(masked, pupil.condition(*states(batch["semantic"], text), batch["sync"], 20))
        for text in (batch["text"], others)
    )
    target = answers_of_teacher(teacher, batch, masked)
    assert float((right - target).square().mean()) < 0.8 * float((wrong - target).square().mean())


def test_a_clear_summary_follows_the_text_whatever_is_seen() -> None:
    teacher, pupil = teacher_and_pupil()
    rng = np.random.default_rng(0)

    def seen(step: int) -> dict[str, Any]:
        batch = batch_of(step)
        batch["semantic"] = distil.other_pictures(batch["answers"], batch["text"], rng)
        return batch

    def with_picture(semantic: torch.Tensor, text: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, valid = states(semantic, text)
        tokens[:, :2, -SOUNDS:] = semantic[:, :2]
        return tokens, valid

    before = {name: weight.clone() for name, weight in pupil.state_dict().items()}
    distil.clear_summary(pupil, teacher, seen, with_picture, 300, lambda line: None)
    batch = batch_of(77_777)
    wanted = teacher.semantic_mlp(batch["answers"]).mean(1)  # type: ignore[misc]
    summary = pupil.summarised(*with_picture(batch["answers"].roll(3, 0), batch["text"]))
    assert [batch["text"][row] for row in torch.cdist(summary, wanted).argmin(1)] == batch["text"]
    # Nothing else has changed.
    changed = {name for name, weight in pupil.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed and all(name.startswith("summary.") for name in changed)


def test_half_of_the_rows_with_text_have_another_picture() -> None:
    semantic = torch.arange(2000.0)[:, None, None].expand(-1, 2, 3)
    text = ["words"] * 1000 + [""] * 1000
    moved = distil.other_pictures(semantic, text, np.random.default_rng(0))[:, 0, 0] != semantic[:, 0, 0]
    assert 420 < int(moved[:1000].sum()) < 580 and not moved[1000:].any()


def answers_of_teacher(teacher: MaskVAT, batch: Mapping[str, Any], masked: torch.Tensor) -> torch.Tensor:
    return distil.teach(teacher)(batch)(masked, torch.ones(len(masked), dtype=torch.bool))


def test_the_teacher_of_dropped_rows_sees_nothing() -> None:
    teacher, _ = teacher_and_pupil()
    masked, logits = torch.full((16, 2, 20), teacher.mask_id), distil.teach(teacher)
    nothing = torch.zeros(16, dtype=torch.bool)
    one, other = (logits(batch_of(step))(masked, nothing) for step in (1, 2))
    assert torch.equal(one, other)
    assert not torch.equal(*(logits(batch_of(step))(masked, ~nothing) for step in (1, 2)))

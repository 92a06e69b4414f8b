"""`make vatt-mini`: trains the bundled `vatt-mini` on the scenes of `make mini`. Resumable; needs neither Ray nor PyAV.

other sounds of the scenes -> converter (captions) -> VATT Audio (text decides what, picture when) -> weights
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from jobs.mini import distil, steering_corpus
from jobs.mini.config import MiniConfig, log
from jobs.mini.steering_corpus import SteeringConfig, SteeringCorpus
from jobs.mini.training import WHOLE_WINDOWS
from pipelines.captions import instructions
from pipelines.foley.corpus import LABELS
from pipelines.foley.expectation import Answers
from v2a_models.checkpoint import load_classifier, load_generator, save_generator
from v2a_models.encoders.bundled import BUNDLED
from v2a_models.generator import autocast, best_precision
from v2a_models.maskvat.sampling import SamplingConfig
from v2a_models.recipe import Encoder
from v2a_models.training.loop import FitConfig, fit
from v2a_models.vatt.audio import sized
from v2a_models.vatt.converter import Converter, ConverterConfig, ConverterTask, own_converter
from v2a_models.vatt.generator import VATTConfig, VATTGenerator
from v2a_models.vatt.language import SMALL
from v2a_models.vatt.masking import Masking

UNCAPTIONED = 0.3
"""Fraction of the rows with a scene's own sound that are trained on an instruction alone, without a caption."""
OWN_SOUND = 0.4
"""Fraction of the rows whose sound is the scene's own."""

MASKING = Masking("arccos")
"""Arccos masks nearly everything most often, and the kind of sound is decided while nearly everything is masked."""
SAMPLING = SamplingConfig(steps=8, guidance=2.0, guided=1.0, temperature=0.9, choice_temperature=2.5, top_k=8)
"""Less guided than `mini`: the summary of a text is clearer than what pictures promise."""


@dataclass(frozen=True)
class VattMiniConfig:
    """Train the bundled `vatt-mini` on the scenes that `mini` was trained on."""

    work: Path = Path("build/vatt-mini")
    """Tokens of other sounds, training states and logs; a stopped run goes on from here."""
    mini_work: Path = Path("build/mini")
    """Work folder of `make mini`: its scenes, features and tokens."""
    mini: str = BUNDLED
    """Name or folder of the trained mini. The result holds encoders and codec of any but the bundled one."""
    out: Path = Path("v2a_models/weights/vatt-mini")
    """Folder of the finished checkpoint."""
    stages: tuple[str, ...] = ("corpus", "converter", "audio", "export")
    """Stages to run, in this order; finished ones are skipped."""
    threads: int = 0
    """CPU threads of torch, and processes that render; 0 for all cores."""
    device: str = "auto"
    """Device to train on: cuda, cpu, or auto for cuda where available."""
    corpus: SteeringConfig = SteeringConfig()
    converter: FitConfig = FitConfig(steps=1000, learning_rate=2e-3, warmup=50, ema=0.99)
    summary_steps: int = 4000
    """Steps that fit the summary of text and picture to mini's of what it sees, before VATT Audio is trained."""
    clear_steps: int = 3000
    """Steps that fit it once more afterwards, to sounds that are certain."""
    audio: FitConfig = FitConfig(steps=8000, learning_rate=5e-4, warmup=100, ema=0.998)
    rows: int = 8
    """Crops of a step."""
    crop: int = 172
    """Codec frames of a crop (2 s); the last 15 % of the audio steps train on whole windows."""


def run(config: VattMiniConfig) -> int:
    """Run the stages; returns the exit code."""
    if unknown := sorted(set(config.stages) - set(VATT_STAGES)):
        print(f"unknown stages {unknown}; choose from {list(VATT_STAGES)}", file=sys.stderr)
        return 2
    torch.set_num_threads(config.threads or torch.get_num_threads())
    # Other sounds need no more than the codec, so they can be made while the rest of mini is trained.
    mini: Any = load_generator(config.mini) if set(config.stages) - {"corpus"} else None
    try:
        scenes = steering_corpus.mini_of(config.mini_work)
        if mini is not None:
            _check_codec(config, mini)
    except (OSError, ValueError) as error:
        print(f"--mini-work {config.mini_work}: {error}; run make mini first", file=sys.stderr)
        return 2
    for name in config.stages:
        torch.manual_seed(0)
        log(f"== {name}")
        VATT_STAGES[name](config, mini, scenes)
    return 0


def _check_codec(config: VattMiniConfig, mini: Any) -> None:
    """Raises ValueError if mini's codec is not the one that made the tokens in its work folder."""
    trained = torch.load(config.mini_work / "codec.pt", map_location="cpu", weights_only=True)
    ours = mini.codec.state_dict()
    # Checkpoints keep weights in half precision.
    if trained.keys() != ours.keys() or not all(
        torch.equal(trained[name].half(), ours[name].half()) for name in ours
    ):
        raise ValueError(f"its codec is not that of {config.mini}")


def _device(config: VattMiniConfig) -> torch.device:
    name = config.device
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def corpus(config: VattMiniConfig, mini: Any, scenes: MiniConfig) -> None:
    """Render other sounds of the scenes, and encode them."""
    workers = config.threads or torch.get_num_threads()
    steering_corpus.render_others(config.work / "corpus", scenes, config.corpus, workers, log)


def load_corpus(config: VattMiniConfig, scenes: MiniConfig, split: str = "train") -> SteeringCorpus:
    """Sounds of a split, on the device to train on."""
    return SteeringCorpus.load(config.work / "corpus", scenes, config.corpus, split, _device(config))


def converter(config: VattMiniConfig, mini: Any, scenes: MiniConfig) -> None:
    """Train the small language model and its projection to caption the sound of a picture."""
    held = load_corpus(config, scenes)
    task = ConverterTask(untrained_converter(config, mini), 2).to(_device(config))

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        batch, crops = held.crops(rng, 16, mini.recipe.codec_frames, own=1.0)
        return task(dict(semantic=batch["semantic"], text=[crop.caption(rng) for crop in crops]), step)

    fit("converter", task, step_loss, config.converter, config.work, log=log)
    torch.save(task.converter.state_dict(), config.work / "converter.pt")


def untrained_converter(config: VattMiniConfig, mini: Any) -> Converter:
    """Untrained converter with the tokenizer of the work folder, which is made from the words of all captions."""
    tokenizer, width = config.work / "tokenizer.json", mini.maskvat.config.semantic_dim
    if not tokenizer.exists():
        config.work.mkdir(parents=True, exist_ok=True)
        made = own_converter(sorted(set(instructions.vocabulary())), width, vocabulary=instructions.TOKENS)
        tokenizer.write_text(made.tokenizer)
    return Converter(
        ConverterConfig(width, own=SMALL, tokenizer=tokenizer.read_text(), max_text=32, words=True)
    )


def untrained_generator(config: VattMiniConfig, mini: Any) -> VATTGenerator:
    """Generator with the trained converter, mini's encoders and codec, and an untrained VATT Audio."""
    trained = untrained_converter(config, mini)
    trained.load_state_dict(torch.load(config.work / "converter.pt", map_location="cpu", weights_only=True))
    sizes = sized(
        "mini", n_codebooks=mini.codec.n_codebooks, codebook_size=mini.codec.codebook_size,
        condition_dim=trained.states_dim, sync_dim=mini.maskvat.config.sync_dim,
        shared=len(mini.maskvat.blocks) - 2, modulated=trained.config.visual_tokens,
    )  # fmt: skip
    settings = VATTConfig(sizes, trained.config, masking=MASKING, sampling=SAMPLING, own_caption=True)
    recipe = mini.recipe
    if config.mini == BUNDLED and not recipe.encoders:
        roles = ("codec", "semantic", "sync")
        recipe = dataclasses.replace(
            recipe, encoders=tuple(Encoder(role, BUNDLED, mini.sha256) for role in roles)
        )
    generator = VATTGenerator(recipe, mini.codec, mini.semantic, mini.sync, settings)
    assert generator.converter is not None
    generator.converter.load_state_dict(trained.state_dict())
    # Embeddings and heads of the codec's tokens are mini's.
    generator.audio.embed.load_state_dict(mini.maskvat.embed.state_dict())
    generator.audio.heads.load_state_dict(mini.maskvat.heads.state_dict())
    generator.scav, generator.level = mini.scav, mini.level
    return generator


def audio(config: VattMiniConfig, mini: Any, scenes: MiniConfig) -> None:
    """Train VATT Audio on every sound, with mini as its teacher: the caption selects it, the picture times it."""
    device, held = _device(config), load_corpus(config, scenes)
    generator = untrained_generator(config, mini).to(device)
    sampler, teacher = distil.clear_answers(mini.semantic), mini.maskvat.to(device).eval()
    task = generator.task(distil.teach(teacher))

    def batch_of(rng: np.random.Generator, rows: int, length: int = config.crop) -> dict[str, Any]:
        return steering_batch(held, rng, rows, length, sampler)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        short = step < (1 - WHOLE_WINDOWS) * config.audio.steps
        length = config.crop if short else mini.recipe.codec_frames
        with autocast(device, best_precision(device)):
            return task(batch_of(rng, config.rows, length), step)

    begun = config.work / "audio_begun.pt"
    if not begun.exists():
        distil.begin_from(
            generator.audio, teacher, lambda step: batch_of(np.random.default_rng([1, step]), 6 * config.rows),
            generator.condition_tokens, config.summary_steps, log,
        )  # fmt: skip
        torch.save(generator.audio.state_dict(), begun)
    generator.audio.load_state_dict(torch.load(begun, map_location=device, weights_only=True))
    # Trained along, it would shrink to nothing before the layers after it have learnt to use it.
    generator.audio.summary.requires_grad_(False)  # type: ignore[union-attr]

    fit("audio", task, step_loss, config.audio, config.work, log=log)
    distil.clear_summary(
        generator.audio, teacher, lambda step: clear_batch(held, np.random.default_rng([7, step]), sampler, config),
        generator.condition_tokens, config.clear_steps, log,
    )  # fmt: skip
    torch.save(generator.audio.cpu().state_dict(), config.work / "audio.pt")


def steering_batch(
    held: SteeringCorpus, rng: np.random.Generator, rows: int, length: int, sampler: Answers | None = None
) -> dict[str, Any]:
    """Columns of `rows` random crops of `length` codec frames, with captions of their sounds; with a sampler, also
    `answers`, which the teacher sees.

    Some crops whose sound is the scene's own have no caption.
    """
    batch, crops = held.crops(rng, rows, length, OWN_SOUND)
    text = ["" if crop.own and rng.random() < UNCAPTIONED else crop.caption(rng) for crop in crops]
    columns: dict[str, Any] = dict(batch, text=text)
    if sampler is not None:
        columns["answers"] = distil.answers_to(sampler, crops, text, batch["semantic"], rng)
    return columns


def clear_batch(
    held: SteeringCorpus, rng: np.random.Generator, sampler: Answers, config: VattMiniConfig
) -> dict[str, Any]:
    """Columns of crops of a second for `distil.clear_summary`, half of them with the scene's own sound."""
    batch, crops = held.crops(rng, 6 * config.rows, config.crop // 2, 0.5)
    text = ["" if crop.own and rng.random() < UNCAPTIONED else crop.caption(rng) for crop in crops]
    answers = distil.answers_to(sampler, crops, text, batch["semantic"], rng, distil.CLEARER)
    return dict(
        batch, text=text, answers=answers, semantic=distil.other_pictures(batch["semantic"], text, rng)
    )


def export_vatt(config: VattMiniConfig, mini: Any, scenes: MiniConfig) -> None:
    """Write the checkpoint folder that `v2a dub --model vatt-mini` loads."""
    generator = untrained_generator(config, mini)
    generator.audio.load_state_dict(
        torch.load(config.work / "audio.pt", map_location="cpu", weights_only=True)
    )
    classifier, classes = load_classifier(config.mini)
    assert tuple(classes) == LABELS
    save_generator(generator, config.out, extra=dict(classifier=classifier), classes=classes)
    size = sum(file.stat().st_size for file in config.out.iterdir())
    log(f"export: {config.out}, {size / 1e6:.1f} MB; sha256 {generator.sha256[:16]}")


VATT_STAGES: dict[str, Callable[[VattMiniConfig, Any, MiniConfig], None]] = dict(
    corpus=corpus, converter=converter, audio=audio, export=export_vatt
)


def main() -> None:
    sys.exit(run(tyro.cli(VattMiniConfig, description=__doc__)))


if __name__ == "__main__":
    main()

"""`python -m jobs.mini.vatt`: trains the bundled `vatt-mini` from nothing. Resumable; needs neither Ray nor PyAV.

scenes with several sounds each -> converter (captions) -> VATT Audio (text decides what, picture when) -> weights
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from jobs.mini.config import log
from pipelines import synthfoley
from pipelines.captions import instructions
from pipelines.synthfoley import steering_corpus
from pipelines.synthfoley.steering_corpus import Block, Crop, SteerConfig, SteeringCorpus
from v2a_models.checkpoint import load_classifier, load_generator, save_generator
from v2a_models.generator import autocast, best_precision
from v2a_models.maskvat.sampling import SamplingConfig
from v2a_models.training.loop import FitConfig, fit
from v2a_models.vatt.audio import sized
from v2a_models.vatt.converter import Converter, ConverterConfig, ConverterTask, own_converter
from v2a_models.vatt.generator import VATTConfig, VATTGenerator
from v2a_models.vatt.language import SMALL
from v2a_models.vatt.masking import Masking

VATT_STAGES = ("corpus", "converter", "audio", "export")
UNCAPTIONED = 0.3
"""Fraction of the rows with a scene's own sound that are trained on an instruction alone, without a caption."""
OWN_SOUND = 0.4
"""Fraction of the rows whose sound is the scene's own."""

MASKING = Masking("arccos")
"""Arccos masks nearly everything most often, and the kind of sound is decided while nearly everything is masked."""
SAMPLING = SamplingConfig(steps=5, guidance=6.0, guided=0.2, choice_temperature=4.0, top_k=24)
"""Label smoothing spreads a tenth of the probability as noise; `top_k` cuts it off, which brings onsets back."""


@dataclass(frozen=True)
class VattMiniConfig:
    """Train the bundled `vatt-mini` on SynthFoley."""

    work: Path = Path("build/vatt-mini")
    """Corpus, training states and logs; a stopped run goes on from here."""
    out: Path = Path("v2a_models/weights/vatt-mini")
    """Folder of the finished checkpoint."""
    stages: tuple[str, ...] = VATT_STAGES
    """Stages to run, in this order; finished ones are skipped."""
    threads: int = 0
    """CPU threads of torch, and processes that render; 0 for all cores."""
    device: str = "auto"
    """Device to train on: cuda, cpu, or auto for cuda where available."""
    corpus: SteerConfig = field(default_factory=SteerConfig)
    converter: FitConfig = FitConfig(steps=400, learning_rate=2e-3, warmup=50, ema=0.98)
    audio: FitConfig = FitConfig(steps=4000, learning_rate=8e-4, warmup=100, ema=0.998)
    rows: int = 8
    """Crops of a step."""
    crop: int = 172
    """Codec frames of a crop (2 s). Attention without positions generalises to longer windows."""


def run(config: VattMiniConfig) -> int:
    """Run the stages; returns the exit code."""
    if unknown := sorted(set(config.stages) - set(VATT_STAGES)):
        print(f"unknown stages {unknown}; choose from {list(VATT_STAGES)}", file=sys.stderr)
        return 2
    torch.set_num_threads(config.threads or torch.get_num_threads())
    mini: Any = load_generator("mini")
    for name in config.stages:
        torch.manual_seed(0)
        log(f"== {name}")
        {"corpus": corpus, "converter": converter, "audio": audio, "export": export_vatt}[name](config, mini)
    return 0


def _device(config: VattMiniConfig) -> torch.device:
    name = config.device
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def corpus(config: VattMiniConfig, mini: Any) -> None:
    """Compute features and tokens of scenes with several sounds each."""
    steering_corpus.render_steering(config.work / "corpus", config.corpus, "mini", log, config.threads)


def converter(config: VattMiniConfig, mini: Any) -> None:
    """Train the small language model and its projection to caption the sound of a picture."""
    blocks = steering_corpus.load_steering(config.work / "corpus", config.corpus)
    device = _device(config)
    held = SteeringCorpus(blocks, device)
    task = ConverterTask(untrained_converter(config, blocks), 2).to(device)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        batch, crops = held.crops(rng, 16, 345, own=1.0)
        return task(dict(semantic=batch["semantic"], text=[caption_of(crop, rng) for crop in crops]), step)

    fit("converter", task, step_loss, config.converter, config.work, log=log)
    torch.save(task.converter.state_dict(), config.work / "converter.pt")


def untrained_converter(config: VattMiniConfig, blocks: list[Block]) -> Converter:
    """Untrained converter with the tokenizer of the work folder, which is made from the scenes' captions."""
    tokenizer = config.work / "tokenizer.json"
    if not tokenizer.exists():
        scenes = [scene for block in blocks for sounds in block.scenes for scene in sounds]
        texts = sorted({scene.caption for scene in scenes} | set(instructions.vocabulary()))
        tokenizer.write_text(own_converter(texts, 128, vocabulary=640).tokenizer)
    return Converter(
        ConverterConfig(128, own=SMALL, tokenizer=tokenizer.read_text(), max_text=32, words=True)
    )


def untrained_generator(config: VattMiniConfig, mini: Any) -> VATTGenerator:
    trained = untrained_converter(config, [])
    trained.load_state_dict(torch.load(config.work / "converter.pt", map_location="cpu", weights_only=True))
    sizes = sized(
        "mini", n_codebooks=4, codebook_size=512, condition_dim=trained.states_dim, sync_dim=128,
        shared=len(mini.maskvat.blocks) - 2, modulated=trained.config.visual_tokens,
    )  # fmt: skip
    settings = VATTConfig(sizes, trained.config, masking=MASKING, sampling=SAMPLING, own_caption=True)
    recipe = (
        mini.recipe if mini.recipe.encoders else dataclasses.replace(mini.recipe, encoders=_encoders(mini))
    )
    generator = VATTGenerator(recipe, mini.codec, mini.semantic, mini.sync, settings)
    assert generator.converter is not None
    generator.converter.load_state_dict(trained.state_dict())
    # Embeddings and heads of the codec's tokens carry over from mini. Its other weights (feed-forward, modulation,
    # attention) would slow the start down: positions and conditioning differ.
    generator.audio.embed.load_state_dict(mini.maskvat.embed.state_dict())
    generator.audio.heads.load_state_dict(mini.maskvat.heads.state_dict())
    generator.scav = mini.scav
    return generator


def _encoders(mini: Any) -> tuple[Any, ...]:
    from v2a_models.recipe import Encoder

    return tuple(Encoder(role, "mini", mini.sha256) for role in ("codec", "semantic", "sync"))


def audio(config: VattMiniConfig, mini: Any) -> None:
    """Train VATT Audio on every sound: the caption selects it, the picture times it."""
    device = _device(config)
    held = SteeringCorpus(steering_corpus.load_steering(config.work / "corpus", config.corpus), device)
    generator = untrained_generator(config, mini).to(device)
    task = generator.task()

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        batch = steering_batch(held, rng, config.rows, config.crop)
        with autocast(device, best_precision(device)):
            return task(batch, step)

    fit("audio", task, step_loss, config.audio, config.work, log=log)
    torch.save(generator.audio.cpu().state_dict(), config.work / "audio.pt")


def steering_batch(held: SteeringCorpus, rng: np.random.Generator, rows: int, length: int) -> dict[str, Any]:
    """Columns of `rows` random crops of `length` codec frames, with captions of their sounds.

    Some crops whose sound is the scene's own have no caption.
    """
    batch, crops = held.crops(rng, rows, length, OWN_SOUND)
    text = ["" if crop.own and rng.random() < UNCAPTIONED else caption_of(crop, rng) for crop in crops]
    return dict(batch, text=text)


def caption_of(crop: Crop, rng: np.random.Generator) -> str:
    """Caption of a crop, in SynthFoley's words or reworded."""
    text = steering_corpus.caption_of(crop.scene, rng, crop.start_s, crop.length_s)
    return instructions.reworded(crop.scene.label, text, rng)


def export_vatt(config: VattMiniConfig, mini: Any) -> None:
    """Write the checkpoint folder that `v2a dub --model vatt-mini` loads."""
    generator = untrained_generator(config, mini)
    generator.audio.load_state_dict(
        torch.load(config.work / "audio.pt", map_location="cpu", weights_only=True)
    )
    classifier, classes = load_classifier("mini")
    assert tuple(classes) == synthfoley.CLASSES
    save_generator(generator, config.out, extra=dict(classifier=classifier), classes=classes)
    size = sum(file.stat().st_size for file in config.out.iterdir())
    log(f"export: {config.out}, {size / 1e6:.1f} MB; sha256 {generator.sha256[:16]}")


def main() -> None:
    sys.exit(run(tyro.cli(VattMiniConfig, description=__doc__)))


if __name__ == "__main__":
    main()

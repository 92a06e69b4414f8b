"""`python -m jobs.vatt_mini`: trains the bundled `vatt-mini` from nothing. Resumable; neither Ray nor PyAV.

scenes with several sounds each -> converter (captions) -> VATT Audio (text decides what, picture when) -> weights
"""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from pipelines import instructions, steercorpus, synthfoley
from pipelines.steercorpus import Block, SteerConfig
from v2a_models import grid
from v2a_models.checkpoint import load_classifier, load_generator, save_generator
from v2a_models.maskvat.sampling import SamplingConfig
from v2a_models.training import FitConfig, fit
from v2a_models.vatt.audio import sized
from v2a_models.vatt.converter import Converter, ConverterConfig, ConverterTask, own_converter
from v2a_models.vatt.generator import VATTConfig, VATTGenerator
from v2a_models.vatt.language import SMALL

STAGES = ("corpus", "converter", "audio", "export")
ONLY_SEEN = 0.3
"""Share of the rows with a scene's own sound that are trained with an instruction instead of a caption."""
OWN_SOUND = 0.4
"""Share of the rows whose sound is the scene's own."""

SAMPLING = SamplingConfig(steps=12, guidance=2.5, choice_temperature=4.0)


@dataclass(frozen=True)
class VattMiniConfig:
    """Train the bundled `vatt-mini` on SynthFoley."""

    work: Path = Path("build/vatt-mini")
    """Corpus, training states and logs; a run that was stopped goes on from here."""
    out: Path = Path("v2a_models/weights/vatt-mini")
    """Where the finished checkpoint goes."""
    stages: tuple[str, ...] = STAGES
    """Which stages to run, in this order; finished ones are skipped."""
    threads: int = 0
    """CPU threads of torch; 0 for all cores."""
    corpus: SteerConfig = field(default_factory=SteerConfig)
    converter: FitConfig = FitConfig(steps=400, learning_rate=2e-3, warmup=50, ema=0.98)
    audio: FitConfig = FitConfig(steps=4000, learning_rate=1e-3, warmup=150, ema=0.995)
    rows: int = 8
    """Crops of a step."""
    crop: int = 130
    """Codec frames of a crop, 1.5 s: attention without positions takes up longer windows by itself."""


def run(config: VattMiniConfig) -> int:
    """Runs the stages; returns the exit code."""
    if unknown := sorted(set(config.stages) - set(STAGES)):
        print(f"unknown stages {unknown}; choose from {list(STAGES)}", file=sys.stderr)
        return 2
    torch.set_num_threads(config.threads or torch.get_num_threads())
    mini: Any = load_generator("mini")
    for name in config.stages:
        torch.manual_seed(0)
        log(f"== {name}")
        {"corpus": corpus, "converter": converter, "audio": audio, "export": export}[name](config, mini)
    return 0


def log(text: str) -> None:
    """One plain line with the time of day."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def corpus(config: VattMiniConfig, mini: Any) -> None:
    """Features and tokens of scenes with several sounds."""
    steercorpus.render(config.work / "corpus", config.corpus, mini, log)


def converter(config: VattMiniConfig, mini: Any) -> None:
    """The small language model with its projection: what does the picture sound like?"""
    blocks = steercorpus.load(config.work / "corpus", config.corpus)
    task = ConverterTask(untrained_converter(config, blocks), 2)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        crops = [random_crop(blocks, rng, 345, own=1.0) for _ in range(16)]
        texts = [words_of(crop, rng) for crop in crops]
        return task(dict(semantic=torch.stack([crop["semantic"] for crop in crops]), text=texts), step)

    fit("converter", task, step_loss, config.converter, config.work, log=log)
    torch.save(task.converter.state_dict(), config.work / "converter.pt")


def untrained_converter(config: VattMiniConfig, blocks: list[Block]) -> Converter:
    """Untrained, around the tokenizer that the work folder holds, or one made of the scenes' captions."""
    kept = config.work / "tokenizer.json"
    if not kept.exists():
        scenes = [scene for block in blocks for sounds in block.scenes for scene in sounds]
        texts = sorted({scene.caption for scene in scenes} | set(instructions.vocabulary()))
        kept.write_text(own_converter(texts, 128, vocabulary=640).tokenizer)
    return Converter(ConverterConfig(128, own=SMALL, tokenizer=kept.read_text(), max_text=32))


def untrained_generator(config: VattMiniConfig, mini: Any) -> VATTGenerator:
    trained = untrained_converter(config, [])
    trained.load_state_dict(torch.load(config.work / "converter.pt", map_location="cpu", weights_only=True))
    sizes = sized("mini", n_codebooks=4, codebook_size=512, condition_dim=trained.width, sync_dim=128)
    settings = VATTConfig(sizes, trained.config, sampling=SAMPLING)
    recipe = (
        mini.recipe if mini.recipe.encoders else dataclasses.replace(mini.recipe, encoders=_encoders(mini))
    )
    generator = VATTGenerator(recipe, mini.codec, mini.semantic, mini.sync, settings)
    assert generator.converter is not None
    generator.converter.load_state_dict(trained.state_dict())
    # The codec's tokens mean what they meant to the model that was trained on them before.
    generator.audio.embed.load_state_dict(mini.maskvat.embed.state_dict())
    generator.audio.heads.load_state_dict(mini.maskvat.heads.state_dict())
    generator.scav = mini.scav
    return generator


def _encoders(mini: Any) -> tuple[Any, ...]:
    from v2a_models.recipe import Encoder

    return tuple(Encoder(role, "mini", mini.sha256) for role in ("codec", "semantic", "sync"))


def audio(config: VattMiniConfig, mini: Any) -> None:
    """VATT Audio on all sounds: captions say which, the picture says when."""
    blocks = steercorpus.load(config.work / "corpus", config.corpus)
    generator = untrained_generator(config, mini)
    task = generator.task()

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        return task(steering_batch(blocks, rng, config.rows, config.crop), step)

    fit("audio", task, step_loss, config.audio, config.work, log=log)
    torch.save(generator.audio.state_dict(), config.work / "audio.pt")


def steering_batch(
    blocks: list[Block], rng: np.random.Generator, rows: int, length: int, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Columns of `rows` random crops of `length` codec frames, each with a caption of what is heard or, where that
    is what is seen, sometimes without."""
    crops = [random_crop(blocks, rng, length, OWN_SOUND) for _ in range(rows)]
    batch: dict[str, Any] = {
        name: torch.stack([crop[name] for crop in crops]).to(device) for name in ("semantic", "sync", "codes")
    }
    batch["text"] = [
        "" if crop["own"] and rng.random() < ONLY_SEEN else words_of(crop, rng) for crop in crops
    ]
    return batch


def random_crop(blocks: list[Block], rng: np.random.Generator, length: int, own: float) -> dict[str, Any]:
    """A random stretch of a random scene: features, tokens and what is heard. Of three, the one with most events."""
    block = blocks[int(rng.integers(len(blocks)))]
    row = int(rng.integers(len(block.semantic)))
    sound = 0 if rng.random() < own else int(rng.integers(1, block.codes.shape[1]))
    scene = block.scenes[row][sound]
    length_s = grid.seconds(length * grid.HOP)
    n = grid.frame_count(length_s, 25)
    best, most = 0, -1
    for _ in range(3):
        at = int(rng.integers(block.sync.shape[1] - n + 1))
        inside = sum(at / 25 <= event.onset_s < at / 25 + length_s for event in scene.events)
        if inside > most:
            best, most = at, inside
    start_s = best / 25
    first = min(round(grid.samples(start_s) / grid.HOP), block.codes.shape[-1] - length)
    seen = grid.frame_index(start_s, 8)
    slow = block.semantic[row, seen : seen + grid.frame_count(length_s, 8)]
    slow = np.pad(slow, ((0, grid.frame_count(length_s, 8) - len(slow)), (0, 0)), mode="edge")
    return dict(
        semantic=torch.from_numpy(slow.astype(np.float32)),
        sync=torch.from_numpy(block.sync[row, best : best + n].astype(np.float32)),
        codes=torch.from_numpy(block.codes[row, sound, :, first : first + length].astype(np.int64)),
        scene=scene, own=sound == 0, start_s=start_s, length_s=length_s,
    )  # fmt: skip


def words_of(crop: dict[str, Any], rng: np.random.Generator) -> str:
    """A caption of a crop, in SynthFoley's words or in others."""
    text = steercorpus.caption_of(crop["scene"], rng, crop["start_s"], crop["length_s"])
    return instructions.reworded(crop["scene"].label, text, rng)


def export(config: VattMiniConfig, mini: Any) -> None:
    """The checkpoint folder that `v2a dub --model vatt-mini` loads."""
    generator = untrained_generator(config, mini)
    generator.audio.load_state_dict(
        torch.load(config.work / "audio.pt", map_location="cpu", weights_only=True)
    )
    judge, classes = load_classifier("mini")
    assert tuple(classes) == synthfoley.CLASSES
    save_generator(generator, config.out, extra=dict(classifier=judge), classes=classes)
    size = sum(file.stat().st_size for file in config.out.iterdir())
    log(f"export: {config.out}, {size / 1e6:.1f} MB; sha256 {generator.sha256[:16]}")


def main() -> None:
    sys.exit(run(tyro.cli(VattMiniConfig, description=__doc__)))


if __name__ == "__main__":
    main()

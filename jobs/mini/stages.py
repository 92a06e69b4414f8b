"""Stages of `make mini`: each trains (`jobs.mini.training`) or computes one part and keeps it in the work folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from jobs.mini import training
from jobs.mini.parts import Log, load_part
from pipelines import synthfoley
from pipelines.synthfoley.corpus import load, render
from v2a_models import grid, pcm
from v2a_models.checkpoint import load_classifier, load_generator, save_generator
from v2a_models.codec.dac import Codec
from v2a_models.generator import Generator, autocast, best_precision
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.metrics.foley import FoleyScore, foley_score
from v2a_models.recipe import Recipe
from v2a_models.seeds import window_seed

if TYPE_CHECKING:
    from jobs.mini.config import MiniConfig


def render_corpus(config: MiniConfig, device: str, log: Log) -> None:
    """Render the scenes to arrays on disk, by a pool of processes."""
    for kind in ("sounds", "frames"):
        render(config.work / "corpus", config.corpus, kind, torch.get_num_threads(), log)


def tokens(config: MiniConfig, device: str, log: Log) -> None:
    """Encode every whole scene to codec tokens."""
    model = load_part(config, "codec", device)
    assert isinstance(model, Codec)
    target = config.work / "codes_train.pt"
    if target.exists():
        return
    corpus = load(config.work / "corpus", config.corpus, "train", with_frames=False)
    codes = []
    for at in range(0, len(corpus), 4):
        sounds = torch.from_numpy(np.stack(corpus.sounds[at : at + 4])).float()[:, None] / pcm.EXACT_SCALE
        # bfloat16 changes the latents far less than the quantiser does, and is five times as fast where supported.
        with autocast(device, best_precision(device)):
            codes.append(model.encode(sounds.to(device)).to(torch.int16).cpu())
        if at % 100 == 0:
            log(f"tokens: {at}/{len(corpus)}")
    torch.save(torch.cat(codes), target)


def features(config: MiniConfig, device: str, log: Log) -> None:
    """Compute the CLIP and S3D features of every whole scene."""
    semantic, sync = load_part(config, "clip", device), load_part(config, "sync", device)
    target = config.work / "features_train.pt"
    if target.exists():
        return
    corpus = load(config.work / "corpus", config.corpus, "train")
    picks = [grid.frame_index(t, 25) for t in grid.frame_times(0, config.corpus.seconds, 8)]
    computed: dict[str, list[Tensor]] = dict(semantic=[], sync=[])
    with torch.no_grad(), autocast(device, best_precision(device)):
        for at in range(0, len(corpus), 4):
            frames = torch.from_numpy(np.stack(corpus.frames[at : at + 4])).to(device)
            computed["semantic"].append(semantic(frames[:, picks]).half().cpu())
            computed["sync"].append(sync(frames).half().cpu())
            if at % 100 == 0:
                log(f"features: {at}/{len(corpus)}")
    torch.save({k: torch.cat(v) for k, v in computed.items()}, target)


def export(config: MiniConfig, device: str, log: Log) -> None:
    """Join the parts into the checkpoint folder that `v2a dub --model mini` loads."""
    parts: Any = [load_part(config, part, "cpu") for part in ("codec", "clip", "sync", "maskvat")]
    generator = MaskVATGenerator(Recipe(name="mini"), *parts)
    scav: Any = load_part(config, "scav", "cpu")
    generator.scav, classifier = scav, load_part(config, "classifier", "cpu")
    save_generator(generator, config.out, extra=dict(classifier=classifier), classes=synthfoley.CLASSES)
    size = sum(f.stat().st_size for f in config.out.iterdir())
    log(f"export: {config.out}, {size / 1e6:.1f} MB; sha256 {generator.sha256[:16]}")


def evaluate(config: MiniConfig, device: str, log: Log) -> None:
    """Log the quality on held-out scenes at the models' own frame size, as a quick check.

    The figures of the card come from the whole pipeline (benchmarks/mini_quality.py).
    """
    generator = load_generator(str(config.out), device)
    classifier, _ = load_classifier(str(config.out))
    for name, sounds, held_out in held_out_sounds(config, generator, device):
        log(
            f"evaluate: {name:>13}: "
            + _figures(foley_score(sounds, held_out.events, held_out.labels, classifier))
        )


def _figures(score: FoleyScore) -> str:
    return ", ".join(f"{k} {v:.3g}" for k, v in vars(score).items())


@dataclass
class HeldOut:
    """Windows of the validation scenes."""

    frames: list[np.ndarray]
    sounds: list[np.ndarray]
    events: list[list[float] | None]
    labels: np.ndarray


def held_out_windows(config: MiniConfig, recipe: Recipe) -> HeldOut:
    """Cut one window from the middle of each validation scene."""
    corpus = load(config.work / "corpus", config.corpus, "val")
    n_frames, start = grid.frame_count(recipe.window_s, recipe.view("sync").fps), 40
    first = grid.samples(start / recipe.view("sync").fps)
    events: list[list[float] | None] = []
    for label, scene_events in zip(corpus.labels, corpus.events, strict=True):
        onsets = [t - grid.seconds(first) for t in scene_events]
        inside = [t for t in onsets if 0 <= t < recipe.window_s]
        events.append(inside if synthfoley.CLASSES[label] in synthfoley.IMPACTS else None)
    return HeldOut(
        [f[start : start + n_frames] for f in corpus.frames],
        [s[first : first + recipe.window].astype(np.float32) / pcm.EXACT_SCALE for s in corpus.sounds],
        events,
        corpus.labels,
    )


def semantic_picks(recipe: Recipe) -> list[int]:
    """Indices of the semantic frames among the sync frames of a window."""
    times = grid.frame_times(0, recipe.window_s, recipe.view("semantic").fps)
    return [grid.frame_index(t, recipe.view("sync").fps) for t in times]


def held_out_sounds(
    config: MiniConfig, generator: Generator, device: str, **sampling: float
) -> Iterator[tuple[str, list[np.ndarray], HeldOut]]:
    """Rows of the quality table: the true sound, its resynthesis by the codec (the upper bound), and the model's."""
    assert isinstance(generator, MaskVATGenerator)
    held_out = held_out_windows(config, generator.recipe)
    yield "ground truth", held_out.sounds, held_out
    picks = semantic_picks(generator.recipe)
    resynthesised: list[np.ndarray] = []
    generated: list[np.ndarray] = []
    for at in range(0, len(held_out.frames), 8):
        sounds = torch.from_numpy(np.stack(held_out.sounds[at : at + 8]))[:, None].to(device)
        resynthesised += list(
            generator.codec.decode(generator.codec.encode(sounds), sounds.shape[-1])[:, 0].cpu().numpy()
        )
        frames = torch.from_numpy(np.stack(held_out.frames[at : at + 8])).to(device)
        seeds = [window_seed(0, "val", at + i) for i in range(len(frames))]
        generated += list(
            generator.generate_from_frames({"semantic": frames[:, picks], "sync": frames}, seeds, **sampling)[
                :, 0
            ]
            .cpu()
            .numpy()
        )
    yield "resynthesis", resynthesised, held_out
    yield "model", generated, held_out


STAGES: dict[str, Callable[[MiniConfig, str, Log], None]] = dict(
    corpus=render_corpus,
    codec_spectra=training.codec_spectra,
    codec=training.codec,
    visual=training.visual,
    tokens=tokens,
    features=features,
    scav=training.scav,
    maskvat=training.maskvat,
    classifier=training.classifier,
    export=export,
    evaluate=evaluate,
)

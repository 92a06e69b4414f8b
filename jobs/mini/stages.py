"""Stages of `make mini`: each trains (`jobs.mini.training`) or computes one part and keeps it in the work folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from jobs.mini import training
from jobs.mini.credits import write_credits
from jobs.mini.parts import MINI_LEVEL, MINI_SAMPLING, RECIPE, Log, cells_of, corpus_of, load_part, windows_of
from jobs.mini.training import drawn_frames
from pipelines import storage, synthfoley
from pipelines.foley import corpus as foley
from pipelines.foley.corpus import LABELS
from pipelines.foley.expectation import answers_of
from pipelines.synthfoley.corpus import render
from v2a_models import grid, pcm
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_classifier, load_generator, save_generator
from v2a_models.codec.dac import Codec
from v2a_models.encoders.efficientnet import SoundExpectation
from v2a_models.encoders.motion import MotionEncoder
from v2a_models.encoders.sound_classes import EVENT_CLASSES
from v2a_models.generator import Generator, autocast, best_precision
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.metrics.foley import FoleyScore, foley_score
from v2a_models.seeds import window_seed

if TYPE_CHECKING:
    from jobs.mini.config import MiniConfig

ANSWERS = 6
"""Different answers of the image classifier to each Foley scene."""


def recordings(config: MiniConfig, device: str, log: Log) -> None:
    """Read the folder of recordings once, and synthesise what it lacks."""
    try:
        library = foley.write_library(config.work / "foley", config.sounds, config.exclude, log)
    except (storage.StorageError, ValueError) as error:
        raise SystemExit(f"--sounds {config.sounds}: {error}") from error
    log(
        f"recordings: {len(library.recordings)} of {len(library.labels)} classes, {len(library.left_out)} left out"
    )


def render_corpus(config: MiniConfig, device: str, log: Log) -> None:
    """Render the scenes to arrays on disk, by a pool of processes."""
    for kind in ("sounds", "frames"):
        foley.render(config.work / "foley", config.foley, kind, torch.get_num_threads(), log)
        render(config.work / "corpus", config.corpus, kind, torch.get_num_threads(), log)


def tokens(config: MiniConfig, device: str, log: Log) -> None:
    """Encode every whole scene to codec tokens."""
    model = load_part(config, "codec", device)
    assert isinstance(model, Codec)
    for split in ("train", "val"):
        target = config.work / f"codes_{split}.pt"
        if target.exists():
            continue
        corpus = corpus_of(config, split, with_frames=False)
        codes = []
        for at in range(0, len(corpus), 4):
            sounds = torch.from_numpy(np.stack(corpus.sounds[at : at + 4])).float()[:, None] / pcm.EXACT_SCALE
            codes.append(model.encode(sounds.to(device)).to(torch.int16).cpu())
            if at % 400 == 0:
                log(f"tokens: {split} {at}/{len(corpus)}")
        torch.save(torch.cat(codes), target)


def features(config: MiniConfig, device: str, log: Log) -> None:
    """Compute the synchrony features of every whole scene, and semantic features, several for each Foley scene."""
    for split in ("train", "val"):
        target = config.work / f"features_{split}.pt"
        if not target.exists():
            semantic = semantic_features(config, split, device, log)
            torch.save(dict(semantic=semantic, sync=_sync_features(config, split, device, log)), target)


def _sync_features(config: MiniConfig, split: str, device: str, log: Log) -> Tensor:
    """Features of the motion encoder, float16 (N, T2, D)."""
    sync, cells = load_part(config, "sync", device), cells_of(config, split, log)
    assert isinstance(sync, MotionEncoder)
    with torch.no_grad(), autocast(device, best_precision(device)):
        parts = [
            sync.of_cells(torch.from_numpy(cells[at : at + 8]).to(device)) for at in range(0, len(cells), 8)
        ]
    return torch.cat([part.half().cpu() for part in parts])


def semantic_features(config: MiniConfig, split: str, device: str, log: Log) -> Tensor:
    """Answers of the image classifier, float16 (N, ANSWERS, T1, D): drawn for Foley scenes, true for SynthFoley's."""
    expectation = load_part(config, "semantic", device)
    assert isinstance(expectation, SoundExpectation)
    fps = RECIPE.view("semantic").fps
    n_frames = grid.frame_count(config.foley.seconds, fps)
    sampler, rows = answers_of(expectation.cpu()), []
    for scene in foley.scenes_of(config.work / "foley", config.foley, split):
        rows.append(np.stack([sampler.draw(scene, n_frames, scene.rng(20 + k)) for k in range(ANSWERS)]))
    expectation.to(device)
    for index in range(config.corpus.scenes):
        drawn = synthfoley.make_scene(config.corpus.seed, index, config.corpus.seconds)
        if drawn.split != split:
            continue
        times = np.minimum(grid.frame_times(0.0, config.corpus.seconds, fps), config.corpus.seconds - 0.05)
        frames = torch.from_numpy(drawn_frames(drawn, times)).to(device)
        with torch.no_grad(), autocast(device, best_precision(device)):
            answer = expectation(frames[None])[0].float().cpu().numpy()
        rows.append(np.repeat(answer[None, :n_frames], ANSWERS, 0))
        if index % 50 == 0:
            log(f"features: {split} {index}/{config.corpus.scenes} drawings")
    return torch.from_numpy(np.stack(rows)).half()


def export(config: MiniConfig, device: str, log: Log) -> None:
    """Join the parts into the checkpoint folder that `v2a dub --model mini` loads."""
    parts: Any = [load_part(config, part, "cpu") for part in ("codec", "semantic", "sync", "maskvat")]
    generator = MaskVATGenerator(RECIPE, *parts)
    generator.sampling, generator.level = MINI_SAMPLING, MINI_LEVEL
    scav: Any = load_part(config, "scav", "cpu")
    generator.scav, classifier = scav, load_part(config, "classifier", "cpu")
    save_generator(generator, config.out, extra=dict(classifier=classifier), classes=LABELS)
    write_credits(foley.library_of(config.work / "foley").recordings, config.out / "credits.csv")
    size = sum(file.stat().st_size for file in config.out.iterdir())
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
    """Windows from the middle of the validation scenes."""

    semantic: Tensor
    sync: Tensor
    sounds: list[np.ndarray]
    events: list[list[float] | None]
    labels: np.ndarray


def held_out_windows(config: MiniConfig) -> HeldOut:
    """Cut one window from the middle of each validation scene."""
    corpus, data = corpus_of(config, "val", with_frames=False), windows_of(config, "val")
    fast, slow = RECIPE.view("sync").fps, RECIPE.view("semantic").fps
    n_fast, n_slow = (grid.frame_count(RECIPE.window_s, fps) for fps in (fast, slow))
    start_s = 1.6  # a whole number of frames of both
    first, at_fast, at_slow = grid.samples(start_s), round(start_s * fast), round(start_s * slow)
    events: list[list[float] | None] = []
    for label, onsets in zip(corpus.labels, corpus.events, strict=True):
        inside = [t - start_s for t in onsets if 0 <= t - start_s < RECIPE.window_s]
        events.append(inside if LABELS[label] in EVENT_CLASSES else None)
    return HeldOut(
        data.semantic[:, 0, at_slow : at_slow + n_slow].float(),
        data.sync[:, at_fast : at_fast + n_fast].float(),
        [s[first : first + RECIPE.window].astype(np.float32) / pcm.EXACT_SCALE for s in corpus.sounds],
        events,
        corpus.labels,
    )


def held_out_sounds(
    config: MiniConfig, generator: Generator, device: str, **sampling: Any
) -> Iterator[tuple[str, list[np.ndarray], HeldOut]]:
    """Rows of the quality table: the true sound, its resynthesis by the codec (the upper bound), and the model's."""
    assert isinstance(generator, MaskVATGenerator)
    held_out = held_out_windows(config)
    yield "ground truth", held_out.sounds, held_out
    resynthesised: list[np.ndarray] = []
    generated: list[np.ndarray] = []
    for at in range(0, len(held_out.sounds), 8):
        sounds = torch.from_numpy(np.stack(held_out.sounds[at : at + 8]))[:, None].to(device)
        codec, rows = generator.codec, slice(at, at + 8)
        resynthesised += list(codec.decode(codec.encode(sounds), sounds.shape[-1])[:, 0].cpu().numpy())
        batch = Batch(semantic=held_out.semantic[rows].to(device), sync=held_out.sync[rows].to(device))
        seeds = [window_seed(0, "val", at + i) for i in range(len(sounds))]
        generated += list(generator.generate(batch, seeds=seeds, **sampling).mean(1).cpu().numpy())
    yield "resynthesis", resynthesised, held_out
    yield "model", generated, held_out


STAGES: dict[str, Callable[[MiniConfig, str, Log], None]] = dict(
    recordings=recordings,
    corpus=render_corpus,
    semantic=training.semantic,
    codec_spectra=training.codec_spectra,
    codec=training.codec,
    sync=training.sync,
    tokens=tokens,
    features=features,
    scav=training.scav,
    maskvat=training.maskvat,
    classifier=training.classifier,
    export=export,
    evaluate=evaluate,
)

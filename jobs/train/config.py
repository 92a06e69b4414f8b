"""Options of `v2a train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional

from jobs.cli import command_line
from jobs.common.options import (
    Address,
    Advanced,
    EncoderWeights,
    Gpus,
    ModelSettings,
    Note,
    Precision,
    RunName,
    TrackingUri,
)


@dataclass
class TrainConfig:
    """Train a generator on a feature store. Run the same command again to resume; you may raise --steps.

    OUT becomes a checkpoint folder for `v2a dub --model OUT`, with card.md and curves.png. During training, only
    OUT/_v2a is written: the last two checkpoints, sounds of every validation, and MLflow's records. Lost workers are
    replaced, and training continues from the last checkpoint.
    """

    name: Annotated[Positional[str], Note(metavar="SYSTEM")]
    """System to train. On stores like those of the recipes mini and base: maskvat-adaln, maskvat-seq2seq,
    maskvat-hybrid. On stores with texts: vatt-converter (a language model that takes visual features), then vatt,
    vatt-cross-attn or vatt-v with it. On the recipe raw: deep-fusion, wavenet, av-transformer, vqvae-fc."""
    store: Positional[str]
    """Feature store made by `v2a extract`: a folder or s3://bucket/prefix. Trains on its split `train` and validates on
    `val`; without a `val`, a twentieth of the videos is held out."""
    out: Annotated[str, Note(metavar="OUT")]
    """Folder or s3:// prefix for the model. Every machine needs access to it."""
    steps: int = 20_000
    """Total optimiser steps. A higher number than before continues the training on the longer schedule."""
    workers: int | None = None
    """Data-parallel worker processes; by default one per GPU, or one."""
    min_workers: int | None = None
    """Elastic training: continue with fewer workers, but at least this many, while machines are missing."""
    size: str = "mini"
    """Model size: mini (trains on two cores), base or large."""
    batch_size: int = 32
    """Windows per optimiser step, over all workers."""
    accumulate: int = 1
    """Gradient accumulation: micro-batches per batch. Saves memory; the training stays the same."""
    learning_rate: float = 1e-3
    """Peak learning rate, reached after the warm-up; it then decays along a cosine to a twentieth."""
    warmup: int = 200
    """Warm-up steps."""
    weight_decay: float = 0.01
    """Weight decay of matrices; biases, norms and single vectors have none."""
    clip_norm: Advanced[float] = 1.0
    """Largest gradient norm; longer gradients are scaled down to it."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is the final model; 0 keeps the last weights."""
    precision: Precision = "auto"
    strategy: Advanced[Literal["auto", "ddp", "fsdp"]] = "auto"
    """ddp: every worker holds the whole model. fsdp: workers hold shards of it. auto: fsdp for size large."""
    save_every: int = 500
    """Steps between checkpoints, and so the most that a crash can lose."""
    validate_every: int = 500
    """Steps between validations."""
    max_failures: int = 3
    """Lost workers or machines to tolerate; -1 for any number."""
    seed: int = 0
    """Random seed of initial weights, row order and masking."""
    start: str = ""
    """Initialise from this checkpoint (folder or bundled name). vqvae-fc trains in two stages: first
    the pictures; then the sound, with --start FIRST --set stage=2."""
    set: ModelSettings = ()
    protocol: Advanced[Literal["splits", "per-video"]] = "splits"
    """Validation data. splits: the store's splits, so other videos than those trained on. per-video: the last fifth of
    every video, and training on the first four (2308.12408)."""
    weights: EncoderWeights = ()
    gpus: Gpus = "auto"
    address: Address = None
    run_name: RunName = ""
    tracking_uri: TrackingUri = None


def command(config: TrainConfig) -> str:
    """The command line of this configuration: it resumes the training."""
    return command_line("train", config, positional=("name", "store"))

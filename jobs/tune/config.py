"""Options of `v2a tune`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

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
class Space:
    """Search space: options of `v2a train`, with a range or a list each. Two equal bounds, or one choice, fix it."""

    learning_rate: tuple[float, float] = (2e-4, 5e-3)
    """Bounds of the learning rate, sampled log-uniformly."""
    warmup: tuple[int, int] = (20, 300)
    """Bounds of the warm-up steps."""
    weight_decay: tuple[float, float] = (1e-3, 0.1)
    """Bounds of the weight decay, sampled log-uniformly."""
    ema: tuple[float, ...] = (0.99, 0.999)
    """Choices of the weight average's decay."""
    batch_size: tuple[int, ...] = (32,)
    """Choices of windows per step."""
    dim: tuple[int, ...] = ()
    """Choices of the model's width; by default that of its size."""
    depth: tuple[int, ...] = ()
    """Choices of the number of blocks; by default that of the model's size."""
    choose: Annotated[tuple[str, ...], Note(metavar="NAME=VALUE,VALUE")] = ()
    """Choices of other fields of the model's config, such as heads=4,8 encoder_depth=1,2,4."""


@dataclass
class TuneConfig:
    """Search for the settings with which a generator trains best. Run the same command again to resume.

    Every trial is a training with settings that Optuna suggests from the results so far; ASHA stops trials that fall
    behind. OUT gets trials.parquet, trials.csv, trials.png, best.json with the `v2a train` command of the best trial,
    and OUT/best with its weights, for `v2a dub --model OUT/best`. To continue later, raise --trials.
    """

    name: Annotated[Positional[str], Note(metavar="SYSTEM")]
    """System to train. On stores like those of the recipes mini and base: maskvat-adaln, maskvat-seq2seq,
    maskvat-hybrid. On the recipe raw: deep-fusion, wavenet, av-transformer, vqvae-fc."""
    store: Positional[str]
    """Feature store made by `v2a extract`: a folder or s3://bucket/prefix."""
    out: Annotated[str, Note(metavar="OUT")]
    """Folder or s3:// prefix for the results. Every machine needs access to it."""
    trials: int = 20
    """Total trials; a higher number than before adds some."""
    steps: int = 2000
    """Optimiser steps of a trial that runs to its end."""
    grace: int = 200
    """Steps that every trial gets; also the steps between validations, and the most a crash costs a trial."""
    reduction: Advanced[int] = 3
    """ASHA's reduction factor: at `grace` steps, and at each multiple by this factor, the best 1 in this many goes
    on."""
    workers: int | None = None
    """Concurrent trials; by default one per GPU, or two. More trials than GPUs share them."""
    size: str = "mini"
    """Model size: mini (trains on two cores), base or large."""
    space: Space = field(default_factory=Space)
    metric: str = "loss"
    """Validation metric to minimise: loss, or a part of it such as codes."""
    precision: Precision = "auto"
    seed: int = 0
    """Random seed of the suggestions; every trial has the same one for initial weights and row order."""
    start: str = ""
    """Initialise every trial from this checkpoint (folder or bundled name)."""
    set: ModelSettings = ()
    weights: EncoderWeights = ()
    gpus: Gpus = "auto"
    address: Address = None
    run_name: RunName = ""
    tracking_uri: TrackingUri = None


def command(config: TuneConfig) -> str:
    """The command line of this configuration: it resumes the search."""
    line = command_line("tune", config, positional=("name", "store"), without=("space",))
    return line + command_line("tune", config.space, positional=()).removeprefix("v2a tune")

"""Options of `v2a tune`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from jobs.cli import command_line


@dataclass
class Space:
    """What to try. Two equal numbers, or a single choice, fix a value.

    The options are those of `v2a train` with a range or a list instead of one value.
    """

    learning_rate: tuple[float, float] = (2e-4, 5e-3)
    """Lowest and highest; in between evenly over magnitudes."""
    warmup: tuple[int, int] = (20, 300)
    """Fewest and most steps of warm-up."""
    weight_decay: tuple[float, float] = (1e-3, 0.1)
    """Lowest and highest; evenly over magnitudes."""
    ema: tuple[float, ...] = (0.99, 0.999)
    """Decays of the averaged weights to choose from."""
    batch_size: tuple[int, ...] = (32,)
    """Windows per step to choose from."""
    dim: tuple[int, ...] = ()
    """Widths of the model to choose from; by default that of its size."""
    depth: tuple[int, ...] = ()
    """Numbers of blocks to choose from; by default that of its size."""
    choose: tuple[str, ...] = ()
    """Other fields of the model's config, each with its choices, for instance --choose heads=4,8
    encoder_depth=1,2,4."""


@dataclass
class TuneConfig:
    """Look for the settings with which a generator trains best. Run the same command again to resume.

    Every trial is a training with settings that Optuna suggests from those before; ASHA stops the ones that fall
    behind. DIR gets trials.parquet, trials.csv, trials.png, best.json with the `v2a train` command of the best
    trial, and DIR/best with its weights, for `v2a dub --model DIR/best`. More --trials later go on from there.
    """

    name: Annotated[str, tyro.conf.Positional]
    """What to train: maskvat-adaln, maskvat-seq2seq, maskvat-hybrid (stores like those of the recipes mini and base),
    deep-fusion, wavenet, av-transformer, vqvae-fc (recipe raw)."""
    store: Annotated[str, tyro.conf.Positional]
    """Feature store that `v2a extract` made: a folder or s3://bucket/prefix."""
    out: str
    """Where the results go: a folder or s3:// prefix. On several machines it must be the same place for all."""
    trials: int = 20
    """Trials in all; a higher number than before adds some."""
    steps: int = 2000
    """Optimiser steps of a trial that is not stopped."""
    grace: int = 200
    """Steps that every trial gets; also between two validations, and what a crash costs a trial at most."""
    reduction: int = 3
    """At `grace` steps, and again at so many times as many, the best one in so many trials goes on."""
    workers: int | None = None
    """Trials at a time: by default one per GPU, or two. More than GPUs share them."""
    size: str = "mini"
    """mini (two cores train it), base, or large."""
    space: Space = field(default_factory=Space)
    metric: str = "loss"
    """The validation figure that decides, lower is better: loss, or a part of it such as codes."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward pass; `auto` takes bfloat16 where the hardware has it."""
    seed: int = 0
    """Decides the suggestions, and in every trial alike the first weights and the order of the rows."""
    start: str = ""
    """Start every trial from the weights of this checkpoint instead of random ones."""
    set: tuple[str, ...] = ()
    """Fields of the model's config for all trials, for instance --set encoder_depth=1."""
    weights: tuple[str, ...] = ()
    """Local weights files of the recipe's encoders by role, for instance codec=/models/dac.pth; published ones are
    found by name otherwise. The path must be there on every machine."""
    gpus: Literal["auto", "on", "off"] = "auto"
    """Whether trials run on GPUs; `auto`: if there are any."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""
    run_name: str = ""
    """Name of the run in MLflow; by default NAME and the name of DIR."""
    tracking_uri: str | None = None
    """MLflow server or database; by default a file in DIR/_v2a. `off` records nothing."""


def command(config: TuneConfig) -> str:
    """The command line that means this configuration: run again, it resumes."""
    whole = command_line("tune", config, positional=("name", "store"), without=("space",))
    return whole + command_line("tune", config.space, positional=()).removeprefix("v2a tune")

"""Options of `v2a train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from jobs.cli import command_line


@dataclass
class TrainConfig:
    """Fit a generator to a feature store. Run the same command again to resume; --steps may grow.

    DIR becomes a checkpoint folder for `v2a dub --model DIR`, with card.md and curves.png. While it trains, only
    DIR/_v2a is written: checkpoints (the last two), sounds of every validation, and MLflow's records. A worker
    that is lost is replaced, and training goes on from the last checkpoint.
    """

    name: Annotated[str, tyro.conf.Positional]
    """What to train: maskvat-adaln, maskvat-seq2seq, maskvat-hybrid (stores like those of the recipes mini and base),
    vatt-converter (a language model that sees: stores with texts), then vatt, vatt-cross-attn or vatt-v on top of it,
    deep-fusion, wavenet, av-transformer, vqvae-fc (recipe raw)."""
    store: Annotated[str, tyro.conf.Positional]
    """Feature store that `v2a extract` made: a folder or s3://bucket/prefix. Trains on its split `train` and
    validates with `val`; without a `val`, a twentieth of the videos is kept from training for that."""
    out: str
    """Where the model goes: a folder or s3:// prefix. On several machines it must be the same place for all."""
    steps: int = 20_000
    """Optimiser steps in all. A higher number than before goes on from there, on the longer schedule."""
    workers: int | None = None
    """Processes that share each batch: by default one per GPU, or one."""
    min_workers: int | None = None
    """Go on with fewer workers, at least so many, while machines are missing (elastic)."""
    size: str = "mini"
    """mini (two cores train it), base, or large."""
    batch_size: int = 32
    """Windows per optimiser step, over all workers."""
    accumulate: int = 1
    """Take each batch in so many pieces: less memory, the same training."""
    learning_rate: float = 1e-3
    """The highest; it rises to there during the warm-up and then falls along a cosine to a twentieth."""
    warmup: int = 200
    """Steps of warm-up."""
    weight_decay: float = 0.01
    """Of matrices; biases, norms and single vectors do not decay."""
    clip_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    ema: float = 0.999
    """Decay of the averaged weights, which are those that are kept in the end; 0 keeps the last ones."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward pass; `auto` takes bfloat16 where the hardware has it. Weights are float32."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """ddp: every worker holds the whole model. fsdp: it is spread over the workers. `auto`: fsdp for large."""
    save_every: int = 500
    """Steps between checkpoints: what a crash costs at most."""
    validate_every: int = 500
    """Steps between validations."""
    max_failures: int = 3
    """Lost workers or machines to survive; -1 for any number."""
    seed: int = 0
    """Decides the first weights, the order of the rows and what is hidden from the model."""
    start: str = ""
    """Start from the weights of this checkpoint (folder or bundled name) instead of random ones. vqvae-fc trains in
    two steps: first its pictures, then with --start THAT --set stage=2 its sound."""
    set: tuple[str, ...] = ()
    """Fields of the model's config, for instance --set depth=4 dim=128; semantic_dim=0 for a model that does not look
    at CLIP features; loss=mae, or video_attention=8, for the raw-waveform systems. A wrong name lists all."""
    protocol: Literal["splits", "per-video"] = "splits"
    """What is validated with: the store's splits (other videos than those trained on), or, as in 2308.12408, the last
    fifth of every video whose first four fifths are trained on."""
    weights: tuple[str, ...] = ()
    """Local weights files of the recipe's encoders by role, for instance codec=/models/dac.pth; published ones are
    found by name otherwise. The path must be there on every machine."""
    gpus: Literal["auto", "on", "off"] = "auto"
    """Whether each worker takes a GPU; `auto`: if there are any."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""
    run_name: str = ""
    """Name of the run in MLflow; by default NAME and the name of DIR."""
    tracking_uri: str | None = None
    """MLflow server or database; by default a file in DIR/_v2a. `off` records nothing."""


def command(config: TrainConfig) -> str:
    """The command line that means this configuration: run again, it resumes."""
    return command_line("train", config, positional=("name", "store"))

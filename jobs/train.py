"""`v2a train NAME STORE --out DIR`: fits a generator to a feature store, on one machine or many."""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jobs.cli import DONE, command_line, version
from jobs.verb import Stopped, run_verb

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.train_job import Job
    from jobs.train_plan import Plan
    from jobs.train_watch import Means, Seen


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


def run(config: TrainConfig) -> int:
    """Train; the exit code: 0 done, 1 stopped before the end, 2 wrong usage, 130 interrupted."""
    return run_verb("train", command(config), lambda console: _run(config, console))


def _run(config: TrainConfig, console: Console) -> int:
    from jobs import ray_session, train_plan
    from jobs.train_watch import Means

    plan = train_plan.prepare(config)
    if plan is None:
        steps = train_plan.finished_steps(config.out)
        console.print(
            f"Nothing to do: {config.out} holds {config.name}, trained for {steps} steps "
            "(more --steps go on from there).",
            markup=False,
        )
        return DONE
    with ray_session.session(None, config.address) as resources:
        workers, gpus, cores, threads = train_plan.share_out(config, resources)
        job = train_plan.make_job(plan, config, workers, threads, gpus)
        _say_what(plan, job, workers, gpus, console)
        return _train(plan, job, config, console, Means(workers, gpus, cores))


def _say_what(plan: Plan, job: Job, workers: int, gpus: bool, console: Console) -> None:
    n = sum(p.numel() for p in plan.generator.task().parameters())
    on = "GPUs" if gpus else "processor cores"
    spread = f", {job.strategy}" if workers > 1 else ""
    console.print(
        f"{job.system} {job.size}, {n / 1e6:.1f} million parameters, on {len(plan.train):,} windows "
        f"({len(plan.train) * plan.recipe.window_s / 3600:.1f} h), {len(plan.val):,} to validate with. "
        f"Recipe {plan.recipe.name} ({plan.recipe.digest}). "
        f"{workers} worker{'s' if workers > 1 else ''} on {on}{spread}, {job.precision}.",
        markup=False,
    )


def _train(plan: Plan, job: Job, config: TrainConfig, console: Console, means: Means) -> int:
    from jobs import train_finish, train_plan
    from jobs.tracking import Tracker, resolve_uri
    from jobs.train_watch import watch

    started = time.perf_counter()
    tracker = Tracker(
        resolve_uri(plan.out, config.tracking_uri),
        "v2a/train",
        out=plan.out,
        say=lambda text: console.print(text, markup=False),
    )
    train_plan.write_state(plan, plan.run_id)
    tags = {"v2a.version": version(), "v2a.out": plan.out, "v2a.recipe": plan.recipe.digest}
    name = config.run_name or f"{config.name} {plan.out.rstrip('/').rpartition('/')[2]}"
    tracker.start(
        name, dataclasses.asdict(config), tags, run_id=plan.run_id,
        then=lambda run_id: train_plan.write_state(plan, run_id),
    )  # fmt: skip
    status, registered = "KILLED", False
    try:
        try:
            checkpoint, seen = watch(plan, job, config, console, tracker, means)
        except Stopped:
            status = "FAILED"
            raise
        uris = train_finish.write_model(plan, config.name, checkpoint, job, {"workers": means.workers})
        tracker.artifacts([uri for uri in uris if not uri.endswith(".safetensors")])
        tracker.register(f"v2a-{config.name}", uris, {"v2a.recipe": plan.recipe.digest, "v2a.size": job.size})
        status, registered = "FINISHED", True
    finally:
        tracker.finish(status, wait_s=600.0 if registered else 5.0)
    _tell(plan, config, seen, time.perf_counter() - started, console)
    return DONE


def _tell(plan: Plan, config: TrainConfig, seen: Seen, wall_s: float, console: Console) -> None:
    from jobs.progress import clock

    losses = [f"loss {seen.train['train/loss']:.4f}"] if seen.train else []
    losses += [f"validation {seen.val['val/loss']:.4f}"] if seen.val else []
    console.print(f"Trained {config.steps} steps in {clock(wall_s)}. {', '.join(losses)}", markup=False)
    use = f"v2a dub ARCHIVE OUT --model {config.out}"
    if config.name == "vatt-converter":  # makes no sound yet
        use = f"v2a train vatt STORE --out NEW --set converter={config.out}"
    console.print(f"Model: {config.out} ({use})", markup=False)


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["train", *sys.argv[1:]]))

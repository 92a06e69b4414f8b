"""Checks of a training before it starts, its identity, and the plan and job made from its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jobs.cli import version
from jobs.common.checks import (
    at_least,
    check_not_foreign,
    check_same,
    encoder_weights,
    full_address,
    model_settings,
)
from jobs.common.verb import WrongUsage
from jobs.train.checkpoints import run_to_continue, state_uri
from jobs.train.job import TrainPlan
from pipelines import storage

if TYPE_CHECKING:
    from jobs.common.ray_session import Resources
    from jobs.train.config import TrainConfig
    from jobs.train.job import TrainJob

STATE_FILE = "train.json"
DONE_FILE = "training.json"


def prepare(config: TrainConfig) -> TrainPlan | None:
    """Check a configuration and plan its training; None if nothing is left to do.

    Raises WrongUsage, with the fix.
    """
    from v2a_models import systems

    _check_numbers(config)
    try:
        systems.check_system(config.name)
    except ValueError as error:
        raise WrongUsage(str(error)) from error
    if config.size not in systems.SIZES:
        raise WrongUsage(f"unknown size {config.size!r}: choose one of {', '.join(systems.SIZES)}")
    options = model_settings(config.set)
    files = {role: full_address(file) for role, file in encoder_weights(config.weights).items()}
    try:
        return _prepare(config, options, files)
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error


def _prepare(config: TrainConfig, options: dict[str, Any], files: dict[str, str]) -> TrainPlan | None:
    from pipelines.store.store import Store, StoreError
    from pipelines.store.training_feed import open_feeds
    from v2a_models.build import new_generator
    from v2a_models.encoders.published import WeightsError

    out, store = full_address(config.out), full_address(config.store)
    start = config.start and full_address(config.start) if _is_path(config.start) else config.start
    if storage.is_within(store, out) or storage.is_within(out, store):
        raise WrongUsage(f"--out ({out}) and STORE ({store}) must be apart, neither inside the other")
    before = read_state(out)
    if before is None:
        check_not_foreign(out, "--out")
    try:
        recipe = Store(store).recipe()
        identity = make_identity(config, recipe, options, start)
        if before is not None:
            check_same(out, "a training", before["identity"], identity)
            if finished_steps(out) >= config.steps:
                return None
        options = options | _tokenizer(config.name, Store(store), options, start)
        generator = new_generator(config.name, recipe, config.size, files=files, start=start, **options)
        train, val = open_feeds(Store(store), generator.columns, config.seed, config.protocol)
    except (StoreError, WeightsError, ValueError, TypeError, OSError) as error:
        raise WrongUsage(str(error)) from error
    storage.check_writable(out)
    name, resume = run_to_continue(out)
    return TrainPlan(
        out, store, generator, train, val, options, files, identity,
        run_id=str((before or {}).get("run_id", "")), name=name, resume=resume,
    )  # fmt: skip


def _tokenizer(system: str, store: Any, options: Mapping[str, Any], start: str) -> dict[str, Any]:
    """Option `tokenizer` for a small language model trained from nothing, made from the store's texts.

    Raises WrongUsage for a store without texts.
    """
    from v2a_models.vatt import language

    if system != "vatt-converter" or start or options.get("base", language.OWN) != language.OWN:
        return {}
    from pipelines.captions import instructions
    from pipelines.store.small_columns import texts_of

    texts = texts_of(store)
    if not texts:
        raise WrongUsage(
            f"{store.root} has no captions in its column `text`: extract it with --labels TABLE, a table with the "
            "columns path and text"
        )
    return {"tokenizer": language.train_tokenizer([*texts, *instructions.vocabulary()], instructions.TOKENS)}


def _check_numbers(config: TrainConfig) -> None:
    at_least(
        config,
        steps=1,
        batch_size=1,
        accumulate=1,
        warmup=0,
        save_every=1,
        validate_every=1,
        max_failures=-1,
        workers=1,
    )
    if not config.learning_rate > 0 or not config.clip_norm > 0:
        raise WrongUsage("--learning-rate and --clip-norm must be more than 0")
    if not 0 <= config.ema < 1:
        raise WrongUsage(f"--ema must be at least 0 and less than 1, not {config.ema:g}")
    if config.min_workers is not None and not 1 <= config.min_workers <= (config.workers or 1):
        raise WrongUsage(f"--min-workers must be from 1 to --workers, not {config.min_workers}")


def _is_path(start: str) -> bool:
    """True for a checkpoint named by its folder; bundled ones have plain names."""
    from v2a_models.checkpoint_files import bundled_names

    return bool(start) and start not in bundled_names()


# identity and state


def make_identity(config: TrainConfig, recipe: Any, options: dict[str, Any], start: str) -> dict[str, Any]:
    """Settings that would make another model from the same data; more steps may be asked for later."""
    names = (
        "name", "size", "batch_size", "learning_rate", "warmup", "weight_decay", "clip_norm", "ema", "seed",
    )  # fmt: skip
    settings = {name: getattr(config, name) for name in names}
    # Left out where it is the default, so that trainings from before the option existed can go on.
    protocol = {} if config.protocol == "splits" else {"protocol": config.protocol}
    return settings | protocol | {"recipe": recipe.digest, "start": start, "set": options}


def read_state(out: str, file: str = STATE_FILE) -> dict[str, Any] | None:
    """Recorded state of OUT; None where there is none. Raises WrongUsage for a damaged one."""
    uri = state_uri(out, file)
    try:
        state = storage.read_object(uri)
        if not isinstance(state["identity"], dict):
            raise TypeError("no settings in it")
        return state
    except storage.StorageNotFound:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise WrongUsage(f"{uri} is damaged ({error}); choose another --out") from error


def write_state(plan: TrainPlan, run_id: str) -> None:
    """Mark OUT as a training, before anything else is written there."""
    text = json.dumps({"identity": plan.identity, "run_id": run_id, "store": plan.store}, indent=2)
    storage.write_atomic(state_uri(plan.out, STATE_FILE), text.encode())


def finished_steps(out: str) -> int:
    """Steps of the finished model in OUT; 0 without one."""
    try:
        done = storage.read_object(storage.join(out, DONE_FILE))
        config = storage.read_object(storage.join(out, "config.json"))
        return int(done["steps"]) if done["sha256"] == config["sha256"] else 0
    except (storage.StorageNotFound, ValueError, KeyError, TypeError):
        return 0


# workers


def make_job(plan: TrainPlan, config: TrainConfig, workers: int, threads: int, gpus: bool) -> TrainJob:
    """Settings of the workers. Raises WrongUsage for a batch that cannot be divided among them."""
    from jobs.train.job import TrainJob
    from v2a_models.generator import best_precision

    pieces = workers * config.accumulate
    if config.batch_size % pieces:
        near = max(pieces, round(config.batch_size / pieces) * pieces)
        raise WrongUsage(
            f"--batch-size {config.batch_size} cannot be divided among {workers} workers with --accumulate "
            f"{config.accumulate}: use a multiple of {pieces}, such as {near}"
        )
    if len(plan.train) < workers:
        raise WrongUsage(f"only {len(plan.train)} training windows for {workers} workers: lower --workers")
    precision: str = config.precision
    if precision == "auto":
        precision = "bfloat16" if gpus else best_precision("cpu")
    strategy = config.strategy
    if strategy == "auto":
        strategy = "fsdp" if config.size == "large" and workers > 1 else "ddp"
    return TrainJob(
        system=config.name, size=config.size, recipe=plan.recipe.to_dict(), files=plan.files,
        start=str(plan.identity["start"]), options=plan.options, steps=config.steps, batch_size=config.batch_size,
        accumulate=config.accumulate, learning_rate=config.learning_rate, warmup=config.warmup,
        weight_decay=config.weight_decay, clip_norm=config.clip_norm, ema=config.ema, precision=precision,
        save_every=config.save_every, validate_every=config.validate_every,
        log_every=max(1, min(50, config.steps // 500)), seed=config.seed, strategy=strategy, threads=threads,
        resume=plan.resume,
    )  # fmt: skip


def allocate(config: TrainConfig, resources: Resources) -> tuple[int, bool, float, int]:
    """Number of workers, True for a GPU each, the cores each books, and the threads each uses on CPUs.

    Raises WrongUsage where this machine has too few.
    """
    gpus = resources.gpus > 0 if config.gpus == "auto" else config.gpus == "on"
    workers = config.workers or (max(1, resources.gpus) if gpus else 1)
    cluster = config.address is not None
    if gpus and workers > resources.gpus and not cluster:
        raise WrongUsage(f"--workers {workers} needs {workers} GPUs; available: {resources.gpus}")
    if not gpus and workers > resources.cpus and not cluster:
        raise WrongUsage(f"--workers {workers} needs {workers} cores; available: {resources.cpus}")
    # Reading books a little of a core too: the workers must leave it some, on every machine.
    cores = 0.9 if cluster else min(0.9, round(0.8 * resources.cpus / workers, 2))
    return workers, gpus, cores, max(1, resources.cpus // workers)


def versions() -> dict[str, str]:
    """Versions of v2a, torch and Ray, for the card."""
    import ray
    import torch

    return {"v2a": version(), "torch": torch.__version__, "ray": ray.__version__}

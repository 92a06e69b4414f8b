"""Checks of a search before it starts, its identity and state, and the trainings of its trials."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.common import checks
from jobs.common.checks import check_not_foreign, full_address
from jobs.common.verb import WrongUsage
from jobs.train import preflight
from jobs.train.config import TrainConfig
from jobs.train.job import TrainPlan
from jobs.tune.trial import TRAINING, Work
from pipelines import storage

if TYPE_CHECKING:
    from jobs.tune.config import TuneConfig
    from jobs.tune.search import Records

STATE_FILE = "tune.json"


@dataclass
class TunePlan:
    """Search that passed its checks."""

    out: str
    base: TrainPlan
    """Training that every trial varies."""
    records: Records
    identity: dict[str, Any]
    run_id: str = ""
    """MLflow run to go on with; empty for a new one."""
    reported: int = 0
    """Finished trials that the tables in OUT hold."""
    registered: int | None = None
    """Number of the trial whose model was registered last; None for none."""

    @property
    def place(self) -> str:
        """Folder of the trials."""
        return state_uri(self.out, "tune")


def state_uri(out: str, *parts: str) -> str:
    """Address below the state folder of OUT."""
    return storage.join(out, storage.PRIVATE_FOLDER, *parts)


def prepare(config: TuneConfig) -> TunePlan | None:
    """Check a configuration and plan its search; None if nothing is left to do.

    Raises WrongUsage, with the fix.
    """
    _check_numbers(config)
    parameters(config)
    try:
        return _prepare(config)
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error


def _prepare(config: TuneConfig) -> TunePlan | None:
    out, store = full_address(config.out), full_address(config.store)
    if storage.is_within(store, out) or storage.is_within(out, store):
        raise WrongUsage(f"--out ({out}) and STORE ({store}) must be apart, neither inside the other")
    before = preflight.read_state(out, STATE_FILE)
    if before is None:
        if preflight.read_state(out) is not None:
            raise WrongUsage(f"--out ({out}) holds a training; choose another folder")
        check_not_foreign(out, "--out")
    # Nothing is written there: it stands for an empty OUT.
    nowhere = state_uri(out, "tune", "none")
    base = preflight.prepare(train_config(config, {}, nowhere))
    assert base is not None
    if not storage.is_remote(nowhere):
        os.rmdir(storage.local_path(nowhere))
    identity = make_identity(config, base.recipe)
    if before is not None:
        checks.check_same(out, "a search", before["identity"], identity)
    from jobs.tune.search import Records

    try:
        plan = TunePlan(out, base, Records(state_uri(out, "tune")), identity)
        if before is not None:
            plan.run_id, plan.reported = str(before.get("run_id", "")), int(before.get("reported", 0))
            plan.registered = before.get("registered")
    except (ValueError, TypeError) as error:
        raise WrongUsage(
            f"the records in --out ({out}) cannot be used ({error}); choose another --out"
        ) from error
    if len(plan.records.finished) >= config.trials and plan.reported == len(plan.records.finished):
        return None
    storage.check_writable(out)
    return plan


def _check_numbers(config: TuneConfig) -> None:
    checks.at_least(config, trials=1, steps=1, grace=1, reduction=2, workers=1)
    if config.grace > config.steps:
        raise WrongUsage(f"--grace ({config.grace}) must be at most --steps ({config.steps})")
    space = config.space
    for name, lowest in dict(learning_rate=1e-12, warmup=0, weight_decay=1e-12).items():
        low, high = getattr(space, name)
        if low > high or low < (0 if low == high and name != "learning_rate" else lowest):
            flag = name.replace("_", "-")
            raise WrongUsage(
                f"--{flag} takes a lower and an upper bound, both positive, not {low:g} {high:g}"
            )
    if not space.ema or not all(0 <= decay < 1 for decay in space.ema):
        raise WrongUsage("--ema takes decays of at least 0 and less than 1")
    if not space.batch_size or min(space.batch_size) < 1:
        raise WrongUsage("--batch-size takes numbers of at least 1")


def parameters(
    config: TuneConfig,
) -> tuple[Mapping[str, tuple[float, float]], Mapping[str, Sequence[Any]]]:
    """Ranges and choices by parameter. Raises WrongUsage, also where every parameter has one value only."""
    from v2a_models.build import option_names

    space = config.space
    ranges = {name: getattr(space, name) for name in ("learning_rate", "warmup", "weight_decay")}
    choices: dict[str, Sequence[Any]] = {}
    for name in ("ema", "batch_size", "dim", "depth"):
        if getattr(space, name):
            choices[name] = list(dict.fromkeys(getattr(space, name)))
    try:
        options = option_names(config.name)
    except ValueError as error:
        raise WrongUsage(str(error)) from error
    if unknown := sorted({"dim", "depth"} & set(choices) - set(options)):
        raise WrongUsage(
            f"--{unknown[0]}: {config.name} has no such option; choose from {', '.join(options)}"
        )
    for word in space.choose:
        name, _, text = word.partition("=")
        if name not in options:
            raise WrongUsage(
                f"--choose takes NAME=VALUE,VALUE with fields of the model: {', '.join(options)}"
            )
        if name in choices:
            raise WrongUsage(f"--choose {name}: its choices are already given")
        values = [checks.model_settings((f"{name}={part}",))[name] for part in text.split(",")]
        if not all(isinstance(value, (str, int, float, bool)) for value in values):
            raise WrongUsage(f"--choose {word}: choices are numbers or words")
        choices[name] = list(dict.fromkeys(values))
    if all(low == high for low, high in ranges.values()) and all(len(v) == 1 for v in choices.values()):
        raise WrongUsage("every parameter is fixed, so there is nothing to search")
    return ranges, choices


def make_identity(config: TuneConfig, recipe: Any) -> dict[str, Any]:
    """Settings that would make another search; more trials may be asked for later."""
    names = ("name", "size", "steps", "grace", "reduction", "metric", "precision", "seed", "set")
    settings = {name: getattr(config, name) for name in names} | dataclasses.asdict(config.space)
    settings |= {"start": config.start} if config.start else {}
    return json.loads(json.dumps(settings | {"recipe": recipe.digest}))


def write_state(
    plan: TunePlan, run_id: str | None = None, reported: int | None = None, registered: int | None = None
) -> None:
    """Mark OUT as a search, and keep what the records do not."""
    plan.run_id = plan.run_id if run_id is None else run_id
    plan.reported = plan.reported if reported is None else reported
    plan.registered = plan.registered if registered is None else registered
    state = dict(
        identity=plan.identity,
        run_id=plan.run_id,
        store=plan.base.store,
        reported=plan.reported,
        registered=plan.registered,
    )
    storage.write_atomic(state_uri(plan.out, STATE_FILE), json.dumps(state, indent=2).encode())


# the trainings


def train_config(config: TuneConfig, chosen: Mapping[str, Any], out: str) -> TrainConfig:
    """Configuration of `v2a train` into `out` for the parameters of a trial."""
    of_model = tuple(f"{name}={json.dumps(v)}" for name, v in chosen.items() if name not in TRAINING)
    own = {name: value for name, value in chosen.items() if name in TRAINING}
    return TrainConfig(
        config.name, config.store, out, steps=config.steps, size=config.size, precision=config.precision,
        save_every=config.grace, validate_every=config.grace, seed=config.seed, set=(*config.set, *of_model),
        weights=config.weights, gpus=config.gpus, start=config.start, **own,
    )  # fmt: skip


def make_work(plan: TunePlan, config: TuneConfig, threads: int, gpu: bool) -> Work:
    """Settings and data for the trials."""
    job = preflight.make_job(plan.base, train_config(config, {}, ""), 1, threads, gpu)
    # Reading the loss makes a GPU wait.
    job = dataclasses.replace(job, log_every=max(1, config.grace // 10))
    return Work(job, plan.base.train, plan.base.val, plan.place, config.grace, config.metric, gpu)

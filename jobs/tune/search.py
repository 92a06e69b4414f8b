"""Records of the trials of `v2a tune`, and the Optuna search and ASHA scheduler that resume from them.

Ray Tune decides what runs when; the history is ours, one small file per trial. After a kill, or for more trials, a new
Tuner starts from those files: Optuna gets the finished trials, ASHA their curves, and unfinished trials run before new
ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray.tune import Callback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from jobs.train.job import STATE
from jobs.tune.trial import BEST, LAST, trial_folder
from pipelines import storage

RUNNING, DONE, STOPPED, FAILED = "running", "done", "stopped", "failed"


@dataclass
class Record:
    """Record of one trial."""

    number: int
    parameters: dict[str, Any]
    status: str = RUNNING
    """running (or cut off by a killed run), done, stopped (by ASHA) or failed."""
    curve: list[list[float]] = field(default_factory=list)
    """Pairs of step and validation loss."""
    seconds: float = 0.0
    """Seconds of training and validating."""
    error: str = ""
    run_id: str = ""
    """MLflow run of the trial; empty for none yet."""

    @property
    def loss(self) -> float:
        """Lowest validation loss; infinite before the first."""
        return min((loss for _, loss in self.curve), default=math.inf)

    @property
    def steps(self) -> int:
        return int(self.curve[-1][0]) if self.curve else 0


def _record(uri: str, number: int) -> Record:
    """Record number `number`. Raises ValueError for a damaged one, StorageError."""
    try:
        record = Record(**storage.read_object(uri))
        ours = (
            record.number == number
            and record.status in (RUNNING, DONE, STOPPED, FAILED)
            and isinstance(record.parameters, dict)
            and all(math.isfinite(step) and isinstance(loss, (int, float)) for step, loss in record.curve)
        )
        if not ours:
            raise ValueError("not the record of a trial")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{uri} is damaged ({error})") from error
    return record


class Records:
    """Records of a search, in files that a kill leaves whole. Raises ValueError for a damaged one."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.all: list[Record] = []
        with contextlib.suppress(storage.StorageNotFound):
            while True:  # numbered without gaps
                uri = self._uri(len(self.all))
                self.all.append(_record(uri, len(self.all)))

    def _uri(self, number: int) -> str:
        return storage.join(self.place, f"{number:04d}.json")

    def add(self, parameters: dict[str, Any]) -> Record:
        """Record a new trial."""
        self.all.append(Record(len(self.all), parameters))
        self.write(self.all[-1])
        return self.all[-1]

    def write(self, record: Record) -> None:
        storage.write_atomic(self._uri(record.number), json.dumps(dataclasses.asdict(record)).encode())

    @property
    def finished(self) -> list[Record]:
        return [record for record in self.all if record.status != RUNNING]

    @property
    def unfinished(self) -> list[Record]:
        return [record for record in self.all if record.status == RUNNING]

    @property
    def best(self) -> Record | None:
        """Finished trial with the lowest loss; None without any."""
        candidates = [r for r in self.finished if r.status != FAILED and math.isfinite(r.loss)]
        return min(candidates, key=lambda record: (record.loss, record.number), default=None)

    def tidy(self) -> None:
        """Remove the weights of finished trials other than the best."""
        best = self.best
        for record in self.finished:
            folder = trial_folder(self.place, record.number)
            storage.delete(storage.join(folder, LAST, STATE))
            if record is not best:
                storage.delete(storage.join(folder, BEST, STATE))


def distributions(
    ranges: Mapping[str, tuple[float, float]], choices: Mapping[str, Sequence[Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Optuna's distributions, and the parameters that have one value only.

    Ranges of whole numbers are uniform, others log-uniform.
    """
    space: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    for name, (low, high) in ranges.items():
        if low == high:
            fixed[name] = low
        elif isinstance(low, int) and isinstance(high, int):
            space[name] = optuna.distributions.IntDistribution(low, high)
        else:
            space[name] = optuna.distributions.FloatDistribution(low, high, log=True)
    for name, values in choices.items():
        if len(values) == 1:
            fixed[name] = values[0]
        elif values:
            space[name] = optuna.distributions.CategoricalDistribution(values)
    return space, fixed


class Search(Searcher):
    """Optuna's suggestions for new trials, after the unfinished ones of an earlier run."""

    def __init__(self, records: Records, space: dict[str, Any], fixed: dict[str, Any], seed: int) -> None:
        super().__init__(metric="loss", mode="min")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.records, self.fixed, self.space = records, fixed, space
        self.waiting = list(records.unfinished)
        # A search that goes on must not draw the same numbers again.
        (own,) = np.random.SeedSequence([seed, len(records.all)]).generate_state(1)
        sampler = optuna.samplers.TPESampler(seed=int(own), constant_liar=True)
        self.optuna = OptunaSearch(space=space, metric="loss", mode="min", sampler=sampler)
        self.records_by_trial: dict[str, Record] = {}
        self._old: set[str] = set()
        for record in records.finished:
            self._add_evaluated(record)

    def _add_evaluated(self, record: Record) -> None:
        failed = record.status == FAILED
        chosen = {name: record.parameters[name] for name in self.space}
        self.optuna.add_evaluated_point(chosen, record.loss, error=failed)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        if self.waiting:
            record = self.waiting.pop(0)
            self._old.add(trial_id)
        else:
            record = self.records.add({**self.fixed, **(self.optuna.suggest(trial_id) or {})})
        self.records_by_trial[trial_id] = record
        return {"number": record.number, **record.parameters}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        failed = error or not result or "error" in result
        if trial_id not in self._old:
            self.optuna.on_trial_complete(trial_id, None if failed else result, failed)
        elif result and not failed:
            record = self.records_by_trial[trial_id]
            chosen = {name: record.parameters[name] for name in self.space}
            self.optuna.add_evaluated_point(chosen, result["loss"])

    # Ray Tune saves searchers; this one starts from the records instead.

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        pass

    def __reduce__(self) -> tuple[Any, ...]:
        return (dict, ())


def scheduler(records: Records, steps: int, grace: int, reduction: int) -> ASHAScheduler:
    """ASHA scheduler that knows the curves of the finished trials."""
    asha = ASHAScheduler("step", "loss", "min", max_t=steps, grace_period=grace, reduction_factor=reduction)
    nobody: Any = None
    for record in records.finished:
        trial: Any = SimpleNamespace(trial_id=f"earlier {record.number}")
        asha.on_trial_add(nobody, trial)
        best = math.inf
        for step, loss in record.curve:
            best = min(best, loss)
            asha.on_trial_result(nobody, trial, {"step": step, "loss": best})
        asha.on_trial_remove(nobody, trial)
    return asha


class TrialCallback(Callback):
    """Callback of Ray Tune that passes the trials' events to a log, which stays in this process."""

    def __init__(self, log: Any = None) -> None:
        self.log = log

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        unfinished = {trial.status for trial in trials if not trial.is_finished()}
        if unfinished == {"PENDING"}:
            self.log.waiting()
        else:
            self.log.begun()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any
    ) -> None:
        self._record_curve(trial.config["number"], result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        # Ray may call this before or after on_trial_result for the last result.
        self._record_curve(number, trial.last_result)
        if "error" in trial.last_result:
            self.log.failed(number, str(trial.last_result["error"]))
        else:
            self.log.complete(number)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        from jobs.common.verb import reason_of

        error = trial.get_error()
        reason = reason_of(error) if error is not None else "its process died"
        self.log.failed(trial.config["number"], reason)

    def _record_curve(self, number: int, result: Mapping[str, Any]) -> None:
        if "curve" in result:
            self.log.result(number, json.loads(result["curve"]), float(result["seconds"]))

    def __reduce__(self) -> tuple[Any, ...]:
        return (TrialCallback, ())

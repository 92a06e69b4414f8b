"""Results of a search: tables, a plot of the trials, the best model, and the trials' runs in MLflow."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from jobs.common import checks
from jobs.train import checkpoints, preflight
from jobs.train.job import TrainPlan
from jobs.tune.preflight import TunePlan, train_config
from jobs.tune.trial import BEST, trial_folder, trial_job
from pipelines import storage

if TYPE_CHECKING:
    from jobs.tune.config import TuneConfig
    from jobs.tune.search import Record


def one_line(parameters: Mapping[str, Any]) -> str:
    """Parameters on one line."""
    values = ((name, f"{v:.3g}" if isinstance(v, float) else v) for name, v in parameters.items())
    return ", ".join(f"{name} {value}" for name, value in values)


# the tables and the plot


def table(records: Sequence[Record]) -> pa.Table:
    """Table with a row per trial: number from 1, status, loss, steps, seconds, error, and a column per parameter."""
    columns: dict[str, list[Any]] = {
        "trial": [r.number + 1 for r in records],
        "status": [r.status for r in records],
        "val_loss": [r.loss if math.isfinite(r.loss) else None for r in records],
        "steps": [r.steps for r in records],
        "seconds": [round(r.seconds, 3) for r in records],
        "error": [r.error for r in records],
    }
    names = list(dict.fromkeys(name for record in records for name in record.parameters))
    for name in names:
        values = [record.parameters.get(name) for record in records]
        # Choices of one parameter may be numbers and words.
        mixed = any(isinstance(v, str) for v in values) and not all(isinstance(v, str) for v in values)
        columns[name] = [str(v) for v in values] if mixed else values
    return pa.table(columns)


def write_tables(plan: TunePlan, records: Sequence[Record], metric: str) -> list[str]:
    """Write trials.parquet, trials.csv and trials.png to OUT; returns their addresses."""
    rows = table(records)
    parquet, csv = io.BytesIO(), io.BytesIO()
    pq.write_table(rows, parquet)
    pyarrow.csv.write_csv(rows, csv)
    title = f"{plan.identity['name']} {plan.identity['size']}: {len(records)} trials"
    contents = {
        "trials.parquet": parquet.getvalue(),
        "trials.csv": csv.getvalue(),
        "trials.png": plot(records, title, f"validation {metric}"),
    }
    for name, content in contents.items():
        storage.write_atomic(storage.join(plan.out, name), content)
    return [storage.join(plan.out, name) for name in contents]


def plot(records: Sequence[Record], title: str, metric: str) -> bytes:
    """Plot (.png) of the learning curves, and below it the lowest loss against every parameter that varies.

    Colours go from good (dark) to bad (light) by rank, so that one diverged trial does not spoil the scale.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    plotted = sorted((r for r in records if math.isfinite(r.loss)), key=lambda r: r.loss)
    colours = {
        r.number: colormaps["viridis"](0.9 * at / max(1, len(plotted) - 1)) for at, r in enumerate(plotted)
    }
    names = [n for n in _names(records) if len({str(r.parameters.get(n)) for r in records}) > 1 and plotted]
    across = 3
    down = -(-len(names) // across)
    figure = Figure(figsize=(11, 4.2 + 2.8 * down), layout="constrained")
    grid = figure.add_gridspec(1 + down, across, height_ratios=[1.5, *[1] * down])
    curves = figure.add_subplot(grid[0, :])
    for record in reversed(plotted):  # the best on top
        best = record is plotted[0]
        steps, losses = zip(*record.curve, strict=True)
        curves.plot(
            steps, losses, ".-" if len(steps) == 1 or best else "-", lw=2.5 if best else 1.1,
            color=colours[record.number],
            label=f"trial {record.number + 1}, the best: {record.loss:.4g}" if best else None,
        )  # fmt: skip
        if record.status == "stopped":
            curves.plot(steps[-1], losses[-1], "x", ms=6, color=colours[record.number])
    failed = sum(r.status == "failed" for r in records)
    stopped = sum(r.status == "stopped" for r in records)
    curves.plot([], [], "x", color="gray", label=f"stopped early: {stopped}; failed: {failed}")
    curves.set(title=title, xlabel="step", ylabel=metric)
    curves.legend(fontsize=8)
    limits = _limits([loss for r in plotted for _, loss in r.curve])
    if limits:
        curves.set_ylim(*limits)
    for at, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + at // across, at % across])
        _scatter(axes, name, plotted, colours)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=110)
    return sink.getvalue()


def _names(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record.parameters))


def _limits(losses: Sequence[float]) -> tuple[float, float] | None:
    """Axis limits for nearly all losses: one diverged trial must not flatten the rest."""
    if not losses:
        return None
    low, high = min(losses), float(np.quantile(losses, 0.97))
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin


def _scatter(axes: Any, name: str, plotted: Sequence[Record], colours: Mapping[int, Any]) -> None:
    values: list[Any] = [record.parameters.get(name) for record in plotted]
    if name in ("learning_rate", "weight_decay") and min(values) > 0:
        axes.set_xscale("log")
        at = values
    elif name != "warmup":  # choices are placed side by side
        kinds = sorted(set(values), key=lambda v: (isinstance(v, str), v))
        at = [kinds.index(value) for value in values]
        axes.set_xticks(range(len(kinds)), [f"{k:.3g}" if isinstance(k, float) else str(k) for k in kinds])
        axes.set_xlim(-0.5, len(kinds) - 0.5)
    else:
        at = values
    for x, record in zip(at, plotted, strict=True):
        marker = "x" if record.status == "stopped" else "o"
        axes.plot(x, record.loss, marker, ms=6, color=colours[record.number])
    limits = _limits([record.loss for record in plotted])
    if limits:
        axes.set_ylim(*limits)
    axes.set_xlabel(name.replace("_", " "))


# the best trial


def write_best(plan: TunePlan, config: TuneConfig, best: Record, threads: int) -> list[str]:
    """Write the best trial to the checkpoint folder OUT/best, unless it is there; returns its files' addresses."""
    from jobs.train import export
    from v2a_models.build import new_generator

    out = storage.join(plan.out, "best")
    if _written_trial(out) == best.number:
        return [info.uri for info in storage.list_tree(out) if "/" not in info.path]
    base = plan.base
    chosen = train_config(config, best.parameters, out)
    model_options = checks.model_settings(chosen.set)
    options = base.options | model_options  # with what the plan made itself, such as a tokenizer
    generator = new_generator(config.name, base.recipe, config.size, files=base.files, **options)
    identity = preflight.make_identity(chosen, base.recipe, model_options, "")
    trained = TrainPlan(
        out,
        base.store,
        generator,
        base.train,
        base.val,
        options,
        base.files,
        identity,
        run_id="",
        name="best",
    )
    job = preflight.make_job(trained, chosen, 1, threads, False)
    job = trial_job(job, best.parameters)
    place = storage.join(trial_folder(plan.place, best.number), BEST)
    facts = {"workers": 1, "trial": best.number + 1, "of": "v2a tune"}
    return export.write_model(trained, config.name, checkpoints.checkpoint_at(place), job, facts)


def _written_trial(out: str) -> int | None:
    """Number of the trial whose weights OUT/best holds; None for none."""
    if not preflight.finished_steps(out):
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError, storage.StorageError):
        facts = json.loads(storage.read_bytes(storage.join(out, preflight.DONE_FILE)))
        return int(facts["trial"]) - 1
    return None


def train_command(plan: TunePlan, config: TuneConfig, best: Record) -> str:
    """Command line of `v2a train` with the parameters of the best trial."""
    from jobs import train

    return train.command(train_config(config, best.parameters, f"{config.out.rstrip('/')}-trained"))


def write_best_json(plan: TunePlan, config: TuneConfig, best: Record) -> str:
    """Write best.json to OUT; returns its address."""
    content = {
        "trial": best.number + 1,
        "trials": len(plan.records.finished),
        "val_loss": best.loss,
        "steps": best.steps,
        "parameters": best.parameters,
        "command": train_command(plan, config, best),
        "recipe": {"name": plan.base.recipe.name, "digest": plan.base.recipe.digest},
    }
    uri = storage.join(plan.out, "best.json")
    storage.write_atomic(uri, (json.dumps(content, indent=2) + "\n").encode())
    return uri


# MLflow


class Children:
    """Child runs in MLflow, one per finished trial, recorded one after another in a thread."""

    def __init__(self, parent: Any, uri: str | None, plan: TunePlan) -> None:
        self.parent, self.uri, self.plan = parent, uri, plan
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="trials")
        self._jobs: list[Future[None]] = []
        for record in plan.records.finished:
            if not record.run_id:  # a killed search had not recorded it
                self.add(record)

    def add(self, record: Record) -> None:
        """Record a finished trial."""
        if self.uri is not None:
            self._jobs.append(self._pool.submit(self._record, record))

    def wait(self) -> None:
        """Wait until every trial is recorded."""
        for job in self._jobs:
            job.result()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def register(self, record: Record, name: str, uris: Sequence[str], tags: Mapping[str, str]) -> None:
        """Register the model of a trial as a new version, and wait until it is.

        The files go to the trial's own run, where the model of a later best trial does not replace them.
        """
        from jobs.common.tracking import Tracker

        if record.run_id:
            tracker = Tracker(self.uri, "v2a/tune", out=self.plan.out, notify=_silent)
            tracker.start(f"trial {record.number + 1}", {}, {}, run_id=record.run_id)
            tracker.register(name, uris, tags)
            tracker.finish(wait_s=600.0)

    def _record(self, record: Record) -> None:
        from jobs.common.tracking import Tracker

        if not self.parent.opened(600.0):
            return

        def keep(run_id: str) -> None:
            record.run_id = run_id
            self.plan.records.write(record)

        tracker = Tracker(self.uri, "v2a/tune", out=self.plan.out, notify=_silent)
        tags = {
            "mlflow.parentRunId": self.parent.run_id,
            "v2a.status": record.status,
            "v2a.error": record.error[:500],
        }
        tracker.start(f"trial {record.number + 1}", record.parameters, tags, then=keep)
        for step, loss in record.curve:
            tracker.metrics({"val/loss": loss}, step=int(step))
        if record.curve:
            tracker.metrics({"val/best_loss": record.loss, "seconds": record.seconds}, step=record.steps)
        tracker.finish("FAILED" if record.status == "failed" else "FINISHED")


def _silent(text: str) -> None:
    """Drop the message: the parent run reports the same problem."""

"""`v2a tune NAME STORE --trials N --out DIR`: looks for the settings with which a generator trains best."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.cli import DONE, SOME_FAILED, version
from jobs.common.verb import WrongUsage, run_verb
from jobs.tune.config import TuneConfig, command

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.common.ray_session import Resources
    from jobs.tune.preflight import TunePlan

SAY_EVERY_S = 30.0
SAY_WAITING_S = 60.0


def run(config: TuneConfig) -> int:
    """Tune; the exit code: 0 done, 1 nothing was learned, 2 wrong usage, 130 interrupted."""
    return run_verb("tune", command(config), lambda console: _run(config, console))


def _run(config: TuneConfig, console: Console) -> int:
    from jobs.common.tracking import Tracker, resolve_uri
    from jobs.tune import preflight

    plan = preflight.prepare(config)
    if plan is None:
        console.print(
            f"Nothing to do: {config.out} holds {config.trials} finished trials or more "
            "(more --trials add to them).",
            markup=False,
        )
        return DONE
    started = time.perf_counter()
    uri = resolve_uri(plan.out, config.tracking_uri)
    tracker = Tracker(uri, "v2a/tune", out=plan.out, say=lambda text: console.print(text, markup=False))
    preflight.write_state(plan)
    tags = {"v2a.version": version(), "v2a.out": plan.out, "v2a.recipe": plan.base.recipe.digest}
    tracker.start(
        config.run_name or f"{config.name} {plan.out.rstrip('/').rpartition('/')[2]}",
        {**dataclasses.asdict(config), "space": dataclasses.asdict(config.space)},
        tags,
        run_id=plan.run_id,
        then=lambda run_id: preflight.write_state(plan, run_id=run_id),
    )
    status = "KILLED"
    try:
        return_code = _search(plan, config, console, tracker, uri, started)
        status = "FINISHED" if return_code == DONE else "FAILED"
    finally:
        tracker.finish(status, wait_s=5.0 if status == "KILLED" else 600.0)
    return return_code


def _search(
    plan: TunePlan, config: TuneConfig, console: Console, tracker: Any, uri: str | None, started: float
) -> int:
    from jobs.common.terminal import clock
    from jobs.tune import preflight, report

    children = report.Children(tracker, uri, plan)
    try:
        threads = _run_trials(plan, config, console, children)
        children.wait()
    finally:
        children.close()
    records = plan.records
    uris = report.write_tables(plan, records.all, config.metric)
    best = records.best
    if best is None:
        tracker.artifacts(uris)
        preflight.write_state(plan, reported=len(records.finished))
        reason = records.all[0].error if records.all else ""
        console.print(f"All {len(records.all)} trials failed, the first with: {reason}", markup=False)
        return SOME_FAILED
    model = report.write_best(plan, config, best, threads)
    uris.append(report.write_best_json(plan, config, best))
    tracker.artifacts(uris)
    tracker.metrics({"val/loss": best.loss, "trials": len(records.finished)}, step=len(records.finished))
    if plan.registered != best.number:  # also where a run was killed before it had registered what it wrote
        tags = {
            "v2a.recipe": plan.base.recipe.digest,
            "v2a.size": config.size,
            "v2a.trial": str(best.number + 1),
        }
        children.register(best, f"v2a-{config.name}", model, tags)
    preflight.write_state(plan, reported=len(records.finished), registered=best.number)
    _tell(plan, config, best, clock(time.perf_counter() - started), console)
    return DONE


def _run_trials(plan: TunePlan, config: TuneConfig, console: Console, children: Any) -> int:
    """Runs what is missing; the threads of a trial."""
    from jobs.common import ray_session

    missing = config.trials - len(plan.records.finished)
    if missing <= 0:  # killed while the results were written
        return 1
    with ray_session.session(None, config.address) as resources:
        means = share_out(config, resources)
        done = len(plan.records.finished)
        console.print(
            f"{config.name} {config.size} on {len(plan.base.train):,} windows, {len(plan.base.val):,} to "
            f"validate with. {missing} of {config.trials} trials of up to {config.steps} steps"
            f"{f' ({done} are done)' if done else ''}, {means.workers} at a time on "
            f"{'GPUs' if means.gpu else 'processor cores'}.",
            markup=False,
        )
        with tempfile.TemporaryDirectory() as scratch:
            shown = TrialLog(plan, console, children, config, means.resources)
            make_tuner(plan, config, means, missing, shown, scratch).fit()
        return means.threads


@dataclass(frozen=True)
class TrialResources:
    """What one trial runs on."""

    workers: int
    cpu: float
    gpu: float
    threads: int

    @property
    def resources(self) -> dict[str, float]:
        """One trial's share, in Ray's names."""
        return {"CPU": self.cpu} | ({"GPU": self.gpu} if self.gpu else {})


def share_out(config: TuneConfig, resources: Resources) -> TrialResources:
    """Trials at a time, and each one's share. Raises WrongUsage where this machine cannot hold them."""
    gpus = resources.gpus if config.gpus == "on" or config.gpus == "auto" else 0
    if config.gpus == "on" and not gpus:
        raise WrongUsage("--gpus on, and there are none")
    workers = config.workers or gpus or min(2, resources.cpus)
    cores = resources.cpus // workers
    if config.address is not None:  # of several machines, one by one
        return TrialResources(workers, 1.0, _share(gpus, workers), 1)
    if not cores:
        raise WrongUsage(f"--workers {workers} need as many cores, and there are {resources.cpus}")
    return TrialResources(workers, float(cores), _share(gpus, workers), cores)


def _share(gpus: int, workers: int) -> float:
    """Of one GPU: a trial never takes two. Rounded down so that as many fit on each as are needed."""
    return 1 / -(-workers // gpus) if gpus else 0.0


def make_tuner(
    plan: TunePlan, config: TuneConfig, means: TrialResources, missing: int, shown: TrialLog, scratch: str
) -> Any:
    """The `tune.Tuner` of the missing trials. What it writes into `scratch` is not needed afterwards."""
    for name, value in {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails has no loss
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
    }.items():
        os.environ.setdefault(name, value)
    from ray import tune

    from jobs.tune import preflight, search
    from jobs.tune.trial import run_trial

    space, fixed = search.distributions(*preflight.parameters(config))
    work = preflight.make_work(plan, config, means.threads, bool(means.gpu))
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, work=work), means.resources),
        tune_config=tune.TuneConfig(
            search_alg=search.Search(plan.records, space, fixed, config.seed),
            scheduler=search.scheduler(plan.records, config.steps, config.grace, config.reduction),
            num_samples=missing,
            max_concurrent_trials=means.workers,
            # A process of its own for every trial would load torch again.
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=scratch,
            callbacks=[search.watcher(shown)],
            failure_config=tune.FailureConfig(max_failures=2),
            verbose=0,
        ),
    )


class TrialLog:
    """What the trials have said so far: kept in their records, shown, and passed on to MLflow."""

    def __init__(
        self, plan: TunePlan, console: Console, children: Any, config: TuneConfig, resources: dict[str, float]
    ) -> None:
        self.records, self.console, self.children, self.config = plan.records, console, children, config
        self.resources = resources
        self._said = time.perf_counter()
        self._waiting_since: float | None = None

    def waiting(self) -> None:
        """No trial runs, and some would: told every minute, as on a cluster it may be for long."""
        now = time.perf_counter()
        if self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since > SAY_WAITING_S:
            import ray

            self._waiting_since = now
            needed = ", ".join(f"{amount:g} {name}" for name, amount in self.resources.items())
            free, whole = ray.available_resources(), ray.cluster_resources()
            idle = ", ".join(
                f"{free.get(name, 0):g} of {whole.get(name, 0):g} {name}" for name in self.resources
            )
            self._say(f"waiting: a trial needs {needed} on one node, and {idle} are free in all of Ray")

    def begun(self) -> None:
        """A trial runs."""
        self._waiting_since = None

    def result(self, number: int, curve: list[list[float]], seconds: float) -> None:
        """A validation of a trial."""
        record = self.records.all[number]
        record.curve, record.seconds = curve, seconds
        self.records.write(record)
        if time.perf_counter() - self._said > SAY_EVERY_S:
            self._say(f"trial {number + 1} at step {record.steps} of {self.config.steps}: {record.loss:.4f}")

    def complete(self, number: int) -> None:
        """A trial reached the end or was stopped."""
        record = self.records.all[number]
        record.status = "done" if record.steps >= self.config.steps else "stopped"
        self._finish(record)

    def failed(self, number: int, error: str) -> None:
        """A trial will not be finished."""
        record = self.records.all[number]
        record.status, record.error = "failed", error
        self._finish(record)

    def _finish(self, record: Any) -> None:
        from jobs.tune.report import shortly

        self.records.write(record)
        self.records.tidy()
        what = {
            "done": f"{record.loss:.4f}",
            "stopped": f"{record.loss:.4f}, stopped at step {record.steps}",
            "failed": f"failed: {record.error}",
        }[record.status]
        best = self.records.best
        mark = ", the best so far" if record is best else ""
        self._say(f"trial {record.number + 1}: {what}{mark} · {shortly(record.parameters)}")
        self.children.add(record)

    def _say(self, text: str) -> None:
        self._said = time.perf_counter()
        self.console.print(f"[{len(self.records.finished)}/{self.config.trials}] {text}", markup=False)
        sys.stdout.flush()


def _tell(plan: TunePlan, config: TuneConfig, best: Any, wall: str, console: Console) -> None:
    from jobs.tune.report import train_command

    count = {status: sum(r.status == status for r in plan.records.all) for status in ("stopped", "failed")}
    aside = ", ".join(f"{n} {status}" for status, n in count.items() if n)
    console.print(
        f"{len(plan.records.finished)} trials{f' ({aside})' if aside else ''} in {wall}. Best: trial "
        f"{best.number + 1}, {best.loss:.4f}. Table and plot: {config.out}; its weights: {config.out}/best. "
        f"To train with its settings:\n  {train_command(plan, config, best)}",
        markup=False,
    )

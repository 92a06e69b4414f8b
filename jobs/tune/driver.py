"""`v2a tune NAME STORE --trials N --out DIR`: searches for the settings with which a generator trains best."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.cli import DONE, SOME_FAILED, version
from jobs.common.verb import WrongUsage, run_verb
from jobs.tune.config import TuneConfig, command
from pipelines import scratch

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.common.ray_session import Resources
    from jobs.tune.preflight import TunePlan

REPORT_EVERY_S = 30.0
REPORT_WAITING_S = 60.0


def run(config: TuneConfig) -> int:
    """Tune a generator. Exit code 0: done, 1: every trial failed, 2: wrong usage, 130: interrupted."""
    return run_verb("tune", command(config), lambda console: _run(config, console))


def _run(config: TuneConfig, console: Console) -> int:
    from jobs.common.tracking import Tracker, resolve_uri
    from jobs.tune import preflight

    plan = preflight.prepare(config)
    if plan is None:
        console.print(
            f"Nothing to do: {config.out} holds {config.trials} finished trials or more "
            "(to continue, raise --trials).",
            markup=False,
        )
        return DONE
    started = time.perf_counter()
    uri = resolve_uri(plan.out, config.tracking_uri)
    tracker = Tracker(uri, "v2a/tune", out=plan.out, notify=lambda text: console.print(text, markup=False))
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
    _print_result(plan, config, best, clock(time.perf_counter() - started), console)
    return DONE


def _run_trials(plan: TunePlan, config: TuneConfig, console: Console, children: Any) -> int:
    """Run the missing trials; returns the threads of each."""
    from jobs.common import ray_session

    missing = config.trials - len(plan.records.finished)
    if missing <= 0:  # killed while the results were written
        return 1
    with ray_session.session(None, config.address) as resources:
        granted = allocate(config, resources)
        done = len(plan.records.finished)
        console.print(
            f"{config.name} {config.size} on {len(plan.base.train):,} windows, {len(plan.base.val):,} for "
            f"validation. {missing} of {config.trials} trials of up to {config.steps} steps"
            f"{f' ({done} are done)' if done else ''}, {granted.workers} at a time on "
            f"{'GPUs' if granted.gpu else 'processor cores'}.",
            markup=False,
        )
        with scratch.folder() as folder:
            log = TrialLog(plan, console, children, config, granted.resources)
            make_tuner(plan, config, granted, missing, log, str(folder)).fit()
        return granted.threads


@dataclass(frozen=True)
class TrialResources:
    """Resources of one trial."""

    workers: int
    cpu: float
    gpu: float
    threads: int

    @property
    def resources(self) -> dict[str, float]:
        """Resources by Ray's names."""
        return {"CPU": self.cpu} | ({"GPU": self.gpu} if self.gpu else {})


def allocate(config: TuneConfig, resources: Resources) -> TrialResources:
    """Concurrent trials and the resources of each. Raises WrongUsage where this machine has too few."""
    gpus = resources.gpus if config.gpus == "on" or config.gpus == "auto" else 0
    if config.gpus == "on" and not gpus:
        raise WrongUsage("--gpus on, but no GPU was found")
    workers = config.workers or gpus or min(2, resources.cpus)
    cores = resources.cpus // workers
    if config.address is not None:  # a trial takes one core of any machine
        return TrialResources(workers, 1.0, _gpu_fraction(gpus, workers), 1)
    if not cores:
        raise WrongUsage(f"--workers {workers} needs {workers} cores; available: {resources.cpus}")
    return TrialResources(workers, float(cores), _gpu_fraction(gpus, workers), cores)


def _gpu_fraction(gpus: int, workers: int) -> float:
    """Fraction of one GPU per trial, rounded down so that enough trials fit on each."""
    return 1 / -(-workers // gpus) if gpus else 0.0


def make_tuner(
    plan: TunePlan, config: TuneConfig, granted: TrialResources, missing: int, log: TrialLog, scratch: str
) -> Any:
    """Tuner of the missing trials; its files in `scratch` are not needed afterwards."""
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
    work = preflight.make_work(plan, config, granted.threads, bool(granted.gpu))
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, work=work), granted.resources),
        tune_config=tune.TuneConfig(
            search_alg=search.Search(plan.records, space, fixed, config.seed),
            scheduler=search.scheduler(plan.records, config.steps, config.grace, config.reduction),
            num_samples=missing,
            max_concurrent_trials=granted.workers,
            # New processes would load torch for every trial.
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=scratch,
            callbacks=[search.TrialCallback(log)],
            failure_config=tune.FailureConfig(max_failures=2),
            verbose=0,
        ),
    )


class TrialLog:
    """Events of the trials: written to their records, printed, and sent to MLflow."""

    def __init__(
        self, plan: TunePlan, console: Console, children: Any, config: TuneConfig, resources: dict[str, float]
    ) -> None:
        self.records, self.console, self.children, self.config = plan.records, console, children, config
        self.resources = resources
        self._reported = time.perf_counter()
        self._waiting_since: float | None = None

    def waiting(self) -> None:
        """Report once a minute that trials wait for resources."""
        now = time.perf_counter()
        if self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since > REPORT_WAITING_S:
            import ray

            self._waiting_since = now
            needed = ", ".join(f"{amount:g} {name}" for name, amount in self.resources.items())
            free, total = ray.available_resources(), ray.cluster_resources()
            idle = ", ".join(
                f"{free.get(name, 0):g} of {total.get(name, 0):g} {name}" for name in self.resources
            )
            self._print(
                f"waiting: a trial needs {needed} on one node, and {idle} are free across the cluster"
            )

    def begun(self) -> None:
        """Note that a trial runs."""
        self._waiting_since = None

    def result(self, number: int, curve: list[list[float]], seconds: float) -> None:
        """Record a validation of a trial."""
        record = self.records.all[number]
        record.curve, record.seconds = curve, seconds
        self.records.write(record)
        if time.perf_counter() - self._reported > REPORT_EVERY_S:
            self._print(
                f"trial {number + 1} at step {record.steps} of {self.config.steps}: {record.loss:.4f}"
            )

    def complete(self, number: int) -> None:
        """Record that a trial reached its end or was stopped early."""
        record = self.records.all[number]
        record.status = "done" if record.steps >= self.config.steps else "stopped"
        self._finish(record)

    def failed(self, number: int, error: str) -> None:
        """Record that a trial failed."""
        record = self.records.all[number]
        record.status, record.error = "failed", error
        self._finish(record)

    def _finish(self, record: Any) -> None:
        from jobs.tune.report import one_line

        self.records.write(record)
        self.records.tidy()
        outcome = {
            "done": f"{record.loss:.4f}",
            "stopped": f"{record.loss:.4f}, stopped at step {record.steps}",
            "failed": f"failed: {record.error}",
        }[record.status]
        best = self.records.best
        mark = ", the best so far" if record is best else ""
        self._print(f"trial {record.number + 1}: {outcome}{mark} · {one_line(record.parameters)}")
        self.children.add(record)

    def _print(self, text: str) -> None:
        self._reported = time.perf_counter()
        self.console.print(f"[{len(self.records.finished)}/{self.config.trials}] {text}", markup=False)
        sys.stdout.flush()


def _print_result(plan: TunePlan, config: TuneConfig, best: Any, wall: str, console: Console) -> None:
    from jobs.tune.report import train_command

    count = {status: sum(r.status == status for r in plan.records.all) for status in ("stopped", "failed")}
    aside = ", ".join(f"{n} {status}" for status, n in count.items() if n)
    console.print(
        f"{len(plan.records.finished)} trials{f' ({aside})' if aside else ''} in {wall}. Best: trial "
        f"{best.number + 1}, {best.loss:.4f}. Table and plot: {config.out}; its weights: {config.out}/best. "
        f"To train with its settings:\n  {train_command(plan, config, best)}",
        markup=False,
    )

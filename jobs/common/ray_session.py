"""A Ray session for one command: quiet, and gone afterwards."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.common import ray_processes
from jobs.common.verb import WrongUsage
from pipelines import scratch
from pipelines.safe_path import ROOT
from pipelines.sandbox import confinement

OBJECT_STORE_BYTES = 768 << 20
"""Object store of a Ray started here: enough for the segments in flight, and a limit on the job's memory."""

IDLE_S = 10
"""Seconds after which Ray ends an idle worker. Ray's default, one second, is too short for small files: starting a
worker takes longer than decoding a film of a few seconds. A minute would keep too many workers, of 200 MB each."""

LONGEST_ROOT = 16
"""Characters of a folder for temporary files in which Ray's sockets have room."""

START_TRIES = 3
"""Ray gives its own processes 30 s to start, which a busy machine can exceed."""


@dataclass(frozen=True)
class Resources:
    """CPU cores, GPUs and memory that the session may use."""

    cpus: int
    gpus: int
    memory: int
    """Bytes, for all workers together."""


@contextlib.contextmanager
def session(num_workers: int | None = None, address: str | None = None) -> Iterator[Resources]:
    """A running Ray: the one of this process, the cluster at `address`, or a new one on this machine.

    `num_workers` caps the cores that a Ray started here uses (all of them without it). Inside `ray job
    submit` the address comes from the environment (RAY_ADDRESS). A Ray started here ends with the block, with all its
    processes and files, even if this process is killed.

    Raises WrongUsage, with the fix in the message, if the cluster does not answer or Ray does not start; Stopped if
    Ray or a worker is lost within the block.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Limits what the C++ side prints to the terminal; its log files hold the rest.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(1000 * IDLE_S))
    os.environ["PYTHONSAFEPATH"] = "1"  # of what Ray and libraries start here (see `pipelines.safe_path`)
    import ray

    with contextlib.ExitStack() as stack:
        started_here = False
        if not ray.is_initialized():
            address = address or os.environ.get("RAY_ADDRESS") or None
            folder = None if address else stack.enter_context(_own_folder())
            at_sigterm = signal.getsignal(signal.SIGTERM)
            with _held_stderr(), ray_processes.isolated_from_terminal(folder):
                if address:
                    _join(address)
                else:
                    _start(num_workers, str(folder))
            if at_sigterm is signal.default_int_handler:  # the command line's; Ray has replaced it
                signal.signal(signal.SIGTERM, at_sigterm)
            started_here = True
        _quiet_ray_data()
        watch = None
        try:
            total = ray.cluster_resources()
            cpus = max(1, int(total.get("CPU", 1)))
            cpus = min(cpus, num_workers) if num_workers else cpus
            with ray_processes.guarded() as watch:
                yield Resources(cpus, int(total.get("GPU", 0)), int(total.get("memory", 0)))
        finally:
            if started_here:
                ray_processes.shut_down(watch)
            else:
                # An actor handle in a reference cycle keeps its cores, and Python may not collect cycles for hours. The
                # next command in this process would wait for those cores.
                gc.collect()


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder for Ray's own files. Raises WrongUsage, with the fix, where none can be made."""
    root = _short_root()
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch.guarded(root))
        except OSError as error:
            raise WrongUsage(
                f"Ray needs a folder for its files, and none can be made in {root} ({error.strerror}): set RAY_TMPDIR "
                f"to one that can be written, with a path of at most {LONGEST_ROOT} characters"
            ) from error
        yield folder


def _short_root() -> str:
    """Folder for Ray's own files; the names of its sockets there may have about a hundred characters."""
    root = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return root if len(root) <= LONGEST_ROOT else "/tmp"


def _join(address: str) -> None:
    import ray

    try:
        ray.init(address=address, job_config=_job_config(), log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        fix = "check that the cluster runs and is reachable, or drop --address to work locally"
        raise WrongUsage(f"no Ray cluster at {address} ({error}): {fix}") from error


def _start(num_workers: int | None, folder: str) -> None:
    import ray

    for attempt in range(START_TRIES):
        try:
            ray.init(
                address="local",  # never somebody else's Ray that happens to run on this machine
                job_config=_job_config(),
                num_cpus=num_workers,  # None: Ray counts, and respects a container's quota
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=folder,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
            return
        except Exception as error:  # Ray raises a bare Exception when its processes are not up in 30 s
            ray.shutdown()
            if attempt == START_TRIES - 1:
                raise WrongUsage(f"Ray failed to start on this machine: {error}") from error


def _job_config() -> Any:
    """Ray's job config, with the folder of this code as the only module search path of the workers.

    By default, they search the current folder and the script's folder first. A demand on the sandbox goes with it.
    """
    from ray.job_config import JobConfig

    class OurFolderOnly(JobConfig):
        def _serialize(self) -> str:  # called once `ray.init` has added its paths
            # A submitted source tree is on their path already, at a different place on each node.
            submitted = self._runtime_env_has_working_dir() and Path.cwd() == ROOT
            self._py_driver_sys_path = [] if submitted else [str(ROOT)]
            return super()._serialize()

    strict = {"env_vars": {confinement.VARIABLE: "strict"}} if confinement.is_strict() else None
    return OurFolderOnly(runtime_env=strict)


@contextlib.contextmanager
def _held_stderr() -> Iterator[None]:
    """Hold back what the C++ side writes to the terminal during start-up; print it only if start-up fails."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            if failed:
                held.seek(0)
                os.write(2, held.read())


def _quiet_ray_data() -> None:
    """Turn off Ray Data's progress bars and execution logs; the commands show their own progress."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    # A block is handed on as soon as it holds one long segment, not when it holds many.
    context.target_max_block_size = 16 << 20
    # Errors are raised as well, and the commands print them in their own words.
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

"""Ray's own processes: their isolation from the terminal, and what is said when one of them dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.cli import SOME_FAILED
from jobs.common import ray_witness
from jobs.common.verb import Stopped, ended, reason_of
from pipelines import scratch

LOOK_EVERY_S = 1.0
GIVE_UP_S = 30.0
"""Seconds without an answer after which a process counts as dead. One that was started here and refuses is dead at
once."""

DEAF_S = 20.0
"""Seconds that the main thread has to end the job before the process is ended."""

SHUTDOWN_S = 10.0
"""Seconds for Ray to shut down when some of it is dead already."""


@contextlib.contextmanager
def isolated_from_terminal(folder: Path | None = None) -> Iterator[None]:
    """Within the block, every process that Ray starts reads /dev/null, and on Linux has no controlling terminal.

    folder: a folder of `pipelines.scratch.guarded`, which they belong to from then on.

    Otherwise, workers are background processes of the terminal. If a library there starts a program that configures the
    terminal, as ffmpeg does, the kernel stops both program and worker (SIGTTOU) until somebody continues them.
    """
    # Ray has no option for it. Its version is pinned, and a test runs a job in a terminal.
    from ray._private import services

    popen: Any = services.ConsolePopen

    def start(*args: Any, stdin: int | None = None, **options: Any) -> Any:
        # Linux ends these processes with the one that started them. Elsewhere Ray ends their process group,
        # which they would leave with a new session.
        session = sys.platform == "linux"
        stdin = subprocess.DEVNULL if stdin is None else stdin
        process = popen(*args, stdin=stdin, start_new_session=session, **options)
        if folder is not None and session:
            scratch.add_session(folder, process.pid)
        return process

    replaced: Any = services
    replaced.ConsolePopen = start
    try:
        yield
    finally:
        replaced.ConsolePopen = popen


@contextlib.contextmanager
def ray_errors() -> Iterator[None]:
    """Errors of Ray in the block become Stopped with a line that says what was lost; errors of storage stay."""
    import ray.exceptions

    from pipelines.media.errors import DecoderNotStarted
    from pipelines.sandbox.confinement import NotConfined
    from pipelines.storage import StorageError

    try:
        yield
    except ray.exceptions.RayError as error:
        for cause in _causes(error):
            for kind in (DecoderNotStarted, NotConfined):
                if type(cause).__name__ == kind.__name__:
                    raise Stopped(str(kind(str(getattr(cause, "reason", cause))))) from error
            if isinstance(cause, StorageError) and not isinstance(cause, ray.exceptions.RayError):
                raise cause from error
        raise Stopped(f"a worker was lost: {reason_of(error)}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The errors behind an error of Ray, which wraps them once or twice, itself first."""
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__


class _Lost(BaseException):
    """A process died without which Ray cannot go on. No handler of ordinary errors may catch it."""


@contextlib.contextmanager
def guarded() -> Iterator[_Watch]:
    """Within the block, the death of Ray's head process (GCS) or of this machine's raylet raises Stopped.

    Without this, Ray's C++ side ends the process without a word: after a minute, or at once. In the latter case a
    process of its own says why (`ray_witness`). Errors of Ray become Stopped too.
    """
    watch = _Watch()
    try:
        with _witness(watch), watch, ray_errors():
            yield watch
    except (_Lost, Exception) as error:
        if message := watch.lost():
            scratch.keep(Path(watch.logs).parent.parent)
            raise Stopped(message) from error
        raise


def shut_down(watch: _Watch | None) -> None:
    """Shut Ray down, within a few seconds if some of it is dead."""
    import ray

    if watch is None or not watch.lost():
        ray.shutdown()
        return
    thread = threading.Thread(target=ray.shutdown, name="ray shutdown", daemon=True)
    thread.start()
    thread.join(SHUTDOWN_S)


class _Watch:
    """Looks whether Ray's GCS and this machine's raylet answer. A context manager.

    When one is dead, the main thread gets `_Lost`, by a signal: it may wait in a lock or in C++.
    """

    def __init__(self) -> None:
        self.places = _places()
        self.logs = _logs()
        self._silent_since: dict[str, float] = {}
        self._message = ""
        self._told = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="ray watch", daemon=True)
        self._before: Any = None

    def __enter__(self) -> _Watch:
        if self.places and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGUSR2, self._tell)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
            signal.signal(signal.SIGUSR2, self._before or signal.SIG_DFL)

    def lost(self) -> str:
        """A message about the process that died, and the fix; empty if all are alive."""
        if not self._message and (what := next((w for w in self.places if self._is_dead(w)), "")):
            self._message = self.text(f"{what} has died, and the job with it")
        return self._message

    def text(self, first: str) -> str:
        """The two lines of an error."""
        return (
            f"{first}\nMostly the machine was out of memory (see dmesg, or the pod's events): use fewer --num-workers, "
            f"or more memory. Ray's logs are in {self.logs}. What is finished stays: run the command again."
        )

    def _look(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while not self._over.wait(LOOK_EVERY_S):
            if self.lost():
                break
        until = time.monotonic() + DEAF_S
        while not self._over.is_set() and not self._told.is_set():
            # Again and again: an exception in a finaliser is lost.
            signal.pthread_kill(main, signal.SIGUSR2)
            self._over.wait(0.5)
            if time.monotonic() > until:
                print(ended(self._message), file=sys.stderr, flush=True)
                os._exit(SOME_FAILED)

    def _tell(self, *_: object) -> None:
        if not self._over.is_set():
            self._told.set()
            raise _Lost

    def _is_dead(self, what: str) -> bool:
        """True for a process of ours that refuses connections twice, and for any that has not answered for
        `GIVE_UP_S`."""
        host, port, started_here = self.places[what]
        for _ in range(2):
            try:
                socket.create_connection((host, port), timeout=5.0).close()
                self._silent_since.pop(what, None)
                return False
            except OSError as error:
                # One of a cluster may come back, as GCS does where it keeps its tables.
                if not (started_here and isinstance(error, ConnectionRefusedError)):
                    since = self._silent_since.setdefault(what, time.monotonic())
                    return time.monotonic() - since > GIVE_UP_S
                time.sleep(0.2)
        return True


@contextlib.contextmanager
def _witness(watch: _Watch) -> Iterator[None]:
    """Within the block, a process waits that prints an error if Ray ends this one (`ray_witness`)."""
    if not watch.places:
        yield
        return
    text = ended(watch.text("WHAT has died, and Ray has ended the job with it"))
    witness = subprocess.Popen(
        [sys.executable, "-I", "-S", ray_witness.__file__, json.dumps(watch.places), text],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for it
    )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            witness.communicate(ray_witness.OVER)


def _places() -> dict[str, tuple[str, int, int]]:
    """Host, port and, where this process has started them, id of the processes to watch, by name; none for a client of
    a remote cluster (`ray://`)."""
    import ray
    from ray._private import worker

    if ray.util.client.ray.is_connected():
        return {}
    private: Any = worker
    started = private._global_node.all_processes
    pids = {kind: started[kind][0].process.pid for kind in ("gcs_server", "raylet") if started.get(kind)}
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    places = {"Ray's head process (the GCS server)": (host.strip("[]"), int(port), pids.get("gcs_server", 0))}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            place = node["NodeManagerAddress"], int(node["NodeManagerPort"]), pids.get("raylet", 0)
            places["Ray's raylet on this machine"] = place
    return places


def _logs() -> str:
    from ray._private import worker

    private: Any = worker
    with contextlib.suppress(Exception):
        return os.path.join(str(private._global_node.get_session_dir_path()), "logs")
    return "/tmp/ray/session_latest/logs"

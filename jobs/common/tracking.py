"""MLflow records of runs, on which no job depends.

A separate thread makes all calls from a queue. The first failure is reported once, the remaining calls are dropped, and
the job goes on.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.cli import without_password
from pipelines import scratch, storage
from pipelines.media.errors import first_line

OFF = "off"
"""Tracking URI that switches tracking off."""

REQUEST_TIMEOUT_S = 10
LARGEST_ARTIFACT = 64 << 20
RAY_JOB_TAG = "ray.job_id"
PARAM_LENGTH = 500


def default_uri(out: str) -> str | None:
    """A sqlite file beside the output; None on S3, where a database file cannot live, and for a path that is not UTF-8,
    which no URI leads back to."""
    if storage.is_remote(out):
        return None
    place = storage.local_path(storage.join(out, storage.PRIVATE_FOLDER, "mlflow.db"))
    quoted = place.replace("%", "%25").replace("?", "%3F")
    # For `sqlite:///`, MLflow itself makes folders, named as they are quoted.
    uri = f"sqlite:///{place}" if quoted == place else f"sqlite+pysqlite:///{quoted}"
    is_utf8 = place.encode(errors="ignore").decode() == place
    return uri if is_utf8 and _database(uri) == place else None


def _database(uri: str) -> str:
    """Path of the file that SQLAlchemy opens for a URI of sqlite; empty for other URIs."""
    if not uri.startswith(("sqlite:", "sqlite+")):
        return ""
    from sqlalchemy.engine import make_url

    return make_url(uri).database or ""


def resolve_uri(out: str, tracking_uri: str | None) -> str | None:
    """MLflow's address: the option, else MLFLOW_TRACKING_URI, else `default_uri`; None to record nothing."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(out)
    return None if uri == OFF else uri


class Tracker:
    """One MLflow run. Every method returns at once and raises nothing.

    `notify` prints a message, such as why the run cannot be recorded (once).
    """

    def __init__(self, uri: str | None, experiment: str, *, out: str, notify: Callable[[str], None]) -> None:
        self.uri, self.experiment, self.out, self.notify = uri, experiment, out, notify
        self.run_id: str | None = None
        self.problem = ""
        self._client: Any = None
        self._calls: queue.Queue[tuple[Callable[..., None], tuple[Any, ...]] | None] = queue.Queue()
        # A daemon: a server that hangs must not keep the command from ending.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        if uri is not None:
            self._thread.start()

    def start(
        self,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        run_id: str = "",
        then: Callable[[str], None] | None = None,
    ) -> None:
        """Open the run; `params` is the command's configuration.

        run_id: an earlier run to continue, if it still exists. `then` is called with the id of the run.
        """
        self._calls.put((self._start, (name, dict(params), dict(tags), run_id, then)))

    def opened(self, wait_s: float = 60.0) -> str:
        """Id of the run, once the server has given one; "" if it does not within `wait_s` seconds."""
        until = time.monotonic() + wait_s
        while self.uri is not None and self.run_id is None and not self.problem and time.monotonic() < until:
            time.sleep(0.05)
        return self.run_id or ""

    def tags(self, values: Mapping[str, str]) -> None:
        """Add tags to the run."""
        self._calls.put((self._tags, (dict(values),)))

    def register(self, name: str, uris: Sequence[str], tags: Mapping[str, str]) -> None:
        """Store files of any size with the run, as a new version of the registered model `name`."""
        self._calls.put((self._register, (name, list(uris), dict(tags))))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record metrics of the run."""
        self._calls.put((self._metrics, (dict(values), step)))

    def artifacts(self, uris: Sequence[str], folder: str = "") -> None:
        """Store files with the run, except those larger than `LARGEST_ARTIFACT` bytes."""
        self._calls.put((self._artifacts, (list(uris), folder)))

    def table(self, columns: Mapping[str, Sequence[Any]], file: str) -> None:
        """Record a table (.json), which MLflow's pages show and compare between runs."""
        self._calls.put((self._table, ({name: list(values) for name, values in columns.items()}, file)))

    def finish(self, status: str = "FINISHED", wait_s: float = 60.0) -> None:
        """Close the run (FINISHED, FAILED or KILLED) and wait until all is recorded, at most `wait_s`."""
        if self.uri is None:
            return
        self._calls.put((self._finish, (status,)))
        self._calls.put(None)
        self._thread.join(wait_s)
        if self._thread.is_alive():
            self._give_up(f"no answer within {wait_s:.0f} s")

    # the thread's side

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            method, arguments = call
            if not self.problem:
                try:
                    method(*arguments)
                except Exception as error:  # no error of tracking concerns the job
                    self._give_up(first_line(error))

    def _give_up(self, reason: str) -> None:
        if not self.problem:
            self.problem = reason = without_password(reason)
            place = without_password(self.uri or "")
            self.notify(f"MLflow at {place} is not recording this run ({reason[:200]}); the job continues.")

    def _start(
        self,
        name: str,
        params: dict[str, Any],
        tags: dict[str, str],
        run_id: str,
        then: Callable[[str], None] | None,
    ) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_TIMEOUT_S))
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # It would print the server's address, with user name and password if they stand there.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        import logging
        import warnings

        warnings.filterwarnings("ignore", module=r"mlflow|alembic|sqlalchemy")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        for logger in ("mlflow", "mlflow.store.db.utils", "alembic"):
            logging.getLogger(logger).setLevel(logging.ERROR)

        assert self.uri is not None
        if database := _database(self.uri):
            Path(database).parent.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=self.uri)
        if run_id and self._resume(client, run_id):
            return
        run = client.create_run(self._experiment_id(client), run_name=name, tags=tags)
        self._client, self.run_id = client, run.info.run_id
        self._link_job(run.info)
        if then is not None:
            then(run.info.run_id)
        texts = {
            key: "" if value is None else without_password(str(value))[:PARAM_LENGTH]
            for key, value in params.items()
        }
        client.log_batch(self.run_id, params=[Param(key, text) for key, text in texts.items()])

    def _link_job(self, info: Any) -> None:
        """Within `ray job submit`, name the job in the run, and the run in the job's log."""
        job = ray_job()
        if not job:
            return
        self._client.set_tag(info.run_id, RAY_JOB_TAG, job)
        place = without_password(self.uri or "").rstrip("/")
        if place.startswith(("http://", "https://")):
            place += f"/#/experiments/{info.experiment_id}/runs/{info.run_id}"
        self.notify(f"MLflow run {info.run_id} of Ray job {job}: {place}")

    def _resume(self, client: Any, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            run = client.get_run(run_id)
            if run.info.lifecycle_stage == "deleted":
                return False
            client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # another server or a new database
                return False
            raise
        self._client, self.run_id = client, run_id
        self._link_job(run.info)
        return True

    def _tags(self, values: dict[str, str]) -> None:
        for key, value in values.items():
            self._client.set_tag(self.run_id, key, value)

    def _register(self, name: str, uris: list[str], tags: dict[str, str]) -> None:
        from mlflow.exceptions import MlflowException

        for uri in uris:
            self._artifact(uri, "model")
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{self._client.get_run(self.run_id).info.artifact_uri}/model"
        self._client.create_model_version(name, source, run_id=self.run_id, tags=tags)

    def _experiment_id(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is not None:
            return str(experiment.experiment_id)
        place = None
        if self.uri == default_uri(self.out):
            place = Path(
                storage.local_path(storage.join(self.out, storage.PRIVATE_FOLDER, "mlartifacts"))
            ).as_uri()
        try:
            return str(client.create_experiment(self.experiment, artifact_location=place))
        except MlflowException:  # another run created it a moment ago
            experiment = client.get_experiment_by_name(self.experiment)
            if experiment is None:
                raise
            return str(experiment.experiment_id)

    def _metrics(self, values: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for key, value in values.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def _artifacts(self, uris: list[str], folder: str) -> None:
        for uri in uris:
            if storage.exists(uri) and storage.size(uri) <= LARGEST_ARTIFACT:
                self._artifact(uri, folder)

    def _table(self, columns: dict[str, list[Any]], file: str) -> None:
        self._client.log_table(self.run_id, columns, file)

    def _artifact(self, uri: str, folder: str) -> None:
        if not storage.is_remote(uri):
            self._client.log_artifact(self.run_id, storage.local_path(uri), folder or None)
            return
        with scratch.folder() as place:
            local = Path(place, uri.rsplit("/", 1)[-1])
            local.write_bytes(storage.read_bytes(uri))
            self._client.log_artifact(self.run_id, str(local), folder or None)

    def _finish(self, status: str) -> None:
        self._client.set_terminated(self.run_id, status)


def ray_job() -> str:
    """Id of the Ray job whose entrypoint this process is, as in `ray job list`; "" outside of a job."""
    try:
        handed = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        return str(handed["metadata"]["job_submission_id"])
    except (ValueError, KeyError, TypeError):
        return ""

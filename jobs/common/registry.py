"""Models in MLflow's registry: resolved from `models:/NAME/VERSION` or `models:/NAME@ALIAS`, and promoted."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.common.verb import WrongUsage
from pipelines.media.errors import first_line

PREFIX = "models:/"
CHAMPION = "champion"
SHA256_TAG = "v2a.sha256"
"""Tag of a registered version: SHA-256 of its weights, written when it is registered."""
_untagged: set[str] = set()
"""Models of which was said that they cannot be checked."""
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[\w.-]+))")


@dataclass(frozen=True)
class Registered:
    """One version of a registered model."""

    name: str
    version: str
    source: str
    sha256: str
    """SHA-256 of the weights; empty if the registry does not know it."""


def cache_folder() -> Path:
    """Folder of downloaded models: $V2A_CACHE/models, or .cache/v2a/models in the home folder."""
    place = os.environ.get("V2A_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "v2a")
    return Path(place, "models")


def resolve(model: str, tracking_uri: str | None) -> str:
    """The folder of a model given by a `models:/` URI, downloaded once and kept; other names stay as they are.

    Raises WrongUsage, with the names in the registry, if it does not know the model or does not answer.
    """
    if not model.startswith(PREFIX):
        return model
    uri = _uri(tracking_uri)
    if not uri:
        raise WrongUsage(
            f"{model} is a registered model: give the registry's server or database with --tracking-uri"
        )
    client = client_of(uri)
    registered = find(client, model)
    folder = (
        cache_folder() / registered.name / f"{registered.version}-{_digest(f'{uri} {registered.source}')}"
    )
    if (folder / "config.json").is_file():
        check_weights(model, registered, folder)
        return str(folder)
    import mlflow.artifacts

    beside = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        beside.mkdir(parents=True, exist_ok=True)
        fetched = mlflow.artifacts.download_artifacts(
            artifact_uri=registered.source, dst_path=str(beside), tracking_uri=uri
        )
        if not Path(fetched, "config.json").is_file():
            raise WrongUsage(f"{model} is not a v2a model: {registered.source} has no config.json")
        check_weights(model, registered, Path(fetched))
        with contextlib.suppress(OSError):  # another command was quicker
            os.rename(fetched, folder)
    except WrongUsage:
        raise
    except Exception as error:  # any error of the download
        raise WrongUsage(f"{model} cannot be fetched from {registered.source}: {_first(error)}") from error
    finally:
        import shutil

        shutil.rmtree(beside, ignore_errors=True)
    return str(folder)


def check_weights(model: str, registered: Registered, folder: Path) -> None:
    """Compare a model's weights with the SHA-256 that its version in the registry has as a tag.

    Says so where the version has none. Raises WrongUsage if they differ.
    """
    from v2a_models.checkpoint_files import CheckpointError, sha256

    if not registered.sha256:
        if model not in _untagged:
            _untagged.add(model)
            print(
                f"{model} has no tag {SHA256_TAG} in the registry: its weights are used as they were fetched."
            )
        return
    try:
        digest = sha256(folder / "model.safetensors")
    except CheckpointError as error:
        raise WrongUsage(f"{model} is not a v2a model: {error}") from error
    if digest != registered.sha256:
        raise WrongUsage(
            f"{model} is not what was registered: its weights in {folder} have sha256 {digest[:16]}…, the registry "
            f"says {registered.sha256[:16]}…. Remove that folder to fetch them again; if they differ then too, "
            "somebody has changed the model or its tag: do not use it"
        )


def find(client: Any, uri: str) -> Registered:
    """The registered version of a `models:/` URI. Raises WrongUsage."""
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise WrongUsage(
            f"{uri!r} is not the URI of a registered model: use models:/NAME/VERSION or models:/NAME@ALIAS"
        )
    name = parts["name"]
    try:
        if parts["alias"]:
            version = client.get_model_version_by_alias(name, parts["alias"])
        else:
            version = client.get_model_version(name, parts["version"])
    except Exception as error:
        raise WrongUsage(
            f"{uri} is not in the registry ({_first(error)}); {_registered_names(client)}"
        ) from error
    return Registered(name, str(version.version), version.source, version.tags.get(SHA256_TAG, ""))


def champion(client: Any, name: str) -> Registered | None:
    """The current champion of a registered model; None if there is none."""
    with contextlib.suppress(WrongUsage):
        return find(client, f"{PREFIX}{name}@{CHAMPION}")
    return None


def client_of(uri: str) -> Any:
    """An MLflow client for the server or database at `uri`. Raises WrongUsage for one that cannot be used."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    import logging

    from mlflow.tracking import MlflowClient

    for logger in ("mlflow", "mlflow.store.db.utils", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        return MlflowClient(tracking_uri=uri)
    except (
        Exception
    ) as error:  # an unknown kind of address, a file that is no database, a missing driver, ...
        raise WrongUsage(
            f"no MLflow registry at {uri} ({_first(error)}): check --tracking-uri and MLFLOW_TRACKING_URI"
        ) from error


def _uri(tracking_uri: str | None) -> str:
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")


def _registered_names(client: Any) -> str:
    with contextlib.suppress(Exception):
        names = [model.name for model in client.search_registered_models(max_results=50)]
        return f"it has {', '.join(names) or 'no models'}"
    return "the registry does not answer"


def _first(error: Exception) -> str:
    return first_line(error)


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:12]


def promote(client: Any, tracker: Any, name: str, folder: str, sha256: str, metric: str) -> bool:
    """Register the model in `folder` as a new version and make it the champion. Returns False if that failed.

    tracker: the `jobs.common.tracking.Tracker` whose run stores the files.
    """
    import time

    from v2a_models.checkpoint_files import find_checkpoint

    files = sorted(str(file) for file in find_checkpoint(folder).iterdir() if file.is_file())
    tracker.register(name, files, {SHA256_TAG: sha256, "v2a.promoted_by": metric})
    until = time.monotonic() + 600
    while time.monotonic() < until and not tracker.problem:
        with contextlib.suppress(Exception):
            for version in client.search_model_versions(f"name = '{name}'"):
                if version.tags.get(SHA256_TAG) == sha256 and version.run_id == tracker.run_id:
                    client.set_registered_model_alias(name, CHAMPION, version.version)
                    return True
        time.sleep(0.5)
    return False

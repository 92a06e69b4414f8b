"""v2a on a cluster of two nodes with S3 and MLflow, all of them processes of their own: submitted over HTTP, and run
again from a driver beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import urllib.error
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers
from tests.support.toy_generators import write_video
from tests.support.two_nodes import BIN, REPOSITORY, TwoNodes

pytestmark = pytest.mark.timeout(900)


@dataclass
class Place:
    """A cluster, its S3 server and its MLflow server."""

    cluster: TwoNodes
    s3: Any
    mlflow: str

    def objects(self) -> dict[str, tuple[str, Any]]:
        """ETag and time of every object of the output but records of runs."""
        held = self.s3.list_objects_v2(Bucket="dubbed").get("Contents", [])
        return {
            item["Key"]: (item["ETag"], item["LastModified"])
            for item in held
            if not re.search(r"_v2a/(report|summary|config)\b", item["Key"])
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, s3_port: int) -> Iterator[Place]:
    with servers.mlflow(tmp_path_factory.mktemp("mlflow")) as mlflow:
        client = servers.client(s3_port)
        client.create_bucket(Bucket="films")
        client.create_bucket(Bucket="dubbed")
        environment = servers.environment(s3_port) | {"MLFLOW_TRACKING_URI": mlflow}
        with TwoNodes(environment) as cluster:
            yield Place(cluster, client, mlflow)


def add_film(client: Any, name: str, folder: Path) -> None:
    path = write_video(folder / name, 1.0)
    client.upload_file(str(path), "films", f"1925/{name}")


DUB = ("v2a", "dub", "s3://films/1925", "s3://dubbed/1925", "--precision", "float32")


def test_submitted_and_then_again_from_a_driver(place: Place, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    for k in range(2):
        add_film(place.s3, f"reel {k}.mp4", tmp_path)

    # Submitted.
    first = place.cluster.submit(*DUB, options=("--submission-id", "dub-1925"))
    log = first.stdout + first.stderr
    assert first.returncode == 0, log
    assert "2 files: 2 dubbed" in log
    (made,) = re.findall(r"MLflow run (\w+) of Ray job dub-1925: (http\S+)", log)
    run = MlflowClient(tracking_uri=place.mlflow).get_run(made[0])
    assert run.data.tags["ray.job_id"] == "dub-1925" and made[1].startswith(place.mlflow)
    assert run.data.metrics["files_dubbed"] == 2 and run.info.status == "FINISHED"
    objects = place.objects()
    assert {"1925/reel 0.mp4", "1925/reel 1.mp4"} <= objects.keys()

    # What the job itself printed is for a file: no bar drawn over and over, no colours.
    said = place.cluster.request("/api/jobs/dub-1925/logs")["logs"]
    assert "\r" not in said and "\x1b" not in said.split("Running entrypoint")[1]
    assert len(said.splitlines()) < 15, said

    # The same again, by a driver beside the cluster and with one film more: what is there stays as it is.
    add_film(place.s3, "reel 2.mp4", tmp_path)
    driver = subprocess.run(
        [str(BIN / "v2a"), *DUB[1:], "--address", place.cluster.address],
        env=place.cluster.environment, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert driver.returncode == 0, driver.stdout + driver.stderr
    assert "1 to dub" in driver.stdout and "2 already dubbed" in driver.stdout
    assert "3 files: 3 dubbed" in driver.stdout and "of Ray job" not in driver.stdout
    now = place.objects()
    assert {key: now[key] for key in objects} == objects and "1925/reel 2.mp4" in now
    assert not [key for key in now if "/parts/" in key or ".v2a-tmp-" in key]


def test_stopped_over_http_it_says_how_to_go_on(place: Place, tmp_path: Path) -> None:
    add_film(place.s3, "reel 0.mp4", tmp_path)
    words = ("v2a", "dub", "s3://films/1925", "s3://dubbed/stopped", "--precision", "float32")
    place.cluster.submit(*words, options=("--submission-id", "stopped", "--no-wait"))

    def logs() -> str:
        return str(place.cluster.request("/api/jobs/stopped/logs")["logs"])

    until = time.monotonic() + 200
    while "not to dub" not in logs():
        assert time.monotonic() < until, logs()
        time.sleep(0.2)
    place.cluster.request("/api/jobs/stopped/stop", data=b"")
    while (status := place.cluster.request("/api/jobs/stopped")["status"]) == "RUNNING":
        assert time.monotonic() < until, logs()
        time.sleep(0.2)
    said = " ".join(logs().split())
    assert status == "STOPPED", said
    assert "To resume, run: v2a dub s3://films/1925 s3://dubbed/stopped" in said
    assert "Traceback" not in said


def test_who_has_no_token_gets_nothing(place: Place) -> None:
    for token in ("", "another-token-of-the-same-kind-01"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            place.cluster.request("/api/jobs/", token=token)
        assert refused.value.code in (401, 403)


def test_what_is_uploaded_is_small(tmp_path: Path) -> None:
    """The package that `--working-dir .` makes, by Ray's own packer."""
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    create_package(str(REPOSITORY), package, include_gitignore=True)
    names = zipfile.ZipFile(package).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"jobs", "pipelines", "v2a_models"} <= tops
    assert not tops & {"tests", "docs", "infra", "benchmarks", ".git", ".venv", "out", "build"}
    # 80 MB are the bundled models; Ray takes 100 MiB.
    assert package.stat().st_size < 85 << 20
    code = [item for item in zipfile.ZipFile(package).infolist() if "/weights/" not in item.filename]
    assert sum(item.file_size for item in code) < 4 << 20


def test_nothing_that_is_nobodys_business_is_uploaded(tmp_path: Path) -> None:
    """Left out are the files of an MLflow server that was started in the clone, environments, and films."""
    from ray._private.runtime_env.packaging import create_package

    clone, package = tmp_path / "clone", tmp_path / "package.zip"
    kept = "jobs/dub/driver.py"
    for name in (kept, "mlflow.db", "mlartifacts/1/report.html", "mlruns/0/meta.yaml", ".env", "reel.mp4"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("text")
    for name in (".gitignore", ".rayignore"):
        shutil.copy(REPOSITORY / name, clone)
    create_package(str(clone), package, include_gitignore=True)
    names = set(zipfile.ZipFile(package).namelist())
    assert {name for name in names if not name.endswith("/")} - {".gitignore", ".rayignore"} == {kept}

"""Fixtures for all tests: one Ray for the whole session."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

# Before anything imports Ray, MLflow or a maths library. Tests share few cores.
# Containers often set this. Ray's workers would compile torch again one by one, 5 s each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Threads of maths libraries spin while they wait for each other. Where other processes want the cores as well, as
# they do here, a step of a small model takes thirty times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Ray gives its workers niceness 15; on a busy machine they would wait for the tests that wait for them.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray Train looks this often whether its workers are done: every two seconds, where a whole training takes ten.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# A process more for each training, that waits for a cloud's word that a machine is to go.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("RAY_ADDRESS", None)

# Nothing here measures time: a machine under load must not fail a test. Nor does chance decide whether a change
# passes: `make slow` looks for examples that nobody has tried.
settings.register_profile("v2a", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("v2a")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Any]:
    """A running Ray with two cores; gives `jobs.common.ray_session.Resources`."""
    from jobs.common.ray_session import session

    with session(num_workers=2) as resources:
        yield resources


@pytest.fixture(autouse=True, scope="module")
def imports_are_frozen() -> None:
    """What is imported stays. Searched for cycles of references again after every film that is decoded (see
    `media.opened`), it cost a second each time: the processes that decode in a job import little and freeze it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def weights_are_the_same_each_time() -> None:
    """Whatever file of tests ran before in the same process, which is left to chance where two run at a time."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


kept_cores = [0.0]


@pytest.fixture(autouse=True)
def nothing_left_on_ray() -> Iterator[None]:
    """Every test, and so every verb, gives Ray's cores back: what keeps one lets the next command wait forever."""
    yield
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    total, until = ray.cluster_resources().get("CPU", 0), time.monotonic() + 180
    while (free := ray.available_resources().get("CPU", 0)) < total - kept_cores[0]:
        if time.monotonic() > until:
            kept_cores[0] = total - free  # the tests after it are not to blame
            actors = ray._private.state.actors().values()
            alive = [
                f"{actor['Name']} {actor['ActorClassName']}" for actor in actors if actor["State"] == "ALIVE"
            ]
            pytest.fail(f"{free} of {total} cores are free three minutes later; still there: {alive}")
        # What failed may lie in a cycle of references with its stack. A verb looks for those itself
        # (`ray_session.session`), a test that calls less than a verb does not.
        gc.collect()
        time.sleep(0.1)


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """Port of moto's S3 server on this machine."""
    pytest.importorskip("moto.server")
    from tests.support import servers

    with servers.moto() as port:
        yield port

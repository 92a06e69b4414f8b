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

# Set before anything imports Ray, MLflow or a maths library. Tests share few cores.
# Containers often set this. Without bytecode files, each Ray worker would compile torch again, 5 s each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Threads of maths libraries spin while they wait for each other. With other processes on the same cores, a step of a
# small model then takes thirty times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Ray runs its workers at niceness 15. On a busy machine, tests that wait for them would starve them.
os.environ.setdefault("RAY_worker_niceness", "0")
# Interval at which Ray Train polls its workers. Its default of two seconds is long for a training of ten.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# Otherwise each training has one more process, which waits for preemption notices of the cloud.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("RAY_ADDRESS", None)

# No deadlines: a busy machine must not fail a test. Derandomised: chance must not decide whether a change passes, and
# `make slow` searches for new examples.
settings.register_profile("v2a", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("v2a")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Any]:
    """Running Ray with two cores; yields its `jobs.common.ray_session.Resources`."""
    from jobs.common.ray_session import session

    with session(num_workers=2) as resources:
        yield resources


@pytest.fixture(autouse=True, scope="module")
def imports_are_frozen() -> None:
    """Exempt imported objects from garbage collection. The collection after every decoded film (see
    `pipelines.media.container.opened`) would take a second for them. In a job, decoder processes import little and
    freeze it themselves."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def weights_are_the_same_each_time() -> None:
    """Seed torch for every test module, so that initial weights do not depend on the modules that ran before."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


kept_cores = [0.0]


@pytest.fixture(autouse=True)
def nothing_left_on_ray() -> Iterator[None]:
    """Check that every test, and so every verb, releases Ray's cores; the next command would wait forever for them."""
    yield
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    total, until = ray.cluster_resources().get("CPU", 0), time.monotonic() + 180
    while (free := ray.available_resources().get("CPU", 0)) < total - kept_cores[0]:
        if time.monotonic() > until:
            kept_cores[0] = total - free  # do not blame the following tests
            actors = ray._private.state.actors().values()
            alive = [
                f"{actor['Name']} {actor['ActorClassName']}" for actor in actors if actor["State"] == "ALIVE"
            ]
            pytest.fail(f"{free} of {total} cores are free three minutes later; still there: {alive}")
        # A failed object may be in a reference cycle with its traceback. Verbs collect those themselves
        # (`ray_session.session`); tests of smaller units do not.
        gc.collect()
        time.sleep(0.1)


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """Port of moto's S3 server on this machine."""
    pytest.importorskip("moto.server")
    from tests.support import servers

    with servers.moto() as port:
        yield port

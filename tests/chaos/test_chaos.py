"""A short run of the campaign of `make chaos`."""

from __future__ import annotations

import pytest

from tests.chaos import __main__

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_few_faults_lose_nothing() -> None:
    summary = __main__.campaign(3, seed=5, kinds=("actor", "driver", "s3-errors"), films=3, hours=0.1)
    assert not summary.bad, "\n".join(summary.lines())
    assert summary.compared >= 3 and sum(summary.injected.values()) >= 1

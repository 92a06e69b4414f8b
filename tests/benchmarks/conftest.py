"""Fixtures that benchmarks share with the verbs."""

from tests.jobs.conftest import vatt
from tests.jobs.mini.conftest import trained

__all__ = ["trained", "vatt"]

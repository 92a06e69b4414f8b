"""Fixtures that benchmarks share with the verbs."""

from tests.jobs.conftest import vatt

__all__ = ["vatt"]

"""Is a figure fit to judge by on these clips? It must put the baselines, whose order is known, into that order."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pipelines.scoring.job import REFERENCE
from v2a_models.metrics.catalogue import Metric
from v2a_models.metrics.estimate import Estimate

ORDER = {
    # The shuffled sounds are the same set of sounds: what looks at the set alone cannot tell them.
    "quality": ((REFERENCE, "codec"), ("codec", "noise"), ("codec", "silence")),
    "semantics": ((REFERENCE, "codec"), ("codec", "shuffled"), ("codec", "noise"), ("codec", "silence")),
    "synchrony": ((REFERENCE, "codec"), ("codec", "shuffled"), ("codec", "noise"), ("codec", "silence")),
    "captions": ((REFERENCE, "shuffled"),),
    "waveform": ((REFERENCE, "codec"), ("codec", "shuffled"), ("codec", "noise"), ("codec", "silence")),
}
"""Baselines by group, the better one first."""
UNORDERED = frozenset({"tone"})
"""Figures that say nothing about the order of these baselines."""


def turned(metric: Metric, found: Mapping[str, Estimate | None]) -> str:
    """The first pair that a figure turns round; "" if none, or if it cannot be told."""
    if metric.higher is None or metric.name in UNORDERED:
        return ""
    for good, bad in ORDER.get(metric.group, ()):
        a, b = found.get(good), found.get(bad)
        if a is None or b is None or not a.available or not b.available:
            continue
        # A codec may do an onset detector good: it must only not be shown to be better than the truth.
        ours, theirs = a.value, b.value
        if good == REFERENCE:
            ours, theirs = _edge(a, metric.higher), _edge(b, not metric.higher)
        if (ours < theirs) if metric.higher else (ours > theirs):
            return f"{bad} ({b.value:.3g}) comes out better than {good} ({a.value:.3g})"
    return ""


def _edge(estimate: Estimate, upper: bool) -> float:
    """An end of the interval; the value where there is none."""
    edge = estimate.high if upper else estimate.low
    return edge if math.isfinite(edge) else estimate.value

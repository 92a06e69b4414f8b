"""Metrics of a comparison from scored clips, each with its confidence interval, in constant memory per clip.

A metric is a statistic of the clips, and its interval comes from resampling them (percentile bootstrap). The difference
of two systems uses the same resamples for both, over the clips that both were scored on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.scoring.job import BASELINES, REFERENCE, Scored
from v2a_models.metrics import caption
from v2a_models.metrics.catalogue import BY_NAME, METRICS, Metric
from v2a_models.metrics.estimate import Estimate, better, bootstrap_mean, interval, paired_bootstrap
from v2a_models.metrics.frechet import Sample, frechet_difference, frechet_with_interval
from v2a_models.metrics.networks.base import Unavailable
from v2a_models.metrics.networks.load import load_any
from v2a_models.metrics.networks.sources import NETWORKS, not_offered
from v2a_models.metrics.quality import inception_score

if TYPE_CHECKING:
    from v2a_models.metrics.networks.text import BertScore

DRAWS = 500
"""Bootstrap resamples of a pooled metric."""
FRECHET = {"fdd": "fdd", "fdm": "fdm", "fd_foley": "foley", "fad_vggish": "vggish", "fd_panns": "panns",
           "fd_passt": "passt"}  # fmt: skip
"""Features of each Fréchet distance."""
FRECHET_MEMORY_MIB = 128
"""Memory for the bootstrap groups of one feature of one system."""
LEAST_CLIPS = 8
"""Minimum number of clips to check whether a metric ranks the baselines correctly."""


ORDER = {
    # Shuffling keeps the set of sounds, so a metric of the set alone cannot tell it from the reference.
    "quality": ((REFERENCE, "codec"), ("codec", "noise"), ("codec", "silence")),
    "semantics": ((REFERENCE, "codec"), ("codec", "shuffled"), ("codec", "noise"), ("codec", "silence")),
    "synchrony": ((REFERENCE, "codec"), ("codec", "shuffled"), ("codec", "noise"), ("codec", "silence")),
    "captions": ((REFERENCE, "shuffled"),),
    "waveform": ((REFERENCE, "codec"), ("codec", "shuffled"), ("codec", "noise"), ("codec", "silence")),
}
"""Baselines by group, the better one first."""

UNORDERED = frozenset({"tone"})
"""Metrics that do not rank these baselines."""


@dataclass
class Totals:
    """Scores and features collected for one system."""

    clips: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    aligned: dict[str, str] = field(default_factory=dict)
    metrics: list[dict[str, float]] = field(default_factory=list)
    counts: list[np.ndarray] = field(default_factory=list)
    """Per clip with events: int64 (tolerances, 3), matched, detected and true onsets."""
    errors: list[np.ndarray] = field(default_factory=list)
    probabilities: dict[str, list[np.ndarray]] = field(default_factory=dict)
    bleu: dict[str, np.ndarray] = field(default_factory=dict)
    """BLEU counts of each clip that has a caption."""
    captions: dict[str, str] = field(default_factory=dict)
    """Scored captions by clip."""
    samples: dict[str, Sample] = field(default_factory=dict)
    tolerances: tuple[str, ...] = ()

    def add(self, scored: Scored, number: int) -> None:
        """Add one scored sound; `number` is its clip's, the same for all systems."""
        if scored.problem:
            self.failures[scored.clip] = scored.problem
            return
        self.clips.append(scored.clip)
        self.metrics.append(scored.metrics)
        if scored.aligned:
            self.aligned[scored.clip] = scored.aligned
        counts = scored.onsets.get("counts")
        self.tolerances = tuple(counts) if counts else self.tolerances
        self.counts.append(np.array(list(counts.values())) if counts else np.zeros((0, 3), int))
        self.errors.append(np.abs(scored.onsets.get("errors", [])))
        for name, array in scored.arrays.items():
            kind, _, part = name.partition(".")
            if part == "probabilities":
                self.probabilities.setdefault(kind, []).append(np.array(array))
                continue
            if kind not in FRECHET.values():
                continue
            if kind not in self.samples:
                self.samples[kind] = Sample(array.shape[-1], FRECHET_MEMORY_MIB)
            self.samples[kind].add(array, number)

    def caption(
        self, captions: Mapping[str, str], true: Mapping[str, Sequence[str]], reader: BertScore | None
    ) -> None:
        """Score captions, by clip, against one or more true ones; clips without either have no score.

        reader: text encoder of BertScore; None leaves it out.
        """
        clips = [clip for clip in self.clips if clip in captions and clip in true]
        if not clips:
            return
        ours, truths = [captions[clip] for clip in clips], [true[clip] for clip in clips]
        self.captions = dict(zip(clips, ours, strict=True))
        scores = {"rouge_l": caption.rouge_l(ours, truths)}
        if len(clips) > 1:
            scores["cider"] = caption.cider(ours, truths)
        if reader is not None:
            scores["bertscore"] = reader(ours, truths)
        place = {clip: k for k, clip in enumerate(self.clips)}
        for k, clip in enumerate(clips):
            self.metrics[place[clip]] |= {name: float(values[k]) for name, values in scores.items()}
        self.bleu = dict(zip(clips, caption.bleu_counts(ours, truths), strict=True))


class Board:
    """Scores of every system of one comparison."""

    def __init__(self) -> None:
        self.systems: dict[str, Totals] = {}
        self._numbers: dict[str, int] = {}

    def add(self, scored: Scored) -> None:
        number = self._numbers.setdefault(scored.clip, len(self._numbers))
        self.systems.setdefault(scored.system, Totals()).add(scored, number)

    def rows(self) -> Iterable[dict[str, Any]]:
        """One row per system and clip, with its per-clip metrics."""
        for system, totals in self.systems.items():
            for clip, metrics in zip(totals.clips, totals.metrics, strict=True):
                yield {
                    "system": system,
                    "clip": clip,
                    "aligned": totals.aligned.get(clip, ""),
                    "caption": totals.captions.get(clip, ""),
                    **metrics,
                }

    def figures(self, system: str, unavailable: Mapping[str, str]) -> dict[str, Estimate]:
        """Every metric of a system in the order of the protocol; unavailable ones with the reason."""
        totals, estimates = self.systems[system], {}
        for metric in METRICS:
            reasons = [unavailable[name] for name in metric.networks if name in unavailable]
            if reasons:
                estimates[metric.name] = Estimate.missing("; ".join(reasons))
            elif metric.group != "cost":
                estimates[metric.name] = self._figure(metric, totals)
        return estimates

    def _figure(self, metric: Metric, totals: Totals) -> Estimate:
        if metric.name in FRECHET:
            kind, truth = FRECHET[metric.name], self.systems.get(REFERENCE, Totals())
            if kind not in totals.samples or kind not in truth.samples:
                return Estimate.missing("no features of both sides")
            ours = totals.samples[kind]
            return frechet_with_interval(truth.samples[kind], ours, n=_draws(ours))
        if metric.per_clip:
            return per_clip(totals, metric)
        statistic = pooled(metric.name, totals)
        if statistic is None:
            return Estimate.missing(WITHOUT.get(metric.group, "not measured"))
        return _bootstrap(statistic, len(totals.clips))

    def difference(self, metric: Metric, first: str, second: str) -> Estimate:
        """Difference first - second over their common clips, by paired bootstrap; missing for an unpaired metric."""
        a, b = self.systems[first], self.systems[second]
        common = sorted(set(a.clips) & set(b.clips))
        if metric.per_clip:
            ours, theirs = ([values.get(clip, math.nan) for clip in common] for values in
                            (_by_clip(a, metric.name), _by_clip(b, metric.name)))  # fmt: skip
            return paired_bootstrap(ours, theirs)
        if metric.group == "cost":
            return Estimate.missing("measured once, not clip by clip")
        if metric.name in FRECHET:
            # Paired resampling works since a clip is in the same bootstrap group in all systems.
            kind, truth = FRECHET[metric.name], self.systems.get(REFERENCE, Totals())
            if a.clips != b.clips or any(kind not in totals.samples for totals in (truth, a, b)):
                return Estimate.missing("no features of the same clips")
            return frechet_difference(
                truth.samples[kind], a.samples[kind], b.samples[kind], n=_draws(a.samples[kind])
            )
        left, right = pooled(metric.name, a, common), pooled(metric.name, b, common)
        if left is None or right is None:
            return Estimate.missing("no pairs of clips to draw")
        return _bootstrap(lambda picks: left(picks) - right(picks), len(common))

    def unfit(self, figures: Mapping[str, Mapping[str, Estimate]]) -> dict[str, str]:
        """Metrics that misrank the baselines on these clips, each with the pair that it misranks."""
        if len(self.systems.get(REFERENCE, Totals()).clips) < LEAST_CLIPS:
            return {}
        reasons = {}
        for name, metric in BY_NAME.items():
            wrong = misranked(metric, {system: figures[system].get(name) for system in figures})
            if wrong:
                reasons[name] = wrong
        return reasons


WITHOUT = {"synchrony": "no clips with known events", "captions": "no captions were given"}
"""Reason for a missing metric by group, if no network is missing."""


def per_clip(totals: Totals, metric: Metric) -> Estimate:
    """Mean of a per-clip metric."""
    values = [metrics[metric.name] for metrics in totals.metrics if metric.name in metrics]
    reason = WITHOUT.get(metric.group, "") if not metric.networks or metric.group == "captions" else ""
    return bootstrap_mean(values) if values else Estimate.missing(reason or "not measured on these clips")


def _draws(sample: Sample) -> int:
    """Bootstrap resamples of a Fréchet distance. Each costs matrix factorisations, cubic in the dimensions."""
    return 200 if sample.dims <= 256 else 40


def _by_clip(totals: Totals, name: str) -> dict[str, float]:
    pairs = zip(totals.clips, totals.metrics, strict=True)
    return {clip: metrics[name] for clip, metrics in pairs if name in metrics}


def pooled(
    name: str, totals: Totals, clips: Iterable[str] | None = None
) -> Callable[[np.ndarray], float] | None:
    """Pooled metric as a function of the resampled clips; None if there is nothing to pool.

    clips: restricts it to these, in this order.
    """
    place = {clip: k for k, clip in enumerate(totals.clips)}
    order = range(len(totals.clips)) if clips is None else [place[clip] for clip in clips]
    if name.startswith("is_"):
        answers = totals.probabilities.get(name.removeprefix("is_"))
        if not answers:
            return None
        stack = np.stack([answers[k] for k in order])
        return lambda picks: inception_score(stack[picks], splits=1)[0]
    if name == "bleu4":
        if not totals.bleu:
            return None
        each = np.stack([totals.bleu.get(totals.clips[k], np.zeros(10, np.int64)) for k in order])
        return lambda picks: caption.bleu_of(each[picks].sum(0))
    if not any(len(totals.counts[k]) for k in order):
        return None
    if name in ("onset_median", "onset_p90"):
        errors = [totals.errors[k] for k in order]
        percent = 50 if name == "onset_median" else 90
        return lambda picks: _percentile_ms([errors[k] for k in picks], percent)
    _, ratio, tolerance = name.split("_")
    at = totals.tolerances.index(tolerance)
    empty = np.zeros(3, int)
    counts = np.stack([totals.counts[k][at] if len(totals.counts[k]) else empty for k in order])
    return lambda picks: _ratio(ratio, counts[picks].sum(0))


def _percentile_ms(errors: list[np.ndarray], percent: float) -> float:
    together = np.concatenate(errors) if errors else np.zeros(0)
    return 1000 * float(np.percentile(together, percent)) if len(together) else math.nan


def _ratio(name: str, counts: np.ndarray) -> float:
    matched, detected, true = (int(n) for n in counts)
    below = {"precision": detected, "recall": true, "f1": (detected + true) / 2}[name]
    return matched / below if below else 0.0 if true else math.nan


def _bootstrap(statistic: Callable[[np.ndarray], float], n: int) -> Estimate:
    """Statistic of n clips with its bootstrap interval."""
    value = statistic(np.arange(n))
    if math.isnan(value):
        return Estimate.missing("no onsets were detected to measure it on", n)
    if n < 2:
        return Estimate(value, math.nan, math.nan, n, "one clip has no interval")
    rng = np.random.default_rng(0)
    draws = np.array([statistic(rng.integers(0, n, n)) for _ in range(DRAWS)])
    draws = draws[np.isfinite(draws)]
    low, high = interval(draws) if len(draws) else (math.nan, math.nan)
    return Estimate(value, low, high, n)


def available_networks(
    names: Iterable[str], files: Mapping[str, str], download: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Available networks, and the reason for each of the others: unavailable, or not requested."""
    requested, available, missing = set(names), [], {}
    for name, source in NETWORKS.items():
        if source.reason:
            missing[name] = not_offered(name)
            continue
        if name not in requested:
            if source.takes_audio or source.takes_frames:  # BERTScore is needed for captions only
                missing[name] = f"{source.title} was not requested: --networks {name}"
            continue
        try:
            load_any(name, files, download=download)
            available.append(name)
        except Unavailable as error:
            missing[name] = str(error)
    return available, missing


def entry(estimate: Estimate) -> dict[str, Any]:
    """JSON of an estimate; unknown values are null."""

    def plain(value: float) -> float | None:
        return None if not math.isfinite(value) else value

    return {
        "value": plain(estimate.value),
        "low": plain(estimate.low),
        "high": plain(estimate.high),
        "n": estimate.n,
        "note": estimate.note,
    }


def verdict(metric: Metric, difference: Estimate) -> str:
    """The significantly better of two systems, by the interval of their difference: first, second, or ""."""
    if metric.higher is None or not difference.available:
        return ""
    if better(difference, metric.higher):
        return "first"
    return "second" if better(difference, not metric.higher) else ""


def is_baseline(system: str) -> bool:
    return system in BASELINES


def misranked(metric: Metric, estimates: Mapping[str, Estimate | None]) -> str:
    """First pair of baselines that the metric ranks wrongly; empty if none, or if the figures are missing."""
    if metric.higher is None or metric.name in UNORDERED:
        return ""
    for good, bad in ORDER.get(metric.group, ()):
        a, b = estimates.get(good), estimates.get(bad)
        if a is None or b is None or not a.available or not b.available:
            continue
        # A codec may help an onset detector, so it counts as better than the reference only beyond both intervals.
        ours, theirs = a.value, b.value
        if good == REFERENCE:
            ours, theirs = _edge(a, metric.higher), _edge(b, not metric.higher)
        if (ours < theirs) if metric.higher else (ours > theirs):
            return f"{bad} ({b.value:.3g}) comes out better than {good} ({a.value:.3g})"
    return ""


def _edge(estimate: Estimate, upper: bool) -> float:
    """Upper or lower end of the interval; the value if there is none."""
    return edge if math.isfinite(edge := estimate.high if upper else estimate.low) else estimate.value

"""Figures from scored clips: each has its interval, or the reason why it is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.scoring.job import Scored
from pipelines.scoring.summary import Board, available_networks, entry, misranked, verdict
from v2a_models.metrics.catalogue import BY_NAME, METRICS
from v2a_models.metrics.estimate import Estimate
from v2a_models.metrics.networks.sources import NETWORKS

CLIPS = 40


def board(noise: dict[str, float], clips: int = CLIPS) -> Board:
    """Systems that are as far from the truth as `noise` says."""
    found, rng = Board(), np.random.default_rng(0)
    for clip in range(clips):
        truth, hard = rng.standard_normal((6, 3)).astype(np.float32), rng.uniform(0.5, 1.5)
        for system, level in noise.items():
            arrays = {"fdm": (truth + level * hard).astype(np.float32)}
            counts = {name: [3 - int(level > hard), 3, 3] for name in ("25", "50", "100")}
            onsets = {"counts": counts, "errors": [level * hard / 100] * 2}
            found.add(
                Scored(system, f"{clip:03}", metrics={"stft": level * hard}, arrays=arrays, onsets=onsets)
            )
    return found


def test_every_figure_has_its_interval_or_its_reason() -> None:
    found = board({"good": 0.5, "bad": 0.8, "reference": 0.0}).figures("good", available_networks((), {})[1])
    for metric in METRICS:
        if metric.group == "cost":
            continue
        estimate = found[metric.name]
        if estimate.available:
            assert estimate.low <= estimate.value <= estimate.high
        else:
            assert estimate.note, metric.name
    had = {name for name, estimate in found.items() if estimate.available}
    onsets = {f"onset_{kind}_{ms}" for kind in ("f1", "precision", "recall") for ms in (25, 50, 100)}
    assert had == {"fdm", "stft", "onset_median", "onset_p90"} | onsets
    assert found["onset_p90"].value >= found["onset_median"].value > 0
    assert "no maintained package" in found["ib"].note and "no maintained package" in found["desync"].note
    assert "--networks vggish" in found["fad_vggish"].note and "captions" in found["bleu4"].note
    assert "Wav2CLIP" in found["cc"].note and "CLIP ViT-B/32" in found["cc"].note


def test_every_network_is_had_or_says_why_not() -> None:
    found, missing = available_networks(("foley", "scav"), {})
    assert found == ["foley", "scav"]
    assert set(missing) == set(NETWORKS) - {"foley", "scav", "bertscore"}
    assert {network for metric in METRICS for network in metric.networks} == set(NETWORKS)


@pytest.mark.parametrize("name", ["stft", "fdm", "onset_f1_50", "onset_p90"])
def test_differences_are_drawn_in_pairs(name: str) -> None:
    metric = BY_NAME[name]
    found = board({"good": 0.5, "bad": 0.8, "reference": 0.0})
    difference = found.difference(metric, "good", "bad")
    assert verdict(metric, difference) == "first"
    assert verdict(metric, found.difference(metric, "bad", "good")) == "second"
    assert verdict(metric, found.difference(metric, "good", "good")) == ""
    assert entry(difference)["n"] >= CLIPS


def test_what_has_no_pairs_has_no_difference() -> None:
    found = board({"good": 0.5, "bad": 0.8, "reference": 0.0})
    for name in ("audio_s_per_s", "fad_vggish", "is_foley", "bleu4"):
        difference = found.difference(BY_NAME[name], "good", "bad")
        assert not difference.available and difference.note, name


def test_captions_are_scored_by_clip_and_over_all() -> None:
    found = board({"good": 0.5, "reference": 0.0}, clips=3)
    true = {"000": ["a dog barks at the gate"], "001": ["rain falls on a tin roof", "it rains"], "002": ["x"]}
    said = {"000": "a dog barks at the gate", "001": "rain falls on a roof"}
    found.systems["good"].caption(said, true, lambda ours, theirs: np.array([0.9, 0.7]))
    figures = found.figures("good", {})
    assert figures["rouge_l"].n == figures["bertscore"].n == 2 and figures[
        "bertscore"
    ].value == pytest.approx(0.8)
    assert 0.5 < figures["bleu4"].value < 1 and figures["bleu4"].low <= figures["bleu4"].value
    assert "no captions" in found.figures("reference", {})["bleu4"].note
    difference = found.difference(BY_NAME["bleu4"], "good", "reference")
    assert not difference.available


def test_a_metric_that_turns_the_baselines_round_is_unfit() -> None:
    def found(**values: float) -> dict[str, Estimate | None]:
        return {name: Estimate(value, value - 0.01, value + 0.01, 9) for name, value in values.items()}

    right = found(reference=0.0, codec=0.4, shuffled=0.7, noise=0.8, silence=0.9)
    assert misranked(BY_NAME["mse"], right) == ""
    said = misranked(BY_NAME["mse"], right | found(silence=0.3))
    assert said == "silence (0.3) comes out better than codec (0.4)"
    assert misranked(BY_NAME["mse"], found(reference=0.405, codec=0.4)) == "", "within the interval"
    assert "codec" in misranked(BY_NAME["mse"], found(reference=0.5, codec=0.4))
    assert misranked(BY_NAME["fdm"], right | found(shuffled=0.0)) == "", "the same set of sounds"
    assert misranked(BY_NAME["parameters"], right) == misranked(BY_NAME["tone"], right) == ""
    assert misranked(BY_NAME["mse"], {"reference": None, "codec": Estimate.missing("x")}) == ""
    assert math.isnan(Estimate.missing("x").value)

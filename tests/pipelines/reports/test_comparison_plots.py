"""Plots of a comparison: what they show, and that no summary or name breaks them."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.reports import comparison_plots
from tests.pipelines.reports.test_comparison_table import example, hostile, item

RATE = 16_000


def scores(summary: dict[str, Any], values: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    """One row per system and clip, of classes `dog` (two clips) and none (one)."""
    rows = []
    for system in (s["name"] for s in summary["systems"]):
        for clip, label in (("c0", "dog"), ("c1", "dog"), ("c2", "")):
            value = values.get((system, clip), math.nan)
            rows.append(
                {"system": system, "clip": clip, "label": label, "path": "", "start_s": 0.0, "f1": value}
            )
    return rows


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def inked(png: bytes, colour: str) -> int:
    """Pixels of one colour."""
    rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return int((np.abs(pixels(png) - rgb).sum(axis=-1) < 12).sum())


def test_a_bar_is_as_long_as_its_figure() -> None:
    summary = example()
    summary["metrics"] = summary["metrics"][1:2]
    colours = comparison_plots.colours(summary)
    assert len({colours["mini"], colours["large"], colours["reference"], colours["noise"]}) == 4
    drawn = comparison_plots.bars(summary)
    assert inked(drawn, colours["mini"]) / inked(drawn, colours["reference"]) == pytest.approx(
        0.612, abs=0.05
    )
    summary["systems"][1]["metrics"]["f1"] = item(None, note="none")
    assert inked(comparison_plots.bars(summary), colours["mini"]) == 0


def test_a_baseline_far_out_does_not_flatten_the_models() -> None:
    low, high = comparison_plots._axis_limits(example(), "fdd")
    assert low == 0 and 41.26 + 3.1 < high < 900 / 5
    assert comparison_plots._axis_limits(example(), "stft")[1] > 3.3  # not far out: shown as it is


def test_the_radar_runs_from_the_worst_baseline_to_the_ground_truth_on_fit_metrics() -> None:
    axes = comparison_plots.radar_axes(example())
    assert [(m["name"], worst, truth) for m, worst, truth in axes] == [
        ("fdd", 900.0, 0.0), ("f1", 0.0, 1.0), ("error", 88.0, 0.0),
    ]  # fmt: skip
    assert comparison_plots.normalised(450.0, 900.0, 0.0) == 0.5
    assert math.isnan(comparison_plots.normalised(None, 900.0, 0.0))
    summary = example()
    summary["systems"][0]["metrics"]["f1"] = item(-1.0)  # the ground truth below every baseline says nothing
    assert [m["name"] for m, _, _ in comparison_plots.radar_axes(summary)] == ["fdd", "error"]


def test_the_radar_draws_every_model_or_says_why_not() -> None:
    summary = example()
    colours = comparison_plots.colours(summary)
    drawn = comparison_plots.radar(summary)
    assert inked(drawn, colours["mini"]) > 300 and inked(drawn, colours["large"]) > 300
    summary["unfit"] |= {"f1": "x"}
    assert len(pixels(comparison_plots.radar(summary))) < 200  # a line of text


def test_the_heat_map_averages_by_class_and_picks_a_metric_that_is_fit() -> None:
    summary = example()
    rows = scores(summary, {("mini", "c0"): 0.2, ("mini", "c1"): 0.6, ("large", "c2"): 0.9})
    assert comparison_plots.heat_metric(summary, rows) == "f1"
    labels, means = comparison_plots.class_means(rows, "f1", ["mini", "large"])
    assert labels == ["dog", "no class"]
    assert np.allclose(means, [[0.4, np.nan], [np.nan, 0.9]], equal_nan=True)
    assert len(pixels(comparison_plots.heatmap(summary, rows))) > 150
    summary["unfit"]["f1"] = "x"
    assert comparison_plots.heat_metric(summary, rows) == ""
    assert pixels(comparison_plots.heatmap(summary, rows)).shape[0] < 200


def test_bright_is_good_whatever_the_direction() -> None:
    summary = example()
    rows = scores(
        summary, {(s, c): v for s, v in (("mini", 0.2), ("large", 0.8)) for c in ("c0", "c1", "c2")}
    )
    yellow, violet = "#fde725", "#440154"  # the ends of viridis

    def sides() -> tuple[float, float]:
        """Positions of the cells of the worst and best colour, from left to right, without the colour bar."""
        drawn = pixels(comparison_plots.heatmap(summary, rows))[:, :-160]
        found = []
        for colour in (violet, yellow):
            rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
            found.append(float(np.nonzero(np.abs(drawn - rgb).sum(axis=-1) < 12)[1].mean()))
        return found[0], found[1]

    worst, best = sides()
    assert worst < best  # mini stands left of large
    summary["metrics"][1]["higher"] = False
    worst, best = sides()
    assert worst > best


def test_spectrograms_share_time_frequency_and_scale() -> None:
    at = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 1000 * at)
    loud = comparison_plots._power(tone, len(tone), RATE, 8000.0)
    quiet = comparison_plots._power((tone * 3276.8).astype(np.int16), len(tone), RATE, 8000.0)
    height = (
        math.log(1000 / comparison_plots.BOTTOM_HZ) / math.log(8000 / comparison_plots.BOTTOM_HZ) * len(loud)
    )
    assert abs(np.argmax(loud.mean(axis=1)) - height) <= 3
    assert 10 * np.log10(loud.max() / quiet.max()) == pytest.approx(20, abs=0.1)
    short = comparison_plots._power(tone[:RATE], len(tone), RATE, 8000.0)
    columns = short.max(axis=0)
    assert columns[: len(columns) // 2 - 20].min() > 1e3 * columns[len(columns) // 2 + 40 :].max()


@pytest.mark.parametrize(
    "sounds",
    [
        {"silence": np.zeros(RATE, np.float32)},
        {"a": np.zeros(0, np.float32), "b": np.ones(1, np.int16)},
        {"a": np.full(RATE, np.nan, np.float32), "_b $x": np.full(100, np.inf, np.float32)},
    ],
)
def test_any_sound_has_a_spectrogram(sounds: dict[str, np.ndarray]) -> None:
    assert pixels(comparison_plots.spectrograms(sounds, RATE, "$\\frac{")).size


def test_spectrograms_of_no_sound_are_refused() -> None:
    with pytest.raises(ValueError, match="no sound"):
        comparison_plots.spectrograms({}, RATE, "x")
    with pytest.raises(ValueError, match=r"pair: expected a mono wave, got shape \(2, 9\)"):
        comparison_plots.spectrograms({"pair": np.zeros((2, 9))}, RATE, "x")


def test_names_are_text_and_not_formulas() -> None:
    summary = hostile()
    for system in summary["systems"]:
        system["title"] = (
            "_$\\frac{$" + system["title"]
        )  # a formula that does not parse, a legend that hides it
    rows = scores(summary, {("mini", "c0"): 0.2})
    for drawn in (
        comparison_plots.bars(summary),
        comparison_plots.radar(summary),
        comparison_plots.heatmap(summary, rows),
    ):
        assert pixels(drawn).size
    assert comparison_plots.as_label("_x$y$\nz") == r" _x\$y\$ z"
    assert comparison_plots.as_label("model of step 10000", 11) == "model…10000"


def test_nothing_measured_is_said() -> None:
    summary = example()
    for system in summary["systems"]:
        system["metrics"] = {}
    for drawn in (
        comparison_plots.bars(summary),
        comparison_plots.radar(summary),
        comparison_plots.heatmap(summary, []),
    ):
        assert 0 < len(pixels(drawn)) < 200

"""The plots of a comparison, as .png: bars with intervals, a radar of the models, classes, spectrograms."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.reports.comparison_table import (
    REFERENCE,
    Summary,
    arrow,
    entry,
    fit,
    is_finite,
    models,
    number,
    ordered,
    places,
    tables,
)
from v2a_models import pcm

CLASSES = 30
"""Rows of the heat map; the classes of most clips."""

TOP_HZ, BOTTOM_HZ = 16_000.0, 60.0
FLOOR_DB = 80.0

_COLOURS = (
    "#2a6fbb", "#d1632c", "#2f8f5b", "#8d55b5", "#b8952a", "#c0427a",
    "#3aa0a8", "#7a5a3c", "#6a78d6", "#8aa33a", "#d98aa8", "#4d4d4d",
)  # fmt: skip
_GREY, _DARK, _INK = "#b4bac4", "#6c7480", "#23272e"
_FFT = 2048
_WIDE, _TALL = 480, 192
"""Cells of a spectrogram: over time and over frequency."""


def colours(summary: Summary) -> dict[str, str]:
    """A colour per system: one each for models, greys for baselines, the ground truth the darkest."""
    greys = {s["name"]: _DARK if s["name"] == REFERENCE else _GREY for s in summary["systems"]}
    return greys | {s["name"]: _COLOURS[at % len(_COLOURS)] for at, s in enumerate(models(summary))}


# ---- bars


def bars(summary: Summary) -> bytes:
    """One panel per metric, a bar with its interval per system: .png.

    An axis ends where models and ground truth do; a bar beyond it is cut and says its figure.
    """
    metrics = [metric for table in tables(summary) for metric in table.metrics]
    if not metrics:
        return message("No system has a figure.")
    systems = ordered(summary)
    across = min(4, len(metrics))
    down = -(-len(metrics) // across)
    figure = _figure(2.1 + 2.5 * across, 0.3 + down * (0.75 + 0.23 * len(systems)))
    grid = figure.subplots(down, across, squeeze=False)
    for at, axes in enumerate(grid.flat):
        if at >= len(metrics):
            axes.set_visible(False)
            continue
        _bars(axes, summary, metrics[at], systems, named=at % across == 0)
    return _png(figure)


def _bars(
    axes: Any, summary: Summary, metric: Mapping[str, Any], systems: Sequence[Mapping[str, Any]], named: bool
) -> None:
    colour, decimals = colours(summary), places(summary, metric["name"])
    items = [entry(system, metric["name"]) for system in systems]
    low, high = _axis_limits(summary, metric["name"])
    for at, (system, item) in enumerate(zip(systems, items, strict=True)):
        value = item["value"]
        if not is_finite(value):
            axes.text(low + 0.02 * (high - low), at, "n/a", va="center", fontsize=7, color=_DARK)
            continue
        axes.barh(at, min(max(value, low), high), height=0.72, color=colour[system["name"]])
        if not low <= value <= high:
            edge, side = (low, "left") if value < low else (high, "right")
            axes.text(edge, at, f" {number(value, decimals)} ", va="center", ha=side, fontsize=7, color=_INK)
        elif is_finite(item["low"]) and is_finite(item["high"]):
            axes.plot([item["low"], item["high"]], [at, at], color=_INK, lw=1.2)
    axes.set_xlim(low, high)
    axes.set_ylim(len(systems) - 0.4, -0.6)
    axes.set_yticks(range(len(systems)), [as_label(s["title"], 24) for s in systems] if named else [])
    axes.tick_params(labelsize=7.5, length=2)
    axes.locator_params(axis="x", nbins=5)
    unfit = metric["name"] in summary["unfit"]
    title = " ".join(filter(None, [as_label(metric["title"], 30), arrow(metric), "(unreliable)" * unfit]))
    axes.set_title(title, fontsize=8.5, color=_DARK if unfit else _INK)
    if metric["unit"]:
        axes.set_xlabel(as_label(metric["unit"], 30), fontsize=7.5, labelpad=1)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _axis_limits(summary: Summary, metric: str) -> tuple[float, float]:
    """Limits of a metric's axis: they include 0, all models and the ground truth; other systems if not far beyond."""

    def ends(systems: Sequence[Mapping[str, Any]]) -> list[float]:
        items = [entry(system, metric) for system in systems]
        items = [item for item in items if is_finite(item["value"])]
        return [i[key] for i in items for key in ("value", "low", "high") if is_finite(i[key])]

    everything = ends(summary["systems"])
    chosen = ends([s for s in summary["systems"] if s["kind"] == "model" or s["name"] == REFERENCE])
    low, high = min(0.0, *(chosen or everything)), max(0.0, *(chosen or everything))
    room = 1.5 * (high - low) or max(map(abs, everything)) or 1.0
    low, high = max(low - room, min(0.0, *everything)), min(high + room, max(0.0, *everything))
    margin = 0.04 * (high - low) or 0.5
    return low - margin * (low < 0), high + margin * (high > 0 or low == high)


# ---- radar


def radar_axes(summary: Summary) -> list[tuple[Mapping[str, Any], float, float]]:
    """Metrics a radar can show, with the figure of the worst baseline and of the ground truth.

    Those fit here, with a direction, by which the ground truth is better than a baseline.
    """
    axes = []
    for metric in summary["metrics"]:
        held = {
            s["name"]: entry(s, metric["name"])["value"]
            for s in summary["systems"]
            if s["kind"] == "baseline"
        }
        held = {name: value for name, value in held.items() if is_finite(value)}
        truth = held.pop(REFERENCE, None)
        if truth is None or not held or not fit(summary, metric):
            continue
        worst = (min if metric["higher"] else max)(held.values())
        if (truth - worst) * (1 if metric["higher"] else -1) > 0:
            axes.append((metric, worst, truth))
    return axes


def radar(summary: Summary) -> bytes:
    """The models over all metrics of `radar_axes`: the centre is the worst baseline, 1 the ground truth: .png.

    What lies beyond is drawn at -0.1 and 1.2. A metric that a model has no figure of leaves a gap.
    """
    spokes = radar_axes(summary)
    if len(spokes) < 3 or not models(summary):
        return message(f"A radar needs a model and three metrics with both ends; here are {len(spokes)}.")
    figure = _figure(10.4, 6.8)
    axes = figure.add_subplot(projection="polar")
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    angles = np.linspace(0, 2 * np.pi, len(spokes), endpoint=False)
    colour = colours(summary)
    lines = []
    for system in models(summary):
        ratios = [normalised(entry(system, m["name"])["value"], worst, truth) for m, worst, truth in spokes]
        ring = np.clip(np.array([*ratios, ratios[0]]), -0.1, 1.2)
        [line] = axes.plot([*angles, angles[0]], ring, "o-", ms=3.5, lw=1.8, color=colour[system["name"]])
        if len(models(summary)) <= 3 and not np.isnan(ring).any():
            axes.fill(angles, ring[:-1], color=colour[system["name"]], alpha=0.07)
        lines.append(line)
    around = np.linspace(0, 2 * np.pi, 200)
    for level, style in ((0.0, ":"), (1.0, "--")):
        axes.plot(around, np.full_like(around, level), style, lw=1.1, color=_DARK, zorder=1)
    axes.set_ylim(-0.25, 1.2)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=7.5, color=_DARK)
    axes.set_xticks(angles, [f"{as_label(m['title'], 24)} {arrow(m)}" for m, _, _ in spokes], fontsize=8)
    for angle, label in zip(angles, axes.get_xticklabels(), strict=True):
        side = math.sin(angle)
        label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    axes.grid(alpha=0.3)
    axes.spines["polar"].set_visible(False)
    names = [as_label(system["title"], 28) for system in models(summary)]
    figure.legend(lines, names, loc="outside right upper", fontsize=8, frameon=False)
    figure.suptitle("0: the worst baseline, 1: the ground truth", fontsize=9.5)
    return _png(figure, bbox_inches="tight")


def normalised(value: float | None, worst: float, truth: float) -> float:
    """Position of a figure between the worst baseline (0) and the ground truth (1); NaN for none."""
    return (value - worst) / (truth - worst) if value is not None and is_finite(value) else math.nan


# ---- classes


def heat_metric(summary: Summary, scores: Sequence[Mapping[str, Any]]) -> str:
    """The metric of the heat map: the first by clip that is fit here and has scores, synchrony before the rest."""
    able = [m for m in summary["metrics"] if m["per_clip"] and fit(summary, m)]
    able = [m for m in able if any(is_finite(row.get(m["name"])) for row in scores)]
    order = ("synchrony", "semantics", "quality", "captions", "waveform")
    able.sort(key=lambda m: order.index(m["group"]) if m["group"] in order else len(order))
    return able[0]["name"] if able else ""


def class_means(
    scores: Sequence[Mapping[str, Any]], metric: str, systems: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """The `CLASSES` most common classes, and their mean scores [classes, systems]; NaN where there is none."""
    clips = {(row["clip"], row["label"] or "no class") for row in scores}
    common = Counter(label for _, label in sorted(clips)).most_common(CLASSES)
    labels = [label for label, _ in common]
    held: dict[tuple[str, str], list[float]] = {}
    for row in scores:
        if is_finite(row.get(metric)):
            held.setdefault((row["label"] or "no class", row["system"]), []).append(row[metric])
    means = [[np.mean(held.get((label, name), [np.nan])) for name in systems] for label in labels]
    return labels, np.array(means, float).reshape(len(labels), len(systems))


def heatmap(summary: Summary, scores: Sequence[Mapping[str, Any]], metric: str = "") -> bytes:
    """Mean score by class and system of one metric (`heat_metric` if none is named): .png.

    Bright is good; the colours span what the models reach, so that baselines may lie at their ends.
    """
    metric = metric or heat_metric(summary, scores)
    systems = ordered(summary)
    labels, means = class_means(scores, metric, [system["name"] for system in systems])
    if not np.isfinite(means).any():
        return message("No metric has a score by clip.")
    about = next(m for m in summary["metrics"] if m["name"] == metric)
    figure = _figure(3.2 + 0.75 * len(systems), 1.7 + 0.25 * len(labels))
    axes = figure.add_subplot()
    competing = means[:, [system["kind"] == "model" for system in systems]]
    scored = competing if np.isfinite(competing).any() else means
    scored = scored[np.isfinite(scored)]
    low, high = float(scored.min()), float(scored.max())
    ramp = "viridis_r" if about["higher"] is False else "viridis"
    axes.set_facecolor("#e9ebef")
    image = axes.imshow(means, aspect="auto", cmap=ramp, vmin=low, vmax=high if high > low else low + 1)
    decimals = places(summary, metric)
    for (row, column), value in np.ndenumerate(means):
        red, green, blue, _ = image.cmap(image.norm(value)) if np.isfinite(value) else (1.0, 1.0, 1.0, 1.0)
        ink = _INK if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        text = number(float(value), min(decimals, 3)) if np.isfinite(value) else "n/a"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
    names = [as_label(system["title"], 24) for system in systems]
    axes.set_xticks(range(len(systems)), names, fontsize=8, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), [as_label(label, 28) for label in labels], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=30, extend="both")
    bar.ax.tick_params(labelsize=7.5)
    axes.set_title(f"{as_label(about['title'], 60)} {arrow(about)} by class".replace("  ", " "), fontsize=9.5)
    return _png(figure)


# ---- spectrograms


def spectrograms(sounds: Mapping[str, np.ndarray], rate: int, title: str) -> bytes:
    """One clip as every system sounds: panels over the same time, frequency (60 Hz to 16 kHz) and dB: .png.

    sounds: mono waves, float in [-1, 1] or int16, at `rate`; a shorter one ends earlier. 0 dB is the loudest
    cell of all. Raises ValueError for no sound or a wave that is not [n].
    """
    if not sounds:
        raise ValueError("no sound to draw")
    length = max(1, *(len(_checked(name, wave)) for name, wave in sounds.items()))
    top_hz = min(TOP_HZ, rate / 2)
    power = {name: _power(wave, length, rate, top_hz) for name, wave in sounds.items()}
    loudest = max(float(cells.max()) for cells in power.values()) or 1.0
    across = min(4, len(power))
    down = -(-len(power) // across)
    figure = _figure(1.2 + 2.7 * across, 0.7 + 1.75 * down)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    mesh = None
    for axes in grid.flat[len(power) :]:
        axes.set_visible(False)
    for at, (axes, (name, cells)) in enumerate(zip(grid.flat, power.items(), strict=False)):
        level = 10 * np.log10(np.maximum(cells / loudest, 1e-12))
        mesh = axes.imshow(
            level, origin="lower", aspect="auto", cmap="magma", vmin=-FLOOR_DB, vmax=0,
            extent=(0, length / rate, 0, 1), interpolation="nearest",
        )  # fmt: skip
        axes.set_title(as_label(name, 34), fontsize=8.5)
        ticks = [hz for hz in (100, 1000, 10_000) if BOTTOM_HZ < hz < top_hz]
        heights = [math.log(hz / BOTTOM_HZ) / math.log(top_hz / BOTTOM_HZ) for hz in ticks]
        axes.set_yticks(heights, [f"{hz // 1000} kHz" if hz >= 1000 else f"{hz} Hz" for hz in ticks])
        axes.tick_params(labelsize=7.5, labelbottom=at + across >= len(power))
    bar = figure.colorbar(mesh, ax=list(grid.flat), pad=0.01, aspect=30)
    bar.ax.tick_params(labelsize=7.5)
    bar.set_label("dB from the loudest", fontsize=8)
    figure.suptitle(as_label(title, 100), fontsize=9.5)
    figure.supxlabel("seconds", fontsize=8)
    return _png(figure)


def _checked(name: str, wave: np.ndarray) -> np.ndarray:
    if np.ndim(wave) != 1:
        raise ValueError(f"{name}: expected a mono wave, got shape {np.shape(wave)}")
    return wave


def _power(wave: np.ndarray, length: int, rate: int, top_hz: float) -> np.ndarray:
    """Power over log frequency and time, float64 [_TALL, _WIDE]: the loudest of what falls into a cell."""
    scale = pcm.EXACT_SCALE if wave.dtype == np.int16 else 1.0
    mono = np.nan_to_num(np.asarray(wave, np.float64) / scale, posinf=1.0, neginf=-1.0)
    padded = np.pad(mono, (_FFT // 2, length - len(mono) + _FFT // 2))
    starts = np.arange(0, length, max(1, min(_FFT // 4, length // _WIDE)))
    window = np.hanning(_FFT)
    spectrum = np.empty((len(starts), _FFT // 2 + 1))
    for at in range(0, len(starts), 256):
        views = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[starts[at : at + 256]]
        spectrum[at : at + 256] = np.abs(np.fft.rfft(views * window)) ** 2
    columns = np.minimum((np.linspace(0, 1, _WIDE + 1)[:-1] * len(starts)).astype(int), len(starts) - 1)
    spectrum = np.maximum.reduceat(spectrum, columns, axis=0)
    edges = BOTTOM_HZ * (top_hz / BOTTOM_HZ) ** np.linspace(0, 1, _TALL + 1) * _FFT / rate
    # Below, cells are finer than bins and take the nearest; above they take the loudest of several.
    bins = np.minimum(np.round(edges[:-1]).astype(int), spectrum.shape[1] - 1)
    return np.maximum.reduceat(spectrum, bins, axis=1).T


# ---- for all


def as_label(text: Any, most: int = 60) -> str:
    """Text that matplotlib takes for nothing but text: no formula, one line, not too long."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(flat) > most:  # names often differ at their end
        flat = f"{flat[: most - most // 2 - 1]}…{flat[-(most // 2) :]}"
    flat = f" {flat}" if flat.startswith("_") else flat  # a legend leaves such names out
    return flat.replace("$", r"\$")


def message(text: str) -> bytes:
    """A picture that says why there is no plot: .png."""
    figure = _figure(6, 1.2)
    figure.text(0.5, 0.5, as_label(text, 90), ha="center", va="center", fontsize=10, color=_DARK)
    return _png(figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any, **options: Any) -> bytes:
    figure.savefig(sink := io.BytesIO(), format="png", dpi=120, **options)
    return sink.getvalue()

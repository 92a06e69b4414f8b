"""Cost and gain of choosing among candidates, with whatever checkpoint `mini` is.

Cost: seconds of generation (features in, waveform out) for 1, 2, 5 and 10 candidates, once judged by their codec
latents with one decode of the best, once with every candidate decoded and judged by its re-encoded waveform; and for
several numbers of sampling steps. All variants are timed in turns, ratios come from one run.

Gain: held-out SynthFoley clips of one window, 10 candidates drawn once; the best of the first 1, 2, 5 and 10 by SCAV
are decoded and scored. Beside them the worst of 10 by SCAV: where best and worst do not differ, SCAV does not judge.

    python -m benchmarks.selection [--clips 56] [--candidates 10] [--model mini] [--only cost|gain] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.mini_quality import HELD_OUT_SEED, class_numbers
from pipelines import synthfoley
from pipelines.synthfoley import corpus
from v2a_models import grid
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_classifier, load_generator
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.metrics.foley import foley_score
from v2a_models.scav import SCAV, SCAVConfig, interpolated_euclidean, select
from v2a_models.seeds import window_seed
from v2a_models.selection import best_codes

COUNTS = (1, 2, 5, 10)
STEPS = (4, 8, 16)
ROWS = 8
"""Windows at a time, where quality is measured."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=56)
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--only", choices=("cost", "gain"))
    parser.add_argument("--rows", type=int, default=2, help="windows at a time, where cost is measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    generator = load_generator(args.model, "cuda" if torch.cuda.is_available() else "cpu", "auto")
    if not isinstance(generator, MaskVATGenerator):
        raise SystemExit(f"{args.model} draws no candidates")
    trained = generator.scav is not None
    figures: dict[str, Any] = {}
    if args.only != "gain":
        if not trained:
            print(f"{args.model} has no SCAV: its cost is measured with an untrained one of mini size\n")
        figures["cost"] = cost(generator, args.rows, args.repeats)
        print(cost_table(figures["cost"], args.rows) + "\n", flush=True)
    if args.only != "cost":
        if trained:
            figures["gain"] = gain(generator, args.model, args.clips, args.candidates)
            print(gain_table(figures["gain"], args.clips))
        else:
            print(f"{args.model} has no SCAV: what selection adds cannot be measured with it")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


# cost


def cost(generator: MaskVATGenerator, rows: int, repeats: int) -> dict[str, float]:
    """Seconds of one batch, the median of `repeats`, by variant."""
    if generator.scav is None:
        device = next(generator.parameters()).device
        config = SCAVConfig(audio_channels=generator.codec.config["latent_dim"])
        generator.scav = SCAV(config).to(device).eval()
    batch, seeds = random_features(generator, rows), list(range(rows))
    variants: dict[str, Callable[[], Tensor]] = {}
    for count in COUNTS:
        variants[f"latents {count}"] = partial(generator.generate, batch, seeds=seeds, candidates=count)
        variants[f"decoded {count}"] = partial(decoded_best, generator, batch, seeds, count)
    for steps in STEPS:
        variants[f"steps {steps}"] = partial(
            generator.generate, batch, seeds=seeds, candidates=2, steps=steps
        )
    variants["plain 1"] = partial(generator.generate, batch, seeds=seeds)
    times: dict[str, list[float]] = {name: [] for name in variants}
    variants["plain 1"]()  # warms up
    for _ in range(repeats):
        for name, variant in variants.items():
            started = time.perf_counter()
            variant().cpu()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


@torch.inference_mode()
def decoded_best(generator: MaskVATGenerator, batch: Batch, seeds: Sequence[int], candidates: int) -> Tensor:
    """Waveform (B, 1, recipe.window) of the nearest candidate, every candidate decoded and encoded again to be ranked,
    as a space made from waveforms has to."""
    waveforms: list[Tensor] = []

    def again(codes: Tensor) -> Tensor:
        waveforms.append(generator.decode(codes))
        return generator.codec.encode(waveforms[-1])

    _, distances = best_codes(generator, batch, seeds, candidates, scored_as=again)
    return torch.stack(waveforms, 1)[torch.arange(len(distances)), select(distances)]


def random_features(generator: MaskVATGenerator, rows: int) -> Batch:
    """Features of the right shapes; what they say costs nothing."""
    recipe, config = generator.recipe, generator.maskvat.config
    device, noise = next(generator.parameters()).device, torch.Generator().manual_seed(0)

    def stream(name: str, dim: int) -> Tensor:
        length = grid.frame_count(recipe.window_s, recipe.view(name).fps)
        return torch.randn(rows, length, dim, generator=noise).to(device)

    assert generator.scav is not None
    dims = generator.scav.config
    return Batch(
        semantic=stream("semantic", config.semantic_dim or dims.semantic_dim),
        sync=stream("sync", config.sync_dim or dims.sync_dim),
    )


def cost_table(seconds: dict[str, float], rows: int) -> str:
    """Markdown: ratios to one candidate, and how straight the lines are."""
    one = seconds["latents 1"]
    lines = [
        f"One candidate takes {one:.2f} s for {rows} windows "
        f"({one / seconds['plain 1']:.2f} of generating without judging).",
        "",
        "| candidates | judged by latents | every one decoded | the second by the first | "
        "first by candidates |",
        "|---|---|---|---|---|",
    ]
    for count in COUNTS:
        a, b = seconds[f"latents {count}"], seconds[f"decoded {count}"]
        lines.append(
            f"| {count} | {a / one:.2f} | {b / one:.2f} | {b / a:.2f} | {a / one / count:.2f} per candidate |"
        )
    first, last = STEPS[0], STEPS[-1]
    per_step = [seconds[f"steps {steps}"] / seconds[f"steps {first}"] for steps in STEPS]
    cells = ", ".join(f"{steps} steps {ratio:.2f}" for steps, ratio in zip(STEPS, per_step, strict=True))
    slope = (seconds[f"steps {last}"] - seconds[f"steps {first}"]) / (last - first)
    middle = seconds[f"steps {first}"] + slope * (STEPS[1] - first)
    lines += ["", f"Two candidates by steps: {cells}; {STEPS[1]} steps take "
              f"{seconds[f'steps {STEPS[1]}'] / middle:.2f} of what the line between the others says."]  # fmt: skip
    return "\n".join(lines)


# gain


def gain(generator: MaskVATGenerator, model: str, clips: int, candidates: int) -> dict[str, dict[str, float]]:
    """Scores of the best of the first N candidates, N of COUNTS, and of the worst of all."""
    scenes = [
        synthfoley.make_scene(HELD_OUT_SEED, index, generator.recipe.window_s) for index in range(clips)
    ]
    events = [
        [event.onset_s for event in scene.events] if scene.label in synthfoley.IMPACTS else None
        for scene in scenes
    ]
    classifier, classes = load_classifier(model)
    labels = class_numbers(classes, [scene.label for scene in scenes])
    counts = [n for n in COUNTS if n < candidates] + [candidates]
    sounds: dict[str, list[np.ndarray]] = {f"best of {n}": [] for n in counts}
    sounds[f"worst of {candidates}"] = []
    true_nearer: list[bool] = []
    for first in range(0, clips, ROWS):
        rows = [min(index, clips - 1) for index in range(first, first + ROWS)]
        batch = visual_features(generator, [scenes[row] for row in rows])
        seeds = [window_seed(0, f"selection/{row}", 0) for row in rows]
        real = len(range(first, min(first + ROWS, clips)))
        picked, distances = pick(generator, batch, seeds, counts, candidates)
        for name, codes in picked.items():
            sounds[name] += list(generator.decode(codes)[:real, 0].cpu().numpy())
        truth = np.stack([synthfoley.render_sound(scenes[row]) for row in rows])
        true_nearer += (true_distance(generator, batch, truth) < distances.amin(1))[:real].tolist()
        print(f"gain: {min(first + ROWS, clips)}/{clips} clips", file=sys.stderr)
    table: dict[str, dict[str, float]] = {}
    for name, tracks in sounds.items():
        table[name] = asdict(foley_score(tracks, events, labels, classifier))
    table["true sound"] = {"nearer_than_all": float(np.mean(true_nearer))}
    return table


def pick(
    generator: MaskVATGenerator, batch: Batch, seeds: Sequence[int], counts: Sequence[int], candidates: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Codes of the best of the first N candidates, and of the worst of all; and the distances (B, candidates)."""
    tokens: list[Tensor] = []

    def record(codes: Tensor) -> Tensor:
        tokens.append(codes)
        return codes

    _, distances = best_codes(generator, batch, seeds, candidates, scored_as=record)
    every, rows = torch.stack(tokens, 1), torch.arange(len(seeds))
    picked = {f"best of {n}": every[rows, distances[:, :n].argmin(1)] for n in counts}
    picked[f"worst of {candidates}"] = every[rows, distances.argmax(1)]
    return picked, distances


@torch.inference_mode()
def true_distance(generator: MaskVATGenerator, batch: Batch, sounds: np.ndarray) -> Tensor:
    """Distance (B,) of the real sound, through the codec, to its picture."""
    assert generator.scav is not None
    waveform = torch.from_numpy(sounds)[:, None].to(next(generator.parameters()).device)
    latents = generator.codec.latents(generator.codec.encode(waveform))
    return interpolated_euclidean(
        generator.scav.video(batch.semantic, batch.sync), generator.scav.audio(latents)
    )


def visual_features(generator: MaskVATGenerator, scenes: Sequence[synthfoley.Scene]) -> Batch:
    """Features of the pictures, drawn as for the training corpus."""
    device = next(generator.parameters()).device
    frames = {
        name: torch.from_numpy(
            np.stack([corpus.view_frames(scene, generator.recipe.view(name)) for scene in scenes])
        ).to(device)
        for name in ("semantic", "sync")
    }
    return generator.features(frames)


def gain_table(table: dict[str, dict[str, float]], clips: int) -> str:
    """Markdown."""
    lines = [
        f"{clips} held-out clips; the true sound is nearer than every candidate in "
        f"{table['true sound']['nearer_than_all']:.0%}",
        "",
        "| sound | onset F1 ±50 ms | ±100 ms | median onset error | class match |",
        "|---|---|---|---|---|",
    ]
    for name, row in table.items():
        if name != "true sound":
            lines.append(
                f"| {name} | {row['onset_f1_close']:.3f} | {row['onset_f1']:.3f} | "
                f"{1000 * row['median_error_s']:.0f} ms | {row['class_match']:.3f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

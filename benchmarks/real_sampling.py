"""Choosing the figures of sampling by recorded clips: onsets, near silence and level for several settings of a model.

    python -m benchmarks.real_sampling FOLDER [--model mini] [--seeds 2] [--try temperature=0.8 guidance=2,guided=0.5]

Each row is one setting; the first is the model's own. Windows follow one another without overlap and are not joined as
`v2a dub` joins them, so that the pictures are encoded once: `benchmarks.real_footage` gives the figures of the whole
pipeline. Figures are those of `v2a_models.metrics.recorded`, on the sounds of all seeds.
"""

from __future__ import annotations

import argparse
import ast
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio.functional as audio

from benchmarks.real_clips import find_clips, track_sound
from pipelines.sandbox.decoder import Sandbox
from v2a_models import grid
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_generator
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.metrics import recorded
from v2a_models.seeds import window_seed

TRIED = (
    "temperature=0.8", "temperature=0.9", "temperature=1.1", "choice_temperature=1.0", "choice_temperature=8.0",
    "steps=4", "steps=16", "guidance=1.5", "guidance=2.5", "guidance=2.5,guided=0.5", "top_k=64",
)  # fmt: skip
ROWS = 8
"""Windows generated at a time."""


@dataclass
class Seen:
    """One clip: features of its windows, and its true sound."""

    name: str
    features: list[Batch]
    true: np.ndarray


def setting(text: str) -> dict[str, Any]:
    """Fields of a setting such as "guidance=2,guided=0.5". Raises ValueError for other text."""
    fields: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not name=value[,name=value]")
        fields[name.strip()] = ast.literal_eval(value)
    return fields


def look(generator: MaskVATGenerator, folder: Path, limit: int | None) -> list[Seen]:
    """Clips of a folder that have sound, with features of each whole window; the last picture lasts to its end."""
    window_s, views, seen = generator.recipe.window_s, generator.recipe.views, []
    with Sandbox() as sandbox:
        for clip in find_clips(folder, limit, sandbox):
            if clip.reason:
                continue
            n = math.ceil(clip.duration_s / window_s)
            films = sandbox.decode_views(str(folder / clip.name), list(views.values()), 0.0, n * window_s)
            parts = {
                name: torch.from_numpy(film).unflatten(0, (n, -1))
                for name, film in zip(views, films, strict=True)
            }
            features = [
                generator.features({name: part[k, None] for name, part in parts.items()}) for k in range(n)
            ]
            seen.append(Seen(clip.name, features, track_sound(folder / clip.name, 0)))
    return seen


def generated(
    generator: MaskVATGenerator, clips: Sequence[Seen], seed: int, fields: Mapping[str, Any]
) -> list[np.ndarray]:
    """Sound of each clip at `recorded.RATE`."""
    windows = [(clip, k, batch) for clip in clips for k, batch in enumerate(clip.features)]
    sounds: dict[str, list[np.ndarray]] = {clip.name: [] for clip in clips}
    for at in range(0, len(windows), ROWS):
        part = windows[at : at + ROWS]
        batch = Batch(
            semantic=torch.cat([b.semantic for _, _, b in part if b.semantic is not None]),
            sync=torch.cat([b.sync for _, _, b in part if b.sync is not None]),
        )
        seeds = [window_seed(seed, clip.name, k) for clip, k, _ in part]
        made = generator.generate(batch, seeds=seeds, **fields).mean(1)
        low = audio.resample(made, grid.SAMPLE_RATE, recorded.RATE).numpy()
        for (clip, _, _), sound in zip(part, low, strict=True):
            sounds[clip.name].append(sound)
    return [np.concatenate(sounds[clip.name])[: len(clip.true)] for clip in clips]


def row(
    generator: MaskVATGenerator, clips: Sequence[Seen], seeds: int, name: str, fields: Mapping[str, Any]
) -> str:
    """One line of the table."""
    scores = []
    for seed in range(seeds):
        made = generated(generator, clips, seed, fields)
        scores.append([recorded.measure_clip(a, clip.true) for a, clip in zip(made, clips, strict=True)])
    every = [recorded.recorded_figures(part) for part in scores]

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    own, wrong = (mean([getattr(f.onsets[1], what).value for f in every]) for what in ("f1", "wrong"))
    ours = sum(len(clip.generated_onsets) for part in scores for clip in part)
    true = sum(len(clip.true_onsets) for part in scores for clip in part)
    silent, level = mean([f.near_silence.value for f in every]), mean([f.level_db.value for f in every])
    return (
        f"| {name} | {own:.3f} | {wrong:.3f} | {own / max(wrong, 1e-9):.2f} | {100 * silent:.0f} % | {level:+.1f} dB | "
        f"{ours / max(1, true):.2f} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_sampling",
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--limit", type=int, metavar="N")
    parser.add_argument("--try", dest="tried", nargs="*", default=list(TRIED), metavar="NAME=VALUE[,...]")
    args = parser.parse_args(arguments)
    if not args.folder.is_dir():
        parser.error(f"no folder {args.folder}")
    try:
        settings = {text: setting(text) for text in args.tried}
    except (ValueError, SyntaxError) as error:
        parser.error(f"--try: {error}")
    generator = load_generator(args.model)
    if not isinstance(generator, MaskVATGenerator):
        parser.error(f"{args.model} is no MaskVAT")
    clips = look(generator, args.folder, args.limit)
    if len(clips) < 2:
        parser.error(f"{args.folder} has fewer than two clips with sound")
    print(f"{len(clips)} clips, {args.seeds} seeds, {args.model}: {generator.sampling}\n")
    print(
        "| setting | onset F1 ±100 ms | on the wrong clips | ratio | near silence | level | onsets, of the true |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, fields in {"as it is": {}, **settings}.items():
        print(row(generator, clips, args.seeds, name, fields), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

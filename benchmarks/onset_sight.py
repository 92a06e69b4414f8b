"""Onsets of recorded clips that their pictures alone give away: how far synchrony carries over to real footage.

    python -m benchmarks.onset_sight FOLDER [--task build/mini/sync_task.pt] [--limit N]

Each row is a curve over time, made from the pictures of a clip: plain differences of frames, and with --task what the
synchrony encoder that `make mini` trains says of onsets. Its peaks above a quantile of each clip's own values are taken
for onsets and compared with those of the true sound (`v2a_models.metrics.recorded`), on the right and on the wrong
clips. The quantile is the best of a few for each row, so that rows are compared at their best. Random numbers give the
level of chance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.real_clips import find_clips, track_sound
from pipelines.sandbox.decoder import Sandbox
from v2a_models.metrics.recorded import onset_pairs, rising_onsets
from v2a_models.recipe import View
from v2a_models.training.sync_task import SyncTask

VIEW = View(25, 64, 64)
QUANTILES = (0.7, 0.8, 0.85, 0.9, 0.93, 0.96)
APART = 5
"""Frames on both sides of which a peak is the largest value."""

Curve = Callable[[np.ndarray], np.ndarray]
"""Curve float [T] of frames uint8 [T, H, W, 3]."""


def difference(frames: np.ndarray) -> np.ndarray:
    """Mean difference of each frame from the one before."""
    steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2, 3))
    return np.concatenate([[0.0], steps])


def rise(frames: np.ndarray) -> np.ndarray:
    """Growth of that difference."""
    return np.maximum(0.0, np.diff(difference(frames), prepend=0.0))


def chance(frames: np.ndarray) -> np.ndarray:
    """Random numbers."""
    return np.random.default_rng(len(frames)).random(len(frames))


def of_task(file: Path) -> dict[str, Curve]:
    """Curves of a trained `SyncTask`: its logits of an onset, and the rise of the spectrum that it expects."""
    task = SyncTask()
    task.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    task.eval()

    def features(frames: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return task.video(torch.from_numpy(frames)[None])

    return {
        "onset head": lambda frames: task.onset(features(frames))[0, :, 0].detach().numpy(),
        "expected rise": lambda frames: task.probe(features(frames))[0, :, 16:].mean(-1).detach().numpy(),
    }


def peaks(curve: np.ndarray, quantile: float) -> np.ndarray:
    """Times in seconds of the peaks of a curve above a quantile of its values."""
    least = np.quantile(curve, quantile)
    steps = [
        k
        for k in range(1, len(curve) - 1)
        if curve[k] >= max(least, np.nextafter(curve.min(), np.inf))
        and curve[k] == curve[max(0, k - APART) : k + APART + 1].max()
    ]
    return (np.array(steps, float) + 0.5) / VIEW.fps


def f1(found: Sequence[np.ndarray], true: Sequence[np.ndarray], tolerance_s: float = 0.1) -> float:
    """Onset F1 of clips, counted together."""
    hits = sum(len(onset_pairs(a, b, tolerance_s)) for a, b in zip(found, true, strict=True))
    return 2 * hits / max(1, sum(map(len, found)) + sum(map(len, true)))


def scored(curves: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """F1 at the best quantile, F1 on the wrong clips at the same, and that quantile."""
    rows = []
    for quantile in QUANTILES:
        found = [peaks(curve, quantile) for curve in curves]
        wrong = [f1([*found[k:], *found[:k]], true) for k in range(1, len(found))]
        rows.append((f1(found, true), float(np.mean(wrong)) if wrong else float("nan"), quantile))
    return max(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.onset_sight", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--task", type=Path, help="state of a SyncTask, as `make mini` leaves it")
    parser.add_argument("--limit", type=int, metavar="N")
    args = parser.parse_args(arguments)
    if not args.folder.is_dir():
        parser.error(f"no folder {args.folder}")
    ways: dict[str, Curve] = {"random numbers": chance, "difference of frames": difference, "its rise": rise}
    if args.task is not None:
        ways |= of_task(args.task)
    with Sandbox() as sandbox:
        clips = [clip for clip in find_clips(args.folder, args.limit, sandbox) if not clip.reason]
        if len(clips) < 2:
            parser.error(f"{args.folder} has fewer than two clips with sound")
        films = [sandbox.decode_views(str(args.folder / c.name), [VIEW], 0.0, c.duration_s)[0] for c in clips]
    true = [rising_onsets(track_sound(args.folder / clip.name, 0)) for clip in clips]
    print(f"{len(clips)} clips, {sum(map(len, true))} onsets\n")
    print("| peaks of | onset F1 ±100 ms | on the wrong clips | ratio | quantile |\n|---|---|---|---|---|")
    for name, way in ways.items():
        own, wrong, quantile = scored([way(frames) for frames in films], true)
        print(
            f"| {name} | {own:.3f} | {wrong:.3f} | {own / max(wrong, 1e-9):.2f} | {quantile:g} |", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

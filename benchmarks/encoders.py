"""Speed of the full-size encoders of the `base` recipe: windows per second, arithmetic, and the limiting part.

    python -m benchmarks.encoders [--batch 16] [--rounds 10] [--window 8] [--peak-tflops 989]

CLIP ViT-B/32 on 64 frames and S3D on 200 frames of 224 pixels per window of 8 s, in bfloat16 where the hardware has
it, and the DAC encoder in float32, with random weights (speed does not depend on them). On a GPU if there is one;
on a CPU take --batch 1 --rounds 2 --window 2. Needs neither Ray nor PyAV. MFU is the share of `--peak-tflops` (dense
bfloat16 of an H100 or H200: 989) that CLIP and S3D reach.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace

import open_clip
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from v2a_models.codec import dac
from v2a_models.encoders.clip_s3d import SemanticEncoder
from v2a_models.encoders.encoders import Encoders
from v2a_models.encoders.s3d import IMAGENET, PublishedSyncEncoder
from v2a_models.generator import best_precision
from v2a_models.recipe import Encoder, Recipe, View

NAMES = {"codec": "dac-44khz", "semantic": "ViT-B-32/laion2b_s34b_b79k", "sync": "s3d-sparsesync"}


def build(recipe: Recipe, device: str, precision: str) -> Encoders:
    """The encoders of the recipe with random weights."""
    clip = open_clip.create_model("ViT-B-32", pretrained=None)
    modules: dict[str, nn.Module] = {
        "semantic": SemanticEncoder(clip.visual, 512),
        "sync": PublishedSyncEncoder(*IMAGENET),
        "codec": dac.Codec(dac.FULL),
    }
    return Encoders(recipe, modules, precision).to(device).eval()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--window", type=float, default=8.0, help="seconds of a window")
    parser.add_argument("--peak-tflops", type=float, default=989.0)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = best_precision(device)
    recipe = Recipe(
        "base",
        window_s=options.window,
        overlap_s=0.0,
        semantic=View(8, 224, 224, "crop"),
        sync=View(25, 224, 224, "crop"),
        encoders=tuple(Encoder(role, name, "") for role, name in NAMES.items()),
    )
    encoders = build(recipe, device, precision)
    batch = options.batch
    frames = {
        name: torch.randint(0, 256, (batch, round(view.fps * options.window), 224, 224, 3), dtype=torch.uint8)
        for name, view in recipe.views.items()
    }
    sound = torch.randint(-3000, 3000, (batch, 1, recipe.window), dtype=torch.int16)
    if device == "cuda":
        frames = {name: array.pin_memory() for name, array in frames.items()}
    figures: dict[str, object] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "precision": precision,
        "batch": batch,
        "window_s": options.window,
    }
    parts = {
        "clip": replace(recipe, sync=None, encoders=recipe.encoders[1:2]),
        "s3d": replace(recipe, semantic=None, encoders=recipe.encoders[2:]),
        "dac": replace(recipe, semantic=None, sync=None, encoders=recipe.encoders[:1]),
        "all": recipe,
    }
    for name, part in parts.items():
        some = Encoders(part, encoders.by_role, precision).to(device).eval()
        seconds = timed(some, frames, sound, options.rounds, device)
        with FlopCounterMode(display=False) as counter:
            some(frames, sound)
        flops = counter.get_total_flops()
        figures[name] = {
            "windows_per_s": round(batch / seconds, 2),
            "x_realtime": round(batch * options.window / seconds, 1),
            "tflops": round(flops / seconds / 1e12, 2),
            **({"mfu": round(flops / seconds / 1e12 / options.peak_tflops, 3)} if device == "cuda" else {}),
        }
    if device == "cuda":
        started = time.perf_counter()
        for _ in range(options.rounds):
            moved = [array.to(device, non_blocking=True) for array in frames.values()]
            torch.cuda.synchronize()
        del moved
        figures["moving_pixels_s_per_batch"] = round((time.perf_counter() - started) / options.rounds, 4)
        figures["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    print(json.dumps(figures, indent=2))
    return 0


def timed(
    encoders: Encoders, frames: dict[str, torch.Tensor], sound: torch.Tensor, rounds: int, device: str
) -> float:
    """Seconds of one batch, the median of `rounds` after two that do not count."""
    walls = []
    for turn in range(rounds + 2):
        started = time.perf_counter()
        encoders(frames, sound)
        if device == "cuda":
            torch.cuda.synchronize()
        if turn >= 2:
            walls.append(time.perf_counter() - started)
    return sorted(walls)[len(walls) // 2]


if __name__ == "__main__":
    sys.exit(main())

"""Speed of raw-waveform systems that sample one sample after the other.

    python -m benchmarks.raw_sampling wavenet     with kept activations against the naive forward pass
    python -m benchmarks.raw_sampling context     cost of a sample against what was heard, 256 to 16,384 samples

`wavenet`: 16 kHz mono, ten layers in two stacks of 64 channels, eight clips at a time, two threads if given. Naive
sampling runs the whole network over the last 4,096 samples for every sample. Works on a GPU where there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from v2a_models.raw import sound
from v2a_models.raw.autoregressive import Sampler
from v2a_models.raw.av_transformer import AVTransformer, AVTransformerConfig
from v2a_models.raw.wavenet import WaveNet, WaveNetConfig

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = 8
MANY = 64
NAIVE = 4096
"""Samples that naive sampling looks at."""


def seconds_of(work: Callable[[], Any], each: int = 1) -> float:
    """Seconds of one of the `each` things that a call does, after a call to warm up; the best of three, as others use
    the cores too."""
    best = float("inf")
    for attempt in range(4):
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        if attempt:
            best = min(best, (time.perf_counter() - started) / each)
    return best


@torch.inference_mode()
def step_seconds(net: Any, context_samples: int, rounds: int, batch: int = BATCH) -> float:
    """Seconds of one sample of `batch` clips, drawing included, when `context_samples` samples are known."""
    net = net.to(DEVICE).eval()
    # The rings are full once so many samples went by; what is in them costs nothing more or less.
    stepper = net.stepper(
        torch.zeros(batch, 1, 0, device=DEVICE), torch.zeros(batch, net.context_channels, 0)
    )
    stepper.time = context_samples
    sampler = Sampler(stepper, drawn, torch.zeros(batch, 1, device=DEVICE))
    contexts = torch.rand(rounds, batch, net.context_channels, device=DEVICE)
    uniforms = torch.rand(rounds, batch, 1, device=DEVICE)
    return seconds_of(lambda: sampler.run(contexts, uniforms), rounds)


def drawn(outputs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    return sound.draw(outputs.unflatten(-1, (1, sound.LEVELS)), uniform, 1.0)


@torch.inference_mode()
def wavenet(rounds: int) -> str:
    """The two rates and their ratio, in one run."""
    net = WaveNet(WaveNetConfig(layers=10, stacks=2, channels=64, skip=64), 1, sound.LEVELS)
    fast = step_seconds(net, NAIVE, rounds)
    many = step_seconds(net, NAIVE, rounds, MANY)
    audio = torch.rand(BATCH, 1, NAIVE, device=DEVICE) - 0.5
    context = torch.rand(BATCH, net.context_channels, NAIVE, device=DEVICE)
    slow = seconds_of(lambda: net(audio, context))
    return "\n".join(
        [
            f"| WaveNet, 10 x 2 layers, 64 channels, {BATCH} clips, {DEVICE} | samples per second in total |",
            "|---|---|",
            f"| with kept activations | {BATCH / fast:,.0f} |",
            f"| naive, over the last {NAIVE:,} samples | {BATCH / slow:,.1f} |",
            f"| ratio | {slow / fast:,.0f} |",
            f"| {MANY} clips at a time, with kept activations | {MANY / many:,.0f} |",
        ]
    )


def context(rounds: int) -> str:
    """Microseconds of a sample of BATCH clips by samples of context."""
    lines = [
        "| context, samples | WaveNet | transformer, raw samples | transformer, strided to 256 tokens |",
        "|---|---|---|---|",
    ]
    for log in (8, 10, 12, 14):
        context_samples = 2**log
        nets: list[Any] = [
            # So many layers that it hears just so far.
            WaveNet(WaveNetConfig(layers=log - 1, stacks=2, channels=64, skip=64), 1, sound.LEVELS),
            AVTransformer(AVTransformerConfig(context=context_samples, dim=64, depth=4), 1, sound.LEVELS),
            AVTransformer(
                AVTransformerConfig(context=context_samples, dim=64, depth=4, strides=(2,) * (log - 8)),
                1,
                sound.LEVELS,
            ),
        ]
        times = [1e6 * step_seconds(net, context_samples, rounds) for net in nets]
        lines.append(f"| {context_samples:,} | " + " | ".join(f"{t:,.0f} µs" for t in times) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("wavenet", "context"), default="wavenet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(wavenet(args.rounds) if args.what == "wavenet" else context(args.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())

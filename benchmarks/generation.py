"""Speed of MaskVAT from features to sound, its limits, and the growth of its cost.

    python -m benchmarks.generation mini [--threads 2]       the bundled model at its default sampling, by batch
    python -m benchmarks.generation growth                   cost against steps and against windows at a time
    python -m benchmarks.generation vatt                     VATT of the paper's size, 10-second clips, batch 1 and 16
    python -m benchmarks.generation full [--size base] [--batch 32] [--window 8] [--peak-tflops 989]
                                         [--bandwidth-gbs 3350]

`full` runs random weights of full size with the 9-level codec of 8-second windows, on a GPU if there is one, in
bfloat16 where the hardware has it, and names the two limits: the weights read from memory once a step, and the
operations. It also times a training step (forward, backward, AdamW) for its MFU. On a CPU take
--batch 1 --window 1. Needs neither Ray nor PyAV.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from v2a_models import grid
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_generator
from v2a_models.codec import dac
from v2a_models.generator import best_precision
from v2a_models.maskvat.generator import MaskVATGenerator, MaskVATTask
from v2a_models.maskvat.model import MaskVAT, sized
from v2a_models.maskvat.sampling import SamplingConfig, sample
from v2a_models.vatt.audio import VATTAudio
from v2a_models.vatt.audio import sized as vatt_sized
from v2a_models.vatt.sampling import sample as vatt_sample

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def seconds_of(work: Callable[[], Any], rounds: int) -> float:
    """Median seconds of a call, after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        work()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[rounds // 2]


def bundled() -> tuple[MaskVATGenerator, Callable[[int], Batch]]:
    """The bundled model, and features of the kind it sees."""
    generator = load_generator("mini", DEVICE, "auto")
    assert isinstance(generator, MaskVATGenerator)
    recipe = generator.recipe
    counts = {name: grid.frame_count(recipe.window_s, view.fps) for name, view in recipe.views.items()}
    widths = {"semantic": generator.semantic.dim, "sync": generator.sync.dim}

    def features(rows: int) -> Batch:
        features_by_name = {
            name: torch.randn(rows, count, widths[name], device=DEVICE) for name, count in counts.items()
        }
        semantic = torch.nn.functional.normalize(features_by_name["semantic"], dim=-1)
        return Batch(semantic=semantic, sync=features_by_name["sync"])

    return generator, features


def mini(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Features in, waveform out, by windows at a time."""
    torch.set_num_threads(args.threads)
    generator, features = bundled()
    rows = []
    for batch in (1, 2, 4, 8):
        batch_features = features(batch)
        seeds = list(range(batch))
        codes = generator.codes(batch_features, seeds)
        call_s = seconds_of(lambda g=batch_features, s=seeds: generator.generate(g, seeds=s), args.rounds)  # type: ignore[misc]
        decode = seconds_of(lambda c=codes: generator.decode(c), args.rounds)  # type: ignore[misc]
        audio_s = batch * generator.recipe.window_s
        rows.append(
            {
                "batch": batch,
                "x_realtime": round(audio_s / call_s, 2),
                "seconds_per_window": round(call_s / batch, 3),
                "share_of_the_codec": round(decode / call_s, 2),
            }
        )
    return rows


def growth(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Cost of sampling against its number of steps and windows, as ratios to the smallest."""
    torch.set_num_threads(args.threads)
    generator, features = bundled()
    rows: list[dict[str, Any]] = []
    for name, settings in (("steps", (4, 8, 16, 32)), ("windows", (1, 2, 4, 8))):
        first = 0.0
        for value in settings:
            batch, steps = (1, value) if name == "steps" else (value, generator.sampling.steps)
            batch_features = features(batch)

            def run(batch_features: Batch = batch_features, batch: int = batch, steps: int = steps) -> None:
                generator.codes(batch_features, list(range(batch)), steps=steps)

            took = seconds_of(run, args.rounds)
            first = first or took / settings[0]
            rows.append({"against": name, "value": value, "cost_per_unit": round(took / value / first, 2)})
    return rows


def full(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Random weights of full size: generation and training, and their limits."""
    precision = best_precision(DEVICE)
    config = sized(
        "hybrid", args.size, n_codebooks=9, codebook_size=1024, semantic_dim=512, sync_dim=1024, audio_dim=768
    )
    model = MaskVAT(config).to(DEVICE).eval()
    codec = dac.Codec(dac.FULL).to(DEVICE).eval()
    samples = grid.samples(args.window)
    length, batch = grid.codec_frames(samples), args.batch
    semantic = torch.randn(batch, round(8 * args.window), 512, device=DEVICE)
    sync = torch.randn(batch, max(1, round(25 * args.window) // 8), 1024, device=DEVICE)
    sampling = SamplingConfig(steps=args.steps)
    arithmetic = torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16")
    if args.compile:
        model.compile()

    def tokens() -> torch.Tensor:
        with arithmetic:
            return sample(model, semantic, sync, length, range(batch), sampling)

    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            codes = tokens()
        operations = float(counter.get_total_flops())
        drawing = seconds_of(tokens, args.rounds)
        decoding = seconds_of(lambda: codec.decode(codes, samples), args.rounds)
    audio_s = batch * args.window
    weights = sum(p.numel() for p in model.parameters())
    per_weight = 2 if precision == "bfloat16" else 4
    by_bytes = args.steps * weights * per_weight / (args.bandwidth_gbs * 1e9)
    by_operations = operations / (args.peak_tflops * 1e12)
    rows: list[dict[str, Any]] = [
        {
            "what": "generate",
            "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
            "precision": precision,
            "parameters_million": round(weights / 1e6, 1),
            "batch": batch,
            "steps": args.steps,
            "audio_seconds_per_second": round(audio_s / (drawing + decoding), 2),
            "tokens_s": round(drawing, 4),
            "decode_s": round(decoding, 4),
            "limit_by_bytes_s": round(by_bytes, 5),
            "limit_by_operations_s": round(by_operations, 5),
            "tokens_over_the_larger_limit": round(drawing / max(by_bytes, by_operations), 1),
        }
    ]
    rows.append(training(args, model, semantic, sync, codes.clone(), arithmetic))
    return rows


GEMMA_2B: dict[str, Any] = dict(
    hidden_size=2048, intermediate_size=16384, num_hidden_layers=18, num_attention_heads=8, num_key_value_heads=1,
    head_dim=256, vocab_size=256_000,
)  # fmt: skip


@torch.inference_mode()
def vatt(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Random weights of the published sizes: Gemma 2B, 24 layers of 1024, 4 codebooks at 50 frames a second. The
    language model reads 10 visual and 64 text tokens once; then 16 steps with guidance. The paper: 0.65 s a clip."""
    from transformers import GemmaConfig, GemmaModel

    precision = torch.bfloat16 if best_precision(DEVICE) == "bfloat16" else torch.float32
    small = dict(num_hidden_layers=args.llm_layers) if args.llm_layers else {}
    with torch.device(DEVICE):
        llm = GemmaModel(GemmaConfig(**GEMMA_2B | small)).to(precision).eval()
        audio = VATTAudio(vatt_sized("large")).eval()
    arithmetic = torch.autocast(DEVICE, precision, enabled=precision == torch.bfloat16)
    length = 500
    rows: list[dict[str, Any]] = []
    for batch in (1, args.batch // 2):
        embedded = torch.randn(batch, 74, GEMMA_2B["hidden_size"], device=DEVICE, dtype=precision)
        valid = torch.ones(batch, 74, dtype=torch.bool, device=DEVICE)

        def read(embedded: torch.Tensor = embedded, valid: torch.Tensor = valid) -> torch.Tensor:
            return llm(inputs_embeds=embedded, attention_mask=valid.long(), use_cache=False).last_hidden_state

        def tokens(
            states: torch.Tensor = read().float(), valid: torch.Tensor = valid, batch: int = batch
        ) -> torch.Tensor:
            with arithmetic:
                condition = audio.condition(states, valid, None, length)
                return vatt_sample(audio, condition, length, range(batch))

        reading, drawing = seconds_of(read, args.rounds), seconds_of(tokens, args.rounds)
        rows.append(
            {
                "what": "vatt",
                "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
                "parameters_million": [
                    round(sum(p.numel() for p in m.parameters()) / 1e6) for m in (llm, audio)
                ],
                "batch": batch,
                "language_model_s": round(reading, 4),
                "tokens_s": round(drawing, 4),
                "seconds_per_10_s_clip": round((reading + drawing) / batch, 4),
            }
        )
    return rows


def training(
    args: argparse.Namespace, model: MaskVAT, semantic: torch.Tensor, sync: torch.Tensor, codes: torch.Tensor,
    arithmetic: torch.autocast,
) -> dict[str, Any]:  # fmt: skip
    """One training step and its share of the peak."""
    task = MaskVATTask(model, None).train()
    optimizer = torch.optim.AdamW(task.parameters(), fused=DEVICE == "cuda")
    audio = torch.randn(len(codes), max(1, round(6.25 * args.window)), 768, device=codes.device)
    batch = dict(semantic=semantic.clone(), sync=sync.clone(), codes=codes, audio=audio)

    def step() -> None:
        with arithmetic:
            loss = task(batch, 0)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        step()
    took = seconds_of(step, args.rounds)
    return {
        "what": "train",
        "batch": len(codes),
        "windows_per_second": round(len(codes) / took, 2),
        "mfu": round(counter.get_total_flops() / took / (args.peak_tflops * 1e12), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("mini", "growth", "full", "vatt"), nargs="?", default="mini")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--window", type=float, default=8.0, help="seconds")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument(
        "--llm-layers", type=int, default=0, help="vatt: fewer layers of Gemma, for a small machine"
    )
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="dense bfloat16 of an H100 or H200")
    parser.add_argument("--bandwidth-gbs", type=float, default=3350.0, help="of an H100's memory")
    args = parser.parse_args()
    torch.manual_seed(0)
    for row in {"mini": mini, "growth": growth, "full": full, "vatt": vatt}[args.what](args):
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())

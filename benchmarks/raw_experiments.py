"""The experiments of the founding papers on raw-waveform systems; each prints a Markdown table.

    python -m benchmarks.raw_experiments table      three architectures x losses x material  (2308.12408, Table I)
    python -m benchmarks.raw_experiments waves      the picture of what they make, docs/raw_waves.png (Figs. 8 to 11)
    python -m benchmarks.raw_experiments vqvae      rebuilt frames, sound from noise, end to end  (2404.17608)
    python -m benchmarks.raw_experiments context    attention over frames, and where the embedding is added

`table` trains every model on the first four fifths of one video and judges it on the last fifth. Results are kept in
--work, one file a model: running again goes on. Real clips are taken from $V2A_FOOTAGE where that is set. The same
trainings come from the command line, for instance
`v2a train wavenet STORE --out OUT --protocol per-video --set loss=mae`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import raw_footage as footage
from benchmarks.raw_footage import FPS, RATE, Footage, stft_distance
from v2a_models.batch import Batch
from v2a_models.build import new_generator
from v2a_models.metrics.onsets import match_onsets, onsets
from v2a_models.metrics.waveform import frame_rate_tone_db
from v2a_models.raw import autoregressive, deep_fusion
from v2a_models.raw.generator import GENERATORS
from v2a_models.training.learner import Learner

SAMPLES = RATE // FPS
WINDOW_S = 2.0
GENERATED_S = 4.0
"""Seconds that each model is asked for."""

SIZES: dict[str, dict[str, Any]] = {
    "deep-fusion": dict(frames=8, depth=3, moments=6),
    "wavenet": dict(layers=8, stacks=2, channels=32, skip=32, crop_frames=12),
    "av-transformer": dict(context=128, dim=32, depth=2, heads=2, crop_frames=12),
}
"""Small ones that two cores train within a minute; about equally long per step."""

LOSSES = {name: deep_fusion.LOSSES if name == "deep-fusion" else autoregressive.LOSSES for name in SIZES}


@dataclass(frozen=True)
class Settings:
    """Settings of one training."""

    steps: int = 120
    learning_rate: float = 2e-3
    warmup: int = 10
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.95
    precision: str = "float32"
    seed: int = 0
    batch_size: int = 4
    device: str = "cpu"


def windows(video: Footage, first: bool, n_frames: int) -> list[slice]:
    """Stretches of so many frames within the first four fifths of a video, or within the rest."""
    border = int(0.8 * len(video.frames))
    start, stop = (0, border) if first else (border, len(video.frames))
    return [slice(at, at + n_frames) for at in range(start, stop - n_frames + 1, max(1, n_frames // 4))]


def columns(video: Footage, picks: Sequence[slice]) -> dict[str, torch.Tensor]:
    """Columns as a feature store gives them."""
    sounds = [video.sound[:, part.start * SAMPLES : part.stop * SAMPLES] for part in picks]
    frames = [video.frames[part] for part in picks]
    return dict(frames=torch.from_numpy(np.stack(frames)), waveform=torch.from_numpy(np.stack(sounds)))


def fitted(generator: Any, batches: Any, settings: Settings) -> Learner:
    """Trains on `batches(rng)`; the averaged weights are not yet in place."""
    learner = Learner(generator.to(settings.device).eval().task(), settings, precision=settings.precision)
    for step in range(settings.steps):
        batch = batches(np.random.default_rng([settings.seed, step]))
        learner.gradients([batch])
        learner.apply(settings.batch_size)
    return learner


def judged(
    name: str, loss: str, video: Footage, settings: Settings, keep: Path, **options: Any
) -> dict[str, float]:
    """Trains one model on one video and judges it on the rest of it; what it made goes to `keep` (.npy)."""
    n = min(round(WINDOW_S * FPS), len(video.frames) // 5)
    torch.manual_seed(settings.seed)
    generator: Any = new_generator(
        name, footage.recipe(n / FPS), "mini", loss=loss, **{**SIZES[name], **options}
    )
    train = windows(video, True, n)

    def batch(rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return columns(video, [train[k] for k in rng.choice(len(train), settings.batch_size)])

    started = time.process_time()
    learner = fitted(generator, batch, settings)
    spent = time.process_time() - started
    held = columns(video, windows(video, False, n)[:8])
    scores: dict[str, float] = {"parameters": sum(p.numel() for p in learner.module.parameters())}
    scores["seconds_per_step"] = spent / settings.steps
    with learner.averaged():
        scores |= learner.validate([(held, float(len(held["frames"])))] * 4)
        generator.eval()
        return scores | sound_scores(generator, video, keep)


def sound_scores(generator: Any, video: Footage, keep: Path) -> dict[str, float]:
    """Sound generated for the first seconds of the last fifth, from silence on, against the true sound there."""
    start = int(0.8 * len(video.frames))
    part = slice(start, min(len(video.frames), start + round(GENERATED_S * FPS)))
    there = columns(video, [part])
    started = time.process_time()
    frames = there["frames"].to(next(generator.parameters()).device)
    generated = generator.generate(Batch(frames=frames), seeds=[1])[0].cpu().numpy()
    spent = time.process_time() - started
    true = there["waveform"][0].numpy() / 32767
    mono, true_mono = generated.mean(0), true.mean(0)
    scores = {
        "samples_per_s": generated.shape[-1] / spent,
        "level_db": 20 * float(np.log10(np.sqrt(np.mean(generated**2)) + 1e-9)),
        "resting": float(np.median(mono)),
        "stft": stft_distance(mono, true_mono),
        "tone_db": frame_rate_tone_db(mono, RATE, FPS),
    }
    seconds = (part.stop - part.start) / FPS
    events = [at - start / FPS for at in video.events if 0 <= at - start / FPS < seconds]
    if events:
        scores["onset_f1"] = match_onsets(onsets(mono, RATE).tolist(), events, 0.1).f1
    np.save(keep, generated)
    return scores


def results(work: Path, materials: Sequence[str], losses: Any, settings: Settings) -> dict[Any, Any]:
    """Results by (material, system, loss); missing ones are computed first."""
    work.mkdir(parents=True, exist_ok=True)
    done: dict[Any, Any] = {}
    for material in materials:
        video = None
        for name in SIZES:
            for loss in losses(name):
                file = work / f"{material}-{name}-{loss}.json"
                if not file.exists():
                    video = video or footage.load(material)
                    file.write_text(
                        json.dumps(judged(name, loss, video, settings, file.with_suffix(".npy")), indent=1)
                    )
                    print(f"{file.stem} done", file=sys.stderr, flush=True)
                done[material, name, loss] = json.loads(file.read_text())
    return done


def truth(material: str) -> dict[str, float]:
    """The same figures of the true sound, and of silence where it is another."""
    video = footage.load(material)
    start = int(0.8 * len(video.frames)) * SAMPLES
    true = video.sound[:, start : start + round(GENERATED_S * RATE)] / 32767
    mono = true.mean(0)
    return {
        "level_db": 20 * float(np.log10(np.sqrt(np.mean(true**2)) + 1e-9)),
        "tone_db": frame_rate_tone_db(mono, RATE, FPS),
        "mse_of_silence": float(np.mean(true**2)),
        "stft_of_silence": stft_distance(np.zeros_like(mono), mono),
    }


def table(args: argparse.Namespace) -> str:
    """Table I again, and what was heard: by system and loss over all materials, and (--full) every model."""
    settings = Settings(steps=args.steps, device=args.device)
    every = results(args.work / "table", [*footage.RENDERED, *footage.recorded()], LOSSES.get, settings)
    materials = list(dict.fromkeys(key[0] for key in every))
    real = {material: truth(material) for material in materials}
    parts = [published(every, materials), summary(every, materials, real)]
    return "\n\n".join(parts + ([full(every, real)] if args.full else []))


def published(every: dict[Any, Any], materials: Sequence[str]) -> str:
    """The figure as the paper prints it: its cross entropy on the last fifth of the video, the best over
    what was tuned (here the loss that was trained by)."""
    lines = header(["published cross entropy", *SIZES])
    for material in materials:
        best = (
            min((every[material, name, loss]["signed_cross_entropy"], loss) for loss in LOSSES[name])
            for name in SIZES
        )
        lines.append(f"| {material} | " + " | ".join(f"{value:.5f} ({loss})" for value, loss in best) + " |")
    return "\n".join(lines)


def summary(every: dict[Any, Any], materials: Sequence[str], real: dict[str, dict[str, float]]) -> str:
    """One row per system and loss, over all materials."""
    names = ["system", "trained by", "MSE / of silence", "STFT distance / of silence", "level, dB from true"]
    lines = header([*names, "frame tone, dB", "onset F1", "samples per second"])
    tones = [real[m]["tone_db"] for m in materials]
    lines.append(f"| *true sound* | | 0 | 0 | 0 | {np.median(tones):.1f} ({max(tones):.1f}) | 1 | |")
    for name in SIZES:
        for loss in LOSSES[name]:
            rows = {m: every[m, name, loss] for m in materials}
            mse = np.median([row["mse"] / real[m]["mse_of_silence"] for m, row in rows.items()])
            stft = np.median([row["stft"] / real[m]["stft_of_silence"] for m, row in rows.items()])
            level = np.median([row["level_db"] - real[m]["level_db"] for m, row in rows.items()])
            tones = [row["tone_db"] for row in rows.values()]
            f1 = [row["onset_f1"] for row in rows.values() if "onset_f1" in row]
            speed = np.median([row["samples_per_s"] for row in rows.values()])
            lines.append(
                f"| {name} | {loss} | {mse:.2f} | {stft:.2f} | {level:+.1f} | {np.median(tones):.1f} "
                f"({max(tones):.1f}) | {np.mean(f1):.2f} | {speed:.0f} |"
            )
    return "\n".join(lines)


def full(every: dict[Any, Any], real: dict[str, dict[str, float]]) -> str:
    """Every model on every material."""
    names = ["material", "system", "trained by", "published CE", "MSE", "MAE", "STFT distance", "level, dB"]
    lines = header([*names, "frame tone, dB", "onset F1"])
    for material, of in real.items():
        lines += [
            f"| {material} | *true sound* | | | 0 | 0 | 0 | {of['level_db']:.1f} | {of['tone_db']:.1f} | |",
            f"| {material} | *silence* | | 0 | {of['mse_of_silence']:.5f} | | {of['stft_of_silence']:.2f} | | | |",
        ]
        for (other, name, loss), row in every.items():
            if other == material:
                f1 = f"{row['onset_f1']:.2f}" if "onset_f1" in row else ""
                lines.append(
                    f"| {material} | {name} | {loss} | {row['signed_cross_entropy']:.5f} | {row['mse']:.5f} | "
                    f"{row['mae']:.4f} | {row['stft']:.2f} | {row['level_db']:.1f} | {row['tone_db']:.1f} | {f1} |"
                )
    return "\n".join(lines)


def context(args: argparse.Namespace) -> str:
    """The embedding's variants on the clapping scene: where it is added, and attention over frames."""
    settings = Settings(steps=args.steps, device=args.device)
    variants: dict[str, tuple[str, dict[str, Any]]] = {
        "WaveNet, added to the samples (published)": ("wavenet", dict(join="audio")),
        "WaveNet, added to the channels": ("wavenet", {}),
        "WaveNet, with attention over 8 frames": ("wavenet", dict(video_attention=8)),
        "transformer, raw samples": ("av-transformer", {}),
        "transformer, strided convolutions": ("av-transformer", dict(strides=(4, 4), context=1024)),
        "transformer, with attention over 8 frames": ("av-transformer", dict(video_attention=8)),
    }
    video: Footage | None = None
    (args.work / "context").mkdir(parents=True, exist_ok=True)
    lines = header(["", "mu-law CE, nats", "STFT distance", "onset F1", "samples per second"])
    for at, (title, (name, options)) in enumerate(variants.items()):
        file = args.work / "context" / f"{at}.json"
        if not file.exists():
            video = video or footage.load("clapping")
            row = judged(name, "mu-law", video, settings, file.with_suffix(".npy"), **options)
            file.write_text(json.dumps(row, indent=1))
        row = json.loads(file.read_text())
        lines.append(
            f"| {title} | {row['mu_law']:.3f} | {row['stft']:.2f} | {row['onset_f1']:.2f} | "
            f"{row['samples_per_s']:.0f} |"
        )
    return "\n".join(lines)


def waves(args: argparse.Namespace) -> str:
    """Waveforms of the true sound and of the three architectures, with the borders of the frames."""
    from matplotlib.figure import Figure

    chosen = {"deep-fusion": "mse", "wavenet": "mu-law", "av-transformer": "mu-law"}
    every = results(args.work / "table", list(footage.RENDERED), LOSSES.get, Settings(steps=args.steps))
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(1 + len(chosen), len(footage.RENDERED), sharex=True, squeeze=False)
    time_s = np.arange(round(GENERATED_S * RATE)) / RATE
    for column, material in enumerate(footage.RENDERED):
        video = footage.load(material)
        start = int(0.8 * len(video.frames)) * SAMPLES
        rows = {"true sound": video.sound[:, start : start + len(time_s)].mean(0) / 32767}
        for name, loss in chosen.items():
            rows[f"{name}, {loss}"] = np.load(args.work / "table" / f"{material}-{name}-{loss}.npy").mean(0)
        for axis, (title, wave) in zip(axes[:, column], rows.items(), strict=True):
            axis.plot(time_s, wave, lw=0.5)
            tone = frame_rate_tone_db(wave, RATE, FPS)
            axis.set_title(f"{material}: {title} (frame tone {tone:.1f} dB)", fontsize=8)
            for k in range(round(GENERATED_S * FPS)):
                axis.axvline(k / FPS, color="tab:orange", lw=0.3, alpha=0.4)
            axis.set_xlim(1.0, 2.0)
    figure.savefig(args.picture, dpi=80)
    return f"{len(every)} models; {args.picture}"


def vqvae(args: argparse.Namespace) -> str:
    """The three experiments of 2404.17608, each for one class and for all fourteen."""
    from benchmarks.raw_vqvae import experiment

    names = [
        "scenes",
        "perplexity of 256",
        "SSIM, held out",
        "SSIM of a still",
        "MSE from noise",
        "MSE, trained on",
    ]
    lines = header([*names, "MSE, held out", "of silence", "STFT distance, held out", "of silence"])
    for name in ("one class", "all classes"):
        file = args.work / f"vqvae-{name.replace(' ', '-')}.json"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(experiment(name, args.steps, args.device), indent=1))
        r = json.loads(file.read_text())
        lines.append(
            f"| {name} | {r['perplexity']:.0f} | {r['ssim']:.3f} | {r['ssim_still']:.3f} | {r['noise_mse']:.5f} of "
            f"{r['train_silence']:.5f} | {r['train_mse']:.5f} of {r['train_silence']:.5f} | {r['held_mse']:.5f} | "
            f"{r['held_silence']:.5f} | {r['held_stft']:.2f} | {r['silence_stft']:.2f} |"
        )
    return "\n".join(lines)


def header(names: Sequence[str]) -> list[str]:
    """The first lines of a Markdown table."""
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("table", "waves", "vqvae", "context"))
    parser.add_argument("--work", type=Path, default=Path("build/raw"))
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--full", action="store_true", help="table: every model, not only what sums them up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, as the figures in docs, or cuda")
    parser.add_argument("--picture", default="docs/raw_waves.png")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    assert set(SIZES) < set(GENERATORS)
    print(globals()[args.what](args))
    return 0


if __name__ == "__main__":
    sys.exit(main())

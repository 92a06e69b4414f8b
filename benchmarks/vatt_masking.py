"""Fraction of the sound to hide while VATT Audio trains: the paper's ablation (2411.05679), on scenes of `make mini`.

    python -m jobs.mini.vatt --stages corpus converter          # what it is trained on; once, after make mini
    python -m benchmarks.vatt_masking [--work build/vatt-mini] [--steps 600] [--device cuda]

Every distribution trains the same small model from the same start on the same crops; only the share of hidden codes
differs. Scenes that none was trained on, mini's validation scenes, tell them apart: does the sound follow a prompt
that names another class than is seen, are its onsets where the picture has them, and how well are hidden codes foretold
(cross entropy, the same codes hidden for all)? A distribution that is done is kept as JSON below WORK/masking, and one
that was stopped goes on. Needs neither Ray nor PyAV.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.vatt_steering import Case, score
from jobs.mini import steering_corpus, vatt
from jobs.mini.steering_corpus import Crop, SteeringConfig, SteeringCorpus
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_classifier, load_generator
from v2a_models.checkpoint_files import sha256
from v2a_models.generator import best_precision
from v2a_models.maskvat.masking import random_mask
from v2a_models.seeds import window_seed
from v2a_models.training.loop import FitConfig, fit
from v2a_models.vatt.generator import VATTGenerator, changed

VARIANTS: dict[str, dict[str, Any]] = {
    "gaussian, mean 0.55": dict(masking="gaussian", masking_mean=0.55),
    "gaussian, mean 0.65": dict(masking="gaussian", masking_mean=0.65),
    "gaussian, mean 0.75": dict(masking="gaussian", masking_mean=0.75),
    "gaussian, mean 0.85": dict(masking="gaussian", masking_mean=0.85),
    "gaussian, moving mean": dict(masking="moving"),
    "uniform": dict(masking="uniform"),
    "arc cosine": dict(masking="arccos"),
}
"""The kinds of the paper's table; which means it tried, our copy of it does not say."""

FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Hidden of the held-out codes when cross entropy is taken: decoding passes through all of them."""


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Windows that were not trained on, each with several sounds."""

    cases: list[Case]
    """Case of each row: its picture, sound and text."""
    semantic: Tensor
    """(N, T1, D), a row per case."""
    sync: Tensor
    codes: Tensor
    """int64 (N, K, L): the true sound of what is asked for."""

    def spread(self, n: int) -> HeldOut:
        """Evenly spread `n` of the cases."""
        rows = np.unique(np.linspace(0, len(self.cases) - 1, min(n, len(self.cases))).astype(int)).tolist()
        cases = [self.cases[row] for row in rows]
        return HeldOut(cases, self.semantic[rows], self.sync[rows], self.codes[rows])

    def batch(self, rows: slice, device: torch.device) -> Batch:
        texts = [case.prompt for case in self.cases[rows]]
        return Batch(self.semantic[rows].to(device), self.sync[rows].to(device), text=texts)


def held_out(held: SteeringCorpus, recipe: Any) -> HeldOut:
    """Cases of the windows with events: prompts that name other classes of events, each in words of its own."""
    cases, sounds, starts = [], [], []
    fps, step = recipe.view("sync").fps, recipe.window_s - recipe.overlap_s
    windows = int((held.sync.shape[1] / fps - recipe.window_s) / step + 1e-6) + 1
    for sound in range(len(held.sync), len(held.scenes)):
        own, other = held.scenes[int(held.pictures[sound])], held.scenes[sound]
        for at in range(windows):
            start_s = at * step
            scene, target = (_within(each, start_s, recipe.window_s) for each in (own, other))
            if not scene.events or not target.events:
                continue
            rng = np.random.default_rng([own.seed, own.index, at, sound])
            cases.append(Case(scene, target, Crop(other, False, start_s, recipe.window_s).caption(rng)))
            sounds.append(sound)
            starts.append(round(start_s * fps))
    if not cases:
        raise ValueError("no held-out window has an event: train mini with more scenes")
    columns = held.windows(sounds, starts, recipe.codec_frames)
    return HeldOut(cases, columns["semantic"], columns["sync"], columns["codes"])


def _within(scene: Any, start_s: float, length_s: float) -> Any:
    """The scene with the events of a stretch only, timed from its start."""
    events = tuple(
        dataclasses.replace(event, onset_s=event.onset_s - start_s)
        for event in scene.events
        if start_s <= event.onset_s < start_s + length_s
    )
    return dataclasses.replace(scene, events=events)


def trained(
    config: vatt.VattMiniConfig, mini: Any, held: SteeringCorpus, name: str, fitting: FitConfig, folder: Path,
    device: torch.device,
) -> VATTGenerator:  # fmt: skip
    """The small model after `fitting.steps` steps with one distribution (resumable)."""
    torch.manual_seed(fitting.seed)
    generator = vatt.untrained_generator(config, mini).to(device)
    generator.settings = changed(generator.settings, dict(VARIANTS[name], masking_steps=fitting.steps))
    precision = best_precision(device)
    task = generator.task()

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        batch = vatt.steering_batch(held, rng, config.rows, config.crop)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            return task(batch, step)

    fit(file_name(name), task, step_loss, fitting, folder, log=lambda text: print(text, file=sys.stderr))
    generator.precision = precision
    return generator.eval()  # type: ignore[return-value]


@torch.inference_mode()
def cross_entropy(generator: VATTGenerator, data: HeldOut, device: torch.device) -> list[float]:
    """Mean cross entropy in nats of hidden codes at each of SHARES; which are hidden is the same for every model."""
    sums = np.zeros(len(FRACTIONS))
    for first in range(0, len(data.cases), 16):
        part = range(first, min(first + 16, len(data.cases)))
        rows = slice(part.start, part.stop)
        codes, condition = data.codes[rows], generator.condition(data.batch(rows, device))
        for at, fraction in enumerate(FRACTIONS):
            uniform = [torch.rand(codes.shape[1:], generator=torch.Generator().manual_seed(k)) for k in part]
            hidden = random_mask(torch.full((len(part),), fraction), torch.stack(uniform))
            masked = codes.masked_fill(hidden, generator.audio.mask_id).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=generator.precision == "bfloat16"):
                logits = generator.audio(masked, condition)
            flat = logits.float()[hidden.to(device)]
            loss = torch.nn.functional.cross_entropy(flat, codes[hidden].to(device))
            sums[at] += float(loss) * len(part)
    return [round(float(value), 4) for value in sums / len(data.cases)]


def generate(generator: VATTGenerator, data: HeldOut, device: torch.device, at_once: int) -> list[np.ndarray]:
    """The sound of every case, float32 [n]."""
    sounds: list[np.ndarray] = []
    for at in range(0, len(data.cases), at_once):
        rows = slice(at, min(at + at_once, len(data.cases)))
        seeds = [window_seed(0, "masking", row) for row in range(rows.start, rows.stop)]
        waves = generator.generate(data.batch(rows, device), seeds=seeds)
        sounds += list(waves[:, 0].cpu().numpy())
    return sounds


def resynthesised(mini: Any, data: HeldOut, window: int) -> list[np.ndarray]:
    """The true sound of every case through the codec: what a perfect model would give."""
    device = next(mini.codec.parameters()).device
    with torch.inference_mode():
        waves = [mini.codec.decode(codes.to(device), window).cpu() for codes in data.codes.split(16)]
    return list(torch.cat(waves)[:, 0].float().numpy())


def table(rows: dict[str, dict[str, Any]], settings: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"{settings['cases']} cases in held-out windows; {settings['steps']} training steps of {settings['rows']} "
        f"crops, seed {settings['seed']}; ± is the 95 % interval of a share of so many cases",
        "",
        "| hidden in training | heard as asked | heard as seen | onset F1 ±100 ms | on the wrong clips | cross entropy "
        "(nats) | half hidden | all hidden |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        nats = row.get("nats")
        entropies = ["", "", ""]
        if nats:
            entropies = [
                f"{np.mean(nats):.3f}",
                f"{nats[FRACTIONS.index(0.5)]:.3f}",
                f"{nats[FRACTIONS.index(1.0)]:.3f}",
            ]
        half = 1.96 * math.sqrt(row["follows"] * (1 - row["follows"]) / row["cases"])
        lines.append(
            f"| {name} | {row['follows']:.3f} ± {half:.3f} | {row['seen']:.3f} | {row['onset_f1']:.3f} | "
            f"{row['onset_f1_shuffled']:.3f} | {' | '.join(entropies)} |"
        )
    return "\n".join(lines)


def file_name(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "_")


def _cached(file: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """A result of the same settings that is there already."""
    if not file.exists():
        return None
    cached = json.loads(file.read_text())
    return dict(cached["figures"]) if cached["settings"] == settings else None


def _keep(file: Path, settings: dict[str, Any], figures: dict[str, Any]) -> None:
    beside = file.with_suffix(".tmp")
    beside.write_text(json.dumps(dict(settings=settings, figures=figures), indent=2) + "\n")
    os.replace(beside, file)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("build/vatt-mini"), help="of jobs.mini.vatt")
    parser.add_argument("--mini-work", type=Path, default=Path("build/mini"), help="of jobs.mini")
    parser.add_argument("--mini", default="mini", help="name or folder of the mini of that work folder")
    parser.add_argument("--out", type=Path, help="results and training states; WORK/masking by default")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--variants", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS), metavar="NAME"
    )
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rows", type=int, default=16, help="crops of a step")
    parser.add_argument("--scenes", type=int, default=SteeringConfig.scenes, help="as of jobs.mini.vatt")
    parser.add_argument("--others", type=int, default=SteeringConfig.others, help="as of jobs.mini.vatt")
    parser.add_argument("--cases", type=int, default=144, help="held-out cases at most")
    parser.add_argument("--at-once", type=int, default=16, help="windows that are generated together")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    work, device = args.work, torch.device(args.device)
    if missing := [
        name for name in ("converter.pt", "tokenizer.json", "corpus") if not (work / name).exists()
    ]:
        parser.error(
            f"{work} lacks {', '.join(missing)}: run python -m jobs.mini.vatt --work {work} --stages corpus converter"
        )
    config = vatt.VattMiniConfig(
        work=work, mini_work=args.mini_work, mini=args.mini, device=args.device, rows=args.rows,
        corpus=SteeringConfig(args.scenes, args.others),
    )  # fmt: skip
    scenes = steering_corpus.mini_of(args.mini_work)
    mini: Any = load_generator(args.mini)
    mini.codec.to(device)
    judge = load_classifier(args.mini)
    taught = vatt.load_corpus(config, scenes)
    data = held_out(vatt.load_corpus(config, scenes, "val"), mini.recipe).spread(args.cases)
    fitting = FitConfig(
        steps=args.steps, learning_rate=1e-3, warmup=min(100, args.steps // 6 + 1), ema=0.99, seed=args.seed
    )
    folder = args.out or work / "masking"
    folder.mkdir(parents=True, exist_ok=True)
    settings = dict(
        steps=args.steps, rows=args.rows, seed=args.seed, scenes=len(taught.sync),
        cases=len(data.cases), device=device.type, converter=sha256(work / "converter.pt")[:16],
    )  # fmt: skip
    states = folder / "-".join(
        str(settings[key]) for key in ("device", "steps", "rows", "scenes", "seed", "converter")
    )
    results = {
        "*the true sound through the codec*": score(
            resynthesised(mini, data, mini.recipe.window), data.cases, judge
        )
    }
    for name in args.variants:
        file = folder / f"{file_name(name)}.json"
        figures = _cached(file, settings)
        if figures is None:
            started = time.monotonic()
            generator = trained(config, mini, taught, name, fitting, states, device)
            nats = cross_entropy(generator, data, device)
            figures = dict(
                score(generate(generator, data, device, args.at_once), data.cases, judge), nats=nats
            )
            figures["seconds"] = round(time.monotonic() - started, 1)
            _keep(file, settings, figures)
        print(f"{name}: {json.dumps(figures)}", file=sys.stderr, flush=True)
        results[name] = figures
    print(table(results, settings), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Does text matter to `vatt-mini`? The true sound of held-out scenes under its own caption, and under another one's.

    python -m jobs.mini.vatt --stages corpus               # the scenes' other sounds; once, after make mini
    python -m benchmarks.vatt_text [--cases 144] [--model vatt-mini]

Cross entropy of the codec tokens while all of them are hidden, when only picture and text can tell them. A model that
ignores text has the same for both captions. Then the sounds that it makes for prompts that name another class than is
seen: classes are those of all recordings, and the classifier hears the true sounds themselves as the last row says.
Needs neither Ray nor PyAV.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.vatt_masking import HeldOut, generate, held_out, resynthesised
from benchmarks.vatt_steering import score
from jobs.mini import steering_corpus, vatt
from jobs.mini.steering_corpus import SteeringConfig
from v2a_models.checkpoint import load_classifier, load_generator
from v2a_models.vatt.generator import VATTGenerator


def others_captions(data: HeldOut) -> list[str]:
    """For each case, the caption of the next one that asks for another class. Raises ValueError if all ask for one."""
    labels = [case.target.label for case in data.cases]
    if len(set(labels)) == 1:
        raise ValueError("all cases ask for the same class: take more of them")
    order = [[*range(k + 1, len(labels)), *range(k)] for k in range(len(labels))]
    others = [next(k for k in after if labels[k] != own) for own, after in zip(labels, order, strict=True)]
    return [data.cases[k].prompt for k in others]


@torch.inference_mode()
def cross_entropy(generator: VATTGenerator, data: HeldOut, texts: Sequence[str]) -> float:
    """Mean nats per code of all cases, each with one of the texts."""
    nats = 0.0
    for at in range(0, len(texts), 16):
        rows = slice(at, at + 16)
        codes = data.codes[rows]
        condition = generator.condition(data.batch(rows, torch.device("cpu")), texts[rows])
        logits = generator.audio(torch.full_like(codes, generator.audio.mask_id), condition)
        nats += float(F.cross_entropy(logits.float().flatten(0, 2), codes.flatten())) * len(codes)
    return nats / len(texts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vatt-mini")
    parser.add_argument("--work", type=Path, default=Path("build/vatt-mini"), help="of jobs.mini.vatt")
    parser.add_argument("--mini-work", type=Path, default=Path("build/mini"), help="of jobs.mini")
    parser.add_argument("--scenes", type=int, default=SteeringConfig.scenes, help="as of jobs.mini.vatt")
    parser.add_argument("--others", type=int, default=SteeringConfig.others, help="as of jobs.mini.vatt")
    parser.add_argument("--cases", type=int, default=144, help="held-out cases at most")
    args = parser.parse_args(arguments)
    generator: Any = load_generator(args.model)
    config = vatt.VattMiniConfig(
        work=args.work,
        mini_work=args.mini_work,
        corpus=SteeringConfig(args.scenes, args.others),
        device="cpu",
    )
    if not generator.follows_text:
        parser.error(f"{args.model} takes no text: give a vatt")
    try:
        held = vatt.load_corpus(config, steering_corpus.mini_of(args.mini_work), "val")
        data = held_out(held, generator.recipe).spread(args.cases)
        others = others_captions(data)
    except (OSError, ValueError) as error:
        parser.error(f"{error} (run make mini, and python -m jobs.mini.vatt --stages corpus)")
    own = [case.prompt for case in data.cases]
    right, wrong = (cross_entropy(generator, data, texts) for texts in (own, others))
    print(
        f"{len(data.cases)} cases; all codes hidden: its own caption {right:.3f} nats, another's {wrong:.3f}"
    )
    judge = load_classifier(args.model)
    made = score(generate(generator, data, torch.device("cpu"), 8), data.cases, judge)
    true = score(resynthesised(generator, data, generator.recipe.window), data.cases, judge)
    print("\n| sound | heard as asked | heard as seen | onset F1 ±100 ms | on the wrong clips |")
    print("|---|---|---|---|---|")
    for name, row in ((args.model, made), ("the true one through the codec", true)):
        figures = (row[key] for key in ("follows", "seen", "onset_f1", "onset_f1_shuffled"))
        print(f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

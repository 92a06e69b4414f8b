"""The experiments of the MaskVAT paper on SynthFoley, each by one word; prints a Markdown table.

    python -m benchmarks.ablations streams     CLIP only, S3D only, both           (2407.10387, table 3)
    python -m benchmarks.ablations variants    AdaLN, Seq2Seq, Hybrid
    python -m benchmarks.ablations levels      codec levels 1 to K, modelled and decoded
    python -m benchmarks.ablations selection   the bundled model with 1, 2, 5 and 10 candidates
    python -m benchmarks.ablations steps       the bundled model by sampling steps and guidance

The first three train from nothing on the features and tokens that `make mini` left in --work, every model for the
same number of steps of the same windows, at a size that two cores train in minutes; compare rows of one table, not
with the bundled model. All score the same held-out windows. The same models come from the command line, for
instance S3D only: `v2a train maskvat-hybrid STORE --out OUT --set semantic_dim=0`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.mini import MiniConfig, stages
from jobs.mini.parts import MINI_MASKVAT, windows_of
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_classifier, load_generator
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.maskvat.model import MaskVAT, sized
from v2a_models.metrics.foley import FoleyScore, foley_score
from v2a_models.seeds import window_seed
from v2a_models.training.loop import FitConfig, fit

SMALL = dict(dim=192, depth=4, heads=4, encoder_depth=2)
"""Sizes of the models that are trained here."""

SEEN = dict(semantic_dim=MINI_MASKVAT.semantic_dim)
"""Width of the semantic features that `make mini` computes."""

LEVELS = MINI_MASKVAT.n_codebooks

TRAINED: dict[str, dict[str, dict[str, Any]]] = {
    "streams": {
        "CLIP only": dict(variant="hybrid", sync_dim=0, **SEEN),
        "S3D only": dict(variant="hybrid", semantic_dim=0),
        "both": dict(variant="hybrid", **SEEN),
    },
    "variants": {name: dict(variant=name, **SEEN) for name in ("adaln", "seq2seq", "hybrid")},
    "levels": {
        f"{n} of {LEVELS} levels": dict(variant="hybrid", n_codebooks=n, **SEEN) for n in range(1, LEVELS + 1)
    },
}


class Bench:
    """The bundled model's parts, and held-out windows with their features."""

    def __init__(self, work: Path, model: str, windows: int) -> None:
        loaded = load_generator(model, precision="auto")
        assert isinstance(loaded, MaskVATGenerator)
        self.generator = loaded
        self.classifier, _ = load_classifier(model)
        self.config = MiniConfig(work=work)
        self.held_out = stages.held_out_windows(self.config)
        self.n = min(windows, len(self.held_out.sounds))

    def rows(self) -> Iterator[tuple[Batch, list[int]]]:
        """Batches of eight windows with their seeds."""
        for at in range(0, self.n, 8):
            rows = slice(at, min(at + 8, self.n))
            seeds = [window_seed(0, "val", i) for i in range(rows.start, rows.stop)]
            yield Batch(semantic=self.held_out.semantic[rows], sync=self.held_out.sync[rows]), seeds

    def score(self, sounds: list[Tensor]) -> FoleyScore:
        tracks = [row[0].numpy() for part in sounds for row in part]
        events, labels = self.held_out.events[: self.n], self.held_out.labels[: self.n]
        return foley_score(tracks, events, labels, self.classifier)

    def score_model(self, generator: MaskVATGenerator, **sampling: Any) -> FoleyScore:
        return self.score([generator.generate(b, seeds=seeds, **sampling) for b, seeds in self.rows()])

    def resynthesised(self, levels: int) -> FoleyScore:
        codec, sounds = self.generator.codec, []
        for at in range(0, self.n, 8):
            true = torch.from_numpy(np.stack(self.held_out.sounds[at : at + 8][: self.n - at]))[:, None]
            sounds.append(codec.decode(codec.encode(true)[:, :levels], true.shape[-1]))
        return self.score(sounds)


def trained(bench: Bench, name: str, sizes: dict[str, Any], steps: int, folder: Path) -> MaskVATGenerator:
    """A small model with the bundled encoders and codec, trained for `steps` (resumable)."""
    config = sized(size="mini", **{**SMALL, "n_codebooks": LEVELS, **sizes})
    base = bench.generator
    torch.manual_seed(0)
    model = MaskVATGenerator(
        base.recipe, base.codec, base.semantic, base.sync, MaskVAT(config), base.sampling
    )
    model.scav, model.precision = base.scav, base.precision
    task, data = model.task(), windows_of(bench.config, "train")

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        batch = data.crops(rng, 8, "cpu")
        with torch.autocast("cpu", torch.bfloat16, enabled=base.precision == "bfloat16"):
            return task(batch, step)

    fitting = FitConfig(steps=steps, learning_rate=1e-3, warmup=60, ema=0.99, log_every=50)
    fit(
        name.replace(" ", "_"),
        task,
        step_loss,
        fitting,
        folder,
        log=lambda text: print(text, file=sys.stderr),
    )
    return model.eval()  # type: ignore[return-value]


def experiment(bench: Bench, what: str, steps: int, folder: Path) -> Iterator[tuple[str, FoleyScore]]:
    """Rows of one table."""
    if what in TRAINED:
        for name, sizes in TRAINED[what].items():
            if what == "levels":
                yield f"resynthesis, {name}", bench.resynthesised(sizes["n_codebooks"])
            # The full model of two tables is one and the same.
            file = (
                "hybrid both"
                if sizes
                in (dict(variant="hybrid", **SEEN), dict(variant="hybrid", n_codebooks=LEVELS, **SEEN))
                else name
            )
            yield name, bench.score_model(trained(bench, file, sizes, steps, folder))
    elif what == "selection":
        for candidates in (1, 2, 5, 10):
            sounds = [
                bench.generator.generate(b, seeds=seeds, candidates=candidates) for b, seeds in bench.rows()
            ]
            yield f"{candidates} candidates", bench.score(sounds)
    else:
        for n, guidance in ((2, 1.0), (4, 1.0), (8, 1.0), (16, 1.0), (8, 1.5), (8, 2.0), (8, 3.0)):
            score = bench.score_model(bench.generator, steps=n, guidance=guidance)
            yield f"{n} steps, guidance {guidance:g}", score


def line(name: str, score: FoleyScore) -> str:
    return (
        f"| {name} | {score.onset_f1:.3f} | {score.onset_f1_close:.3f} | {1000 * score.median_error_s:.0f} ms | "
        f"{score.class_match:.3f} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=(*TRAINED, "selection", "steps"))
    parser.add_argument("--work", type=Path, default=Path("build/mini"))
    parser.add_argument("--model", default="mini")
    parser.add_argument("--steps", type=int, default=500, help="training steps of each model")
    parser.add_argument("--windows", type=int, default=128, help="held-out windows at most")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bench = Bench(args.work, args.model, args.windows)
    print(f"{bench.n} held-out windows of {bench.generator.recipe.window_s:g} s", end="")
    print(f"; {args.steps} training steps of 8 windows each" if args.what in TRAINED else "", end="\n\n")
    print("| | onset F1 ±100 ms | ±50 ms | median error | class match |\n|---|---|---|---|---|")
    for name, score in experiment(bench, args.what, args.steps, args.work / "ablations"):
        print(line(name, score), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

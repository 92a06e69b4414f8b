"""Training curves of the bundled model, from the logs that `make mini` leaves in its work folder.

python -m benchmarks.mini_curves [--work build/mini] [--out docs/mini_training.png]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

STAGES = {
    "codec_spectra": ("codec", ("mel", "convergence", "wave")),
    "sync": ("motion encoder", ("offset", "spectrum", "onset")),
    "scav": ("SCAV", ("batch", "shifts", "accuracy", "timing")),
    "maskvat": ("MaskVAT-Hybrid", ("level0", "level1", "level2", "level3", "regression")),
}
"""Curves drawn for each stage."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("build/mini"))
    parser.add_argument("--out", type=Path, default=Path("docs/mini_training.png"))
    args = parser.parse_args()
    figure, panels = plt.subplots(2, 2, figsize=(11, 6.5), layout="constrained")
    for panel, (stage, (title, names)) in zip(panels.flat, STAGES.items(), strict=True):
        log = args.work / f"{stage}.log.jsonl"
        if not log.exists():
            print(f"{log} is missing: run `make mini` first, or name its work folder", file=sys.stderr)
            return 2
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:  # "spectrum" is what the log-mel loss was called before its floor was raised
                panel.plot(*zip(*points, strict=True), label=name)
        panel.set(title=f"{title}: {rows[-1]['step']} steps, {rows[-1]['minutes']:.0f} min", xlabel="step")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(args.out, dpi=90)
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

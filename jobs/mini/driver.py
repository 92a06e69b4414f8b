"""`make mini`: trains the bundled model from nothing, stage by stage. Resumable; uses a CUDA GPU when there is one.

    corpus -> codec -> visual encoders -> tokens and features -> SCAV -> MaskVAT -> classifier -> weights/mini

Imports neither Ray nor PyAV, so it also runs on a bare GPU machine with torch.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
import tyro

from jobs.mini import stages as mini_stages
from jobs.mini.config import MiniConfig, log
from jobs.mini.parts import take_over


def run(config: MiniConfig) -> int:
    """Run the stages; returns the exit code."""
    threads = config.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    unknown = sorted(set(config.stages) - set(mini_stages.STAGES))
    if unknown:
        print(f"unknown stages {unknown}; choose from {list(mini_stages.STAGES)}", file=sys.stderr)
        return 2
    np.random.seed(0)
    kept = take_over(config) if config.go_on_from else ()
    for name in config.stages:
        if name in kept:
            log(f"== {name}: kept as in {config.go_on_from}")
            continue
        started = time.monotonic()
        log(f"== {name} on {device}, {threads} threads")
        torch.manual_seed(0)
        mini_stages.STAGES[name](config, device, log)
        log(f"== {name} took {(time.monotonic() - started) / 60:.1f} min")
    return 0


def main() -> None:
    sys.exit(run(tyro.cli(MiniConfig, description=__doc__)))

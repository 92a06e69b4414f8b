"""Settings of the training of `mini`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.foley.corpus import FoleyConfig
from pipelines.synthfoley.corpus import CorpusConfig
from v2a_models.training.loop import FitConfig

WEAK_LICENCES = (
    "bl_city*", "bl_rain*", "bl_storm*", "bl_waves*", "usc_*", "vl_mobs_mc_sheep_random*", "vl_mobs_mc_cat_idle*",
    "mk_479512*", "bsb_*", "amt_bird_*",
)  # fmt: skip
"""Files of the free sounds whose statement of licence is weak: shipped weights do not learn from them."""


@dataclass(frozen=True)
class MiniConfig:
    """Train the bundled `mini` model on Foley scenes with recorded sounds, and on SynthFoley."""

    work: Path = Path("build/mini")
    """Corpus, training states and logs; a run that was stopped goes on from here."""
    out: Path = Path("v2a_models/weights/mini")
    """Folder of the finished checkpoint."""
    stages: tuple[str, ...] = (
        "recordings", "corpus", "semantic", "codec_spectra", "codec", "sync", "tokens", "features", "scav", "maskvat",
        "classifier", "export", "evaluate",
    )  # fmt: skip
    """Stages to run, in this order; finished ones are skipped."""
    threads: int = 0
    """CPU threads of torch and processes of the renderer; 0 for all cores."""
    codec_from: str = ""
    """Checkpoint whose codec the training starts from; by default it starts from nothing."""
    go_on_from: str = ""
    """Checkpoint of such a model: its MaskVAT is trained on, and its other parts are kept as they are."""
    sounds: str = ""
    """Folder of recorded sounds with a manifest.csv; without one, all sounds are synthesised."""
    exclude: tuple[str, ...] = WEAK_LICENCES
    """Patterns of names of recordings that are left out."""
    foley: FoleyConfig = field(default_factory=FoleyConfig)
    corpus: CorpusConfig = CorpusConfig(scenes=420)
    """Scenes of SynthFoley, which show what they are in drawings."""
    codec_spectra: FitConfig = FitConfig(steps=6000, learning_rate=1e-3, clip_norm=10.0, betas=(0.8, 0.99))
    codec: FitConfig = FitConfig(steps=0, learning_rate=3e-4, clip_norm=10.0, betas=(0.8, 0.99))
    """Training of the codec against an adversary: none, since 260 steps of it raised the losses on held-out sound."""
    semantic: FitConfig = FitConfig(steps=300, learning_rate=3e-3)
    sync: FitConfig = FitConfig(steps=450, learning_rate=1e-3, weight_decay=0.1, ema=0.99)
    """Few steps: after three times as many, it is better on rendered scenes and worse on real footage."""
    scav: FitConfig = FitConfig(steps=600, learning_rate=2e-3, weight_decay=0.05)
    maskvat: FitConfig = FitConfig(steps=3200, learning_rate=8e-4, warmup=100, ema=0.998)
    classifier: FitConfig = FitConfig(steps=1100, learning_rate=2e-3)


def log(text: str) -> None:
    """One plain line with the time of day."""
    print(time.strftime("%H:%M:%S"), text, flush=True)

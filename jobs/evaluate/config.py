"""Options of `v2a evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.cli import command_line


@dataclass
class EvaluateConfig:
    """Score a folder of sounds against the true ones, by the protocol of `v2a compare`.

    Both folders hold one file per clip, named by the clip: CLIP.wav, as av-benchmark and the published systems leave
    them (.flac and films work too). Baselines are scored beside them: the true sound, the same through the codec, that
    of other clips, noise and silence. DIR gets scores.parquet, summary.json, table.md and table.tex.
    """

    pred: Annotated[str, tyro.conf.Positional]
    """Folder of the sounds to score, or s3://bucket/prefix."""
    ref: Annotated[str, tyro.conf.Positional]
    """Folder of the true sounds, or of the films that they belong to."""
    out: str
    """Where the results go: a folder or s3:// prefix. What an earlier evaluation left there is replaced."""
    events: str | None = None
    """Table of events (.parquet or .csv: clip, onset_s; also class, strength), such as SynthFoley's events.parquet:
    scores onsets, and classes."""
    fps: float = 0.0
    """Pictures per second of the films: measures the tone that some models make at that rate."""
    captions: str | None = None
    """Table (.parquet or .csv: clip, caption) of what the system says is heard: scores captions."""
    true_captions: str | None = None
    """Table of the same form with the true captions, one or more per clip; by default those of the table of events."""
    allow_missing: bool = False
    """Score what both folders hold, even where clips are missing on one side."""
    codec: str = "mini"
    """Checkpoint whose codec is a baseline and gives the latents of FDD; `none` leaves both out, which is faster."""
    baselines: bool = True
    """Score the baselines too. Without them (--no-baselines) the Fréchet distances have only the true sounds to go by,
    and no metric is checked."""
    networks: tuple[str, ...] = (
        "foley", "scav", "vggish", "panns", "passt", "beats", "clap", "wav2clip", "clip",
    )  # fmt: skip
    """Networks to score with; those that cannot be had are n/a, with the reason."""
    weights: tuple[str, ...] = ()
    """Weights files of the networks, for instance vggish=/models/vggish.pth."""
    download: bool = False
    """Fetch published weights that are not on this machine, under their licences, and keep them."""
    export: str | None = None
    """Also write the sounds as they were scored (mono, 44.1 kHz, exactly as long as the true ones) to EXPORT/PRED and
    EXPORT/reference, for av-benchmark and other scorers."""
    num_workers: int | None = None
    """Cores to use; all of them by default."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""


def command(config: EvaluateConfig) -> str:
    """The command line that means this configuration."""
    return command_line("evaluate", config, positional=("pred", "ref"))

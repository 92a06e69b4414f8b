"""Options of `v2a evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from jobs.cli import command_line
from jobs.common.options import NETWORKS, Address, Download, Networks, NetworkWeights, Note, NumWorkers


@dataclass
class EvaluateConfig:
    """Score a folder of sounds against the reference sounds, by the protocol of `v2a compare`.

    Both folders hold one file per clip, with the name of the clip: CLIP.wav, as av-benchmark and the published systems
    write them (.flac and films work too). Baselines are scored as well: the reference sound, the same through the
    codec, sounds of other clips, noise and silence. DIR gets scores.parquet, summary.json, table.md and table.tex.
    """

    pred: Positional[str]
    """Folder of the sounds to score, or s3://bucket/prefix."""
    ref: Positional[str]
    """Folder of the reference sounds, or of the films they belong to."""
    out: Annotated[str, Note(metavar="DIR")]
    """Folder or s3:// prefix for the results. Those of an earlier evaluation are replaced."""
    events: str | None = None
    """Table of events (.parquet or .csv with columns clip, onset_s; optionally class, strength), such as SynthFoley's
    events.parquet. Needed to score onsets and classes."""
    fps: float = 0.0
    """Frame rate of the films: measures the tone at that frequency that some models produce."""
    captions: str | None = None
    """Table (.parquet or .csv with columns clip, caption) of the system's captions, to score them."""
    true_captions: str | None = None
    """Table with the true captions in the same columns, one or more per clip; by default those of the events."""
    allow_missing: bool = False
    """Score the clips that both folders hold, even if either lacks some."""
    codec: str = "mini"
    """Checkpoint whose codec serves as a baseline and gives the latents of FDD; `none` skips both, which is faster."""
    baselines: bool = True
    """Score the baselines too. Without them (--no-baselines), Fréchet distances have only the reference sounds
    to compare with, and no metric is checked."""
    networks: Networks = NETWORKS
    weights: NetworkWeights = ()
    download: Download = False
    export: str | None = None
    """Also write the sounds as they were scored (mono, 44.1 kHz, exactly as long as the reference) to EXPORT/PRED and
    EXPORT/reference, for av-benchmark and other scorers."""
    num_workers: NumWorkers = None
    address: Address = None


def command(config: EvaluateConfig) -> str:
    """The command line of this configuration."""
    return command_line("evaluate", config, positional=("pred", "ref"))

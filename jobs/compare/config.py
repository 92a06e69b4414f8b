"""Options of `v2a compare`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional

from jobs.cli import command_line
from jobs.common.options import (
    NETWORKS,
    Address,
    Download,
    Networks,
    NetworkWeights,
    Note,
    NumWorkers,
    Precision,
    TrackingUri,
)


@dataclass
class CompareConfig:
    """Run models on the same clips with the same seeds, and put their scores side by side.

    DIR gets the sounds (clips/MODEL/CLIP.wav), scores.parquet, summary.json, table.md, table.tex, pictures, report.html
    with players, and listen.html, a blind A/B page for the first two models. Run the same command again to resume, or
    with more models to add them. MLflow gets one run for the comparison, with a child run per model.
    """

    models: Annotated[Positional[tuple[str, ...]], Note(metavar="MODEL [MODEL ...]")]
    """Models: bundled names, checkpoint folders, or models:/NAME/VERSION and models:/NAME@ALIAS."""
    store: str
    """Feature store made by `v2a extract`: a folder or s3://bucket/prefix. Models are compared on its clips; those with
    its recipe take its features as input."""
    out: Annotated[str, Note(metavar="DIR")]
    """Folder for the results."""
    archive: str | None = None
    """Archive from which the store was extracted. It provides the reference sounds, and the pictures for models with
    another recipe. Without it, the reference sounds are those of the store, or its codes decoded."""
    split: Literal["train", "val", "test"] = "val"
    """Part of the store to compare on. Choose one the models were not trained on."""
    clips: int | None = 200
    """Maximum number of clips, spread over all films."""
    seed: int = 0
    """Random seed, the same for all models."""
    events: str | None = None
    """Table of events (.parquet or .csv), such as SynthFoley's; by default ARCHIVE/events.parquet if it exists."""
    networks: Networks = NETWORKS
    weights: NetworkWeights = ()
    download: Download = False
    export: str | None = None
    """Also copy the sounds to EXPORT/MODEL/FILM.wav and EXPORT/reference/FILM.wav (FILM-000001.wav for the second
    window of a film), for av-benchmark and other scorers."""
    listen: int = 20
    """Pairs on the listening page."""
    votes: str | None = None
    """Votes saved by the listening page, to add the preference to the table."""
    promote: str = ""
    """Metric by which to promote the best model to champion, if it leads by more than the confidence interval. Then
    `v2a dub --model models:/v2a@champion` uses it. Needs an MLflow registry."""
    batch_size: int = 1
    """Windows generated at a time: 1 on CPU cores, 16 or more on a GPU."""
    precision: Precision = "auto"
    num_workers: NumWorkers = None
    address: Address = None
    tracking_uri: TrackingUri = None


def command(config: CompareConfig) -> str:
    """The command line of this configuration: it resumes the job."""
    options = command_line("compare", config, positional=(), without=("models",))
    return options.replace("v2a compare", shlex.join(["v2a", "compare", *config.models]), 1)

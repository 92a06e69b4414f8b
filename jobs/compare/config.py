"""Options of `v2a compare`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from jobs.cli import command_line


@dataclass
class CompareConfig:
    """Run every model over the same clips with the same seeds, and put them side by side.

    DIR gets the sounds (clips/MODEL/CLIP.wav), scores.parquet, summary.json, table.md, table.tex, pictures, report.html
    with players, and listen.html, a blind A/B page for the first two models. Run the same command again to resume, or
    with more models to add them. MLflow gets one run for the comparison and one below it per model.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Models: bundled names, checkpoint folders, or models:/NAME/VERSION and models:/NAME@ALIAS."""
    store: str
    """Feature store that `v2a extract` made: a folder or s3://bucket/prefix. Its clips are compared on, and models of
    its recipe are fed with what it holds."""
    out: str
    """Where the results go, a folder."""
    archive: str | None = None
    """Archive that the store was extracted from: gives the true sounds, and the pictures for models of another recipe
    than the store's. Without it the true sounds are those of the store, or what its codec makes of them."""
    split: Literal["train", "val", "test"] = "val"
    """Part of the store to compare on: what the models were not trained on."""
    clips: int | None = 200
    """Clips at most, spread over all films."""
    seed: int = 0
    """Decides what is drawn, for all models alike."""
    events: str | None = None
    """Table of events (.parquet or .csv), such as SynthFoley's; by default ARCHIVE/events.parquet if there is one."""
    networks: tuple[str, ...] = (
        "foley", "scav", "vggish", "panns", "passt", "beats", "clap", "wav2clip", "clip",
    )  # fmt: skip
    """Networks to score with; those that cannot be had are n/a, with the reason."""
    weights: tuple[str, ...] = ()
    """Weights files of the networks, for instance vggish=/models/vggish.pth."""
    download: bool = False
    """Fetch published weights that are not on this machine, under their licences, and keep them."""
    export: str | None = None
    """Also copy every model's sounds and the true ones there, as EXPORT/MODEL/FILM.wav and EXPORT/reference/FILM.wav
    (FILM-000001.wav for the second window of a film), for av-benchmark and other scorers."""
    listen: int = 20
    """Pairs on the listening page."""
    votes: str | None = None
    """Votes that the listening page saved: puts the preference into the table."""
    promote: str = ""
    """Metric by which the best model becomes the champion, if it is better beyond the interval: then
    `v2a dub --model models:/v2a@champion` uses it. Needs an MLflow registry."""
    batch_size: int = 1
    """Windows generated at a time: one on processor cores, 16 or more on a GPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the models; `auto` takes bfloat16 where this machine's hardware has it."""
    num_workers: int | None = None
    """Cores to use; all of them by default."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""
    tracking_uri: str | None = None
    """MLflow server or database; by default a file in DIR/_v2a. `off` records nothing."""


def command(config: CompareConfig) -> str:
    """The command line that means this configuration: run again, it resumes."""

    options = command_line("compare", config, positional=(), without=("models",))
    return options.replace("v2a compare", shlex.join(["v2a", "compare", *config.models]), 1)

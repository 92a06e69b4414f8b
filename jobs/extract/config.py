"""Options of `v2a extract`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from jobs.cli import command_line


@dataclass
class ExtractConfig:
    """Turn footage with sound into a feature store: Parquet files of features and codec tokens, for training.

    ARCHIVE is only read. STORE gets split=train/part-*.parquet (and val, test), _failures.parquet with what
    could not be read and why, and _recipe.json. Run the same command again to resume, to take in new files
    and to try failed ones again. Files without a sound track, or with a silent one, are passed over.
    """

    archive: Annotated[str, tyro.conf.Positional]
    """Folder with videos that have sound, or s3://bucket/prefix."""
    store: Annotated[str, tyro.conf.Positional]
    """Where the store goes: a folder or s3:// prefix outside the archive."""
    recipe: str = "mini"
    """What to extract: mini (bundled weights), base (CLIP, S3D, DAC), base-audio (and BEATs), vatt (EVA-02 CLIP,
    DAC), raw (pixels and samples), or the path of a .yaml file of your own."""
    weights: tuple[str, ...] = ()
    """Local weights files by role, for instance --weights codec=/models/dac.pth semantic=/models/clip.safetensors.
    On a cluster the path must be there on every machine."""
    labels: str | None = None
    """Table of labels, texts and splits: .csv or .parquet (VGGSound's own csv, or columns path, label, text,
    split). By default ARCHIVE/events.parquet if there is one; `none` for none."""
    splits: tuple[float, float, float] = (80, 10, 10)
    """Shares of train, val and test among files to which the labels give no split."""
    overlap_s: float | None = None
    """Seconds that neighbouring windows share; by default as the recipe says (the bundled ones: none)."""
    drop_silent: float | None = None
    """Leave out windows whose loudest sample is below so many dBFS, for instance -50."""
    drop_static: float | None = None
    """Leave out windows whose pictures change less than this from one to the next (mean, 0 to 255), such as 0.5."""
    max_failed: str | None = None
    """Stop when more windows fail than this share, for instance 5%. What is done stays."""
    num_workers: int | None = None
    """Cores to use; all of them by default."""
    gpu_share: float = 1.0
    """Part of a GPU that one set of encoders takes: 0.5 puts two on each GPU."""
    batch_size: int | None = None
    """Windows encoded at a time: by default one on processor cores, 16 on a GPU. Belongs to the result."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the visual encoders; `auto` takes bfloat16 where the hardware has it."""
    rows_per_file: int = 128
    """Windows per Parquet file, about. A kill costs at most the windows that are being gathered for one."""
    describe: bool = False
    """Only say what would be done: stages, schema, resources and an estimate. Writes nothing."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""
    tracking_uri: str | None = None
    """MLflow server or database; by default a file in the store. `off` records nothing."""


def command(config: ExtractConfig) -> str:
    """The command line that means this configuration: run again, it resumes."""
    return command_line("extract", config, positional=("archive", "store"))

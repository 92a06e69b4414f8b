"""Options of `v2a extract`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tyro.conf import Positional

from jobs.cli import command_line
from jobs.common.options import (
    Address,
    Advanced,
    Archive,
    EncoderWeights,
    FileOptions,
    NumWorkers,
    Precision,
    SandboxLevel,
    TrackingUri,
)


@dataclass
class ExtractConfig:
    """Turn footage with sound into a feature store: Parquet files of features and codec tokens, for training.

    ARCHIVE is only read. STORE gets split=train/part-*.parquet (and val, test), _recipe.json, and _failures.parquet
    with the files that could not be read, and why. Files without a sound track, or with a silent one, are left out. To
    resume, to add new files and to retry failed ones, run the same command again.
    """

    archive: Archive
    store: Positional[str]
    """Folder or s3:// prefix for the store, outside the archive."""
    recipe: str = "mini"
    """Features to extract: mini (bundled weights), base (CLIP, S3D, DAC), base-audio (and BEATs), vatt (EVA-02 CLIP,
    DAC), raw (pixels and samples), or the path of your own .yaml file."""
    weights: EncoderWeights = ()
    labels: str | None = None
    """Table of labels, texts and splits: .csv or .parquet (VGGSound's own csv, or columns path, label, text, split). By
    default ARCHIVE/events.parquet if it exists; `none` for none."""
    splits: tuple[float, float, float] = (80, 10, 10)
    """Train, val and test fractions of the files to which the labels assign no split."""
    overlap_s: float | None = None
    """Seconds by which neighbouring windows overlap; by default as in the recipe (the bundled ones: 0)."""
    drop_silent: float | None = None
    """Leave out windows whose peak is below this level in dBFS, such as -50."""
    drop_static: float | None = None
    """Leave out windows whose pictures differ by less than this from one to the next (mean, 0 to 255), such as 0.5."""
    max_failed: str | None = None
    """Stop when more than this percentage of windows fail, such as 5%. Finished rows are kept."""
    max_hours_per_file: Advanced[float] = 24.0
    """Longest film to extract, in hours; a longer one is among the failures. 0 for any length up to 14 days."""
    num_workers: NumWorkers = None
    gpu_share: Advanced[float] = 1.0
    """Fraction of a GPU per set of encoders; 0.5 puts two on each GPU."""
    batch_size: int | None = None
    """Windows encoded at a time; by default 1 on CPU cores, 16 on a GPU. Affects the result."""
    precision: Precision = "auto"
    rows_per_file: Advanced[int] = 128
    """Approximate number of windows per Parquet file. A crash loses at most the windows gathered for one file."""
    describe: bool = False
    """Print what would be done: stages, schema, resources and an estimate. Writes nothing."""
    address: Address = None
    tracking_uri: TrackingUri = None
    sandbox: SandboxLevel = "auto"
    selection: FileOptions = field(default_factory=FileOptions)


def command(config: ExtractConfig) -> str:
    """The command line of this configuration: it resumes the job."""
    return command_line("extract", config, positional=("archive", "store"))

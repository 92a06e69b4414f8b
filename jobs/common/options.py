"""Options that several verbs share, declared once with their help, and a note for options that need one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from tyro.conf import Positional

T = TypeVar("T")


@dataclass(frozen=True)
class Note:
    """Extra facts about an option, as metadata of its annotated type. `jobs.common.parser` reads them."""

    help: str = ""
    """Help text, for a type that several verbs use. A docstring below the field goes before it."""
    metavar: str = ""
    """Placeholder of the value in help texts; by default the name of its type."""
    advanced: bool = False
    """List the option last, under "advanced options"."""


Advanced = Annotated[T, Note(advanced=True)]
"""An option that few people need."""

Archive = Annotated[
    Positional[str],
    Note(
        "Folder with videos, or s3://bucket/prefix. A file, or a pattern in quotes such as 'films/19*/*.mp4', takes "
        "only these films."
    ),
]


@dataclass
class FileOptions:
    """Files of ARCHIVE to take; all by default. Runs with other selections continue each other: what is done
    stays done. Patterns are those of .gitignore: *.mp4 is a name in any folder, rushes is a folder with all that lies
    in it (or a file), 1925/*.mp4 is a path from ARCHIVE, and ** stands for any folders."""

    files: Annotated[str | None, Note(metavar="LIST")] = None
    """Take the files (and folders) that this text file lists, one path per line, from ARCHIVE or from the current
    folder; - for standard input, as in find films -mtime -7 | v2a scan films --files -. One that is not there is a
    failed row."""
    include: Annotated[tuple[str, ...], Note(metavar="PATTERN")] = ()
    """Take only files that match one of these patterns. In quotes, or the shell replaces them."""
    exclude: Annotated[tuple[str, ...], Note(metavar="PATTERN")] = ()
    """Take no file that matches one of these patterns."""
    join_by: Annotated[str, Note(metavar="RULE")] = ""
    """Files that are one film, as recorders cut it. RULE is a regular expression for whole names: video files of one
    folder that match it and agree in its groups are one film, in the order of their names. (cam\\d+)_.* joins
    cam1_0900.ts and cam1_0910.ts. Or a preset: avchd (00000.MTS, 00001.MTS, ...), dvd (VTS_01_1.VOB, ...), gopro
    (GH010123.MP4, ...), folder (all videos of a folder). Files of mp4, mov, transport and program streams, .dav, .dv
    and raw streams can be joined."""
    limit: int | None = None
    """Take at most this many films, the first in the order of their paths."""
    fps: Annotated[str | None, Note(metavar="RATE")] = None
    """Pictures per second, such as 18 or 24000/1001, of films that have no container to state it: sequences of
    numbered pictures (DPX, EXR, TIFF, JPEG 2000, PNG, JPEG) and streams such as .h264. By default what their headers
    state. No other film is changed by it."""


NumWorkers = Annotated[int | None, Note("CPU cores to use; all of them by default.")]

Address = Annotated[
    str | None,
    Note("Ray cluster to run on, such as `auto` or ray://head:10001; by default, this machine."),
]

TrackingUri = Annotated[
    str | None,
    Note(
        "MLflow server or database to record the run in; by default the file _v2a/mlflow.db in the output folder. "
        "`off` records nothing."
    ),
]

Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    Note(
        "Arithmetic of the networks. `auto` uses bfloat16 where the hardware is fast at it, else float32. On a mixed "
        "cluster, set it explicitly."
    ),
]

SandboxLevel = Annotated[
    Literal["auto", "strict"],
    Note(
        "auto: read films with every measure of the sandbox that this system has. strict: refuse to run unless all "
        "hold (`v2a doctor` lists them), and read each film in a process of its own; $V2A_SANDBOX has the same effect.",
        advanced=True,
    ),
]

EncoderWeights = Annotated[
    tuple[str, ...],
    Note(
        "Weights files of the recipe's encoders by role, such as codec=/models/dac.pth "
        "semantic=/models/clip.safetensors. Published weights are otherwise looked for by name. On a cluster, every "
        "machine needs the file at this path.",
        metavar="ROLE=FILE",
    ),
]

Networks = Annotated[
    tuple[str, ...],
    Note("Networks to score with. Metrics of a network that is not available are n/a, with the reason."),
]

NETWORKS = ("foley", "scav", "vggish", "panns", "passt", "beats", "clap", "wav2clip", "clip")

NetworkWeights = Annotated[
    tuple[str, ...],
    Note("Weights files of the networks, such as vggish=/models/vggish.pth.", metavar="NETWORK=FILE"),
]

Download = Annotated[
    bool,
    Note("Download published weights that are missing on this machine, under their licences, and keep them."),
]

Gpus = Annotated[
    Literal["auto", "on", "off"],
    Note("Use GPUs; `auto` uses them if there are any.", advanced=True),
]

RunName = Annotated[
    str, Note("Name of the MLflow run; by default SYSTEM and the name of the output folder.", advanced=True)
]

ModelSettings = Annotated[
    tuple[str, ...],
    Note(
        "Fields of the model's config, such as depth=4 dim=128, or semantic_dim=0 for a model without CLIP features. "
        "An unknown name lists them all.",
        metavar="NAME=VALUE",
    ),
]

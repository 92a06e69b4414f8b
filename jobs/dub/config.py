"""Options of `v2a dub`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from jobs.cli import command_line
from jobs.common.options import (
    Address,
    Advanced,
    Archive,
    FileOptions,
    NumWorkers,
    Precision,
    SandboxLevel,
    TrackingUri,
)


@dataclass
class SoundOptions:
    """The film's own sound, loudness, and format of the new track."""

    existing: Literal["keep", "mix", "replace-silent-parts"] = "keep"
    """For films that have sound; their own track is kept in any case. keep: the generated sound becomes a separate
    track. mix: one track with both (needs --only all). replace-silent-parts: the film's own sound, sample by sample,
    with generated sound faded in where it is silent for a second or more; only these parts are generated."""
    loudness: float | None = None
    """Integrated loudness of the new track in LUFS (EBU R128), such as -23, with true peaks limited to -1 dBTP. By
    default, the sound stays as loud as the model generated it."""
    mix_gain: Advanced[float] = 0.0
    """Gain in dB of the generated sound in --existing mix; negative values make it softer."""
    silence_dbfs: Advanced[float] = -60.0
    """Level below which a film's own sound counts as silent, for --existing replace-silent-parts. For old recordings,
    about 10 dB above their noise."""
    channels: Literal["auto", "mono", "stereo"] = "auto"
    """Channels of the new track. auto: those of the model, or of the film's own sound where the track contains it."""
    audio_codec: Literal["auto", "aac", "opus", "flac", "pcm"] = "auto"
    """Codec of the new track. auto: AAC in mp4 and mov, Opus in webm, PCM in avi and MXF, FLAC in mkv. Containers
    hold: mp4 aac, opus, flac; mov aac, pcm; webm opus; avi and MXF pcm; mkv all. Otherwise the
    copy becomes a mov (mp4 with pcm) or an mkv."""
    sidecar: Literal["none", "wav", "flac"] = "none"
    """Write only the sound, as OUT/reel.mp4.wav, and no copy of the film. Of sequences of pictures only the sound is
    written in any case, as a Broadcast Wave file."""
    keep_sound: bool = True
    """Keep the uncompressed samples of lossy tracks (AAC, Opus) for `v2a redub`, as FLAC in OUT/_v2a/sound: up to
    0.3 GB per hour."""


@dataclass
class FilmOptions:
    """Joins between windows, hard cuts, and footage without motion."""

    joins: Literal["auto", "two-wave", "crossfade"] = "auto"
    """two-wave: generate every second window, then in-paint those between, so that no join is audible (models of codec
    tokens: mini, every maskvat and vatt). crossfade: generate windows independently and crossfade them. auto: two-wave
    where the model can."""
    scenes: Literal["on", "off"] = "on"
    """End windows at hard cuts (found by PySceneDetect), so that none spans two scenes. off: a regular grid. Needs
    two-wave joins."""
    static: Literal["ambience", "silence", "generate"] = "ambience"
    """Sound while nothing moves. ambience: one ambience per film, generated once and looped without a join. silence:
    none. generate: whatever the model makes of each window. The first two cost almost nothing. Needs two-wave joins."""
    motion_level: Advanced[float] = 4.0
    """Below this value, a window counts as static: the mean difference (0 to 255) from its first picture, in the
    picture and the block (of 8 x 8) where it is largest. Camera noise alone reaches 3."""


@dataclass
class PriceOptions:
    """Prices of machines, for the report. They have no effect on the sound."""

    price_core_hour: Advanced[float | None] = None
    """Price of a CPU core per hour, in any currency. The report, the last lines and --dry-run then show costs."""
    price_gpu_hour: Advanced[float | None] = None
    """Price of a GPU per hour."""


@dataclass
class DubConfig:
    """Give the silent videos of an archive a sound track, in a copy of the archive.

    OUT gets the same tree. The picture is copied bit for bit, and a generated track is added and labelled.
    OUT/_v2a/report.html lists what became of every file. The archive is only read. To resume, or to dub new files, run
    the same command again.
    """

    archive: Archive
    out: Positional[str]
    """Folder or s3:// prefix for the dubbed copies, outside the archive."""
    model: str = "mini"
    """Generator: a bundled name, a checkpoint folder, or models:/NAME/VERSION or models:/NAME@ALIAS in the MLflow
    registry at --tracking-uri, such as models:/v2a@champion. For a model of your own, package.module:name, a Python
    object that returns a v2a.Generator; every worker must be able to import it."""
    only: Literal["silent", "all"] = "silent"
    """Videos to dub: those without sound (no track, an empty or a silent one), or all."""
    seed: int = 0
    """Random seed, from 0 to 2^63 - 1. The same seed gives the same sound on any number of workers."""
    num_workers: NumWorkers = None
    dry_run: bool = False
    """Print what would be done and how long it would take. Writes nothing."""
    proxy: Literal["none", "mp4", "ffv1"] = "none"
    """Also write a film to listen with, of sequences of pictures, beside the sound. mp4: H.264 of at most 1080 lines.
    ffv1: FFV1 in Matroska, lossless."""
    restart: bool = False
    """Discard what earlier runs did in OUT and start over."""
    address: Address = None
    tracking_uri: TrackingUri = None
    segment_s: Advanced[float] = 60.0
    """Seconds of film per task. Longer segments cost less and need more memory. Except with crossfades, the length
    changes the sound."""
    max_hours_per_file: Advanced[float] = 24.0
    """Longest film to dub, in hours; a longer one is a failed row that names this option. 0 for any length up to 14
    days. Films of an hour and more are dubbed after all shorter ones, the shortest first."""
    batch_size: int = 1
    """Windows generated at a time (films, for autoregressive models): 1 is fastest on CPU cores, 16 or more on a
    GPU."""
    candidates: int = 1
    """Candidates per window; the best match to the picture is kept. Time grows linearly; 10 is typical."""
    keep_top: Advanced[int] = 1
    """Candidates to keep: the best as the track, the second best of every window as a named alternative
    track (or sidecar), and so on."""
    manifest: str | None = None
    """Table (.csv or .parquet) of settings per film: path (relative to ARCHIVE), prompt, negative, seed, start_s and
    end_s (silence outside), skip, film (files with the same name here are one film, in the order of their rows, with
    the settings of the first), fps (of a sequence or a stream). The command line applies to empty cells and unlisted
    films."""
    prompt: str = ""
    """Sound to generate, such as "a heavy wooden hammer, no music"; the picture still decides when. Needs a model that
    follows text, such as vatt-mini or one of `v2a train vatt`."""
    negative: str | None = None
    """Sound to avoid, such as "wind". By default "music, speech" for models whose vocabulary includes them; ""
    for nothing."""
    captions: bool = False
    """Write a caption per window as a subtitle track (mp4, mov, mkv; otherwise FILM.srt). Needs a model that
    follows text. Its captions are in the report in any case."""
    precision: Precision = "auto"
    sign_key: str | None = None
    """Private key (PEM file) to sign every dubbed file with, by C2PA; default $V2A_SIGN_KEY. On a cluster, every
    machine needs it at this path. Without a key, files are marked as synthetic but not signed."""
    sign_cert: str | None = None
    """Certificate chain of that key (PEM file); default $V2A_SIGN_CERT. `v2a verify --make-test-certificate FOLDER`
    makes a pair to try out."""
    left_out: Literal["name", "keep"] = "name"
    """Streams that a copy cannot hold, such as teletext or telemetry: `name` them in the report, or also `keep` them in
    a file beside the film, FILM.left_out.ts or .mp4. Films that are dubbed already stay as they are."""
    strict: bool = False
    """Fail a film whose copy would leave out a stream or a fact of it, such as teletext or telemetry. By default, the
    copy is made, and the report and the last lines name them (left_out)."""
    sandbox: SandboxLevel = "auto"
    selection: FileOptions = field(default_factory=FileOptions)
    sound: SoundOptions = field(default_factory=SoundOptions)
    film: FilmOptions = field(default_factory=FilmOptions)
    price: PriceOptions = field(default_factory=PriceOptions)


def command(config: DubConfig) -> str:
    """The command line of this configuration, without `--restart`: it resumes the job."""
    return command_line("dub", config, positional=("archive", "out"), without=("restart",))

"""Options of `v2a dub`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jobs.cli import command_line
from jobs.common.verb import WrongUsage

if TYPE_CHECKING:
    from pipelines.reports.costs import Prices
    from pipelines.soundtrack.mixing import MixPolicy


LOUDEST, SOFTEST = -5.0, -60.0
"""LUFS."""


@dataclass
class SoundOptions:
    """Sound that is there already, loudness, and form of the new track."""

    existing: Literal["keep", "mix", "replace-silent-parts"] = "keep"
    """Of films that have sound (the track itself always stays too). keep: the generated sound gets a track of its own.
    mix: a track with both, with --only all. replace-silent-parts: a track of the film's own sound, sample by sample,
    with generated sound where that is silent for a second or more, with ramps; only these parts are generated."""
    loudness: float | None = None
    """Integrated loudness in LUFS by EBU R128, such as -23; of the generated sound, or of the mixture. No true peak is
    above -1 dBTP then: strikes are limited. By default the sound is as loud as it was generated."""
    mix_gain: float = 0.0
    """dB by which generated sound is made louder (softer if negative) before --existing mix mixes it."""
    silence_dbfs: float = -60.0
    """Level below which a film's own sound counts as silent, for --existing replace-silent-parts: about 10 dB above
    the noise of an old recording."""
    channels: Literal["auto", "mono", "stereo"] = "auto"
    """Of the new track. auto: those of the model, or of the film's own sound where that is in it."""
    audio_codec: Literal["auto", "aac", "opus", "flac", "pcm"] = "auto"
    """Of the new track. auto: AAC in mp4 and mov, Opus in webm, PCM in avi, FLAC in mkv. A container that does not hold
    the codec becomes mkv. mp4 holds aac, opus, flac; mov aac, pcm; webm opus; avi pcm; mkv all."""
    sidecar: Literal["none", "wav", "flac"] = "none"
    """Write the sound alone, OUT/reel.mp4.wav, instead of a copy of the film."""
    keep_sound: bool = True
    """Keep what `v2a redub` needs of tracks that are coded with loss (AAC, Opus): their samples as FLAC in
    OUT/_v2a/sound, up to 0.3 GB an hour."""

    def treatment(self) -> MixPolicy:
        """The same for the pipeline. Raises WrongUsage for options that do not go together."""
        from pipelines.soundtrack.mixing import MixPolicy

        if self.loudness is not None and not SOFTEST <= self.loudness <= LOUDEST:
            raise WrongUsage(
                f"--loudness is in LUFS, from {SOFTEST:g} to {LOUDEST:g}, such as -23, not {self.loudness:g}"
            )
        if self.mix_gain and self.existing != "mix":
            raise WrongUsage(
                "--mix-gain is for --existing mix; for the level of a track of its own: --loudness"
            )
        if not -60 <= self.mix_gain <= 60:
            raise WrongUsage(f"--mix-gain is in dB, from -60 to 60, not {self.mix_gain:g}")
        if not -120 < self.silence_dbfs < 0:
            raise WrongUsage(
                f"--silence-dbfs is a level below 0 dBFS, such as -50, not {self.silence_dbfs:g}"
            )
        if self.sidecar != "none" and self.audio_codec != "auto":
            raise WrongUsage(
                f"--sidecar {self.sidecar} is a codec already: leave --audio-codec {self.audio_codec} out"
            )
        return MixPolicy(
            existing=self.existing,
            loudness=self.loudness,
            mix_gain=self.mix_gain,
            silence_dbfs=self.silence_dbfs,
            channels={"auto": 0, "mono": 1, "stereo": 2}[self.channels],
            audio_codec=self.audio_codec,
            sidecar=self.sidecar,
        )


@dataclass
class FilmOptions:
    """How windows meet, cuts, and footage in which nothing moves."""

    joins: Literal["auto", "two-wave", "crossfade"] = "auto"
    """two-wave: every second window is painted between its fixed neighbours, so that one does not hear where they meet
    (models of codec tokens: mini, every maskvat and vatt). crossfade: windows know nothing of each other and are faded
    over. auto: two-wave where the model can."""
    scenes: Literal["on", "off"] = "on"
    """Let windows end at hard cuts (PySceneDetect), so that none is made of pictures of both sides; off leaves the
    regular grid. With two-wave joins."""
    static: Literal["ambience", "silence", "generate"] = "ambience"
    """What is heard while nothing moves: one ambience of the film, made once and repeated without a join; silence; or
    whatever the model makes of each window. The first two cost almost nothing. With two-wave joins."""
    motion_level: float = 4.0
    """Below this nothing moves: mean difference from a window's first picture, of 255, in the block (of 8 x 8) and the
    picture where it is largest. Clips in which nothing but the camera's noise moved had 0 to 3."""

    def check(self) -> None:
        """Raises WrongUsage for options that do not go together."""
        if not 0 <= self.motion_level <= 255:
            raise WrongUsage(f"--motion-level is from 0 to 255, not {self.motion_level:g}")


@dataclass
class PriceOptions:
    """What machines cost. Shown, and never part of what decides the sound."""

    price_core_hour: float | None = None
    """Price of a core for an hour, in any currency: report, last lines and --dry-run then say what the work costs, and
    what the whole archive will."""
    price_gpu_hour: float | None = None
    """The same of a GPU."""

    def prices(self) -> Prices:
        """The same for the pipeline. Raises WrongUsage for what is no price."""
        from pipelines.reports.costs import Prices

        for name in ("price_core_hour", "price_gpu_hour"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise WrongUsage(
                    f"--{name.replace('_', '-')} is the price of an hour, such as 0.04, not {value:g}"
                )
        return Prices(self.price_core_hour, self.price_gpu_hour)


@dataclass
class DubConfig:
    """Give the silent videos of an archive a sound track, in a copy of the archive.

    OUT gets the same tree: the picture is copied bit for bit, a generated track is added and named, and
    OUT/_v2a/report.html tells what became of every file. The archive is only read. Run the same command
    again to resume, or to take in new files.
    """

    archive: Annotated[str, tyro.conf.Positional]
    """Folder with videos, or s3://bucket/prefix."""
    out: Annotated[str, tyro.conf.Positional]
    """Where the dubbed copies go: a folder or s3:// prefix outside the archive."""
    model: str = "mini"
    """Generator: the name of a bundled one, the path of a checkpoint folder, or models:/NAME/VERSION and
    models:/NAME@ALIAS of the MLflow registry at --tracking-uri, such as models:/v2a@champion."""
    only: Literal["silent", "all"] = "silent"
    """Which videos: those without sound (no track, an empty one or a silent one), or all of them."""
    seed: int = 0
    """Another seed gives another sound. The same seed gives the same one on any number of workers."""
    num_workers: int | None = None
    """Cores to use; all of them by default."""
    dry_run: bool = False
    """Only say what would be done, and for how long. Writes nothing."""
    restart: bool = False
    """Forget what earlier runs did in OUT and do everything again."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""
    tracking_uri: str | None = None
    """MLflow server or database; by default a file beside the output. `off` records nothing."""
    segment_s: float = 60.0
    """Seconds of film that one task handles: more of them cost less and need more memory. With crossfades that does not
    change the sound; otherwise windows lie between the borders of segments, and another length gives another one."""
    batch_size: int = 1
    """Windows generated at a time (films, with a model that goes on from its own past): one is fastest on processor
    cores, 16 or more on a GPU."""
    candidates: int = 1
    """Sounds drawn for each window, of which the one that fits the picture best is kept. The time that takes grows
    with them; 10 is usual."""
    keep_top: int = 1
    """Of the candidates, so many become tracks: the best, and named alternatives (or further sidecars), the second best
    of every window and so on."""
    manifest: str | None = None
    """Table of what is asked for single films, .csv or .parquet, columns path (relative to ARCHIVE), prompt, negative,
    seed, start_s and end_s (in and out time: silence outside), skip. Empty cells, and films that are not in it: as
    this command says."""
    prompt: str = ""
    """What is to be heard, for instance "a heavy wooden hammer, no music": the picture still says when. Needs a model
    that follows text, such as vatt-mini or one of v2a train vatt."""
    negative: str | None = None
    """What is not to be heard, for instance "wind". By default "music, speech" where the model follows text and knows
    the words; "" for nothing."""
    captions: bool = False
    """Say of every window what it should sound like, as a subtitle track (in mp4, mov and mkv; else FILM.srt beside
    the film). Needs a model that has words, such as vatt-mini or one of v2a train vatt. The report has captions in
    any case."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the transformers. `auto` takes bfloat16 where this machine's hardware has it. Name one for
    a cluster of unlike machines, so that all of them compute alike."""
    sign_key: str | None = None
    """File with a private key (PEM): every dubbed file is signed with it by C2PA. Or set V2A_SIGN_KEY. On a cluster, a
    path that all machines see. Without a key files are marked as synthetic and not signed."""
    sign_cert: str | None = None
    """File with the certificate of that key and those that lead to its authority (PEM). Or set V2A_SIGN_CERT.
    `v2a verify --make-test-certificate FOLDER` makes a pair for trying out."""
    sound: SoundOptions = field(default_factory=SoundOptions)
    film: FilmOptions = field(default_factory=FilmOptions)
    price: PriceOptions = field(default_factory=PriceOptions)


def command(config: DubConfig) -> str:
    """The command line that means this configuration, without `--restart`: run again, it resumes."""
    return command_line("dub", config, positional=("archive", "out"), without=("restart",))

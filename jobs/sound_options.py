"""Options of `v2a dub` about the sound: what becomes of the film's own, how loud, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jobs.verb import WrongUsage

if TYPE_CHECKING:
    from pipelines.soundtrack.mixing import Treatment

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

    def treatment(self) -> Treatment:
        """The same for the pipeline. Raises WrongUsage for options that do not go together."""
        from pipelines.soundtrack.mixing import Treatment

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
        return Treatment(
            existing=self.existing,
            loudness=self.loudness,
            mix_gain=self.mix_gain,
            silence_dbfs=self.silence_dbfs,
            channels={"auto": 0, "mono": 1, "stereo": 2}[self.channels],
            audio_codec=self.audio_codec,
            sidecar=self.sidecar,
        )

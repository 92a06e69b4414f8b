"""The interface of every generator: what dubbing, training and scoring may ask of a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from v2a_models.batch import Batch
from v2a_models.codec.level import OutputLevel
from v2a_models.recipe import Recipe
from v2a_models.stereo import motion
from v2a_models.stereo.panning import stereo

if TYPE_CHECKING:
    from v2a_models.codec.dac import Codec
    from v2a_models.scav import SCAV


class Generator(nn.Module):
    """A video-to-audio model with everything it needs to turn frames into sound.

    `task` trains it, `generate_from_frames` dubs with it.
    """

    recipe: Recipe
    name: str = ""
    """Name of the checkpoint; empty for a model never saved."""
    sha256: str = ""
    """SHA-256 of the weights file; empty for a model never saved."""
    precision: str = "float32"
    """Arithmetic of the transformers: float32 or bfloat16. The sound differs with it, its quality does not."""

    level: OutputLevel = OutputLevel()
    """Level of what the codec decodes."""

    codec: Codec | None
    """Codec of a system that makes tokens; None for one that makes samples, or no sound."""
    scav: SCAV | None
    """Ranks candidates; None for a model that draws one only. Its weights have a file of their own."""

    streams = False
    """True for a system that continues its own sound instead of making separate windows. Its `generate` takes any
    number of frames and `past`, float32 (B, channels, samples): the sound that exists for the first of these frames.
    `past` is not returned again, and only its last `context_frames` frames are used."""

    follows_text = False
    """True if `generate` takes `prompts` (the sound to make) and `negative` (the sound to avoid): strings, one per row
    or one for all rows."""

    writes_captions = False
    """True if `captions` describes the sound of a clip in words."""

    inpaints = False
    """True if the model in-paints: it makes tokens of `codec`, and `draw` takes any known ones as `known_codes` and
    `known_mask` (`v2a_models.longform`)."""

    def __init__(self) -> None:
        super().__init__()
        self.codec, self.scav = None, None

    @property
    def makes_sound(self) -> bool:
        """False after an early training stage that makes no sound yet."""
        return True

    @property
    def guided(self) -> bool:
        """True if sampling uses classifier-free guidance; a negative prompt has no effect without it."""
        return False

    @property
    def context_frames(self) -> int:
        """Number of past frames, with their sound, that influence the next sample of a streaming system."""
        return 0

    @property
    @abstractmethod
    def system(self) -> str:
        """Name in the registry (`v2a_models.systems`), stored in config.json."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Feature store columns that `task` needs."""

    @abstractmethod
    def task(self) -> nn.Module:
        """The trainable module: `task(batch, seed)` maps columns (name -> tensor) of B windows to scalar losses.

        "loss" is to be minimised, the other scalars are its parts. The task shares its parameters with this generator
        and holds nothing frozen; `task.units` lists the repeated blocks, along which a sharded trainer cuts it.
        """

    @abstractmethod
    def features(self, frames: Mapping[str, Tensor]) -> Batch:
        """Model inputs computed from frames: by view of the recipe, uint8 (B, T, H, W, 3)."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values from which `from_config` rebuilds the model without its weights."""

    @classmethod
    @abstractmethod
    def from_config(cls, recipe: Recipe, config: dict[str, Any]) -> Generator:
        """Build the model without weights. Raises KeyError or TypeError for a config of another system."""

    def codes(self, batch: Batch, seeds: Sequence[int], **sampling: Any) -> Tensor:
        """One draw of codec tokens, int64 (B, K, L). Raises ValueError for a system without a codec."""
        raise ValueError(f"{self.system} generates no codec tokens")

    def draw(
        self, batch: Batch, *, seeds: Sequence[int], candidates: int = 1, keep: int = 1, **options: Any
    ) -> Tensor:
        """Codec tokens int64 (B, keep, K, L): the `keep` best of `candidates`, best first.

        Options are those of `generate`, and three more. length: L, codec frames that the features cover
        (recipe.codec_frames by default). known_codes, known_mask (B, K, L): tokens to keep where the mask is True.
        Raises ValueError for a system without a codec.
        """
        raise ValueError(f"{self.system} generates no codec tokens")

    @torch.inference_mode()
    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        """Waveform float32 (B, 1, N) of tokens (B, K, L), at the model's level. Raises ValueError without a codec.

        length: N, recipe.window by default.
        """
        if self.codec is None:
            raise ValueError(f"{self.system} generates no codec tokens")
        return self.level.applied(self.codec.decode(codes, length or self.recipe.window))

    def generate(
        self, batch: Batch, *, seeds: Sequence[int], candidates: int = 1, keep: int = 1, **options: Any
    ) -> Tensor:
        """Waveform float32 (B, keep * channels, recipe.window) in [-1, 1]: the `keep` best of `candidates`.

        Row i depends on row i and seeds[i] only. Options are those of the system's `codes`. Raises ValueError for a
        model that makes no sound, or has no SCAV to rank candidates with.
        """
        codes = self.draw(batch, seeds=seeds, candidates=candidates, keep=keep, **options)
        return torch.cat([self._in_channels(self.decode(codes[:, k]), batch.place) for k in range(keep)], 1)

    def place(self, frames: Mapping[str, Tensor]) -> Tensor | None:
        """Places of the motion in frames (by view), for a `Batch`; None unless the recipe has two channels."""
        if self.recipe.channels != 2:
            return None
        name = self.recipe.fastest
        return motion.place(frames[name], self.recipe.view(name).fps)

    def _in_channels(self, sound: Tensor, place: Tensor | None) -> Tensor:
        """Sound of the codec (B, 1, N) in the recipe's channels; without a place, it is in the middle."""
        if self.recipe.channels != 2:
            return sound
        if place is None:
            return sound.repeat(1, 2, 1)
        fps = self.recipe.view(self.recipe.fastest).fps
        return stereo(sound[:, 0], place, fps=fps, rate=self.recipe.sample_rate)

    def captions(self, batch: Batch, *, beams: int = 1) -> list[str]:
        """Description in words of the sound of each row. Raises ValueError unless `writes_captions`."""
        raise ValueError(f"{self.system} writes no captions")

    def check_prompt(self, text: str) -> None:
        """Raises ValueError, with the reason, for a prompt that the model cannot read."""
        raise ValueError(f"{self.system} takes no text prompts")

    def preview(self, columns: Mapping[str, Tensor]) -> Batch:
        """Inputs for a preview during training, from feature store columns; a slow model takes only part of them."""
        return Batch(semantic=columns.get("semantic"), sync=columns.get("sync"))

    def stored(self, name: str) -> bool:
        """False for a parameter that the checkpoint names by a hash instead of holding it."""
        return True

    def remarks(self, figures: Mapping[str, float]) -> list[str]:
        """Advice drawn from validation losses, such as a collapsed codebook; empty if there is none."""
        return []

    def with_options(self, **options: Any) -> Generator:
        """The same weights with other settings. Raises ValueError for settings that the weights fix."""
        raise ValueError(f"{sorted(options)} cannot be changed")

    def generate_from_frames(
        self, frames: Mapping[str, Tensor], seeds: Sequence[int], **sampling: Any
    ) -> Tensor:
        """Waveform of frames (by view): `features`, then `generate`."""
        return self.generate(self.features(frames), seeds=seeds, **sampling)

    def autocast(self) -> torch.autocast:
        """bfloat16 arithmetic if `precision` asks for it. For transformers only: codecs decode in float32."""
        return autocast(next(self.parameters()).device, self.precision)


def autocast(device: torch.device | str, precision: str) -> torch.autocast:
    """bfloat16 arithmetic if `precision` is "bfloat16", as a context."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16")


def best_precision(device: torch.device | str = "cpu") -> str:
    """bfloat16 where the hardware multiplies it natively (three to five times faster), else float32."""
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bfloat16" if native() else "float32"

"""Sizes of MMAudio's networks by their published names, and the lengths of every sequence for a duration."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

CLIP_FPS, SYNC_FPS = 8, 25
"""Pictures per second of the CLIP and of the Synchformer branch."""
SEGMENT, SEGMENT_STEP = 16, 8
"""Pictures of a Synchformer segment, and pictures from one segment to the next; each gives eight features."""
TEXT_LENGTH = 77
"""Tokens of a prompt, padding included."""


@dataclass(frozen=True)
class FlowConfig:
    """Sizes of a flow transformer."""

    latent_dim: int
    hidden: int
    heads: int
    joint: int
    """Blocks in which latents, CLIP and text attend to each other."""
    fused: int
    """Blocks of the latents alone, after the joint ones."""
    version: int = 1
    """Activation and time embedding: 1, or 2 for files named `_v2`."""
    clip_dim: int = 1024
    sync_dim: int = 768
    text_dim: int = 1024

    def __post_init__(self) -> None:
        if self.version not in (1, 2):
            raise ValueError(f"the transformer's version is 1 or 2, not {self.version!r}")
        if self.hidden % (2 * self.heads):
            raise ValueError(f"{self.heads} heads of a whole even size do not fit {self.hidden} channels")


@dataclass(frozen=True)
class SyncConfig:
    """Sizes of the Synchformer's visual network."""

    dim: int = 768
    depth: int = 12
    heads: int = 12


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of CLIP: both towers of open_clip with quick GELU, the image tower with patches of 14 pixels."""

    picture: int = 384
    """Pixels of a picture on a side; those that fill no patch are not looked at."""
    image_size: int = 378
    dim: int = 1024
    """Width of the vectors of pictures."""
    image_width: int = 1280
    image_layers: int = 32
    head_width: int = 80
    text_width: int = 1024
    text_layers: int = 24
    text_heads: int = 16


@dataclass(frozen=True)
class SoundConfig:
    """Rate of the sound, its mel spectrogram, and the networks from latents to samples."""

    sample_rate: int
    hop: int
    """Samples of a mel frame; a latent has two frames."""
    fft: int
    bands: int
    top_hz: float
    """Highest frequency of the mel bands."""
    log_base: float
    """Base of the logarithm in the mel spectrogram."""
    latent_dim: int
    vae_width: int
    up_rates: tuple[int, ...]
    """Factors of the vocoder's stages, with product `hop`."""
    up_kernels: tuple[int, ...]
    ends_in_tanh: bool
    """True for a vocoder that ends in a bias and tanh; False for one that clamps to [-1, 1]."""
    vocoder_width: int = 1536

    @property
    def spreads(self) -> bool:
        """True if the stages of the vocoder make exactly `hop` samples of a frame."""
        return math.prod(self.up_rates) == self.hop


@dataclass(frozen=True)
class MMAudioConfig:
    """Settings of an MMAudio besides its recipe: networks and sampling."""

    flow: FlowConfig
    sound: SoundConfig
    sync: SyncConfig = SyncConfig()
    clip: ClipConfig = ClipConfig()
    steps: int = 25
    guidance: float = 4.5

    def __post_init__(self) -> None:
        widths = (self.flow.latent_dim, self.flow.sync_dim, self.flow.clip_dim, self.flow.text_dim)
        given = (self.sound.latent_dim, self.sync.dim, self.clip.dim, self.clip.text_width)
        if not self.sound.spreads or widths != given:
            raise ValueError("the networks do not fit each other")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MMAudioConfig:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError for other values."""
        sound: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in values["sound"].items()
        }
        parts: dict[str, Any] = dict(
            flow=FlowConfig(**values["flow"]),
            sound=SoundConfig(**sound),
            sync=SyncConfig(**values["sync"]),
            clip=ClipConfig(**values["clip"]),
        )
        return cls(**{**values, **parts})


SOUND_16K = SoundConfig(
    16_000, 256, 1024, 80, 8_000.0, 10.0, 20, 384, (4, 4, 2, 2, 2, 2), (8, 8, 4, 4, 4, 4), True
)
"""Mel and VAE of the original with the vocoder of Make-An-Audio 2."""
SOUND_44K = SoundConfig(
    44_100, 512, 2048, 128, 22_050.0, math.e, 40, 512, (8, 4, 2, 2, 2, 2), (16, 8, 4, 4, 4, 4), False
)
"""Mel and VAE of the original with BigVGAN v2."""

SIZES = {
    "small_16k": MMAudioConfig(FlowConfig(20, 448, 7, 4, 8), SOUND_16K),
    "small_44k": MMAudioConfig(FlowConfig(40, 448, 7, 4, 8), SOUND_44K),
    "medium_44k": MMAudioConfig(FlowConfig(40, 896, 14, 4, 8), SOUND_44K),
    "large_44k": MMAudioConfig(FlowConfig(40, 896, 14, 7, 14), SOUND_44K),
    "large_44k_v2": MMAudioConfig(FlowConfig(40, 896, 14, 7, 14, version=2), SOUND_44K),
}
"""Published models by name."""


def tiny(sound: SoundConfig = SOUND_16K) -> MMAudioConfig:
    """A model with every part of the published ones, small enough for tests."""
    return MMAudioConfig(
        FlowConfig(sound.latent_dim, 64, 2, 2, 1, clip_dim=24, sync_dim=32, text_dim=24),
        replace(sound, vae_width=16, vocoder_width=64),
        SyncConfig(32, 1, 2),
        ClipConfig(60, 56, 24, 32, 1, 16, text_width=24, text_layers=1, text_heads=2),
        steps=2,
    )


@dataclass(frozen=True)
class Lengths:
    """Lengths of all sequences of one clip. The last latent may reach past the clip's end."""

    latents: int
    clip: int
    """CLIP features, one per picture."""
    sync_frames: int
    sync: int
    """Synchformer features: eight for each segment of 16 pictures; later pictures are unused."""
    samples: int

    @classmethod
    def of(cls, duration_s: float, sound: SoundConfig) -> Lengths:
        """Lengths for a duration. Raises ValueError for one too short for a segment of the Synchformer."""
        frames = int(SYNC_FPS * duration_s)
        if frames < SEGMENT:
            raise ValueError(
                f"MMAudio makes sound for at least {SEGMENT / SYNC_FPS:g} seconds, not {duration_s:g}"
            )
        latents = math.ceil(duration_s * sound.sample_rate / sound.hop / 2)
        sync = SEGMENT_STEP * ((frames - SEGMENT) // SEGMENT_STEP + 1)
        return cls(latents, int(CLIP_FPS * duration_s), frames, sync, 2 * sound.hop * latents)

"""The four raw-waveform systems, as Generators.

They take pixels (the view `frames`) and output samples, at the rate and with the channels of their recipe. Three of
them stream; the fourth makes whole windows.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from v2a_models import grid
from v2a_models.batch import Batch
from v2a_models.generator import Generator
from v2a_models.raw import autoregressive, av_transformer, deep_fusion, vqvae, wavenet
from v2a_models.raw.video_context import VideoContext, VideoContextConfig
from v2a_models.recipe import Recipe
from v2a_models.seeds import RowNoise

PREVIEW_S = 1.0
"""Seconds of a preview during training; a whole window, sample by sample, takes too long."""

OWN = ("loss", "crop_frames", "temperature")
"""Options that belong to neither the network nor the video context embedding."""

VIDEO = "video_"
"""Prefix of the video context embedding's options."""


@dataclass(frozen=True)
class RawConfig:
    """Settings of a raw-waveform system besides its recipe."""

    net: Any
    """Sizes of the network: WaveNetConfig, AVTransformerConfig, DeepFusionConfig or VQVAEConfig."""
    loss: str
    video: VideoContextConfig | None = None
    """Sizes of the video context embedding; None for deep fusion and the VQ-VAE, which have their own video stream."""
    crop_frames: int = 8
    """Frames with a loss in a training step of a sample-wise model."""
    temperature: float = 1.0
    """Temperature of the sample distribution; 0 takes the most likely value."""


class RawTask(nn.Module):
    """Training task: feature store columns -> losses."""

    def __init__(self, module: nn.Module, columns: Sequence[str]) -> None:
        super().__init__()
        self.module, self.columns = module, tuple(columns)

    @property
    def units(self) -> list[nn.Module]:
        """Repeated blocks, along which FSDP shards the model."""
        return list(getattr(self.module, "units", ()))

    def forward(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Losses of columns of B windows; `seed` selects the time steps with a loss. "loss" is to be minimised."""
        return self.module(*(batch[name] for name in self.columns), torch.Generator().manual_seed(seed))


class RawGenerator(Generator):
    """Raw-waveform system: frames -> waveform, at the recipe's sample rate.

    Raises ValueError for a recipe without frames or waveform, or with frames that are not a whole number of samples
    long; and for unsuitable sizes or losses.
    """

    name_of_system: ClassVar[str]
    net_config: ClassVar[type]
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]]
    default_loss: ClassVar[str] = "mse"
    video: ClassVar[VideoContextConfig | None] = None
    changeable: ClassVar[tuple[str, ...]] = ("loss", "crop_frames", "temperature", "moments")

    def __init__(self, recipe: Recipe, settings: RawConfig) -> None:
        super().__init__()
        check_recipe(recipe, self.name_of_system)
        self.recipe, self.settings = recipe, settings
        view = recipe.view("frames")
        self.samples = grid.samples_per_frame(view.fps, recipe.sample_rate)
        self.size = (view.height, view.width)
        self.net = self._build()

    @abstractmethod
    def _build(self) -> Any:
        """Build the network of `self.settings` for `self.recipe`."""

    @property
    def system(self) -> str:
        return self.name_of_system

    @property
    def columns(self) -> tuple[str, ...]:
        return ("frames", "waveform")

    def config(self) -> dict[str, Any]:
        return dataclasses.asdict(self.settings)

    @classmethod
    def from_config(cls, recipe: Recipe, config: dict[str, Any]) -> RawGenerator:
        """Build the model without weights. Raises KeyError or TypeError for a config of another system."""
        video = config["video"] and VideoContextConfig(**config["video"])
        return cls(recipe, RawConfig(**{**config, "net": cls.net_config(**config["net"]), "video": video}))

    @classmethod
    def sized(cls, recipe: Recipe, size: str, **options: Any) -> RawGenerator:
        """Build an untrained model of a size.

        `options` override fields of the network, `loss`, `crop_frames`, `temperature`, and fields of the video context
        embedding, if any (video_width, video_depth, video_attention). Raises ValueError for unknown ones, with the
        choices.
        """
        if size not in cls.sizes:
            raise ValueError(f"unknown size {size!r}: choose one of {list(cls.sizes)}")
        plain = RawConfig(cls.net_config(**cls.sizes[size]), cls.default_loss, cls.video)
        return cls(recipe, changed(plain, options))

    def task(self) -> nn.Module:
        return RawTask(self.net, self.columns)

    def features(self, frames: Mapping[str, Tensor]) -> Batch:
        return Batch(frames=frames["frames"])

    def preview(self, columns: Mapping[str, Tensor]) -> Batch:
        frames = columns["frames"]
        return Batch(frames=frames[:, : grid.frame_count(PREVIEW_S, self.recipe.view("frames").fps)])

    def with_options(self, **options: Any) -> RawGenerator:
        if unchangeable := sorted(set(options) - set(self.changeable)):
            raise ValueError(f"{unchangeable} cannot be changed, only {list(self.changeable)}")
        other = type(self)(self.recipe, changed(self.settings, options))
        other.load_state_dict(self.state_dict())
        return other


class StreamingGenerator(RawGenerator):
    """Raw-waveform system that continues its own sound: no windows, no seams."""

    streams = True

    @property
    def context_frames(self) -> int:
        return self.net.context_frames

    @torch.inference_mode()
    def generate(
        self,
        batch: Batch,
        *,
        seeds: Sequence[int],
        past: Tensor | None = None,
        **sampling: Any,
    ) -> Tensor:
        """Sound of the frames after those of `past`: float32 (B, channels, samples), always computed in float32.

        `sampling`: temperature, instead of the model's own. Raises ValueError if `past` is not a whole number of frames
        or is longer than the frames.
        """
        assert batch.frames is not None
        frames = batch.frames
        if past is None:
            past = torch.zeros(len(frames), self.recipe.channels, 0, device=frames.device)
        there, rest = divmod(past.shape[-1], self.samples)
        if rest or there > frames.shape[1]:
            raise ValueError(f"{past.shape[-1]} samples of past sound do not fit {frames.shape[1]} frames")
        first = max(0, there - self.context_frames)
        recent = past[..., first * self.samples :]
        drawn = dict(temperature=self.settings.temperature) | sampling
        return self.net.extend(frames[:, first:], recent, RowNoise(seeds), **drawn).clamp_(-1, 1)


class SampleWiseGenerator(StreamingGenerator):
    """Streaming system that generates one sample after the other."""

    default_loss = "mu-law"
    video = VideoContextConfig()

    def _build(self) -> autoregressive.SampleWise:
        settings, channels = self.settings, self.recipe.channels
        assert settings.video is not None
        outputs = channels * (autoregressive.sound.LEVELS if settings.loss == "mu-law" else 1)
        net = self._network(settings.net, channels, outputs)
        video = VideoContext(settings.video, self.size, self.samples, net.context_channels)
        return autoregressive.SampleWise(
            video, net, loss=settings.loss, channels=channels, samples=self.samples,
            crop_frames=settings.crop_frames,
        )  # fmt: skip

    @abstractmethod
    def _network(self, config: Any, channels: int, outputs: int) -> Any: ...


class WaveNetGenerator(SampleWiseGenerator):
    """Dilated WaveNet CNN with visual context (2308.12408, section III-D2)."""

    name_of_system, net_config, sizes = "wavenet", wavenet.WaveNetConfig, wavenet.SIZES

    def _network(self, config: Any, channels: int, outputs: int) -> Any:
        return wavenet.WaveNet(config, channels, outputs)


class AVTransformerGenerator(SampleWiseGenerator):
    """Audio and video transformer (2308.12408, section III-D3)."""

    name_of_system, net_config, sizes = (
        "av-transformer", av_transformer.AVTransformerConfig, av_transformer.SIZES,
    )  # fmt: skip

    def _network(self, config: Any, channels: int, outputs: int) -> Any:
        return av_transformer.AVTransformer(config, channels, outputs)


class DeepFusionGenerator(StreamingGenerator):
    """Deep fusion CNN (2308.12408, section III-D1)."""

    name_of_system, net_config, sizes = "deep-fusion", deep_fusion.DeepFusionConfig, deep_fusion.SIZES

    def _build(self) -> deep_fusion.DeepFusion:
        settings = self.settings
        return deep_fusion.DeepFusion(
            settings.net, self.size, loss=settings.loss, channels=self.recipe.channels, samples=self.samples
        )


class VQVAEGenerator(RawGenerator):
    """3D VQ-VAE with a fully connected decoder (2404.17608). Stage 1 learns frames only and makes no sound."""

    name_of_system, net_config, sizes = "vqvae-fc", vqvae.VQVAEConfig, vqvae.SIZES
    changeable = ("stage", "loss", "commitment", "decay", "revive")

    def _build(self) -> vqvae.VQVAESound:
        settings, recipe = self.settings, self.recipe
        frames = grid.frame_count(recipe.window_s, recipe.view("frames").fps)
        return vqvae.VQVAESound(
            settings.net, (frames, *self.size), loss=settings.loss, channels=recipe.channels,
            samples=recipe.window,
        )  # fmt: skip

    @property
    def makes_sound(self) -> bool:
        return self.settings.net.stage == 2

    @property
    def columns(self) -> tuple[str, ...]:
        return ("frames", "waveform") if self.makes_sound else ("frames",)

    def task(self) -> nn.Module:
        return RawTask(self.net.task(), self.columns)

    def preview(self, columns: Mapping[str, Tensor]) -> Batch:
        return Batch(frames=columns["frames"])

    def remarks(self, figures: Mapping[str, float]) -> list[str]:
        perplexity, size = figures.get("perplexity"), self.settings.net.codebook_size
        if perplexity is None or perplexity >= vqvae.COLLAPSED * size:
            return []
        return [
            f"the codebook has collapsed: perplexity {perplexity:.1f} of {size} codes. A higher --set revive, "
            "a smaller codebook_size or a lower --learning-rate may help"
        ]

    def generate(self, batch: Batch, *, seeds: Sequence[int], **sampling: Any) -> Tensor:
        """Waveform float32 (B, channels, recipe.window). It is deterministic: seeds have no effect.

        Raises ValueError for a model of stage 1.
        """
        if not self.makes_sound:
            raise ValueError(
                "this model has only finished stage 1 (pictures); train stage 2: "
                "v2a train vqvae-fc STORE --start THIS --set stage=2 --out NEW"
            )
        assert batch.frames is not None
        return self.net.generate(batch.frames)


GENERATORS: dict[str, type[RawGenerator]] = {
    kind.name_of_system: kind
    for kind in (DeepFusionGenerator, WaveNetGenerator, AVTransformerGenerator, VQVAEGenerator)
}
"""Generators by system name."""


def changed(settings: RawConfig, options: Mapping[str, Any]) -> RawConfig:
    """Settings with some options changed. Raises ValueError for an unknown option, with the choices."""
    known = _option_names(type(settings.net), settings.video)
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"unknown model options {unknown}; known: {known}")
    own = {name: value for name, value in options.items() if name in OWN}
    net = {name: value for name, value in options.items() if name in _fields(settings.net)}
    rest = {name.removeprefix(VIDEO): options[name] for name in set(options) - set(own) - set(net)}
    video = dataclasses.replace(settings.video, **rest) if settings.video else None
    return dataclasses.replace(settings, net=dataclasses.replace(settings.net, **net), video=video, **own)


def option_names(kind: type[RawGenerator]) -> list[str]:
    """Option names of a system, sorted."""
    return _option_names(kind.net_config, kind.video)


def _fields(config: Any) -> list[str]:
    return [item.name for item in dataclasses.fields(config)]


def _option_names(net_config: Any, video: VideoContextConfig | None) -> list[str]:
    return sorted([*OWN, *_fields(net_config), *((VIDEO + name for name in _fields(video)) if video else ())])


def check_recipe(recipe: Recipe, system: str) -> None:
    """Raises ValueError for a recipe that a raw-waveform system cannot be trained on."""
    if recipe.frames is None or not recipe.waveform:
        raise ValueError(
            f"{system} needs a store with pictures and samples, such as `v2a extract ARCHIVE STORE --recipe raw` "
            f"makes; the recipe {recipe.name!r} has {'no pictures' if recipe.frames is None else 'no samples'}"
        )
    grid.samples_per_frame(recipe.frames.fps, recipe.sample_rate)

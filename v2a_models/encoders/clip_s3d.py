"""Visual encoders: CLIP for the content of each frame, S3D for the timing of events.

`SemanticEncoder` is the image tower of an open_clip model. `SyncEncoder` is a small S3D (Xie et al. 2018, "Rethinking
Spatiotemporal Feature Learning") of torchvision's separable blocks. Both take decoded uint8 frames, so that pixels are
scaled in one place. open_clip, which loads transformers, is imported on use: the bundled model needs neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video.s3d import TemporalSeparableConv

from v2a_models.encoders.state_dicts import fill

CLIP_MINI: dict[str, Any] = dict(
    embed_dim=128,
    vision_cfg=dict(image_size=64, layers=4, width=128, head_width=32, patch_size=8),
    text_cfg=dict(context_length=24, vocab_size=49408, width=96, heads=4, layers=2),
)
"""A CLIP for 64-pixel frames, 0.9 M parameters in its image tower."""

S3D_MINI: dict[str, Any] = dict(widths=[24, 48, 96, 128], dim=128)

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class SemanticEncoder(nn.Module):
    """CLIP image tower: frames uint8 (B, T, H, W, 3) -> unit vectors (B, T, D), one per frame."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        visual: nn.Module,
        dim: int,
        mean: Sequence[float] = _CLIP_MEAN,
        std: Sequence[float] = _CLIP_STD,
    ) -> None:
        super().__init__()
        self.visual, self.dim = visual, dim
        size: Any = visual.image_size  # (height, width), or one number for ResNets
        self.image_size: int = size if isinstance(size, int) else size[0]
        """Side of the tower's square input, in pixels."""
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @classmethod
    def mini(cls) -> SemanticEncoder:
        import open_clip

        return cls(open_clip.CLIP(**CLIP_MINI).visual, CLIP_MINI["embed_dim"])

    @classmethod
    def from_open_clip(
        cls,
        model_name: str,
        state: dict[str, Tensor],
        quick_gelu: bool = False,
        mean: Sequence[float] = _CLIP_MEAN,
        std: Sequence[float] = _CLIP_STD,
    ) -> SemanticEncoder:
        """Build the image tower of open_clip's `model_name` from the weights `state` (keys without `visual.`).

        quick_gelu, mean, std: as the weights were trained (`open_clip.get_pretrained_cfg`).

        Raises ValueError for an unknown model, WeightsError for weights of another one.
        """
        visual, dim = image_tower(model_name, quick_gelu)
        fill(visual, state)
        return cls(visual, dim, mean, std)

    def normalize(self, frames: Tensor) -> Tensor:
        """Scale uint8 (..., H, W, 3) to CLIP's input, float (..., 3, H, W)."""
        return (channels_first(frames) / 255 - self.mean) / self.std

    def forward(self, frames: Tensor) -> Tensor:
        batch, time = frames.shape[:2]
        features = self.visual(self.normalize(frames.flatten(0, 1)))
        return F.normalize(features.float(), dim=-1).unflatten(0, (batch, time))


class SyncEncoder(nn.Module):
    """Small S3D: frames uint8 (B, T, H, W, 3) -> features (B, T, D), one per frame.

    The published S3D strides time by 8 (3.1 vectors a second at 25 fps); this one keeps all 25, since onsets must be
    placed to a few tens of milliseconds. Pixels are scaled to [-1, 1].
    """

    def __init__(self, widths: list[int], dim: int) -> None:
        super().__init__()
        a, b, c, d = widths
        self.dim = dim
        trunk = nn.Sequential(
            _separable(3, a, 7, 2),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            _separable(a, b, 3, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            _separable(b, c, 3, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            _separable(c, d, 3, 1),
        )
        # Channels last, like the frames: pooling takes an eighth of the time, the first convolution half.
        last: dict[str, Any] = dict(memory_format=torch.channels_last_3d)
        self.trunk = quick_over_time(trunk).to(**last)
        self.head = nn.Linear(d, dim)

    @classmethod
    def mini(cls) -> SyncEncoder:
        return cls(**S3D_MINI)

    def forward(self, frames: Tensor) -> Tensor:
        pixels = channels_first(frames) / 127.5 - 1
        features = self.trunk(pixels.transpose(1, 2))
        # Average-pool over space: location is discarded, motion kept (ours; the paper does not say).
        return self.head(features.mean((-2, -1)).transpose(1, 2))


class TemporalConv(nn.Conv3d):
    """Convolution over time only (kernel (k, 1, 1)), computed in 2D with space flattened.

    On one thread torch runs such a 3D kernel with its reference implementation, ten times slower.
    """

    @classmethod
    def of(cls, conv: nn.Conv3d) -> TemporalConv:
        """Convert a convolution; both share their parameters."""
        shape: dict[str, Any] = {n: getattr(conv, n) for n in ("kernel_size", "stride", "padding")}
        result = cls(conv.in_channels, conv.out_channels, **shape, bias=conv.bias is not None)
        result.weight, result.bias = conv.weight, conv.bias
        return result

    def forward(self, x: Tensor) -> Tensor:
        padding: Any = self.padding
        result = F.conv2d(
            x.flatten(3), self.weight.squeeze(-1), self.bias, (self.stride[0], 1), (padding[0], 0)
        )
        return result.unflatten(3, x.shape[3:])


def quick_over_time(model: nn.Module) -> nn.Module:
    """Replace every time-only convolution of a model by a `TemporalConv`; names and parameters stay."""
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Conv3d and child.kernel_size[1:] == child.stride[1:] == (1, 1):
                setattr(part, name, TemporalConv.of(child))
    return model


def image_tower(model_name: str, quick_gelu: bool = False) -> tuple[nn.Module, int]:
    """Untrained image tower of an open_clip model and the width of its vectors. Raises ValueError if unknown."""
    import open_clip
    from open_clip.model import _build_vision_tower

    config = open_clip.get_model_config(model_name)
    if config is None:
        raise ValueError(f"open_clip has no model {model_name!r}")
    # CoCa's towers also return their patches; only the vector is needed.
    vision = dict(config["vision_cfg"], output_tokens=False)
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False  # else timm would download
    quick_gelu = quick_gelu or config.get("quick_gelu", False)
    # `open_clip.create_model` also builds the text tower, and some of those download their parts.
    return _build_vision_tower(config["embed_dim"], vision, quick_gelu), config["embed_dim"]


def channels_first(frames: Tensor) -> Tensor:
    """Convert uint8 (..., H, W, 3) to float (..., 3, H, W) in [0, 255]. Raises ValueError for other input."""
    if frames.dtype != torch.uint8 or frames.shape[-1] != 3:
        raise ValueError(f"expected uint8 frames (..., H, W, 3), got {frames.dtype} {tuple(frames.shape)}")
    return frames.movedim(-1, -3).float()


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm3d(channels, eps=1e-3, momentum=0.05)


def _separable(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    """S3D unit: spatial, then temporal convolution; only space is strided."""
    block = TemporalSeparableConv(inputs, outputs, kernel, 1, kernel // 2, _norm)
    block[0][0].stride = (1, stride, stride)
    return block

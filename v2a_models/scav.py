"""SCAV: video and audio embedded as sequences in one space, whose distance ranks sounds by fit (2407.05782).

MaskVAT (2407.10387) draws several candidates and keeps the one nearest to the video in this space. Time is not
pooled, so a candidate of the right kind at the wrong time is far away.

The audio encoder reads the codec's dequantised latents, so candidates are compared before any is decoded. For recipes
with BEATs it reads BEATs features instead, with other values of `audio_channels` and `audio_stride`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class SCAVConfig:
    """Sizes of a SCAV. The defaults are `mini`, 0.9 M parameters; 2407.05782 uses CLIP and BEATs sequences."""

    audio_channels: int = 96
    """Channels of the audio sequence: the codec's latent_dim, or 768 for BEATs."""
    semantic_dim: int = 128
    """Width of the CLIP features; 0 to ignore them."""
    sync_dim: int = 128
    """Width of the S3D features; 0 to ignore them."""
    dim: int = 128
    """Width of the shared space."""
    width: int = 128
    """Hidden channels."""
    depth: int = 4
    """Blocks of each encoder."""
    kernel: int = 7
    """Kernel size of a block, in time steps. With depth 4 a step sees 12 neighbours on each side, half a second."""
    audio_stride: int = 3
    """Stride over the audio sequence: 86.13 codec frames become 28.7 steps a second, near the 25 of S3D features."""


class Block(nn.Module):
    """ConvNeXt block over time: depthwise convolution, then feed-forward; (B, C, T) -> (B, C, T)."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        # Replicated edges: zero padding would mark the ends of a clip, which could then be matched instead of events.
        self.mix = nn.Conv1d(
            width, width, kernel, padding=kernel // 2, groups=width, padding_mode="replicate"
        )
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(self.mix(x).transpose(1, 2))).transpose(1, 2)


class SCAV(nn.Module):
    """Video encoder and audio encoder into one space.

    Both use convolutions instead of attention: a step is described by its neighbourhood, wherever it lies in the
    window, and windows of any length can be compared. Every step is a unit vector, so no loud or busy step outweighs
    the others, distances lie in [0, 2] at any length, and training cannot win by scaling the space up.
    """

    def __init__(self, config: SCAVConfig) -> None:
        super().__init__()
        self.config = config
        width, stride = config.width, config.audio_stride
        if not config.semantic_dim and not config.sync_dim:
            raise ValueError("SCAV needs semantic or sync features")
        self.semantic_in = nn.Conv1d(config.semantic_dim, width, 1) if config.semantic_dim else None
        self.sync_in = nn.Conv1d(config.sync_dim, width, 1) if config.sync_dim else None
        # Kernel of three strides, padding of one: output step i stays centred on its input steps.
        self.audio_in = nn.Conv1d(
            config.audio_channels, width, 3 * stride, stride, padding=stride, padding_mode="replicate"
        )
        self.video_net = _encoder(config)
        self.audio_net = _encoder(config)

    def video(self, semantic: Tensor | None, sync: Tensor | None) -> Tensor:
        """Embed CLIP features (B, T1, D1) and S3D features (B, T2, D2): unit vectors (B, max(T1, T2), dim).

        A stream whose width is 0 in the config is ignored. Raises ValueError if any other is None.
        """
        streams = []
        for name, project, x in (("semantic", self.semantic_in, semantic), ("sync", self.sync_in, sync)):
            if project is not None:
                if x is None:
                    raise ValueError(f"this SCAV needs {name} features")
                streams.append(project(x.transpose(1, 2)))
        length = max(x.shape[-1] for x in streams)
        return self._unit_vectors(self.video_net(torch.stack([_stretch(x, length) for x in streams]).sum(0)))

    def audio(self, sequence: Tensor) -> Tensor:
        """Embed a sequence (B, audio_channels, L): unit vectors (B, ceil(L / audio_stride), dim)."""
        missing = -sequence.shape[-1] % self.config.audio_stride
        if missing:
            sequence = torch.cat([sequence, sequence[..., -1:].expand(-1, -1, missing)], -1)
        return self._unit_vectors(self.audio_net(self.audio_in(sequence)))

    @staticmethod
    def _unit_vectors(x: Tensor) -> Tensor:
        return F.normalize(x.float(), dim=1).transpose(1, 2)


def interpolated_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Row-wise distance (B,) of the sequences a (B, T, D) and b (B, T', D), in float32.

    The shorter sequence is interpolated to the length of the longer (2407.05782). The Euclidean distance is divided by
    the root of that length, so windows of any length are on one scale.
    """
    if len(a) != len(b):
        raise ValueError(f"row by row needs as many sequences on both sides, got {len(a)} and {len(b)}")
    a, b = _equal_lengths(a, b)
    return (a - b).square().sum(-1).mean(-1).sqrt()


def pairwise_interpolated_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Distances (B, B') of all pairs of a (B, T, D) and b (B', T', D), as defined by `interpolated_euclidean`."""
    a, b = _equal_lengths(a, b)
    # The matrix product is faster but loses precision; equal sequences must have distance 0.
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(a.flatten(1), b.flatten(1), compute_mode=exact) / a.shape[1] ** 0.5


def shifted_distances(a: Tensor, b: Tensor, shifts: Tensor, margin: int = 0) -> Tensor:
    """Distances (B, S) of a (B, T, D) to b (B, T, D) delayed by each of `shifts` (S,) time steps.

    Shifts wrap around, so no event is lost. The `margin` steps at both ends of either sequence do not count: encoders
    pad there, and the padding must not reveal that b was shifted.
    """
    length = a.shape[1]
    a, b = a.float(), b.float()
    with torch.autocast(a.device.type, enabled=False):  # or bfloat16 would round small distances away
        apart = a.square().sum(-1)[:, :, None] + b.square().sum(-1)[:, None] - 2 * a @ b.transpose(1, 2)
    here = torch.arange(length, device=a.device).expand(len(shifts), -1)  # (S, T)
    there = (here - shifts[:, None].to(a.device)) % length
    inner = (
        (margin <= here) & (here < length - margin) & (margin <= there) & (there < length - margin)
    ).float()
    squared = (apart[:, here, there] * inner).sum(-1) / inner.sum(-1).clamp_min(1)
    return squared.clamp_min(1e-6).sqrt()


def contrastive(distances: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE over the distances (B, B) of videos and sounds; true pairs lie on the diagonal."""
    logits = -scale * distances
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def select(distances: Tensor) -> Tensor:
    """Index int64 (B,) of the nearest candidate, given distances (B, N); the first of equals.

    A candidate whose distance is NaN is chosen only if all are NaN.
    """
    return distances.nan_to_num(nan=torch.inf).argmin(1)


class SCAVTask(nn.Module):
    """Training task of SCAV.

    Batch: semantic (B, T1, D1), sync (B, T2, D2), and one audio sequence: latents (B, C, L), codes (B, K, L), or,
    without a codec to read codes, audio features (B, T3, C).

    Each video must find its sound, and each sound its video, within the batch (2407.05782). Ours: it must also find
    its sound among copies shifted by `shifts_s` seconds, which teaches timing even if the clips of a batch differ
    enough in kind to be matched without it.
    """

    def __init__(
        self,
        scav: SCAV,
        window_s: float,
        latents: Callable[[Tensor], Tensor] | None = None,
        *,
        n_shifts: int = 8,
        shifts_s: tuple[float, float] = (0.2, 1.5),
        margin_s: float = 0.7,
        drop: float = 0.1,
    ) -> None:
        """window_s: seconds of a window. latents: `Codec.latents`, for batches of codes; it is not trained.

        margin_s: seconds at each end that do not count in shifted comparisons. Padding reaches half a second into a
        window through SCAV and a quarter through S3D and the codec; with less, ends could be matched instead of events.
        Shifts and margin are shortened for short windows. drop: fraction of the input channels set to zero, per row,
        against overfitting.
        """
        super().__init__()
        self.scav, self.window_s = scav, window_s
        self.latents = latents  # a bound method, not a module: the codec stays out of the state
        self.n_shifts, self.shifts_s, self.margin_s, self.drop = n_shifts, shifts_s, margin_s, drop
        # Two temperatures: shifted copies of a clip lie much closer together than different clips.
        self.log_scales = nn.Parameter(torch.tensor([2.3, 2.3]))

    @property
    def units(self) -> list[nn.Module]:
        """The repeated blocks."""
        return [module for module in self.scav.modules() if isinstance(module, Block)]

    def forward(self, batch: dict[str, Any], seed: int) -> dict[str, Tensor]:
        """Scalars: "loss", its parts "batch" and "shifts", and two figures without gradient. "accuracy" is the fraction
        of rows whose nearest sound in the batch is their own, "timing" the fraction nearest to the unshifted copy."""
        generator = torch.Generator().manual_seed(seed)
        semantic, sync = (self._dropped(batch.get(name), 2, generator) for name in ("semantic", "sync"))
        sequence = self._dropped(self._sequence(batch), 1, generator)
        assert sequence is not None
        video, audio = self.scav.video(semantic, sync), self.scav.audio(sequence)
        scales = self.log_scales.exp().clamp_max(100)
        distances = pairwise_interpolated_euclidean(video, audio)
        among_clips = contrastive(distances, scales[0])
        moved = shifted_distances(
            video, stretch_steps(audio, video.shape[1]), *self._shifts(video, generator)
        )
        among_shifts = F.cross_entropy(-scales[1] * moved, moved.new_zeros(len(moved), dtype=torch.long))
        own = torch.arange(len(distances), device=distances.device)
        return dict(
            loss=among_clips + among_shifts,
            batch=among_clips.detach(),
            shifts=among_shifts.detach(),
            accuracy=(select(distances.detach()) == own).float().mean(),
            timing=(select(moved.detach()) == 0).float().mean(),
        )

    def _sequence(self, batch: dict[str, Any]) -> Tensor:
        if "latents" in batch:
            return batch["latents"]
        if self.latents is not None:
            with torch.no_grad():
                return self.latents(batch["codes"].long())
        if "audio" in batch:
            return batch["audio"].transpose(1, 2)
        raise ValueError("SCAV reads latents or audio features; to train on codes give it `Codec.latents`")

    def _dropped(self, x: Tensor | None, channels: int, generator: torch.Generator) -> Tensor | None:
        if x is None or not (self.training and self.drop):
            return x
        keep = torch.rand(len(x), x.shape[channels], generator=generator) >= self.drop
        return x * keep.unsqueeze(3 - channels).to(x.device) / (1 - self.drop)

    def _shifts(self, video: Tensor, generator: torch.Generator) -> tuple[Tensor, int]:
        """Zero and `n_shifts` random shifts, int64 (1 + n_shifts,), and the margin, in time steps."""
        per_s = video.shape[1] / self.window_s
        high = min(self.shifts_s[1], self.window_s / 2.5)
        low, margin_s = min(self.shifts_s[0], high), min(self.margin_s, self.window_s / 5.5)
        size = low + (high - low) * torch.rand(self.n_shifts, generator=generator)
        sign = torch.randint(2, (self.n_shifts,), generator=generator) * 2 - 1
        steps = (size * per_s).round().clamp_min(1).long() * sign
        return F.pad(steps, (1, 0)), round(margin_s * per_s)


def stretch_steps(x: Tensor, length: int) -> Tensor:
    """Interpolate a sequence (B, T, D) to (B, length, D), cell centres matched as in `grid.resample_index`."""
    return _stretch(x.transpose(1, 2), length).transpose(1, 2)


def _stretch(x: Tensor, length: int) -> Tensor:
    return x if x.shape[-1] == length else F.interpolate(x, length, mode="linear")


def _equal_lengths(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.ndim != 3 or b.ndim != 3 or a.shape[2] != b.shape[2]:
        raise ValueError(f"expected sequences (B, T, D) of one space, got {tuple(a.shape)}, {tuple(b.shape)}")
    length = max(a.shape[1], b.shape[1])
    return stretch_steps(a.float(), length), stretch_steps(b.float(), length)


def _encoder(config: SCAVConfig) -> nn.Sequential:
    blocks = [Block(config.width, config.kernel) for _ in range(config.depth)]
    return nn.Sequential(*blocks, nn.Conv1d(config.width, config.dim, 1))

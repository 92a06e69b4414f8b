"""Synchrony encoder of the bundled models for real footage: when something moves, stops or flashes, not what it is.

Rendered scenes and real footage look nothing alike, but a hand that stops at a drum moves alike in both. The encoder
therefore sees no pixels, only `motion_cells`: amounts of change and optical flow in 8 x 8 parts of the picture. It
takes the place of S3D in the recipe of MaskVAT (2407.10387, section 3.1); `benchmarks.onset_sight` compares them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.encoders.clip_s3d import channels_first

CELLS = 8
"""Parts of the picture across and down."""

CELL_DIM = 11
"""Numbers of a part at each frame."""

_SIDE = 64
_FASTEST = 3.0
"""Pixels per frame at which flow is cut: the method of Lucas and Kanade sees no faster motion."""


class MotionEncoder(nn.Module):
    """Frames uint8 (B, T, H, W, 3) at 25 per second -> features (B, T, D), one per frame.

    Convolutions over time look at each part by itself, and one over space at its neighbours; then the parts are pooled,
    and convolutions over time follow. A feature depends on 0.8 s before and after its frame.
    """

    def __init__(self, width: int = 48, dim: int = 128) -> None:
        super().__init__()
        self.dim = dim
        self.local = nn.ModuleList(
            [_over_time(2 * CELL_DIM, width, 1), _over_time(width, width, 2), _over_time(width, width, 3)]
        )
        self.beside = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1), nn.GELU()
        )
        self.attend = nn.Conv2d(width, 4, 1)
        self.whole = nn.ModuleList([_along(6 * width, dim, 1), _along(dim, dim, 2)])
        self.head = nn.Linear(dim, dim)

    def forward(self, frames: Tensor) -> Tensor:
        return self.of_cells(motion_cells(frames))

    def of_cells(self, cells: Tensor) -> Tensor:
        """Features of `motion_cells`."""
        cells = cells.to(self.head.weight.dtype)
        batch, time = cells.shape[:2]
        whole = cells.mean(2, keepdim=True).expand_as(cells)
        x = torch.cat([cells, whole], -1).permute(0, 3, 1, 2)  # (B, C, T, parts)
        x = self.local[0](x)
        x = x + self.local[1](x)
        square = x.transpose(1, 2).flatten(0, 1).unflatten(-1, (CELLS, CELLS))
        beside = self.beside(square).flatten(2).unflatten(0, (batch, time)).transpose(1, 2)
        x = x + beside
        x = x + self.local[2](x)
        weights = self.attend(x).softmax(-1)
        attended = torch.einsum("bctp,bktp->bkct", x, weights).flatten(1, 2)
        pooled = torch.cat([x.mean(-1), x.amax(-1), attended], 1)
        y = self.whole[0](pooled)
        y = y + self.whole[1](y)
        return self.head(y.transpose(1, 2))


@torch.no_grad()
def motion_cells(frames: Tensor) -> Tensor:
    """Motion in parts of the picture: frames uint8 (B, T, H, W, 3) -> float32 (B, T, 64, 11), rows of parts downwards.

    For each part: logarithms of the mean change of brightness since the frame before and the one before that, and of
    the largest change; the change of the mean brightness; optical flow (Lucas and Kanade, 1981) right and down, in
    pixels of 64 across and of 32 across; growth of the mean change; logarithm of the contrast; and the share of change
    that the flow leaves unexplained. The first frame has no motion.
    """
    grey = channels_first(frames).mean(2) / 127.5 - 1
    if grey.shape[-2:] != (_SIDE, _SIDE):
        grey = F.interpolate(grey, (_SIDE, _SIDE), mode="bilinear", antialias=True)
    held = torch.cat([grey[:, :1], grey[:, :1], grey], 1)
    one, two = grey - held[:, 1:-1], grey - held[:, :-2]
    change = _pooled(one.abs())
    amount = torch.log1p(100 * change) / 4
    before = torch.cat([amount[:, :1], amount[:, :-1]], 1)
    flow, contrast, left = _flow(held[:, 1:-1], grey)
    half = F.avg_pool2d(grey, 2)
    coarse, _, _ = _flow(torch.cat([half[:, :1], half[:, :-1]], 1), half)
    largest = F.adaptive_max_pool2d(one.abs(), CELLS).flatten(2)
    numbers = [
        amount, torch.log1p(100 * _pooled(two.abs())) / 4, torch.log1p(20 * largest) / 4, 10 * _pooled(one), *flow,
        *coarse, amount - before, contrast, left,
    ]  # fmt: skip
    return torch.stack(numbers, -1)


def mirrored(cells: Tensor) -> Tensor:
    """`motion_cells` of the mirrored picture."""
    square = cells.unflatten(-2, (CELLS, CELLS)).flip(-2).flatten(-3, -2)
    sign = torch.ones(CELL_DIM)
    sign[[4, 6]] = -1  # flow to the right
    return square * sign


def _pooled(x: Tensor) -> Tensor:
    """Mean of each part of pictures (B, T, H, W): (B, T, parts)."""
    return F.adaptive_avg_pool2d(x, CELLS).flatten(2)


def _flow(first: Tensor, second: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """Flow right and down of each part in [-1, 1], its contrast, and the share of change that flow does not explain."""
    mean = (first + second) / 2
    right = F.pad(mean, (1, 1, 0, 0), mode="replicate")
    down = F.pad(mean, (0, 0, 1, 1), mode="replicate")
    dx, dy = (right[..., 2:] - right[..., :-2]) / 2, (down[..., 2:, :] - down[..., :-2, :]) / 2
    dt = second - first
    xx, yy, xy, xt, yt, tt = (
        _pooled(a * b) for a, b in ((dx, dx), (dy, dy), (dx, dy), (dx, dt), (dy, dt), (dt, dt))
    )
    least = 1e-4
    inverse = 1 / ((xx + least) * (yy + least) - xy * xy).clamp_min(least * least)
    x = -((yy + least) * xt - xy * yt) * inverse
    y = -((xx + least) * yt - xy * xt) * inverse
    explained = -(x * xt + y * yt)
    left = (1 - explained / (tt + least)).clamp(0, 1)
    contrast = torch.log1p(1e3 * (xx + yy)) / 4
    return ((x / _FASTEST).clamp(-1, 1), (y / _FASTEST).clamp(-1, 1)), contrast, left


def _over_time(inputs: int, outputs: int, dilation: int) -> nn.Module:
    """Convolution over five frames of (B, C, T, parts)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (5, 1), padding=(2 * dilation, 0), dilation=(dilation, 1)),
        nn.BatchNorm2d(outputs), nn.GELU(),
    )  # fmt: skip


def _along(inputs: int, outputs: int, dilation: int) -> nn.Module:
    """Convolution over five frames of (B, C, T)."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, 5, padding=2 * dilation, dilation=dilation), nn.BatchNorm1d(outputs), nn.GELU()
    )  # fmt: skip

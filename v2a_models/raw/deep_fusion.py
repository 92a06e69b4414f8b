"""Deep fusion CNN: audio and video streams in parallel, fused after every block (2308.12408, section III-D1).

A 1D stream over the sound of the past n frames and a 3D stream over the frames. After each residual block each stream
is mapped to the other's shape and added to it. The output is the whole sound of the newest frame at once. Nothing ties
its first sample to the one before, which the paper found to add a tone at the frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.raw import sound
from v2a_models.raw.video_context import CellsToSamples, cell_count, pixels
from v2a_models.seeds import RowNoise

LOSSES = ("mse", "mae", "signed-cross-entropy")
STEM = 2
"""Number of times that frames are halved before the first block."""


@dataclass(frozen=True)
class DeepFusionConfig:
    """Sizes of the network. The paper publishes none."""

    frames: int = 8
    """Frames of sound and video that the next frame's sound depends on."""
    audio_width: int = 16
    video_width: int = 16
    depth: int = 3
    """Blocks, each with a fusion after it."""
    kernel: int = 9
    """Kernel size of the 1D convolutions, in samples."""
    moments: int = 8
    """Frames per window with a loss in a training step."""

    def __post_init__(self) -> None:
        if min(self.frames, self.audio_width, self.video_width, self.depth, self.moments) < 1:
            raise ValueError("frames, widths, depth and moments must be at least 1")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")


SIZES: dict[str, dict[str, Any]] = {
    "mini": dict(),
    "base": dict(frames=16, audio_width=64, video_width=64, depth=6),
    "large": dict(frames=32, audio_width=128, video_width=128, depth=8),
}


class Residual(nn.Module):
    """Residual block of two causal convolutions, 1D or 3D."""

    def __init__(self, kind: type[nn.Conv1d] | type[nn.Conv3d], width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.first = kind(width, width, kernel, padding=kernel // 2)
        self.second = kind(width, width, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.norm(self.first(x)))))


class SamplesToCells(nn.Module):
    """Audio-to-video map, n_aud -> (x, y) and c_aud -> c_vid: (B, c_aud, T, n_aud) to (B, c_vid, T, cells)."""

    def __init__(self, samples: int, cells: int, c_aud: int, c_vid: int) -> None:
        super().__init__()
        self.gather = nn.Linear(samples, cells)
        self.channels = nn.Conv2d(c_aud, c_vid, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.channels(self.gather(x))


class DeepFusion(nn.Module):
    """Sound and video of n frames -> sound of the newest frame.

    channels: sound channels. samples: per frame. size: height and width of the frames.
    """

    def __init__(
        self, config: DeepFusionConfig, size: tuple[int, int], *, loss: str, channels: int, samples: int
    ) -> None:
        super().__init__()
        sound.check_loss(loss, LOSSES, channels)
        self.config, self.loss, self.channels, self.samples = config, loss, channels, samples
        audio, video, cells = config.audio_width, config.video_width, cell_count(size, STEM)
        self.audio_stem = nn.Conv1d(channels, audio, 1)
        self.video_stem = nn.Sequential(
            nn.Conv3d(3, video, 3, (1, 2, 2), 1),
            nn.ReLU(),
            nn.Conv3d(video, video, 3, (1, 2, 2), 1),
            nn.ReLU(),
        )
        steps = range(config.depth)
        self.audio_blocks = nn.ModuleList(Residual(nn.Conv1d, audio, config.kernel) for _ in steps)
        self.video_blocks = nn.ModuleList(Residual(nn.Conv3d, video, 3) for _ in steps)
        self.to_audio = nn.ModuleList(CellsToSamples(cells, samples, video, audio) for _ in steps)
        # After the last block, no layer of the video stream would read the sound.
        self.to_video = nn.ModuleList(SamplesToCells(samples, cells, audio, video) for _ in steps[:-1])
        self.leave = nn.Conv1d(audio, channels, 1)

    @property
    def units(self) -> list[nn.Module]:
        return [*self.audio_blocks, *self.video_blocks]

    @property
    def context_frames(self) -> int:
        return self.config.frames

    def predict(self, audio: Tensor, frames: Tensor) -> Tensor:
        """Sound of the newest frame, (B, C, samples) in [-1, 1].

        audio: (B, C, n * samples), of the n frames before it. frames: float (B, 3, n, H, W), up to it. Missing ones are
        zero.
        """
        a, v = self.audio_stem(audio), self.video_stem(frames)
        h, w = v.shape[3:]
        for at, (audio_block, video_block) in enumerate(
            zip(self.audio_blocks, self.video_blocks, strict=True)
        ):
            a, v = audio_block(a), video_block(v)
            framed = a.unflatten(-1, (-1, self.samples))
            a = a + self.to_audio[at](v).flatten(2)
            if at < len(self.to_video):
                v = v + self.to_video[at](framed).unflatten(-1, (h, w))
        return self.leave(a[..., -self.samples :]).tanh()

    def forward(self, frames: Tensor, waveform: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a few random frames.

        frames uint8 (B, T, H, W, 3), waveform int16 (B, C, S), S at least T * samples.
        """
        n, samples = self.config.frames, self.samples
        total = min(frames.shape[1], waveform.shape[-1] // samples)
        chosen = torch.randperm(total, generator=generator)[: self.config.moments].tolist()
        audio = F.pad(sound.to_float(waveform), (n * samples, 0))
        video = F.pad(pixels(frames), (0, 0, 0, 0, n - 1, 0))
        predicted = self.predict(
            torch.cat([audio[..., at * samples : (at + n) * samples] for at in chosen]),
            torch.cat([video[:, :, at : at + n] for at in chosen]),
        )
        true = torch.cat([audio[..., (at + n) * samples : (at + n + 1) * samples] for at in chosen])
        return sound.prediction_losses(self.loss, predicted.transpose(1, 2), true.transpose(1, 2))

    @torch.inference_mode()
    def extend(self, frames: Tensor, past: Tensor, noise: RowNoise, temperature: float = 1.0) -> Tensor:
        """Sound that continues `past`, a frame at a time; see `SampleWise.extend`. It is deterministic."""
        n, samples = self.config.frames, self.samples
        start = past.shape[-1] // samples
        audio = F.pad(past, (max(0, n * samples - past.shape[-1]), 0))[..., -n * samples :]
        blocks = []
        for at in range(start, frames.shape[1]):
            video = pixels(frames[:, max(0, at - n + 1) : at + 1])
            video = F.pad(video, (0, 0, 0, 0, n - video.shape[2], 0))
            blocks.append(sound.on_grid(self.predict(audio, video)))
            audio = torch.cat([audio[..., samples:], blocks[-1]], -1)
        return torch.cat(blocks, -1) if blocks else past[..., :0]

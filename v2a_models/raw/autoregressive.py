"""Autoregressive sound, one sample at a time: training and generation shared by WaveNet and the transformer.

A `SampleWise` holds the video context embedding and a network over past samples. It is trained on all time steps of a
stretch at once, each given the true samples before it, and generates them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from v2a_models.raw import sound
from v2a_models.raw.video_context import VideoContext
from v2a_models.seeds import RowNoise

LOSSES = sound.LOSSES

AT_ONCE = 25
"""Frames whose embedding and noise are held in memory at a time during generation."""


class Stepper(Protocol):
    """State of a network that generates sample by sample."""

    time: int | Tensor
    """Number of samples so far, or an int64 tensor (1,)."""

    def step(self, audio: Tensor, context: Tensor) -> Tensor:
        """Outputs for the next sample, given the sample before (B, C) and the embedding of its time step (B, D)."""
        ...


class SampleWise(nn.Module):
    """Autoregressive model: frames and past samples -> the next sample.

    net: `WaveNet` or `AVTransformer`. channels: sound channels. samples: per frame. crop_frames: frames with a loss in
    a training step, after those that serve as context only.
    """

    def __init__(
        self, video: VideoContext, net: Any, *, loss: str, channels: int, samples: int, crop_frames: int
    ) -> None:
        super().__init__()
        sound.check_loss(loss, LOSSES, channels)
        self.video, self.net = video, net
        self.loss, self.channels, self.samples, self.crop_frames = loss, channels, samples, crop_frames

    @property
    def units(self) -> list[nn.Module]:
        """Repeated parts, along which a sharded trainer cuts the model."""
        return self.net.units

    @property
    def lead_frames(self) -> int:
        """Frames that cover the receptive field."""
        return -(-self.net.receptive // self.samples)

    @property
    def context_frames(self) -> int:
        """Past frames that a sample depends on, through past sound and its frames."""
        return self.lead_frames + self.video.config.context_frames

    # training

    def forward(self, frames: Tensor, waveform: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a random stretch, the same for all rows.

        frames uint8 (B, T, H, W, 3), waveform int16 (B, C, S), S at least T * samples.
        """
        total = min(frames.shape[1], waveform.shape[-1] // self.samples)
        n = min(total, self.lead_frames + self.crop_frames)
        start = int(torch.randint(total - n + 1, (), generator=generator))
        seen_from = max(0, start - self.video.config.context_frames)
        embedding = self.video(frames[:, seen_from : start + n])[..., (start - seen_from) * self.samples :]
        true = self._quantised(
            sound.to_float(waveform[..., start * self.samples : (start + n) * self.samples])
        )
        first = waveform.new_zeros((*waveform.shape[:2], 1))
        if start:
            first = waveform[..., start * self.samples - 1, None]
        before = torch.cat([self._quantised(sound.to_float(first)), true[..., :-1]], -1)
        counts = torch.ones(true.shape[-1], device=true.device)
        if start:  # their context is cut off
            counts[: self.net.receptive] = 0
        predicted, logits = self._predicted(self.net(before, embedding))
        return sound.prediction_losses(self.loss, predicted, true.transpose(1, 2), counts, logits)

    def _quantised(self, samples: Tensor) -> Tensor:
        """Samples quantised as finely as the network can output them."""
        if self.loss == "mu-law":
            return sound.mu_law_inverse(sound.mu_law(samples))
        return samples

    def _predicted(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Point prediction (..., C) and logits (..., C, 256), if any, from the network's outputs."""
        if self.loss != "mu-law":
            return outputs.tanh(), None
        logits = outputs.unflatten(-1, (self.channels, sound.LEVELS))
        return sound.expected(logits), logits

    # generation

    @torch.inference_mode()
    def extend(self, frames: Tensor, past: Tensor, noise: RowNoise, temperature: float = 1.0) -> Tensor:
        """Sound that continues `past`: float32 (B, C, (T - T_past) * samples).

        frames uint8 (B, T, H, W, 3), of which the first T_past belong to past, float32 (B, C, T_past * samples).
        """
        embedded = past.shape[-1] // self.samples
        lead = min(embedded, self.lead_frames)
        recent = self._quantised(past[..., past.shape[-1] - lead * self.samples :])
        sampler: Sampler | None = None
        last = past.new_zeros(past.shape[:2]) if not lead else recent[..., -1]
        blocks = []
        for at in range(embedded, frames.shape[1], AT_ONCE):
            until = min(frames.shape[1], at + AT_ONCE)
            known = lead if sampler is None else 0
            embedding = self._embedding(frames, at - known, until)
            if sampler is None:
                # The sample before each time step; zero before the first.
                before = torch.cat([past.new_zeros((*past.shape[:2], 1)), recent], -1)[..., :-1]
                n = lead * self.samples
                stepper = self.net.stepper(before, embedding[..., :n])
                sampler = Sampler(stepper, partial(self._sample, temperature=temperature), last)
                embedding = embedding[..., n:]
            uniform = noise.uniform(self.samples * (until - at), self.channels, device=past.device)
            block = sampler.run(embedding.permute(2, 0, 1).contiguous(), uniform.transpose(0, 1).contiguous())
            blocks.append(block.permute(1, 2, 0))
        return torch.cat(blocks, -1) if blocks else past[..., :0]

    def _embedding(self, frames: Tensor, start: int, stop: int) -> Tensor:
        seen_from = max(0, start - self.video.config.context_frames)
        return self.video(frames[:, seen_from:stop])[..., (start - seen_from) * self.samples :]

    def _sample(self, outputs: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Draw the next sample (B, C) from the outputs, by one uniform number per row and channel."""
        if self.loss == "mu-law":
            return sound.draw(outputs.unflatten(-1, (self.channels, sound.LEVELS)), uniform, temperature)
        return sound.on_grid(outputs.tanh_())


class Sampler:
    """Run a stepper from sample to sample, as a CUDA graph on a GPU.

    A sample takes some hundred kernels of a microsecond each, and launching them takes longer than running them. After
    the first samples they are recorded as one CUDA graph, launched once per sample.
    """

    WARM_UP = 3
    """Samples before the recording: library initialisation in first calls cannot be recorded."""

    def __init__(self, stepper: Stepper, sample: Callable[[Tensor, Tensor], Tensor], last: Tensor) -> None:
        self._stepper, self._sample, self.last = stepper, sample, last.clone()
        self._graph: Any = None
        self._steps = 0
        if last.is_cuda:
            stepper.time = torch.tensor([stepper.time], device=last.device)

    def run(self, contexts: Tensor, uniforms: Tensor) -> Tensor:
        """Samples (N, B, C) of N time steps, from contexts (N, B, D) and uniform numbers (N, B, C)."""
        samples = torch.empty(len(contexts), *self.last.shape, device=self.last.device)
        for at, (context, uniform) in enumerate(zip(contexts, uniforms, strict=True)):
            if not self.last.is_cuda or self._steps < self.WARM_UP:
                self.last = self._one(context, uniform)
            else:
                self._replay(context, uniform)
            self._steps += 1
            samples[at] = self.last
        return samples

    def _one(self, context: Tensor, uniform: Tensor) -> Tensor:
        return self._sample(self._stepper.step(self.last, context), uniform)

    def _replay(self, context: Tensor, uniform: Tensor) -> None:
        if self._graph is None:
            self.last, self._context, self._uniform = self.last.clone(), context.clone(), uniform.clone()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.last.copy_(self._one(self._context, self._uniform))
            self._graph = graph
        self._context.copy_(context)
        self._uniform.copy_(uniform)
        self._graph.replay()

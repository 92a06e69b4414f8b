"""Audio networks: log-mel front end, sequence encoder, event classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from v2a_models import grid


class LogMel(nn.Module):
    """Waveform (B, N) -> log-mel (B, n_mels, ceil(N / 512)), one column per codec frame, roughly in [-1, 1].

    Columns are centred on their codec frame, so column i describes samples around i * 512 + 256.
    """

    bank: Tensor
    window: Tensor

    def __init__(self, n_mels: int = 64, n_fft: int = 1024) -> None:
        super().__init__()
        self.n_mels, self.n_fft = n_mels, n_fft
        bank = melscale_fbanks(n_fft // 2 + 1, 30.0, 16_000.0, n_mels, grid.SAMPLE_RATE)
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        frames = grid.codec_frames(waveform.shape[-1])
        before = (self.n_fft - grid.HOP) // 2
        after = frames * grid.HOP + before - waveform.shape[-1]
        padded = F.pad(waveform.float(), (before, after))
        spectrum = torch.stft(
            padded, self.n_fft, grid.HOP, window=self.window, center=False, return_complex=True
        )
        mel = self.bank.T @ spectrum.abs()
        # -80 .. +20 dB around unit amplitude -> about -1 .. 1
        return torch.log10(mel.clamp_min(1e-4)) / 2.5 + 0.6


class AudioEncoder(nn.Module):
    """Waveform (B, N) -> features (B, n_steps, D).

    Takes the place of BEATs in the published recipe: an audio sequence to compare video with.
    """

    def __init__(self, dim: int = 128, width: int = 128) -> None:
        super().__init__()
        self.mel = LogMel()
        self.net = nn.Sequential(
            nn.Conv1d(self.mel.n_mels, width, 5, padding=2), nn.GELU(),
            nn.Conv1d(width, width, 5, padding=2), nn.GELU(),
            nn.Conv1d(width, width, 3, padding=1), nn.GELU(),
            nn.Conv1d(width, dim, 1),
        )  # fmt: skip

    def forward(self, waveform: Tensor, n_steps: int) -> Tensor:
        features = self.net(self.mel(waveform))
        return F.interpolate(features, n_steps, mode="linear").transpose(1, 2)


class EventClassifier(nn.Module):
    """Event classifier: waveform (B, N) -> class logits (B, n_classes).

    Trained on true sound only. It scores generated sound and never trains a generator.
    """

    def __init__(self, n_classes: int, width: int = 48) -> None:
        super().__init__()
        self.mel = LogMel()
        layers: list[nn.Module] = []
        channels = 1
        for outputs in (width // 2, width, width * 2, width * 2):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
            channels = outputs
        self.net = nn.Sequential(*layers)
        self.head = nn.Linear(2 * channels, n_classes)

    def forward(self, waveform: Tensor) -> Tensor:
        features = self.net(self.mel(waveform).unsqueeze(1)).mean(2)
        return self.head(torch.cat([features.mean(-1), features.amax(-1)], -1))

"""Training task of the synchrony encoder: audio-visual offset detection on unlabelled footage.

Every time step of picture and of sound gets an embedding; a step of the picture must match its own step of sound among
the steps of every clip in the batch (InfoNCE form of the offset task of SparseSync, 2210.07055). Linear probes also
predict the coarse spectrogram and its onsets from the picture: the same supervision, but dense, which a small model on
a small corpus needs (ours).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.encoders.audio import AudioEncoder
from v2a_models.encoders.motion import MotionEncoder

BANDS = 16
"""Bands of the coarse spectrogram."""

ONSET_RISE = 0.08
"""Mean rise of the bands, in units of `LogMel`, from which on a step is an onset: about 4 dB in each band."""


MARGIN = 20
"""Steps at both ends that only inform the others: what is padded there tells how far away the end is, and two networks
that know their place in a clip match without looking or listening."""


class SyncTask(nn.Module):
    """Losses from `motion_cells` (B, T, 64, 11) and sound (B, N) of the same stretch of time, T > 2 * MARGIN."""

    def __init__(self) -> None:
        super().__init__()
        self.video = MotionEncoder()
        self.audio = AudioEncoder(self.video.dim)
        self.probe = nn.Linear(self.video.dim, 2 * BANDS)
        self.onset = nn.Linear(self.video.dim, 1)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def forward(self, cells: Tensor, sound: Tensor) -> dict[str, Tensor]:
        steps, inner = cells.shape[1], slice(MARGIN, -MARGIN)
        visual = self.video.of_cells(cells)[:, inner]
        audio = self.audio(sound, steps)[:, inner]
        a, b = F.normalize(visual.flatten(0, 1), dim=-1), F.normalize(audio.flatten(0, 1), dim=-1)
        logits = (self.log_scale.exp().clamp_max(50) * a @ b.T).float()
        target = torch.arange(len(logits), device=logits.device)
        offset = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        coarse = self.coarse_spectrum(sound, steps)[:, inner]
        spectrum = F.l1_loss(self.probe(visual).float(), coarse)
        onset = F.binary_cross_entropy_with_logits(
            self.onset(visual)[..., 0].float(), onset_steps(coarse), pos_weight=coarse.new_tensor(4.0)
        )
        return dict(
            loss=offset + 10 * spectrum + 2 * onset,
            offset=offset.detach(),
            spectrum=spectrum.detach(),
            onset=onset.detach(),
        )

    @torch.no_grad()
    def coarse_spectrum(self, sound: Tensor, steps: int) -> Tensor:
        """Level of each band and its rise since the previous time step: (B, steps, 2 * BANDS)."""
        mel = self.audio.mel(sound)
        level = F.adaptive_avg_pool2d(mel.unsqueeze(1), (BANDS, steps))[:, 0].transpose(1, 2)
        rise = F.relu(level - F.pad(level, (0, 0, 1, 0), mode="replicate")[:, :-1])
        return torch.cat([level, 2 * rise], -1)

    @torch.no_grad()
    def offset(self, cells: Tensor, sound: Tensor, reach: int = 8) -> int:
        """Estimated delay of one clip's sound in frames, in [-reach, reach]: 0 for a clip in sync."""
        inner = slice(MARGIN, -MARGIN)
        visual = F.normalize(self.video.of_cells(cells)[0, inner], dim=-1)
        audio = F.normalize(self.audio(sound, cells.shape[1])[0, inner], dim=-1)
        similarity = visual @ audio.T
        return max(range(-reach, reach + 1), key=lambda shift: float(similarity.diagonal(shift).mean()))


def onset_steps(coarse: Tensor) -> Tensor:
    """Onsets in a coarse spectrum (B, T, 2 * BANDS), each with its neighbours: 0 or 1 (B, T)."""
    rise = coarse[..., BANDS:].mean(-1) / 2
    return F.max_pool1d((rise > ONSET_RISE).float()[:, None], 3, 1, 1)[:, 0]

"""BEATs (2212.09058): audio features for MaskVAT's training and for SCAV (2407.10387 §3).

The transformer and its default configuration are SpeechBrain's, after microsoft/unilm/beats. SpeechBrain's own class
is not used: it insists on reading checkpoints itself, leaves a variable unset when no lengths are given, and computes
its filter bank in bfloat16 under autocast. SpeechBrain takes seconds to import and is imported on use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.compliance import kaldi
from torchaudio.functional import resample

from v2a_models import grid
from v2a_models.encoders.shapes import BEATS_DIM, beats_steps

RATE = 16_000
MEL_BANDS = 128
PATCH = 16
"""Side of a patch: 16 frames by 16 bands of the filter bank."""

_FRAME, _SHIFT = 400, 160
"""Frame length (25 ms) and hop (10 ms) of the filter bank, in samples."""

_MEAN, _STD = 15.41663, 6.55582
"""Mean and deviation of the filter bank over AudioSet, as in BEATs' training."""


class BeatsEncoder(nn.Module):
    """Waveform (B, N) in [-1, 1] -> features (B, T, 768), 6.25 a second: feature i covers the 160 ms from 0.16 i s.

    T = `beats_steps` of the sound's duration: features cover all of it, the last one may reach past the end. BEATs
    itself drops a last part that fills no patch, and centres filter bank frames (25 ms every 10 ms) 7.5 ms late; so
    7.5 ms of silence are added before the sound, and as much as the last patch needs after it. A feature is the mean
    over the 8 patches of one time step; patches are ordered by time, then from low to high bands.
    """

    dim = BEATS_DIM

    def __init__(self, config: Mapping[str, Any] | None = None, sample_rate: int = grid.SAMPLE_RATE) -> None:
        """config: fields of SpeechBrain's `BEATsConfig` (`cfg` of a published file); others keep their defaults.

        Raises ValueError for another feature width or patch size, and any error of the layers for a configuration
        that makes no network.
        """
        super().__init__()
        speechbrain = speechbrain_beats()
        cfg = speechbrain.BEATsConfig()
        cfg.update({name: value for name, value in (config or {}).items() if name in vars(cfg)})
        if (cfg.encoder_embed_dim, cfg.input_patch_size) != (self.dim, PATCH):
            raise ValueError(
                f"features of {cfg.encoder_embed_dim} and patches of {cfg.input_patch_size}; "
                f"needed: {self.dim} and {PATCH}"
            )
        self.sample_rate = sample_rate
        # Attribute names are those of the published weights.
        self.patch_embedding = nn.Conv2d(1, cfg.embed_dim, PATCH, PATCH, bias=cfg.conv_bias)
        self.layer_norm = nn.LayerNorm(cfg.embed_dim)
        wider = cfg.embed_dim != self.dim
        self.post_extract_proj = nn.Linear(cfg.embed_dim, self.dim) if wider else nn.Identity()
        self.encoder = speechbrain.TransformerEncoder(cfg)

    def steps(self, n_samples: int) -> int:
        """Output steps for `n_samples`."""
        return beats_steps(grid.seconds(n_samples, self.sample_rate))

    def forward(self, waveform: Tensor) -> Tensor:
        """Raises ValueError for a waveform of another type or shape, or without samples."""
        if waveform.ndim != 2 or not waveform.shape[1] or not waveform.is_floating_point():
            raise ValueError(f"expected float sound (B, N), got {waveform.dtype} {tuple(waveform.shape)}")
        n_steps = self.steps(waveform.shape[1])
        with torch.autocast(waveform.device.type, enabled=False):
            sound = resample(waveform.float(), self.sample_rate, RATE)
            bank = filter_bank(padded(sound, n_steps))
        patches = self.patch_embedding(bank.unsqueeze(1)).flatten(2).transpose(1, 2)
        hidden = self.encoder(self.post_extract_proj(self.layer_norm(patches)))[0]
        return hidden.float().unflatten(1, (n_steps, MEL_BANDS // PATCH)).mean(2)


def padded(sound: Tensor, n_steps: int) -> Tensor:
    """Pad sound (B, n) at 16 kHz with silence on both sides to fill exactly `n_steps` patches."""
    before = (_FRAME - _SHIFT) // 2
    whole = n_steps * PATCH * _SHIFT + 2 * before
    return nn.functional.pad(sound, (before, whole - before - sound.shape[1]))


def filter_bank(sound: Tensor) -> Tensor:
    """Normalised Kaldi log-mel filter bank (B, frames, 128) of sound (B, n) at 16 kHz: the input of BEATs."""
    rows = [
        kaldi.fbank(
            row[None] * 2**15,
            num_mel_bins=MEL_BANDS,
            sample_frequency=RATE,
            frame_length=1000 * _FRAME / RATE,
            frame_shift=1000 * _SHIFT / RATE,
        )
        for row in sound
    ]
    return (torch.stack(rows) - _MEAN) / (2 * _STD)


def speechbrain_beats() -> Any:
    """SpeechBrain's BEATs module, imported without its side effects on the process.

    SpeechBrain enables TF32, which would change codec tokens on a GPU, and leaves lazy modules for old names in
    sys.modules, which import missing packages as soon as anything (such as `inspect`) touches them.
    """
    switch = "SB_DISABLE_QUIRKS"
    before = os.environ.get(switch)
    os.environ[switch] = "allow_tf32,disable_jit_profiling,disable_cudnn_benchmarking"
    try:
        from speechbrain.lobes.models import beats
        from speechbrain.utils.importutils import LazyModule
    finally:
        if before is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before
    for name in [name for name, module in sys.modules.items() if isinstance(module, LazyModule)]:
        del sys.modules[name]
    return beats

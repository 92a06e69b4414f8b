"""BEATs (2212.09058): sound to a sequence of features, as MaskVAT's training and SCAV read it (2407.10387 §3).

The transformer and the defaults of its configuration are SpeechBrain's, after microsoft/unilm/beats. The whole of
SpeechBrain's class is not built: it reads a checkpoint only by itself, leaves a variable unset where no lengths are
given, and would take its filter bank in bfloat16 where the rest is computed so. SpeechBrain takes seconds to import,
so that happens when an encoder is built.
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
"""Patches are 16 frames of the filter bank by 16 of its bands."""

_FRAME, _SHIFT = 400, 160
"""Samples of a frame of the filter bank (25 ms), and from one to the next (10 ms)."""

_MEAN, _STD = 15.41663, 6.55582
"""Of the filter bank over AudioSet, as BEATs was trained."""


class BeatsEncoder(nn.Module):
    """Waveform (B, N) in [-1, 1] -> features (B, T, 768), 6.25 a second: feature i stands for the 160 ms from 0.16 i s.

    T = `beats_steps` of the sound's length: the cells cover all of it, the last one may reach past the end. BEATs
    by itself drops a last part that fills no patch, and a frame of its filter bank (25 ms every 10 ms) is centred
    7.5 ms late; so 7.5 ms of silence go before the sound, and what the last cell needs after it. A feature is the
    mean over the 8 patches of one time, low bands to high: patches are ordered by time, then by band.
    """

    dim = BEATS_DIM

    def __init__(self, config: Mapping[str, Any] | None = None, sample_rate: int = grid.SAMPLE_RATE) -> None:
        """config: fields of SpeechBrain's `BEATsConfig` (`cfg` of a published file); what it lacks has its default.

        Raises ValueError for features of another size or patches of another one, and whatever the layers raise for
        a configuration that makes no network.
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
        # Under the names that published weights have.
        self.patch_embedding = nn.Conv2d(1, cfg.embed_dim, PATCH, PATCH, bias=cfg.conv_bias)
        self.layer_norm = nn.LayerNorm(cfg.embed_dim)
        wider = cfg.embed_dim != self.dim
        self.post_extract_proj = nn.Linear(cfg.embed_dim, self.dim) if wider else nn.Identity()
        self.encoder = speechbrain.TransformerEncoder(cfg)

    def steps(self, n_samples: int) -> int:
        """Features of so many samples."""
        return beats_steps(grid.seconds(n_samples, self.sample_rate))

    def forward(self, waveform: Tensor) -> Tensor:
        """Raises ValueError for a waveform of another kind, or an empty one."""
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
    """Sound (B, n) at 16 kHz with silence on both sides, so that it fills exactly so many patches of time."""
    before = (_FRAME - _SHIFT) // 2
    whole = n_steps * PATCH * _SHIFT + 2 * before
    return nn.functional.pad(sound, (before, whole - before - sound.shape[1]))


def filter_bank(sound: Tensor) -> Tensor:
    """Kaldi's log-mel filter bank of sound (B, n) at 16 kHz as BEATs takes it: (B, frames, 128), normalised."""
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
    """SpeechBrain's module of BEATs, imported without what it would change for the whole process.

    It allows TF32, which would flip tokens of the codec on a GPU, and leaves stand-ins of old names among the
    modules, which import packages that are not there as soon as anything (`inspect`, for one) looks at them.
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

"""Networks with visual input, for scores of sound against video: CLIP (CC) and SCAV (alignment accuracy)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from v2a_models import checkpoint
from v2a_models.checkpoint_files import CheckpointError, find_checkpoint
from v2a_models.encoders import published
from v2a_models.metrics.networks.audio_network import AudioNetwork
from v2a_models.metrics.networks.base import Unavailable
from v2a_models.recipe import View

CLIP = "ViT-B-32/openai"
"""CLIP model whose space Wav2CLIP was trained into."""


class ClipFrames:
    """OpenAI's CLIP ViT-B/32: mean (512,) of the unit embeddings of a clip's frames.

    2407.10387 compares Wav2CLIP's embedding of the sound with CLIP's of the frames, without details. Four frames a
    second and their mean are our choice.
    """

    name = "clip"
    views: Mapping[str, View] = {"clip": View(4, 224, 224, "crop")}

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError for damaged or unsuitable weights."""
        self.net = published.load_semantic(CLIP, path).to(device)
        self.device, self.sha256 = torch.device(device), published.check(path)

    @torch.inference_mode()
    def embed_frames(self, frames: Mapping[str, Tensor]) -> np.ndarray:
        """See `VisualNetwork`."""
        return self.net(frames["clip"][None].to(self.device))[0].mean(0).float().cpu().numpy()


class Scav(AudioNetwork):
    """SCAV of a checkpoint with its encoders and codec: sounds (T, D) and videos (T', D) as sequences of unit vectors
    in one space."""

    name, rate, shortest = "scav", 44_100, 8 * 512

    def __init__(self, name_or_path: str, device: torch.device | str = "cpu") -> None:
        """Raises Unavailable for a missing checkpoint, or one without a SCAV that reads codec latents."""
        try:
            generator = checkpoint.load_generator(name_or_path)
            scav, codec = generator.scav, generator.codec
            if scav is None or codec is None or scav.config.audio_channels != codec.config.get("latent_dim"):
                raise CheckpointError("it has no SCAV that reads the latents of its codec")
            digest = published.check(find_checkpoint(name_or_path) / "scav.safetensors")
        except (CheckpointError, published.WeightsError) as error:
            raise Unavailable(f"SCAV (--weights scav={name_or_path}): {error}") from error
        self.dims = scav.config.dim
        self.views = {name: generator.recipe.view(name) for name in ("semantic", "sync")}
        self.generator, self.codec = generator.to(device), codec
        super().__init__(scav, device, digest)

    def forward(self, sounds: Tensor) -> tuple[Tensor, None]:
        return self.net.audio(self.codec.latents(self.codec.encode(sounds[:, None]))), None  # type: ignore[operator]

    @torch.inference_mode()
    def embed_frames(self, frames: Mapping[str, Tensor]) -> np.ndarray:
        """See `VisualNetwork`."""
        batch = self.generator.features({name: view[None].to(self.device) for name, view in frames.items()})
        return self.net.video(batch.semantic, batch.sync)[0].float().cpu().numpy()  # type: ignore[operator]

"""Build the encoders of a recipe without weights, to be filled from a checkpoint.

Networks are imported on use: open_clip and torchvision double the start-up time of a process, and most processes
(training on a store, raw waveforms) encode no frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from v2a_models.encoders.shapes import EFFICIENTNET
from v2a_models.recipe import Recipe

if TYPE_CHECKING:
    from v2a_models.encoders.clip_s3d import SemanticEncoder


def untrained_encoder(recipe: Recipe, role: str) -> nn.Module:
    """The `semantic` or `sync` encoder of a recipe; the mini one if the recipe has none.

    Raises ValueError for an unknown name.
    """
    from v2a_models.encoders.clip_s3d import SemanticEncoder, SyncEncoder

    encoder = recipe.encoder(role)
    if encoder is None or encoder.name == "mini":
        if role == "sync":
            return SyncEncoder.mini()
        if recipe.view("semantic").width == 224:
            from v2a_models.encoders.efficientnet import SoundExpectation

            return SoundExpectation()
        return SemanticEncoder.mini()
    if encoder.name == EFFICIENTNET:
        from v2a_models.encoders.efficientnet import EfficientNetEncoder

        return EfficientNetEncoder()
    return _clip(encoder.name) if role == "semantic" else _s3d(encoder.name)


def _clip(name: str) -> SemanticEncoder:
    import open_clip

    from v2a_models.encoders.clip_s3d import SemanticEncoder, image_tower

    model, _, tag = name.partition("/")
    config = open_clip.get_pretrained_cfg(model, tag)
    if not config:
        raise ValueError(f"open_clip has no weights {name!r}")
    visual, dim = image_tower(model, bool(config.get("quick_gelu", False)))
    return SemanticEncoder(visual, dim, config["mean"], config["std"])


def _s3d(name: str) -> nn.Module:
    from v2a_models.encoders import s3d

    scalings = {"s3d-sparsesync": s3d.IMAGENET, "s3d-kinetics400": s3d.KINETICS}
    if name not in scalings:
        raise ValueError(f"unknown S3D {name!r}: choose one of {sorted(scalings)}")
    return s3d.PublishedSyncEncoder(*scalings[name])

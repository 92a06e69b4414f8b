"""Build the encoders of a recipe without weights, to be filled from a checkpoint.

Networks are imported on use: open_clip and torchvision double the start-up time of a process, and most processes
(training on a store, raw waveforms) encode no frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from v2a_models.encoders.shapes import EFFICIENTNET, sees_footage
from v2a_models.recipe import Recipe

if TYPE_CHECKING:
    from v2a_models.encoders.clip_s3d import SemanticEncoder
    from v2a_models.encoders.efficientnet import SoundExpectation


def untrained_encoder(recipe: Recipe, role: str) -> nn.Module:
    """The `semantic` or `sync` encoder of a recipe; the mini one if the recipe has none.

    Raises ValueError for an unknown name, WeightsError if the package of EfficientNet-Lite0 is missing.
    """
    from v2a_models.encoders.clip_s3d import SemanticEncoder, SyncEncoder
    from v2a_models.encoders.motion import MotionEncoder

    encoder = recipe.encoder(role)
    if encoder is None or encoder.name == "mini":
        if role == "sync":
            return MotionEncoder() if sees_footage(recipe) else SyncEncoder.mini()
        return sound_expectation() if sees_footage(recipe) else SemanticEncoder.mini()
    if encoder.name == EFFICIENTNET:
        from v2a_models.encoders.efficientnet import EfficientNetEncoder

        return EfficientNetEncoder()
    return _clip(encoder.name) if role == "semantic" else _s3d(encoder.name)


def sound_expectation() -> SoundExpectation:
    """Expectation of sounds with the weights that EfficientNet-Lite0's package carries; it knows no drawings yet.

    Raises WeightsError if the package is missing, or holds other weights.
    """
    from v2a_models.encoders import published, state_dicts
    from v2a_models.encoders.efficientnet import SoundExpectation

    file = published.find_weights(EFFICIENTNET, "semantic")
    published.check(file, published.get(EFFICIENTNET, "semantic").sha256)
    state, _ = state_dicts.read_state(file)
    return SoundExpectation.of(state_dicts.efficientnet_lite(state))


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

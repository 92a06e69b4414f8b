"""Build untrained MaskVAT generators for a feature store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from v2a_models.checkpoint_modules import load_scav
from v2a_models.encoders.encoders import load_encoders
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.maskvat.model import MaskVAT, MaskVATConfig, sized
from v2a_models.recipe import Recipe


def option_names() -> list[str]:
    """Option names that `new_maskvat` accepts."""
    return sorted(MaskVATConfig.__dataclass_fields__)


def new_maskvat(
    system: str, recipe: Recipe, size: str, files: Mapping[str, str], options: Mapping[str, Any]
) -> MaskVATGenerator:
    """Build an untrained model; `files` are the checked weights of the recipe's encoders (role -> path).

    Raises ValueError for unsuitable options or stores, CheckpointError for unusable weights.
    """
    encoders = load_encoders(recipe, files).by_role
    missing = sorted({"semantic", "sync", "codec"} - set(encoders))
    if missing:
        raise ValueError(
            f"{system} needs a store with semantic and sync features and codes; the recipe {recipe.name!r} "
            f"lacks {missing}"
        )
    codec: Any = encoders["codec"]
    widths = dict(
        n_codebooks=codec.n_codebooks,
        codebook_size=codec.codebook_size,
        semantic_dim=encoders["semantic"].dim,
        sync_dim=encoders["sync"].dim,
        audio_dim=0,
    )
    variant = system.removeprefix("maskvat-")
    scav = None
    if "audio" in encoders:
        widths["audio_dim"] = int(encoders["audio"].dim)  # type: ignore[arg-type]
    elif recipe.bundled:
        scav = load_scav("mini")
        widths["audio_dim"] = scav.config.dim if scav is not None else 0
    config = sized(variant, size, **{**widths, **options})
    generator = MaskVATGenerator(recipe, codec, encoders["semantic"], encoders["sync"], MaskVAT(config))
    generator.scav = scav
    generator.maskvat.recompute = size == "large"
    return generator

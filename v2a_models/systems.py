"""Registry of the systems that can be trained and used for dubbing."""

from __future__ import annotations

from v2a_models.generator import Generator
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.maskvat.model import SIZES as MASKVAT_SIZES
from v2a_models.maskvat.model import VARIANTS
from v2a_models.mmaudio import generator as mmaudio
from v2a_models.raw import generator as raw
from v2a_models.recipe import Recipe
from v2a_models.vatt import generator as vatt

SYSTEMS: dict[str, type[Generator]] = {
    **{f"maskvat-{variant}": MaskVATGenerator for variant in VARIANTS},
    **raw.GENERATORS,
    **vatt.GENERATORS,
    **mmaudio.GENERATORS,
}
"""Generator classes by the system name used in commands and config.json."""

SIZES = tuple(MASKVAT_SIZES)
"""Sizes that every system supports."""


def check_system(system: str) -> None:
    """Raises ValueError, listing the choices, for an unknown system."""
    if system not in SYSTEMS:
        raise ValueError(f"unknown system {system!r}: choose one of {sorted(SYSTEMS)}")


def recipe_difference(one: Recipe, other: Recipe) -> str:
    """Differences between two recipes that affect a model within one window; empty if there are none."""
    ignored = ["name", "encoders", "overlap_s"]
    if not (one.waveform or other.waveform):
        ignored.append("channels")  # those of the codec's sound, which a model places after it is made
    a, b = one.to_dict(), other.to_dict()
    differing = [f"{key} {a[key]} / {b[key]}" for key in a if key not in ignored and a[key] != b[key]]
    for role in ("semantic", "sync", "codec", "audio"):
        ours, theirs = one.encoder(role), other.encoder(role)
        if ours and theirs and ours.sha256 != theirs.sha256:
            differing.append(
                f"{role} encoder {ours.name} {ours.sha256[:12]} / {theirs.name} {theirs.sha256[:12]}"
            )
    return "; ".join(differing)

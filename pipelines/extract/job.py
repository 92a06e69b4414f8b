"""Settings of the stages of an extraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from v2a_models.recipe import Recipe


@dataclass(frozen=True)
class ExtractJob:
    """Settings of the stages, in plain values that travel to every worker."""

    store: str
    recipe: Recipe
    files: dict[str, str]
    """role -> weights file, or `mini`."""
    precision: str = "float32"
    device: str = "cpu"
    batch_size: int = 1
    """Exact number of windows per encoder batch: the last batch is padded with repeats."""
    rows_per_file: int = 128
    silence_dbfs: float | None = None
    """Windows whose loudest sample is below are left out."""
    static_below: float | None = None
    """Windows whose pictures change less are left out: mean absolute difference of successive ones, 0 to 255."""
    decode_threads: int = 1

    def identity(self) -> dict[str, Any]:
        """Settings that decide the rows. Two runs may share a store only if these are equal."""
        return {
            "recipe": self.recipe.to_dict(),
            "precision": self.precision,
            "batch_size": self.batch_size,
            "silence_dbfs": self.silence_dbfs,
            "static_below": self.static_below,
        }

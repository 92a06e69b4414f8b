"""Level of a codec's waveforms: a gain, and a soft knee in place of clipping.

Every sample is changed on its own, so pieces of a film that are decoded apart still meet without a step. Loads torch
only to change samples, so that commands that read a checkpoint's level start at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LOWEST_DB = -60.0
"""Lowest gain, knee or ceiling."""


@dataclass(frozen=True)
class OutputLevel:
    """Level of the generated sound, in dB and dBFS. The defaults clip at full scale and change nothing else.

    Raises ValueError for figures that no model has.
    """

    gain_db: float = 0.0
    knee_dbfs: float = 0.0
    """Magnitude from which samples are compressed."""
    ceiling_dbfs: float = 0.0
    """Magnitude that none reaches, at or above the knee."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not LOWEST_DB <= value <= 0:
                raise ValueError(f"{name} is {value!r}, not a number from {LOWEST_DB:g} to 0")
        if self.knee_dbfs > self.ceiling_dbfs:
            raise ValueError(
                f"the knee ({self.knee_dbfs:g} dBFS) is above the ceiling ({self.ceiling_dbfs:g} dBFS)"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OutputLevel:
        """Level from plain values of a file. Raises ValueError for unknown fields and for bad figures."""
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise ValueError(f"unknown fields of a level: {unknown}")
        return cls(**values)

    def __str__(self) -> str:
        return f"{self.gain_db:g} dB, knee {self.knee_dbfs:g}, ceiling {self.ceiling_dbfs:g} dBFS"

    def applied(self, sound: Tensor) -> Tensor:
        """Sound of any shape in [-1, 1], as float32: straight up to the knee, and a hyperbolic tangent above it."""
        import torch

        sound = sound.float() * 10 ** (self.gain_db / 20)
        knee, ceiling = (10 ** (level / 20) for level in (self.knee_dbfs, self.ceiling_dbfs))
        if math.isclose(knee, ceiling):
            return sound.clamp(-ceiling, ceiling)
        over = (sound.abs() - knee).clamp_min(0)
        bent = knee + (ceiling - knee) * torch.tanh(over / (ceiling - knee))
        return torch.where(over > 0, sound.sign() * bent, sound)

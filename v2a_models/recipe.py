"""Recipe: what a generator must be fed. Its hash names a feature store."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from v2a_models import grid


@dataclass(frozen=True)
class View:
    """One sampling of the picture: frames per second and size in pixels (aspect is squeezed to fit)."""

    fps: float
    width: int
    height: int


@dataclass(frozen=True)
class Recipe:
    """Rates, window and encoders of one family of models."""

    name: str
    window_s: float = 4.0
    """Seconds generated in one go."""
    overlap_s: float = 0.4
    """Seconds that neighbouring windows share. window - overlap is a whole number of sync frames, so that
    every window sees frames at the same phase of the grid."""
    semantic: View = field(default_factory=lambda: View(8, 64, 64))
    """Frames for the semantic (CLIP) encoder."""
    sync: View = field(default_factory=lambda: View(25, 64, 64))
    """Frames for the synchrony (S3D) encoder."""
    sample_rate: int = grid.SAMPLE_RATE
    hop: int = grid.HOP
    channels: int = 1
    encoders: tuple[tuple[str, str], ...] = ()
    """(role, sha256 of its weights), sorted by role."""
    schema_version: int = 1

    @property
    def window(self) -> int:
        """Samples of a window."""
        return grid.samples(self.window_s, self.sample_rate)

    @property
    def overlap(self) -> int:
        """Samples that neighbouring windows share."""
        return grid.samples(self.overlap_s, self.sample_rate)

    @property
    def codec_frames(self) -> int:
        """Codec frames of a window."""
        return grid.codec_frames(self.window, self.hop)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Inverse of `to_dict`. Raises ValueError naming unknown fields."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"unknown recipe fields {unknown}; known: {sorted(cls.__dataclass_fields__)}")
        values = dict(values)
        for name in ("semantic", "sync"):
            if isinstance(values.get(name), dict):
                values[name] = View(**values[name])
        values["encoders"] = tuple((role, digest) for role, digest in values.get("encoders", ()))
        return cls(**values)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the sha256 of everything above."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

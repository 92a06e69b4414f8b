"""Recipe: what a generator must be fed. Its hash names a feature store."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from v2a_models import grid


@dataclass(frozen=True)
class View:
    """One sampling of the picture: frames per second, size in pixels, and how the picture is fitted in."""

    fps: float
    width: int
    height: int
    fit: Literal["squeeze", "crop"] = "squeeze"
    """`squeeze` shows the whole picture and gives up its aspect; `crop` keeps the aspect and the middle, as
    most published image encoders were trained."""


@dataclass(frozen=True)
class Encoder:
    """The weights that make one column of features or tokens."""

    role: str
    """`semantic`, `sync`, `audio` or `codec`."""
    name: str
    """Its published name (`v2a_models.encoders.published`), or `mini`."""
    sha256: str
    """Of the weights file."""


@dataclass(frozen=True)
class Recipe:
    """Rates, window and encoders of one family of models.

    `semantic`, `sync` and `frames` are None where a model does not look at them.
    """

    name: str
    window_s: float = 4.0
    """Seconds generated in one go."""
    overlap_s: float = 0.4
    """Seconds that neighbouring windows share. window - overlap is a whole number of sync frames, so that
    every window sees frames at the same phase of the grid."""
    semantic: View | None = field(default_factory=lambda: View(8, 64, 64))
    """Frames for the semantic (CLIP) encoder."""
    sync: View | None = field(default_factory=lambda: View(25, 64, 64))
    """Frames for the synchrony (S3D) encoder."""
    frames: View | None = None
    """Frames kept as pixels, for models that see the picture itself."""
    sample_rate: int = grid.SAMPLE_RATE
    hop: int = grid.HOP
    channels: int = 1
    waveform: bool = False
    """Whether the sound is kept as samples, for models that make the waveform itself."""
    encoders: tuple[Encoder, ...] = ()
    """Sorted by role."""
    schema_version: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_s < self.window_s:
            raise ValueError(f"overlap_s must be in [0, {self.window_s:g}), not {self.overlap_s:g}")

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

    def view(self, name: str) -> View:
        """The view `semantic`, `sync` or `frames`. Raises ValueError if this recipe has none."""
        view: View | None = getattr(self, name)
        if view is None:
            raise ValueError(f"the recipe {self.name!r} has no {name} frames")
        return view

    @property
    def views(self) -> dict[str, View]:
        """The views that this recipe has, by name."""
        named = ((name, getattr(self, name)) for name in ("semantic", "sync", "frames"))
        return {name: view for name, view in named if view is not None}

    @property
    def bundled(self) -> bool:
        """Whether all its encoders came with the package."""
        return bool(self.encoders) and all(encoder.name == "mini" for encoder in self.encoders)

    def encoder(self, role: str) -> Encoder | None:
        """What makes the features or tokens of a role, if anything does."""
        return next((encoder for encoder in self.encoders if encoder.role == role), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Inverse of `to_dict`. Raises ValueError naming unknown fields."""
        values = _known(cls, values, "recipe")
        for name in ("semantic", "sync", "frames"):
            if isinstance(values.get(name), dict):
                values[name] = View(**_known(View, values[name], name))
        encoders = (Encoder(**_known(Encoder, item, "encoder")) for item in values.get("encoders", ()))
        values["encoders"] = tuple(encoders)
        return cls(**values)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the sha256 of everything above."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _known(kind: Any, values: dict[str, Any], what: str) -> dict[str, Any]:
    names = [item.name for item in fields(kind)]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"unknown {what} fields {unknown}; known: {sorted(names)}")
    return dict(values)

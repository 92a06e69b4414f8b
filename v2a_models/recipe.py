"""Recipe: rates, window and encoders of a model's inputs. Its hash names a feature store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from v2a_models import grid

LARGEST_WINDOW = 1 << 31
"""Bytes of the frames of a window at most, uncompressed."""


@dataclass(frozen=True)
class View:
    """Sampling of the video: frames per second, size in pixels, and fit."""

    fps: float
    width: int
    height: int
    fit: Literal["squeeze", "crop"] = "squeeze"
    """`squeeze` keeps the whole picture and changes its aspect ratio; `crop` keeps the ratio and the middle, as most
    published image encoders were trained."""


@dataclass(frozen=True)
class Encoder:
    """Encoder of one column of features or tokens."""

    role: str
    """Role of the encoder: `semantic`, `sync`, `audio` or `codec`."""
    name: str
    """Published name (`v2a_models.encoders.published`), or `mini`."""
    sha256: str
    """SHA-256 of the weights file."""


@dataclass(frozen=True)
class Recipe:
    """Rates, window and encoders of one family of models.

    `semantic`, `sync` and `frames` are None for models that do not use them.
    """

    name: str
    window_s: float = 4.0
    """Seconds of a window."""
    overlap_s: float = 0.4
    """Seconds that neighbouring windows share. window - overlap is a whole number of sync frames, so all windows have
    their frames at the same phase."""
    semantic: View | None = field(default_factory=lambda: View(8, 64, 64))
    """Frames for the semantic (CLIP) encoder."""
    sync: View | None = field(default_factory=lambda: View(25, 64, 64))
    """Frames for the synchrony (S3D) encoder."""
    frames: View | None = None
    """Frames stored as pixels, for models without published visual encoders."""
    sample_rate: int = grid.SAMPLE_RATE
    hop: int = grid.HOP
    channels: int = 1
    """Channels of the sound that the model makes. Codecs are mono: `stereo` makes two channels from their sound."""
    waveform: bool = False
    """True if sound is stored as samples, for models that generate waveforms."""
    encoders: tuple[Encoder, ...] = ()
    """Encoders, sorted by role."""
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
        """View `semantic`, `sync` or `frames`. Raises ValueError if this recipe lacks it."""
        view: View | None = getattr(self, name)
        if view is None:
            raise ValueError(f"the recipe {self.name!r} has no {name} frames")
        return view

    @property
    def views(self) -> dict[str, View]:
        """Views of this recipe, by name."""
        named = ((name, getattr(self, name)) for name in ("semantic", "sync", "frames"))
        return {name: view for name, view in named if view is not None}

    @property
    def fastest(self) -> str:
        """Name of the view with the most pictures per second."""
        return fastest(self.views)

    @property
    def bundled(self) -> bool:
        """True if the recipe has encoders and all are bundled."""
        return bool(self.encoders) and all(encoder.name == "mini" for encoder in self.encoders)

    def encoder(self, role: str) -> Encoder | None:
        """Encoder of a role; None if there is none."""
        return next((encoder for encoder in self.encoders if encoder.role == role), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Inverse of `to_dict`, for values from a file. Raises ValueError naming unknown fields, and values that no
        model has."""
        try:
            values = _known_fields(cls, values, "recipe")
            for name in ("semantic", "sync", "frames"):
                if values.get(name) is not None:
                    values[name] = View(**_known_fields(View, values[name], name))
            encoders = (
                Encoder(**_known_fields(Encoder, item, "encoder")) for item in values.get("encoders", ())
            )
            values["encoders"] = tuple(encoders)
            recipe = cls(**values)
            _check_values(recipe)
        except (TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a recipe: {error}") from error
        return recipe

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of all fields."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def fastest(views: Mapping[str, View]) -> str:
    """Name of the view with the most pictures per second."""
    return max(views, key=lambda name: views[name].fps)


def _check_values(recipe: Recipe) -> None:
    """Raises ValueError for values that no model has; they may come from a damaged file, or from anybody."""
    texts = [recipe.name, *(text for each in recipe.encoders for text in (each.role, each.name, each.sha256))]
    whole = [(recipe.sample_rate, 768_000), (recipe.hop, 1 << 16), (recipe.channels, 64)]
    numbers: list[tuple[Any, float]] = [(recipe.window_s, 3600.0)]
    for view in recipe.views.values():
        texts.append(view.fit)
        numbers.append((view.fps, 1000.0))
        whole += [(view.width, 1 << 14), (view.height, 1 << 14)]
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no text")
    for value, most in whole:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise ValueError(f"{value!r} is no whole number from 1 to {most}")
    for value, limit in numbers:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= limit:
            raise ValueError(f"{value!r} is not between 0 and {limit:g}")
    for name, view in recipe.views.items():
        if view.fit not in ("squeeze", "crop"):
            raise ValueError(f"the {name} frames cannot be fitted by {view.fit!r}")
        if (n := recipe.window_s * view.fps * view.width * view.height * 3) > LARGEST_WINDOW:
            raise ValueError(f"the {name} frames of a window would take {n / (1 << 30):.3g} GiB")
    if recipe.window <= recipe.overlap:
        raise ValueError(
            f"windows of {recipe.window_s:g} s, {recipe.overlap_s:g} s of them shared, never advance"
        )


def _known_fields(kind: Any, values: dict[str, Any], what: str) -> dict[str, Any]:
    names = [item.name for item in fields(kind)]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"unknown {what} fields {unknown}; known: {sorted(names)}")
    return dict(values)

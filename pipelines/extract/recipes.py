"""Recipes of feature stores: the bundled ones by name, a user's own from a YAML file.

A recipe names encoders. The paths of their weights on this machine are resolved separately, so that two machines with
the same weights make the same store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from v2a_models import grid
from v2a_models.recipe import Encoder, Recipe, View

MINI = "mini"
"""Name of the encoders in the bundled checkpoint."""

TEMPLATES: dict[str, Recipe] = {
    # MaskVAT (2407.10387): CLIP at 8 fps, S3D tuned for audio-visual offset at 25 fps, DAC with 9 codebooks.
    "base": Recipe(
        "base",
        window_s=8.0,
        overlap_s=0.0,
        semantic=View(8, 224, 224, "crop"),
        sync=View(25, 224, 224, "crop"),
        encoders=(
            Encoder("codec", "dac-44khz", ""),
            Encoder("semantic", "ViT-B-32/laion2b_s34b_b79k", ""),
            Encoder("sync", "s3d-sparsesync", ""),
        ),
    ),
    # The same with BEATs of the true sound, which the Seq2Seq and Hybrid variants are trained against (§3).
    "base-audio": Recipe(
        "base-audio",
        window_s=8.0,
        overlap_s=0.0,
        semantic=View(8, 224, 224, "crop"),
        sync=View(25, 224, 224, "crop"),
        encoders=(
            Encoder("audio", "beats-iter3-plus-as2m", ""),
            Encoder("codec", "dac-44khz", ""),
            Encoder("semantic", "ViT-B-32/laion2b_s34b_b79k", ""),
            Encoder("sync", "s3d-sparsesync", ""),
        ),
    ),
    # VATT (2411.05679): EVA-02 CLIP at 5 fps over 10 s; tokens of DAC where the paper has EnCodec's.
    "vatt": Recipe(
        "vatt",
        window_s=10.0,
        overlap_s=0.0,
        semantic=View(5, 336, 336, "crop"),
        sync=None,
        encoders=(
            Encoder("codec", "dac-44khz", ""),
            Encoder("semantic", "EVA02-L-14-336/merged2b_s6b_b61k", ""),
        ),
    ),
    # The raw-waveform systems (2308.12408, 2404.17608): low-resolution frames and stereo samples, no encoder.
    "raw": Recipe(
        "raw",
        window_s=4.0,
        overlap_s=0.0,
        semantic=None,
        sync=None,
        frames=View(25, 32, 32),
        sample_rate=16_000,
        channels=2,
        waveform=True,
    ),
}
"""Recipes by name, beside `mini`, without overlap: training sees each window once. `resolve` fills in the encoders'
`sha256`."""

NAMES = (MINI, *TEMPLATES)
"""Names that `find` knows."""

YAML_HELP = """\
name: mine
window_s: 8
overlap_s: 0
semantic: {encoder: ViT-B-32/laion2b_s34b_b79k, fps: 8, width: 224, height: 224, fit: crop}
sync: {encoder: s3d-kinetics400, fps: 25, width: 224, height: 224, fit: crop}
codec: {encoder: dac-44khz, weights: /models/dac.pth, sha256: 0123...}
audio: {encoder: beats-iter3-plus-as2m}       # features of the sound, for training
frames: {fps: 10, width: 64, height: 64}      # pixels as they are, for models that see the picture
waveform: {rate: 16000, channels: 2}          # samples as they are; only without a codec"""


class RecipeError(ValueError):
    """A recipe that cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Template:
    """Recipe whose encoders may still lack their sha256, and the weights files that it names."""

    recipe: Recipe
    weights: Mapping[str, str]
    """role -> local path, for the roles that name one."""


def find(name: str) -> Template:
    """Recipe by name, or own recipe by the path of its YAML file.

    Raises RecipeError listing the choices, CheckpointError if the bundled model is damaged.
    """
    if name == MINI:
        return Template(bundled(), {})
    if name in TEMPLATES:
        return Template(TEMPLATES[name], {})
    if name.endswith((".yaml", ".yml")):
        return from_yaml(name)
    raise RecipeError(
        f"no recipe {name!r}: choose one of {', '.join(NAMES)}, or give a .yaml file such as\n{YAML_HELP}"
    )


def bundled() -> Recipe:
    """Recipe of the bundled model for a store: without overlap, and mono as the sound of its codec. All encoders are in
    its checkpoint. Raises CheckpointError."""
    from v2a_models.checkpoint_files import find_checkpoint, read_config, read_recipe

    folder = find_checkpoint(MINI)
    encoders = tuple(Encoder(role, MINI, "") for role in ("codec", "semantic", "sync"))
    recipe = read_recipe(folder, read_config(folder))
    return replace(recipe, name=MINI, overlap_s=0.0, channels=1, encoders=encoders)


def from_yaml(path: str) -> Template:
    """Read a user's own recipe. Raises RecipeError naming the wrong line or field."""
    import yaml  # type: ignore[import-untyped]

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} is not a recipe; a recipe looks like this:\n{YAML_HELP}")
    try:
        return _from_values(values)
    except (TypeError, ValueError, AttributeError) as error:
        raise RecipeError(f"{path}: {error}") from error


def _from_values(values: dict[str, Any]) -> Template:
    fields = {"name", "window_s", "overlap_s", "semantic", "sync", "audio", "codec", "frames", "waveform"}
    _check_names(values, fields, "the recipe")
    encoders, weights = [], {}
    views: dict[str, View | None] = {}
    for role in ("semantic", "sync", "audio", "codec"):
        part = values.get(role)
        if part is None:
            views[role] = None
            continue
        looks = role in ("semantic", "sync")
        view_names = {"fps", "width", "height", "fit"} if looks else set()
        _check_names(part, {"encoder", "weights", "sha256"} | view_names, role)
        if "encoder" not in part:
            raise ValueError(f"{role} needs an `encoder`")
        encoders.append(Encoder(role, str(part["encoder"]), str(part.get("sha256", ""))))
        if part.get("weights"):
            weights[role] = str(part["weights"])
        if looks:
            views[role] = _view(part, role)
    if values.get("frames") is not None:
        _check_names(values["frames"], {"fps", "width", "height", "fit"}, "frames")
        views["frames"] = _view(values["frames"], "frames")
    sound = values.get("waveform")
    if sound is not None:
        _check_names(sound, {"rate", "channels"}, "waveform")
        if values.get("codec") is not None:
            raise ValueError("a recipe keeps either codec tokens or the waveform, not both")
    sound = sound or {}
    recipe = Recipe(
        name=str(values.get("name", "own")),
        window_s=_number(values.get("window_s", 8.0), "window_s", 0.1, 60),
        overlap_s=_number(values.get("overlap_s", 0.0), "overlap_s", 0, 60),
        semantic=views["semantic"],
        sync=views["sync"],
        frames=views.get("frames"),
        sample_rate=int(_number(sound.get("rate", grid.SAMPLE_RATE), "waveform.rate", 1000, 192_000)),
        channels=int(_number(sound.get("channels", 1), "waveform.channels", 1, 2)),
        waveform=bool(sound),
        encoders=tuple(sorted(encoders, key=lambda encoder: encoder.role)),
    )
    if not recipe.views:
        raise ValueError("a recipe needs pictures: `semantic`, `sync` or `frames`")
    return Template(recipe, weights)


def _view(part: dict[str, Any], what: str) -> View:
    missing = sorted({"fps", "width", "height"} - set(part))
    if missing:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    fit = part.get("fit", "squeeze")
    if fit not in ("squeeze", "crop"):
        raise ValueError(f"{what}.fit must be squeeze or crop, not {fit!r}")
    return View(
        _number(part["fps"], f"{what}.fps", 0.1, 120),
        int(_number(part["width"], f"{what}.width", 1, 2048)),
        int(_number(part["height"], f"{what}.height", 1, 2048)),
        fit,
    )


def _number(value: Any, what: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{what} must be a number from {least:g} to {most:g}, not {value!r}")
    return value


def _check_names(part: Any, allowed: set[str], what: str) -> None:
    if not isinstance(part, dict):
        raise ValueError(f"{what} must be a table of names and values, not {part!r}")
    unknown = sorted(str(name) for name in set(part) - allowed)
    if unknown:
        raise ValueError(f"{what} has unknown fields {unknown}; known: {sorted(allowed)}")


def resolve(
    template: Template, weights_files: Mapping[str, str], overlap_s: float | None
) -> tuple[Recipe, dict[str, str]]:
    """Recipe with the sha256 of every encoder, and role -> weights file (`mini` for the bundled ones).

    weights_files: paths by role, which override those in the template. Raises RecipeError or WeightsError
    for a role without an encoder, missing weights, or a wrong sha256.
    """
    from v2a_models.encoders import published

    recipe = template.recipe
    if overlap_s is not None:
        try:
            recipe = replace(recipe, overlap_s=overlap_s)
        except ValueError as error:
            raise RecipeError(f"--overlap-s: {error}") from error
    roles = [encoder.role for encoder in recipe.encoders]
    strangers = sorted(set(weights_files) - set(roles))
    if strangers:
        raise RecipeError(
            f"--weights: the recipe {recipe.name!r} has no {', '.join(strangers)}; it has {roles}"
        )
    files, encoders, missing = {}, [], []
    for encoder in recipe.encoders:
        try:
            weights = weights_files.get(encoder.role) or template.weights.get(encoder.role)
            file, digest = _resolve_encoder(encoder, weights)
            if file == MINI and encoder.role == "semantic":
                _check_size(recipe)
        except published.WeightsError as error:
            missing.append(str(error))  # report all of them at once
            continue
        files[encoder.role] = file
        encoders.append(replace(encoder, sha256=digest))
    if missing:
        raise published.WeightsError("\n".join(missing))
    return replace(recipe, encoders=tuple(encoders)), files


def _check_size(recipe: Recipe) -> None:
    """Raise RecipeError if a recipe shows the bundled semantic encoder pictures of a size that it cannot read."""
    ours, theirs = recipe.view("semantic"), bundled().view("semantic")
    if (ours.width, ours.height) != (theirs.width, theirs.height):
        raise RecipeError(
            f"the bundled model's semantic encoder sees pictures of {theirs.width} x {theirs.height} pixels "
            f"({theirs.fit}), the recipe {recipe.name!r} has {ours.width} x {ours.height}"
        )


def _resolve_encoder(encoder: Encoder, weights: str | None) -> tuple[str, str]:
    """Weights file of an encoder (or `mini`), and its sha256."""
    from v2a_models.checkpoint_files import find_checkpoint
    from v2a_models.encoders import published

    if encoder.name == MINI:
        if encoder.role == "audio":
            raise published.WeightsError(
                f"the bundled model has no audio encoder: choose one of {published.names('audio')}"
            )
        return MINI, published.check(find_checkpoint(MINI) / "model.safetensors", encoder.sha256)
    path = published.find_weights(encoder.name, encoder.role, weights)
    expected = encoder.sha256 or published.get(encoder.name, encoder.role).sha256
    return str(path.resolve()), published.check(path, expected)

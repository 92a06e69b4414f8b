"""Facts about a model that a job needs before it starts, read from its checkpoint without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from v2a_models.generator import Generator
    from v2a_models.recipe import Recipe


@dataclass(frozen=True)
class ModelInfo:
    """Facts about a generator."""

    recipe: Recipe
    name: str
    sha256: str
    streams: bool
    context_frames: int
    follows_text: bool = False
    writes_captions: bool = False
    inpaints: bool = False
    negative: str = ""
    """Negative prompt by default."""
    level: str = ""
    """Level of the sound (`v2a_models.codec.level`); empty for sound as the codec gives it."""


def model_info(model: str) -> ModelInfo:
    """Facts about a model of dub: a checkpoint or an object reference. Raises CheckpointError if there is none."""
    from v2a_models.object_reference import is_reference, load_model

    if is_reference(model):
        return _generator_info(load_model(model))
    return checkpoint_info(model)


def _generator_info(generator: Generator) -> ModelInfo:
    facts = generator.recipe, generator.name, generator.sha256, generator.streams, generator.context_frames
    level = "" if generator.level == type(generator.level)() else str(generator.level)
    return ModelInfo(
        *facts,
        follows_text=generator.follows_text,
        writes_captions=generator.writes_captions,
        inpaints=generator.inpaints,
        level=level,
    )


def checkpoint_info(model: str) -> ModelInfo:
    """Facts about a checkpoint on disk. Only the workers load its weights.

    Raises CheckpointError, with the choices if there is none of this name.
    """
    from v2a_models.checkpoint_files import (
        CheckpointError,
        checked_sha256,
        find_checkpoint,
        inpaints,
        read_config,
        read_level,
        read_recipe,
        writes_captions,
    )
    from v2a_models.vatt.language import check_adapter, usual_negative

    folder = find_checkpoint(model)
    config = read_config(folder)
    check_adapter(config)
    if not config.get("makes_sound", True):
        raise CheckpointError(
            f"{folder} has only finished stage 1 (pictures); train stage 2: "
            f"v2a train {config['system']} STORE --start {folder} --set stage=2 --out NEW"
        )
    return ModelInfo(
        recipe=read_recipe(folder, config),
        name=str(config.get("name", folder.name)),
        sha256=checked_sha256(folder, config),
        streams=bool(config.get("streams", False)),
        context_frames=_context(folder, config),
        follows_text=bool(config.get("follows_text", False)),
        writes_captions=writes_captions(config),
        inpaints=inpaints(config),
        negative=usual_negative(config),
        level=str(read_level(folder, config)) if "level" in config else "",
    )


MOST_CLASSES = 200
"""Classes of sound that are named; a hostile checkpoint may list millions."""

LONGEST_CONTEXT = 1 << 16
"""Frames before a segment that a streaming model may want."""


def _context(folder: Path, config: dict[str, Any]) -> int:
    from v2a_models.checkpoint_files import CheckpointError

    n = config.get("context_frames", 0)
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= LONGEST_CONTEXT:
        raise CheckpointError(
            f"{folder}/config.json: context_frames is {n!r}, not from 0 to {LONGEST_CONTEXT}; copy the folder again"
        )
    return n


def scav_sha256(model: str) -> str:
    """SHA-256 of the SCAV that ranks a model's candidates (of the whole model for an object reference).

    Raises ValueError if the model has no SCAV, CheckpointError if the SCAV is damaged.
    """
    from v2a_models.checkpoint_files import CheckpointError, find_checkpoint, read_config, sha256
    from v2a_models.object_reference import is_reference, load_model

    if is_reference(model):
        generator = load_model(model)
        digest = generator.sha256 if generator.scav is not None else ""
    else:
        folder = find_checkpoint(model)
        config = read_config(folder)
        digest = str(config.get("scav_sha256", "")) if config.get("scav") else ""
        if digest and sha256(folder / "scav.safetensors") != digest:
            raise CheckpointError(
                f"{folder}/scav.safetensors is truncated or belongs to another model; copy it again"
            )
    if not digest:
        raise ValueError("it has no SCAV to rank candidates; drop --candidates")
    return digest


def window_settings(model: ModelInfo, segment_s: float, joins: str = "auto") -> dict[str, Any]:
    """Fields of `DubJob` that define how films are cut into windows for a model.

    Raises ValueError for a recipe without pictures, and for joins that the model does not support.
    """
    from pipelines.dub import segments
    from v2a_models import grid, longform

    recipe = model.recipe
    if not recipe.views:
        raise ValueError(f"its recipe {recipe.name!r} has no pictures")
    inpaints = model.inpaints and not model.streams
    if joins == "two-wave" and not inpaints:
        raise ValueError("it does not support in-painting of codec tokens: drop --joins two-wave")
    if inpaints and joins != "crossfade":
        fps = max(view.fps for view in recipe.views.values())
        try:
            layout = longform.Layout.of(recipe.window, recipe.overlap, fps, segment_s, recipe.sample_rate)
            return dict(window=recipe.window, overlap=0, windows_per_segment=layout.windows, layout=layout)
        except ValueError:  # windows that are too short for it are crossfaded
            if joins == "two-wave":
                raise
    if not model.streams:
        per_segment = segments.windows_per_segment(
            segment_s, recipe.window, recipe.overlap, recipe.sample_rate
        )
        return dict(window=recipe.window, overlap=recipe.overlap, windows_per_segment=per_segment)
    frame = grid.samples_per_frame(recipe.view("frames").fps, recipe.sample_rate)
    return dict(
        window=segments.whole_frames(segment_s, frame, recipe.sample_rate), overlap=0, windows_per_segment=1,
        streams=True, frame=frame, context=frame * model.context_frames,
    )  # fmt: skip


def known_sounds(model: str) -> str:
    """Classes of sound that a checkpoint was trained for, in words; empty where it does not say."""
    from pipelines.foley.scene import QUIET
    from v2a_models.checkpoint_files import find_checkpoint, read_config
    from v2a_models.object_reference import is_reference

    if is_reference(model):
        return ""
    classes = read_config(find_checkpoint(model)).get("classes", [])[:MOST_CLASSES]
    return ", ".join(name.replace("_", " ") for name in classes if isinstance(name, str) and name != QUIET)


def model_place(model: str) -> str:
    """The name of a bundled model, else the absolute path, under which workers find a checkpoint."""
    from jobs.common.checks import full_address
    from v2a_models.checkpoint_files import bundled_names

    return model if not model or model in bundled_names() else full_address(model)


def check_captioner(model: str, recipe: Any = None) -> None:
    """Raises ValueError for a model that writes no captions, or takes other features than those of `recipe`."""
    from v2a_models.checkpoint_files import find_checkpoint, read_config, read_recipe, writes_captions
    from v2a_models.vatt.language import check_adapter

    folder = find_checkpoint(model)
    config = read_config(folder)
    check_adapter(config)
    if not writes_captions(config):
        raise ValueError(f"the model {model!r} writes no captions; use a vatt or a vatt-converter")
    if recipe is None:
        return
    theirs, ours = read_recipe(folder, config).encoder("semantic"), recipe.encoder("semantic")
    if theirs is None or theirs != ours:
        raise ValueError(
            f"the model {model!r} was trained on another encoder's features than this store holds"
        )

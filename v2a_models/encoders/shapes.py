"""Output shapes of a recipe's encoders, computed without loading them or torch."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from v2a_models import grid
from v2a_models.encoders.sound_classes import SOUND_CLASSES
from v2a_models.recipe import Recipe

MINI = "mini"
MINI_SYNC_DIM = 128
MINI_CODEBOOKS, FORMER_CODEBOOKS = 6, 4
"""Codebooks of the bundled codec, and of that of the first bundled model, for drawings."""

EFFICIENTNET = "efficientnet-lite0"
EFFICIENTNET_DIM = 1280
S3D_DIM = 1024
DAC_CODEBOOKS = 9
BEATS_DIM = 768
BEATS_FPS = 6.25
"""Features per second: patches of 16 frames of 10 ms."""


def feature_shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Shape of every array column of one window.

    semantic [T1, D1], sync [T2, D2], audio [T3, D3], codes [K, L], frames [T, H, W, 3], waveform [channels, samples];
    only those of the recipe. Raises ValueError for a model unknown to open_clip, and for an audio encoder of the
    bundled model, which has none.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for role in ("semantic", "sync"):
        encoder, view = recipe.encoder(role), getattr(recipe, role)
        if encoder is None or view is None:
            continue
        n_frames = grid.frame_count(recipe.window_s, view.fps)
        if encoder.name == MINI:
            shapes[role] = (n_frames, MINI_SYNC_DIM if role == "sync" else mini_semantic_dim(recipe))
        elif role == "sync":
            shapes[role] = (s3d_steps(n_frames), S3D_DIM)
        elif encoder.name == EFFICIENTNET:
            shapes[role] = (n_frames, EFFICIENTNET_DIM)
        else:
            shapes[role] = (n_frames, clip_dim(encoder.name.split("/")[0]))
    audio = recipe.encoder("audio")
    if audio is not None:
        if audio.name == MINI:
            raise ValueError("the bundled model has no audio encoder")
        shapes["audio"] = (beats_steps(recipe.window_s), BEATS_DIM)
    codec = recipe.encoder("codec")
    if codec is not None:
        levels = mini_codebooks(recipe) if codec.name == MINI else DAC_CODEBOOKS
        shapes["codes"] = (levels, recipe.codec_frames)
    if recipe.frames is not None:
        n_frames = grid.frame_count(recipe.window_s, recipe.frames.fps)
        shapes["frames"] = (n_frames, recipe.frames.height, recipe.frames.width, 3)
    if recipe.waveform:
        shapes["waveform"] = (recipe.channels, recipe.window)
    return shapes


def sees_footage(recipe: Recipe) -> bool:
    """True if the mini encoders of a recipe are those for real footage, False if they are those for drawings.

    Only the former see whole pictures at the size of a published image classifier.
    """
    return recipe.semantic is not None and recipe.semantic.width == 224


def mini_semantic_dim(recipe: Recipe) -> int:
    """Width of the mini semantic features of a recipe: a share for each class of sound, or a CLIP vector."""
    return 1 + len(SOUND_CLASSES) if sees_footage(recipe) else 128


def mini_codebooks(recipe: Recipe) -> int:
    """Codebooks of a recipe's mini codec."""
    encoder = recipe.encoder("semantic")
    of_drawings = encoder is not None and encoder.name == MINI and not sees_footage(recipe)
    return FORMER_CODEBOOKS if of_drawings else MINI_CODEBOOKS


def s3d_steps(n_frames: int) -> int:
    """Output steps of the published S3D for `n_frames`: time is strided by eight."""
    return (n_frames + 3) // 8


def beats_steps(duration_s: float) -> int:
    """Output steps of BEATs for `duration_s` seconds of sound; the last one may reach past the end."""
    return grid.frame_count(duration_s, BEATS_FPS)


def clip_dim(model: str) -> int:
    """Vector width of an open_clip model. Raises ValueError if open_clip has no such model."""
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None and spec.origin is not None
    config = Path(spec.origin).parent / "model_configs" / f"{model}.json"
    if not config.is_file():
        raise ValueError(f"open_clip has no model {model!r}")
    return int(json.loads(config.read_text())["embed_dim"])

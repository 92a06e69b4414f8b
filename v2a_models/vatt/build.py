"""Build untrained VATT systems for a feature store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from v2a_models.checkpoint import load_generator
from v2a_models.checkpoint_files import CheckpointError, bundled_names, find_checkpoint, read_config
from v2a_models.checkpoint_modules import load_scav
from v2a_models.encoders.encoders import load_encoders
from v2a_models.recipe import Encoder, Recipe
from v2a_models.vatt import audio, language
from v2a_models.vatt.config import CHANGEABLE, VATTConfig, changed
from v2a_models.vatt.converter import ConverterConfig
from v2a_models.vatt.converter_generator import ConverterGenerator
from v2a_models.vatt.generator import GENERATORS, VATTGenerator

BUNDLED = "vatt-mini"

_AUDIO = ("n_codebooks", "sync_dim", "dim", "separate", "shared", "heads", "dropout", "modulated")
_ADAPTER = ("rank", "alpha", "dropout", "visual_tokens", "max_text", "words")
_SMALL = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def option_names(system: str) -> list[str]:
    """Option names that `new_vatt` accepts for a system."""
    if system == "vatt-converter":
        return sorted({"base", "stage", "tokenizer", *_ADAPTER, *_SMALL})
    return sorted({*_AUDIO, *CHANGEABLE, *([] if system == "vatt-v" else ["converter"])})


def new_vatt(
    system: str, recipe: Recipe, size: str, files: Mapping[str, str], options: Mapping[str, Any]
) -> Any:
    """Build an untrained model; `files` are the checked weights of the recipe's encoders (role -> path).

    vatt and vatt-cross-attn need a trained converter: option `converter` names its checkpoint (a vatt-converter or a
    vatt), by default the bundled one. vatt-converter takes `base`, a language model, or builds a small one around
    `tokenizer` (JSON).

    Raises ValueError for unsuitable options or stores, CheckpointError for unusable weights.
    """
    if unknown := sorted(set(options) - set(option_names(system))):
        raise ValueError(f"unknown model options {unknown}; known: {option_names(system)}")
    encoders = load_encoders(recipe, files).by_role
    needed = {"semantic"} if system == "vatt-converter" else {"semantic", "codec"}
    if missing := sorted(needed - set(encoders)):
        raise ValueError(
            f"{system} needs a store with {' and '.join(sorted(needed))} columns; the recipe {recipe.name!r} lacks "
            f"{missing}"
        )
    if system == "vatt-converter":
        return _converter(recipe, encoders, dict(options))
    return _vatt(system, recipe, size, encoders, dict(options))


def _converter(recipe: Recipe, encoders: Any, options: dict[str, Any]) -> ConverterGenerator:
    semantic: Any = encoders["semantic"]
    base, stage = str(options.pop("base", language.OWN)), int(options.pop("stage", 2))
    adapter = {name: options.pop(name) for name in _ADAPTER if name in options}
    if base != language.OWN:
        if options:
            raise ValueError(f"{sorted(options)} are options of a small language model (base=own)")
        return ConverterGenerator(recipe, semantic, ConverterConfig(semantic.dim, base, **adapter), stage)
    tokenizer = options.pop("tokenizer", "")
    if not tokenizer:
        raise ValueError(
            "a small language model (base=own) needs a store with texts to train its tokenizer on"
        )
    own = {**language.SMALL, **options}
    own["num_key_value_heads"] = own["num_attention_heads"]
    config = ConverterConfig(semantic.dim, own=own, tokenizer=tokenizer, **{"max_text": 32, **adapter})
    return ConverterGenerator(recipe, semantic, config, stage)


def _vatt(system: str, recipe: Recipe, size: str, encoders: Any, options: dict[str, Any]) -> VATTGenerator:
    codec, semantic = encoders["codec"], encoders["semantic"]
    sync: nn.Module | None = (
        encoders["sync"] if recipe.sync is not None and recipe.encoder("sync") is not None else None
    )
    converter = None
    if system != "vatt-v":
        converter = trained_converter(str(options.pop("converter", "")), recipe)
        text = converter.converter.config
        condition_dim = converter.converter.states_dim
    else:
        text, condition_dim = None, semantic.dim
    sizes = {name: options.pop(name) for name in _AUDIO if name in options}
    fixed = dict(
        n_codebooks=codec.n_codebooks, codebook_size=codec.codebook_size, condition_dim=condition_dim
    )
    fixed["join"] = "cross" if system == "vatt-cross-attn" else "prefix"
    sizes = {"sync_dim": getattr(sync, "dim", 0), **fixed, **sizes}
    settings = changed(VATTConfig(audio.sized(size, **sizes), text), options)
    generator = VATTGenerator(recipe, codec, semantic, sync, settings)
    if converter is not None and generator.converter is not None:
        generator.converter.load_state_dict(converter.converter.state_dict())
    generator.audio.recompute = size == "large"
    if recipe.bundled:
        generator.scav = load_scav("mini")
    return generator


def trained_converter(source: str, recipe: Recipe) -> Any:
    """Load a generator with a trained converter for features of `recipe`. Raises CheckpointError or ValueError."""
    if not source and BUNDLED not in bundled_names():
        raise ValueError(
            "this system needs a language model trained on visual features: train one with v2a train vatt-converter "
            "STORE --out DIR and give it with --set converter=DIR"
        )
    folder = find_checkpoint(source or BUNDLED)
    found = read_config(folder).get("system")
    if found not in GENERATORS or found == "vatt-v":
        raise CheckpointError(f"{folder} is a {found} and has no converter; give a vatt-converter or a vatt")
    generator = load_generator(str(folder))
    theirs, ours = generator.recipe.encoder("semantic"), recipe.encoder("semantic")
    if theirs is None or ours is None or theirs.sha256 != ours.sha256:
        raise ValueError(
            f"the converter of {folder} was trained on semantic features of {_words(theirs)}, the store has those of "
            f"{_words(ours)}: train one on this store (v2a train vatt-converter STORE --out DIR) and give it with "
            "--set converter=DIR"
        )
    return generator


def _words(encoder: Encoder | None) -> str:
    return f"{encoder.name} {encoder.sha256[:12]}" if encoder is not None else "an encoder of its own"

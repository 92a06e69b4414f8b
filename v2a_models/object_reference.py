"""Generators named by a Python object reference, `package.module:name`, instead of a checkpoint.

The object is called without arguments and returns a `Generator`. This is how to try a model of your own: every process
imports the module, so it must be installed there or lie on PYTHONPATH. A reference runs code: callers take it from the
command line only. For names that a file holds there is `checkpoint.load_generator`, which takes no reference.
"""

from __future__ import annotations

import pkgutil
import re
from typing import TYPE_CHECKING

from v2a_models.checkpoint_files import CheckpointError

if TYPE_CHECKING:
    from v2a_models.generator import Generator

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_reference(model: str) -> bool:
    """True for `package.module:name`, and so neither for a path nor for a URI."""
    return _REFERENCE.fullmatch(model) is not None


def load_model(model: str, device: str = "cpu") -> Generator:
    """The generator of an object reference, or of a checkpoint, in evaluation mode.

    Raises CheckpointError, for a reference if the module cannot be imported, the call fails or returns no Generator.
    """
    if not is_reference(model):
        from v2a_models.checkpoint import load_generator  # with all systems

        return load_generator(model, device)
    from v2a_models.generator import Generator

    try:
        generator = pkgutil.resolve_name(model)()
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{error}: install the package of {model}, or name its folder in PYTHONPATH, on every machine"
        ) from error
    except Exception as error:  # whatever somebody's module raises
        raise CheckpointError(f"{model} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(generator, Generator):
        raise CheckpointError(f"{model} returned {type(generator).__name__}, not a v2a.Generator")
    return generator.to(device).eval()

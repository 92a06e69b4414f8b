"""Checks that several verbs make of their options, and readers of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.common.verb import WrongUsage, differences


def check_places(archive: str, out: str, name: str, writes: bool) -> None:
    """Raises WrongUsage or StorageError unless `archive` can be read, and `out` (called `name`) lies apart from
    it and can be written."""
    from pipelines import storage

    storage.check_readable(archive)
    if storage.is_within(archive, out):
        raise WrongUsage(f"{name} lies inside ARCHIVE ({out} in {archive}); choose a folder outside")
    if storage.is_within(out, archive):
        raise WrongUsage(f"ARCHIVE lies inside {name} ({archive} in {out}); choose another {name}")
    if writes:
        storage.check_writable(out)


def check_not_foreign(out: str, name: str) -> None:
    """Raises WrongUsage if `out` holds files, which are not ours: they might be overwritten."""
    from pipelines import storage

    if not storage.exists(out):
        return
    for info in storage.list_tree(out):
        if not info.problem and not info.path.rpartition("/")[2].startswith("."):
            raise WrongUsage(
                f"{name} ({out}) holds files that v2a did not make, such as {info.path}; choose an empty folder"
            )


def resolve_precision(wanted: str) -> str:
    """float32 or bfloat16, what this machine's hardware is good at where `wanted` is "auto"."""
    import torch

    from v2a_models.generator import best_precision

    return best_precision("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def full_address(place: str) -> str:
    """The full address of an archive or an output folder."""
    from pipelines import storage

    return place if storage.is_remote(place) else storage.local_path(place)


def full_model(model: str) -> str:
    """Where a model is, from any folder: a name stays a name."""
    return os.path.abspath(model) if os.path.isdir(model) else model


def by_role(weights: Sequence[str]) -> dict[str, str]:
    """`role=file` as a dictionary. Raises WrongUsage."""
    wrong = next((item for item in weights if not all(item.partition("="))), None)
    if wrong is not None:
        raise WrongUsage(f"--weights takes ROLE=FILE, for instance codec=/models/dac.pth, not {wrong!r}")
    return {role: file for role, _, file in (item.partition("=") for item in weights)}


def parse_options(words: tuple[str, ...]) -> dict[str, Any]:
    """`depth=4` and the like as names and values. Raises WrongUsage."""
    options: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise WrongUsage(f"--set takes NAME=VALUE, for instance depth=4, not {word!r}")
        try:
            options[name] = json.loads(text)
        except ValueError:
            options[name] = text
    return options


def check_same(out: str, what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises WrongUsage if OUT holds `what` (a training, a search) with other settings."""
    if differing := differences(before, now):
        raise WrongUsage(
            f"--out ({out}) holds {what} with other settings:\n{differing}\n"
            "Use those to go on with it, or choose another --out."
        )


def weights(words: Sequence[str]) -> dict[str, str]:
    """`network=file` as a dictionary. Raises WrongUsage."""
    found = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise WrongUsage(
                f"--weights takes NETWORK=FILE, for instance vggish=/models/vggish.pth, not {word!r}"
            )
        found[name] = path
    return found


def check_out(out: str) -> None:
    """Raises WrongUsage unless `out` names a .parquet file."""
    if not out.endswith(".parquet"):
        raise WrongUsage(f"--out must be a .parquet file, not {out}")

"""Checks and parsers of options that several verbs share."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.cli import option_fields
from jobs.common.verb import WrongUsage, differences


def check_places(archive: str, out: str, name: str, writes: bool) -> None:
    """Raises WrongUsage or StorageError unless `archive` is readable and `out` lies apart from it.

    `name` is the placeholder of `out` in messages. `writes`: check that `out` is writable, too.
    """
    from pipelines import storage

    storage.check_readable(archive)
    if storage.is_within(archive, out):
        raise WrongUsage(f"{name} lies inside ARCHIVE ({out} in {archive}); choose a folder outside")
    if storage.is_within(out, archive):
        raise WrongUsage(f"ARCHIVE lies inside {name} ({archive} in {out}); choose another {name}")
    if writes:
        storage.check_writable(out)


def check_not_foreign(out: str, name: str) -> None:
    """Raises WrongUsage if `out` holds files of somebody else, which might be overwritten."""
    from pipelines import storage

    if not storage.exists(out):
        return
    for info in storage.list_tree(out):
        if storage.PRIVATE_FOLDER in info.path.split("/")[:-1]:
            continue  # what a run that was killed at its very beginning has left
        if not info.problem and not info.path.rpartition("/")[2].startswith("."):
            raise WrongUsage(
                f"{name} ({out}) holds files that v2a did not write, such as {info.path}; choose an empty folder"
            )


def resolve_precision(precision: str) -> str:
    """The precision itself, or for "auto" the one that this machine's hardware is fast at."""
    import torch

    from v2a_models.generator import best_precision

    return (
        best_precision("cuda" if torch.cuda.is_available() else "cpu") if precision == "auto" else precision
    )


def full_address(place: str) -> str:
    """The absolute path of a local folder; remote addresses stay as they are."""
    from pipelines import storage

    return place if storage.is_remote(place) else storage.local_path(place)


def full_model(model: str) -> str:
    """The absolute path of a checkpoint folder; other names of models stay as they are."""
    return os.path.abspath(model) if os.path.isdir(model) else model


LARGEST_SEED = 2**63 - 1
"""Seeds are columns of tables (int64), and numpy takes none below 0."""

LARGEST_WHOLE, LARGEST_NUMBER = 2**31 - 1, 1e12
"""Bounds of all other whole numbers (columns of int32), and of numbers in general."""


def check_values(config: Any) -> None:
    """Raises WrongUsage for a number that fits into no column, NaN, and text that is not UTF-8, in any field."""
    for item, value in option_fields(config):
        flag = "--" + item.name.replace("_", "-")
        for one in value if isinstance(value, (tuple, list)) else [value]:
            if isinstance(one, str) and item.name not in (
                "archive",
                "out",
            ):  # whose names may be of any bytes
                try:
                    one.encode()
                except UnicodeEncodeError as error:
                    raise WrongUsage(f"{flag} is not UTF-8 text: {one!r}") from error
            elif isinstance(one, bool) or not isinstance(one, (int, float)):
                continue
            elif item.name == "seed":
                if not 0 <= one <= LARGEST_SEED:
                    raise WrongUsage(f"{flag} must be a whole number from 0 to {LARGEST_SEED}, not {one}")
            elif isinstance(one, int) and abs(one) > LARGEST_WHOLE:
                raise WrongUsage(f"{flag} must be from {-LARGEST_WHOLE} to {LARGEST_WHOLE}, not {one}")
            elif not abs(one) <= LARGEST_NUMBER:
                raise WrongUsage(
                    f"{flag} must be from {-LARGEST_NUMBER:g} to {LARGEST_NUMBER:g}, not {one:g}"
                )


def at_least(config: Any, **lowest: float) -> None:
    """Raises WrongUsage if a field of `config` is below its bound, infinite or NaN; None passes. `check_values` checks
    all other fields."""
    for name, bound in lowest.items():
        value = getattr(config, name)
        if value is not None and not bound <= value < math.inf:
            raise WrongUsage(f"--{name.replace('_', '-')} must be at least {bound}, not {value}")
    check_values(config)


def named_values(
    words: Sequence[str], option: str, form: str, example: str, *, empty: bool = False
) -> dict[str, str]:
    """NAME=VALUE words as a dictionary. Raises WrongUsage, which quotes `form` and `example`.

    empty: allow a VALUE without characters.
    """
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals or not (value or empty):
            raise WrongUsage(f"{option} takes {form}, such as {example}, not {word!r}")
        values[name] = value
    return values


def encoder_weights(words: Sequence[str]) -> dict[str, str]:
    """The words of --weights as role -> file. Raises WrongUsage."""
    return named_values(words, "--weights", "ROLE=FILE", "codec=/models/dac.pth")


def network_weights(words: Sequence[str]) -> dict[str, str]:
    """The words of --weights as network -> file. Raises WrongUsage."""
    return named_values(words, "--weights", "NETWORK=FILE", "vggish=/models/vggish.pth")


def model_settings(words: Sequence[str]) -> dict[str, Any]:
    """The words of --set as name -> value: JSON where it is valid, else text. Raises WrongUsage."""
    settings: dict[str, Any] = {}
    for name, text in named_values(words, "--set", "NAME=VALUE", "depth=4", empty=True).items():
        if not name.isidentifier():
            raise WrongUsage(f"--set takes NAME=VALUE, such as depth=4, not {f'{name}={text}'!r}")
        try:
            settings[name] = json.loads(text)
        except ValueError:
            settings[name] = text
    return settings


def check_same(out: str, what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises WrongUsage if `out` holds `what` (such as "a training") with other settings."""
    if differing := differences(before, now):
        raise WrongUsage(
            f"--out ({out}) holds {what} with other settings:\n{differing}\n"
            "Use the same settings to resume, or choose another --out."
        )


def check_out(out: str) -> None:
    """Raises WrongUsage unless `out` names a .parquet file that can be written: before the work, not after it."""
    if not out.endswith(".parquet"):
        raise WrongUsage(f"--out must be a .parquet file, not {out}")
    check_file(out)


def check_file(place: str) -> None:
    """Raises WrongUsage unless a file can be written at `place`."""
    from pipelines import storage

    place = full_address(place)
    try:
        storage.check_writable(storage.parent(place))
        storage.check_name(place)
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error

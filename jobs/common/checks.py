"""Checks and parsers of options that several verbs share."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from jobs.cli import option_fields
from jobs.common.verb import WrongUsage, differences

if TYPE_CHECKING:
    from pipelines.archive.selection import Selection


C = TypeVar("C")


def selected(config: C, out: str = "", rates: Mapping[str, Fraction] | None = None) -> tuple[C, Selection]:
    """The configuration with a folder as its archive, whatever ARCHIVE names, and the files that are taken from it.

    out: folder of the verb's output, in which no file is taken. rates: rates of films by path, which go before --fps.
    Reads the list of --files. Raises WrongUsage, also if
    nothing is selected.
    """
    from pipelines import storage
    from pipelines.archive.file_list import parse_list
    from pipelines.archive.picture_runs import Rates
    from pipelines.archive.selection import Selection

    try:
        config = _with_folder(config)
        root, options = config.archive, config.selection  # type: ignore[attr-defined]
        at_least(options, limit=1)
        lines = parse_list(_read_list(options.files)) if options.files else None
        aside = out if is_narrow(config) else ""
        stated = Rates(None if options.fps is None else _rate(options.fps), rates or {})
        selection = Selection(
            root, options.include, options.exclude, lines, options.limit, aside, options.join_by, stated
        )
        reason = selection.nothing()
    except (storage.StorageError, ValueError) as error:
        raise WrongUsage(str(error)) from error
    if reason:
        raise WrongUsage(reason)
    return config, selection


def _rate(text: str) -> Fraction:
    """The rate of --fps. Raises ValueError."""
    from pipelines import storage

    try:
        return storage.parse_rate(text)
    except ValueError as error:
        raise ValueError(f"--fps: {error}") from error


def _read_list(place: str) -> bytes:
    """The text of --files. Raises StorageError."""
    from pipelines import storage

    if place == "-":
        return sys.stdin.buffer.read()
    if storage.is_remote(place):
        return storage.read_bytes(place)
    with (
        storage.translated(place),
        open(storage.local_path(place), "rb") as file,
    ):  # may be a pipe of the shell
        return file.read()


def is_narrow(config: Any) -> bool:
    """True if the options name the files to take, so that an output folder may lie beside them in the archive."""
    return bool(config.selection.include or config.selection.files)


def _with_folder(config: C) -> C:
    """The configuration with a folder as its archive: a file or a glob in its place becomes a pattern to include.

    Raises WrongUsage, StorageError.
    """
    from pipelines import storage
    from pipelines.archive.patterns import exact, is_pattern, split_glob

    place, options = config.archive, config.selection  # type: ignore[attr-defined]
    if storage.is_remote(place):
        folder, name = storage.parent(place), place.rpartition("/")[2]
        is_folder = not name or storage.is_dir(place)
        is_file = not is_folder and _is_key(folder, name)
    else:
        path = storage.local_path(place)
        folder, name = os.path.split(path if place.startswith("file://") else place)
        is_folder, is_file = os.path.isdir(path), os.path.isfile(path)
        is_file = is_file or (storage.is_run_name(name) and os.path.isdir(os.path.dirname(path)))
        target = os.path.realpath(path)
        if is_file and not storage.is_within(os.path.dirname(path), target):
            raise WrongUsage(
                f"{place} is a symbolic link that leaves its folder: give the file itself, {target}"
            )
    if is_file:
        folder, pattern = folder or ".", exact(name)
    elif not is_folder and is_pattern(place):
        folder, pattern = split_glob(place)
    else:
        return config
    if options.include:
        raise WrongUsage(f"{place} already names the files: drop --include, or give their folder as ARCHIVE")
    return dataclasses.replace(
        config,  # type: ignore[type-var]
        archive=folder,
        selection=dataclasses.replace(options, include=(pattern,)),
    )


def _is_key(folder: str, name: str) -> bool:
    """True for an object of that name; False also where there is no such bucket, which `check_readable` explains."""
    from pipelines import storage

    try:
        return isinstance(storage.look_up(folder, name), storage.FileInfo)
    except storage.StorageNotFound:
        return False


def check_places(archive: str, out: str, name: str, writes: bool, narrow: bool = False) -> None:
    """Raises WrongUsage or StorageError unless `archive` is readable and `out` lies apart from it.

    `name` is the placeholder of `out` in messages. `writes`: check that `out` is writable, too. `narrow`: `out` may lie
    in a folder of the archive (`is_narrow`).
    """
    from pipelines import storage

    storage.check_readable(archive)
    if storage.is_within(archive, out) and not (narrow and not storage.is_within(out, archive)):
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
                *("archive", "out", "files", "include", "exclude"),
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

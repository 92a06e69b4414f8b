"""Sound for silent footage, from Python.

    import v2a

    v2a.scan("films").table                            # what is there, as an Arrow table
    v2a.dub("films", "films-dubbed", loudness=-23)     # 0: all files are done
    v2a.extract("clips", "store", recipe="mini")       # features and codec tokens for training
    generator = v2a.load_generator("mini")             # a `v2a.Generator`

`import v2a` is quick: Ray, torch and PyAV are imported when they are needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.scan import ScanResult
    from v2a_models.generator import Generator

    __version__: str

__all__ = ["Generator", "__version__", "dub", "extract", "load_generator", "scan"]


def dub(archive: str | os.PathLike[str], out: str | os.PathLike[str], **options: Any) -> int:
    """Give the silent videos of `archive` a sound track, in a copy of the archive at `out`.

    Options are those of `v2a dub`, with underscores. Raises TypeError for an unknown one. Returns the exit code: 0 all
    done, 1 some files failed, 2 wrong usage, 130 interrupted. Example:

        v2a.dub("films", "dubbed", existing="mix", only="all", price_core_hour=0.04)
    """
    from jobs import dub as verb
    from jobs.common.parser import build

    return verb.run(build(verb.DubConfig, archive=os.fspath(archive), out=os.fspath(out), **options))


def scan(archive: str | os.PathLike[str], **options: Any) -> ScanResult:
    """List an archive: every file with its kind, length and sound.

    Options are those of `v2a scan`. Raises TypeError for an unknown one. Example:

        silent = [row["path"] for row in v2a.scan("films").rows if row["audio_state"] == "none"]
    """
    from jobs import scan as verb
    from jobs.common.parser import build

    return verb.run(build(verb.ScanConfig, archive=os.fspath(archive), **options))


def extract(archive: str | os.PathLike[str], store: str | os.PathLike[str], **options: Any) -> int:
    """Turn footage with sound into a feature store for training.

    Options are those of `v2a extract`, with underscores. Raises TypeError for an unknown one. Returns the exit code, as
    `dub` does. Example:

        v2a.extract("clips", "store", recipe="base", weights=("codec=/models/dac.pth",))
    """
    from jobs import extract as verb
    from jobs.common.parser import build

    return verb.run(build(verb.ExtractConfig, archive=os.fspath(archive), store=os.fspath(store), **options))


def load_generator(name: str) -> Generator:
    """A generator with its weights: `v2a.load_generator("mini")`.

    name: a bundled model, a checkpoint folder, or your own as `package.module:name`, an object that returns a
    `Generator` when called. Raises CheckpointError if there is none, or if it is damaged.
    """
    from v2a_models.object_reference import load_model

    return load_model(name)


def __getattr__(name: str) -> Any:
    if name == "Generator":
        from v2a_models.generator import Generator

        return Generator
    if name == "__version__":
        from jobs.cli import version

        return version()
    raise AttributeError(f"module 'v2a' has no attribute {name!r}")

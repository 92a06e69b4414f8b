"""Classes of sound that the bundled models know, and the words for them: the table `sound_classes.csv`."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class SoundClass:
    """Class of sound. `kind`: `event` (it begins at moments), `continuous`, or `ambience` (of a place)."""

    name: str
    kind: str
    words: str
    """The sound in words, as in "a dog barking"."""
    plural_words: str


def read_table(name: str) -> list[dict[str, str]]:
    """Rows of a CSV table in this package."""
    return list(csv.DictReader(io.StringIO(files(__package__).joinpath(name).read_text(encoding="utf-8"))))


CATALOGUE = tuple(
    SoundClass(row["class"], row["kind"], row["words"], row["plural_words"])
    for row in read_table("sound_classes.csv")
)
SOUND_CLASSES: tuple[str, ...] = tuple(item.name for item in CATALOGUE)
"""Names of all classes, in the order of the models' inputs and outputs."""
EVENT_CLASSES = frozenset(item.name for item in CATALOGUE if item.kind == "event")

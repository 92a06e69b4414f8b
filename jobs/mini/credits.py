"""Credits of the recorded sounds that weights were trained on: `credits.csv` beside them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipelines.foley.recordings import Recording

BY_COLLECTION = ("CC0-1.0", "Public domain", "MIT")
"""Licences that ask for no credit of each work: one row per collection; of others, one per recording."""
COLUMNS = ("licence", "credit", "recordings", "source")


def write_credits(recordings: Sequence[Recording], file: Path) -> None:
    """Write the table of licences and authors; synthesised takes need none. No recordings: no file."""
    rows = credit_rows(recordings)
    if not rows:
        file.unlink(missing_ok=True)
        return
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)


def credit_rows(recordings: Sequence[Recording]) -> list[tuple[str, str, int, str]]:
    """Rows (licence, credit, number of recordings, source), sorted."""
    used = Counter(
        (item.licence, item.credit, collection(item.source) if item.licence in BY_COLLECTION else item.source)
        for item in recordings
        if item.source
    )
    return sorted((licence, credit, n, source) for (licence, credit, source), n in used.items())


def collection(source: str) -> str:
    """Collection of a source such as "owner/repository: path/file.wav [https://...]": its link, else what precedes the
    colon."""
    name, _, rest = source.partition(": ")
    link = rest.rpartition("[")[2].rstrip("]")
    return link if link.startswith("https://") else name

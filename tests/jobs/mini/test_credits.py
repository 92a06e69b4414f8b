"""Credits name every author whose licence asks for it."""

from __future__ import annotations

import csv
from pathlib import Path

from jobs.mini.credits import write_credits
from pipelines.foley.recordings import Recording


def recording(licence: str, credit: str, source: str) -> Recording:
    return Recording("bell", "a.ogg", "bell/a", licence, credit, source, 0, 10, (0.0,))


def test_authors_are_named_with_their_sources(tmp_path: Path) -> None:
    file = tmp_path / "credits.csv"
    write_credits(
        [
            recording("CC0-1.0", "Ada", "ada/sounds: a/b.wav [https://example.org/pack]"),
            recording("CC0-1.0", "Ada", "ada/sounds: a/c.wav [https://example.org/pack]"),
            recording("CC0-1.0", "none required", "bob/game: sfx/d.wav"),
            recording("CC-BY-4.0", "Eve, <b>", "eve/game: e.wav"),
            recording("CC-BY-4.0", "Eve, <b>", "eve/game: f.wav"),
            recording("Apache-2.0", "", ""),
        ],
        file,
    )
    rows = list(csv.reader(file.open(encoding="utf-8")))
    assert rows == [
        ["licence", "credit", "recordings", "source"],
        ["CC-BY-4.0", "Eve, <b>", "1", "eve/game: e.wav"],
        ["CC-BY-4.0", "Eve, <b>", "1", "eve/game: f.wav"],
        ["CC0-1.0", "Ada", "2", "https://example.org/pack"],
        ["CC0-1.0", "none required", "1", "bob/game"],
    ]
    write_credits([recording("Apache-2.0", "", "")], file)
    assert not file.exists()

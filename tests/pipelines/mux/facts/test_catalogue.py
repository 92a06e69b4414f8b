"""Values of facts do not depend on the container that tells them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.facts_table import FACTS
from pipelines.mux import remux
from pipelines.mux.facts import catalogue, comparison
from pipelines.mux.files import Source
from pipelines.mux.track import Track
from tests.support.muxing import RATE

WORDS = {
    "aspect of pixels": "aspect of its pixels",
    "colour (primaries, transfer, matrix, range)": "colour transfer",
    "mastering display": "mastering display",
    "light levels": "light levels",
    "Dolby Vision": "Dolby Vision",
    "spherical video": "projection",
    "stereo pictures": "stereo",
    "rotation": "rotation or mirroring",
    "mirroring": "rotation or mirroring",
    "crop": "crop by the container",
    "order of fields": "order of fields",
    "closed captions (CEA-608)": "closed captions",
}
"""Facts that mp4 and Matroska both hold: the words of the table, and those of the report."""


def values(path: Path) -> dict[str, str]:
    with path.open("rb") as file, Source(file).open() as film:
        facts = comparison.read(film, file)
    return dict(next(track.values for track in facts.tracks.values() if track.has_picture))


@pytest.mark.parametrize("name", WORDS)
def test_mp4_and_matroska_tell_the_same(tmp_path: Path, name: str) -> None:
    [fact] = [fact for fact in FACTS if fact.name == name]
    source, copy = tmp_path / "a.mp4", tmp_path / "a.mkv"
    fact.makers[".mp4"](source)
    found = values(source)[WORDS[name]]
    remux.mux(str(source), [np.zeros((1, RATE), np.int16)], copy, Track(RATE, 0.0))
    assert found and values(copy)[WORDS[name]] == found
    fact.makers[".mkv"](tmp_path / "b.mkv")
    assert WORDS[name] in values(tmp_path / "b.mkv")


@pytest.mark.parametrize("name", ["transparency (alpha)", "HDR10+"])
def test_additions_of_matroska_are_seen(tmp_path: Path, name: str) -> None:
    [fact] = [fact for fact in FACTS if fact.name == name]
    fact.makers[".webm"](tmp_path / "a.webm")
    assert values(tmp_path / "a.webm")["transparency" if "alpha" in name else name] == "present"


def test_tags_of_programs_are_no_facts() -> None:
    given = {"Encoder-eng": "x", "software": "y", "timecode": "1:00:00:00", "My Reel": " 7 ", "title": "t"}
    assert catalogue.tags(given) == {"my_reel": "7"}


def test_only_pictures_tell_of_side_data() -> None:
    assert catalogue.by_picture("mastering display") and not catalogue.by_picture("order of fields")

"""Tables of events and captions as users bring them along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.scoring.event_tables import EventTableError, event_rows, read_captions, read_events
from tests.support.media_files import damaged_page, texts_of_no_encoding

ROWS: list[dict[str, Any]] = [
    {"clip": "b.mp4", "class": "drum", "onset_s": 2.0, "strength": 0.5, "caption": "a drum"},
    {"clip": "b.mp4", "class": "drum", "onset_s": 0.5, "strength": 1.0, "caption": "a drum"},
    {"clip": "a.b.mkv", "class": "waves", "onset_s": 1.0, "strength": 1.0, "caption": None},
    {"clip": "c", "class": "bark", "onset_s": None, "strength": None, "caption": None},
]


@pytest.fixture(params=["csv", "parquet"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / f"events.{request.param}"
    if request.param == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        lines = [",".join("" if row[name] is None else str(row[name]) for name in ROWS[0]) for row in ROWS]
        path.write_text("\n".join([",".join(ROWS[0]), *lines]) + "\n")
    return str(path)


def test_facts_of_each_clip_in_the_order_of_time(table: str) -> None:
    assert [row["onset_s"] for row in event_rows(table)["b.mp4"]] == [0.5, 2.0]
    facts = read_events(table)
    assert facts["b"] == {"label": "drum", "text": "a drum", "events": (0.5, 2.0), "strengths": (1.0, 0.5)}
    assert facts["c"] == {"label": "bark", "text": ""}


def test_continuous_sounds_have_no_onsets(table: str) -> None:
    assert read_events(table)["a.b"] == {"label": "waves", "text": ""}


def test_captions_by_clip(table: str) -> None:
    assert read_captions(table) == {"b": ["a drum", "a drum"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"a,b\n1,2\n"),
        ("b.csv", b"clip,onset_s\nx,soon\n"),
        ("c.csv", b""),
        ("d.parquet", b"PAR1 and then nothing"),
    ],
)
def test_another_table_is_refused_by_name(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EventTableError, match=name):
        read_events(str(tmp_path / name))
    if name != "b.csv":
        with pytest.raises(EventTableError, match=name):
            event_rows(str(tmp_path / name))
    with pytest.raises(EventTableError, match=name):
        read_captions(str(tmp_path / name))


def test_a_missing_table_is_an_error_of_storage(tmp_path: Path) -> None:
    with pytest.raises(storage.StorageNotFound):
        read_events(str(tmp_path / "none.csv"))


@pytest.mark.parametrize("onset", ["soon", "nan", "inf", "-inf"])
@pytest.mark.parametrize("column", ["onset_s", "strength"])
def test_onsets_and_strengths_are_finite_numbers(column: str, onset: str, tmp_path: Path) -> None:
    values = {"onset_s": "1", "strength": "1"} | {column: onset}
    lines = ["clip,onset_s,strength", f"x.mp4,{values['onset_s']},{values['strength']}", "y.mp4,a,a"]
    (tmp_path / "events.csv").write_text("\n".join(lines))
    with pytest.raises(EventTableError, match=r"events\.csv"):
        event_rows(str(tmp_path / "events.csv"))


def test_columns_of_other_types_and_damaged_pages_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    pq.write_table(pa.table({"clip": ["a"], "onset_s": pa.array([10**18], pa.timestamp("ns"))}), file)
    with pytest.raises(EventTableError, match="not a table of events"):
        event_rows(str(file))
    pq.write_table(pa.table({"clip": texts_of_no_encoding(b"\xff"), "caption": ["a"]}), file)
    with pytest.raises(EventTableError, match="not a table of captions"):
        read_captions(str(file))
    pq.write_table(pa.table({"clip": [str(k) for k in range(9999)]}), file, use_dictionary=False)
    file.write_bytes(damaged_page(file.read_bytes()))
    with pytest.raises(EventTableError, match="not a table of events"):
        event_rows(str(file))


def test_strengths_are_those_of_every_onset_or_of_none(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("clip,onset_s,strength\na,1,0.5\na,2,\nb,1,0.5\n")
    facts = read_events(str(tmp_path / "events.csv"))
    assert facts["a"]["events"] == (1.0, 2.0) and "strengths" not in facts["a"]
    assert facts["b"]["strengths"] == (0.5,)

"""Records that cannot be read: set aside under a free name, told about, and out of the way of new ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipelines import storage
from pipelines.storage.records import Records, clear_way, set_aside, set_aside_strangers, take_notices
from tests.support import servers


@pytest.fixture(autouse=True)
def no_notices_of_others() -> None:
    take_notices()


def values(record: dict[str, Any]) -> dict[str, Any]:
    return record


def test_nothing_that_was_set_aside_is_ever_overwritten(tmp_path: Path) -> None:
    for content in ("first", "second", "third"):
        (tmp_path / "a.json").write_text(content)
        assert set_aside(str(tmp_path / "a.json"), "why")
    names = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert names == {"a.json.broken": "first", "a.json.broken.2": "second", "a.json.broken.3": "third"}
    notices = take_notices()
    assert len(notices) == 3 and "why" in notices[0] and "set aside as a.json.broken.2" in notices[1]
    assert take_notices() == []


def test_a_folder_is_set_aside_with_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.json.broken").mkdir()  # an empty folder, which a plain rename would replace
    (tmp_path / "a.json").mkdir()
    (tmp_path / "a.json" / "inside").write_text("kept")
    assert set_aside(str(tmp_path / "a.json"), "why") == str(tmp_path / "a.json.broken.2")
    assert (tmp_path / "a.json.broken.2" / "inside").read_text() == "kept"


def test_what_is_gone_already_is_no_error(tmp_path: Path) -> None:
    assert set_aside(str(tmp_path / "nothing"), "why") == "" and take_notices() == []


@pytest.mark.parametrize(
    "content", [b"", b'{"a": 1', b"[1]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": 1}' + b"\0"]
)
def test_a_torn_record_is_none_and_set_aside(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "a.json"
    place.write_bytes(content)
    looking = Records(str(tmp_path), mends=False)
    assert looking.read_json(str(place), values) is None
    assert place.read_bytes() == content and "will be set aside" in take_notices()[0]
    records = Records(str(tmp_path))
    assert records.read_json(str(place), values) is None
    assert (tmp_path / "a.json.broken").read_bytes() == content
    records.write(str(place), b'{"a": 2}')
    assert records.read_json(str(place), values) == {"a": 2}
    with pytest.raises(storage.StorageNotFound):
        records.read_json(str(tmp_path / "b.json"), values, missing_ok=False)


def test_a_record_is_written_whatever_lies_in_its_way(tmp_path: Path) -> None:
    root = tmp_path / "_v2a"
    root.mkdir()
    (root / "rows").write_text("a file where a folder belongs")
    (root / "a.json").mkdir()
    records = Records(str(root))
    records.write(records.uri("rows", "1.json"), b"{}")
    records.write(records.uri("a.json"), b"{}")
    assert json.loads((root / "rows" / "1.json").read_text()) == json.loads((root / "a.json").read_text())
    assert (root / "rows.broken").read_text().startswith("a file") and (root / "a.json.broken").is_dir()
    assert not clear_way(str(root), records.uri("rows", "1.json"))


def test_strangers_among_the_records_make_way(tmp_path: Path) -> None:
    (tmp_path / "rows" / "1.json").mkdir(parents=True)
    (tmp_path / "rows" / "2.json").write_text("{}")
    (tmp_path / "cards").write_text("a file")
    (tmp_path / "report.html").mkdir()
    (tmp_path / "parts" / "1").mkdir(parents=True)
    (tmp_path / "parts" / "2").write_text("a file")
    names = ("rows", "cards", "sound"), ("report.html", "summary.json"), ("parts",)
    set_aside_strangers(str(tmp_path), *names)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    parts = ["parts", "parts/1", "parts/2.broken"]
    assert left == ["cards.broken", *parts, "report.html.broken", "rows", "rows/1.json.broken", "rows/2.json"]
    take_notices()
    set_aside_strangers(str(tmp_path), *names)
    assert take_notices() == [], "what was set aside was set aside again"


def test_torn_records_on_s3(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in servers.environment(s3_port).items():
        monkeypatch.setenv(name, value)
    servers.client(s3_port).create_bucket(Bucket="records")
    records = Records("s3://records/_v2a")
    for content in (b"{", b"[]"):
        storage.write_atomic(records.uri("a.json"), content)
        assert records.read_json(records.uri("a.json"), values) is None
    assert not storage.exists(records.uri("a.json"))
    assert storage.read_bytes(records.uri("a.json.broken")) == b"{"
    assert storage.read_bytes(records.uri("a.json.broken.2")) == b"[]"


def test_a_name_is_on_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder in which a name was given or made is synced after that."""
    synced: list[str] = []
    fsync, opened = os.fsync, os.open
    handles: dict[int, str] = {}

    def open_and_note(path: Any, *more: Any, **named: Any) -> int:
        handle = opened(path, *more, **named)
        handles[handle] = str(path)
        return handle

    def sync_and_note(handle: int) -> None:
        synced.append(handles.pop(handle, ""))
        fsync(handle)

    monkeypatch.setattr(os, "open", open_and_note)
    monkeypatch.setattr(os, "fsync", sync_and_note)
    storage.write_atomic(str(tmp_path / "new" / "deep" / "a"), b"x")
    assert {str(tmp_path / "new" / "deep"), str(tmp_path / "new"), str(tmp_path)} <= set(synced)
    synced.clear()
    (tmp_path / "local").write_bytes(b"x")
    storage.put_atomic(str(tmp_path / "local"), str(tmp_path / "new" / "b"))
    assert synced[-1] == str(tmp_path / "new")
    synced.clear()
    with storage.Pending(str(tmp_path / "new" / "c")) as pending:
        Path(pending.path).write_bytes(b"x")
        pending.commit()
    assert synced[-1] == str(tmp_path / "new")
    synced.clear()
    set_aside(str(tmp_path / "new" / "c"), "why")
    assert synced == [str(tmp_path / "new")]


@pytest.mark.parametrize("content", [b"[1]", b"null", b"\xff", b"", b"[" * 1_000_000, b'{"a":' * 1_000_000])
def test_anything_but_a_json_object_is_a_value_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(ValueError):
        storage.read_object(str(tmp_path / "state.json"))

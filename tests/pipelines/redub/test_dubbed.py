"""Films of an earlier run: found by each of their names, and records that are staged until the film has its name."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import storage
from pipelines.dub.state import State
from pipelines.redub import dubbed
from pipelines.reports.dub_rows import report_row
from pipelines.storage import hashing

OLD: dict[str, Any] = report_row(
    {"video_id": "v", "path": "sub/a.mp4", "duration_s": 1.0}, "dubbed", output="sub/a.mkv", output_size=3
)


def output(out: Path, data: bytes) -> str:
    """Write the film's output; its SHA-256."""
    (out / "sub").mkdir(parents=True, exist_ok=True)
    (out / "sub" / "a.mkv").write_bytes(data)
    with storage.reading(str(out / "sub" / "a.mkv")) as file:
        return hashing.sha256(file)


def test_a_film_is_found_by_its_path_there_here_and_in_the_archive(tmp_path: Path) -> None:
    State(str(tmp_path)).write_provenance("v", {"track": {"samplesSha256": "0"}})
    for name in ("sub/a.mp4", "sub/a.mkv", str(tmp_path / "sub" / "a.mkv")):
        film = dubbed.find(str(tmp_path), name, [OLD, OLD | {"path": "b", "output": "b"}])
        assert (film.video_id, film.output) == ("v", "sub/a.mkv")
    for rows in ([], [OLD, OLD], [OLD | {"status": "failed"}]):
        with pytest.raises(dubbed.RedubError, match="give its path as in the report"):
            dubbed.find(str(tmp_path), "sub/a.mp4", rows)


def test_a_film_that_is_too_old_is_refused(tmp_path: Path) -> None:
    State(str(tmp_path)).write_provenance("v", {"track": {}})
    with pytest.raises(dubbed.RedubError, match="--restart"):
        dubbed.find(str(tmp_path), "sub/a.mp4", [OLD])


@pytest.mark.parametrize("other", ["model_sha256", "recipe", "level"])
def test_a_part_comes_from_the_same_model_at_the_same_level(other: str) -> None:
    facts = {"model_sha256": "0", "recipe": "1", "level": "-6 dB"}
    made = {"model": "m", "sha256": "0", "recipe": "1", "level": "-6 dB"}
    film = dubbed.Dubbed(OLD, {"generator": made})
    job: Any = SimpleNamespace(model_name="m", streams=False, **facts)
    dubbed.check(film, job, (0.2, 0.5), None)
    job = SimpleNamespace(model_name="m", streams=False, **facts | {other: "2"})
    with pytest.raises(dubbed.RedubError, match="--restart"):
        dubbed.check(film, job, (0.2, 0.5), None)


@pytest.mark.parametrize("named", [False, True])
def test_what_is_staged_counts_once_the_film_has_its_name(tmp_path: Path, named: bool) -> None:
    state = State(str(tmp_path))
    state.write_row(OLD)
    row = OLD | {"output_sha256": output(tmp_path, b"new")}
    dubbed.stage(state, row, {"facts": 1}, b"manifest")
    if not named:
        output(tmp_path, b"old")
    dubbed.resume(state, "v")
    assert state.read_row("v") == (row if named else OLD)
    place = Path(state.uri("provenance", "v.json"))
    assert (json.loads(place.read_bytes()) == {"facts": 1}) if named else not place.exists()
    assert Path(state.uri("provenance", "v.c2pa")).exists() == named
    assert not list(tmp_path.glob("_v2a/redub/*"))
    dubbed.resume(state, "v")  # nothing is staged: nothing happens


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"row": {}, "record": {}}', '{"row": 1, "record": {}}']
)
def test_a_torn_record_of_a_killed_redub_is_set_aside(tmp_path: Path, text: str) -> None:
    state = State(str(tmp_path))
    state.write_row(OLD)
    output(tmp_path, b"old")
    dubbed.stage(state, OLD | {"output_sha256": "0"}, {"facts": 1}, b"manifest")
    place = Path(dubbed.staged_uri(state, "v", "json"))
    place.write_text(text)
    dubbed.resume(state, "v")
    assert state.read_row("v") == OLD
    assert [path.name for path in (tmp_path / "_v2a" / "redub").iterdir()] == ["v.json.broken"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"track": 3}', None])
def test_a_damaged_sidecar_is_told(tmp_path: Path, text: str | None) -> None:
    place = Path(State(str(tmp_path)).uri("provenance", "v.json"))
    place.parent.mkdir(parents=True)
    place.mkdir() if text is None else place.write_text(text)
    with pytest.raises(dubbed.RedubError, match="--restart"):
        dubbed.find(str(tmp_path), "sub/a.mp4", [OLD])

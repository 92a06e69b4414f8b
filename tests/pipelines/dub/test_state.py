"""The state of a dub job: parts, failures and rows."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import storage
from pipelines.dub.segment_facts import Part, SegmentFacts
from pipelines.dub.state import BrokenState, State
from pipelines.media.errors import Failure
from pipelines.reports import dub_rows
from pipelines.soundtrack import levels


def test_parts_and_rows_are_kept(tmp_path: Path) -> None:
    state = State(str(tmp_path))
    part = Part(
        np.arange(6, dtype=np.int16)[None],
        np.zeros((2, 3, 4, 3), np.uint8),
        np.array([0.0, 1.5]),
        SegmentFacts(cost_s=2.5),
    )
    assert state.segments_done("v") == {}
    state.write_part("v", 3, part)
    state.write_failure("v", 4, Failure("decode", "InvalidData", "bad"))
    assert state.segments_done("v") == {3: False, 4: True}
    back = state.read_part("v", 3)
    np.testing.assert_array_equal(back.sound, part.sound)
    np.testing.assert_array_equal(back.thumb_times, part.thumb_times)
    assert back.facts == part.facts
    assert state.read_failure("v", 4).error_class == "InvalidData"
    state.drop_parts("v", failures_only=True)
    assert state.segments_done("v") == {3: False}
    state.drop_parts("v")
    assert state.segments_done("v") == {}
    # Of a million films, a million empty folders would stay.
    assert not list((tmp_path / "_v2a" / "parts").iterdir())
    row = dub_rows.report_row({"video_id": "v", "path": "ä.mp4"}, "skipped", "has sound")
    state.write_row(row)
    assert state.read_row("v") == row
    state.write_config(CONFIG)
    assert state.read_config() == CONFIG
    storage.write_atomic(state.uri("summary.json"), b"{}")
    assert state.begun()
    state.clear()
    assert not state.begun(), (
        "a run that is killed after --restart would be refused for the settings of before"
    )
    assert state.read_row("v") is None
    assert state.read_config() is None


@functools.cache
def damaged_parts() -> dict[str, bytes]:
    """Files that are no part of two samples, by what is wrong with them."""
    whole = Part(np.zeros((1, 2), np.int16)).to_bytes()
    arrays = dict(np.load(io.BytesIO(whole)))

    def with_arrays(**changed: Any) -> bytes:
        stream = io.BytesIO()
        values = {name: value for name, value in (arrays | changed).items() if value is not None}
        np.savez(stream, **values)
        return stream.getvalue()

    def claiming(shape: tuple[int, ...], size: int) -> bytes:
        """A sound whose header claims `shape`, and `size` zeros compressed to next to nothing."""
        head, stream = io.BytesIO(), io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<i2", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("sound.npy", head.getvalue() + bytes(size))
            for name in ("thumbs", "thumb_times"):
                array = io.BytesIO()
                np.save(array, arrays[name])
                archive.writestr(f"{name}.npy", array.getvalue())
        return stream.getvalue()

    at = whole.index(b"NUMPY")
    return {
        "empty": b"",
        "no zip": b"half a file",
        "truncated": whole[: len(whole) // 2],
        "without its end": whole[:-1],
        "one byte is another": whole[:at] + b"X" + whole[at + 1 :],
        "other samples": with_arrays(sound=np.zeros((1, 3), np.int16)),
        "other channels": with_arrays(sound=np.zeros((2, 2), np.int16)),
        "float samples": with_arrays(sound=np.zeros((1, 2), np.float32)),
        "pickled objects": with_arrays(sound=np.array([[{}, {}]], object)),
        "no sound": with_arrays(sound=None),
        "no times": with_arrays(thumb_times=None),
        "a time too many": with_arrays(thumb_times=np.zeros(3)),
        "no facts": with_arrays(facts=None),
        "facts that are no JSON": with_arrays(facts=np.str_("{")),
        "facts that are a list": with_arrays(facts=np.str_("[1]")),
        "an unknown fact": with_arrays(facts=np.str_('{"other": 1}')),
        "a fact of another type": with_arrays(facts=np.str_('{"cost_s": "long"}')),
        "a fact that is too large": with_arrays(facts=np.str_('{"windows": 99999999999}')),
        "a stretch without an end": with_arrays(facts=np.str_('{"still": [[1.0]]}')),
        "a zip bomb": claiming((1, 2), 1 << 22),
        "a claim of a petabyte": claiming((1, 1 << 49), 4),
    }


@pytest.mark.parametrize("what", damaged_parts())
def test_a_part_that_cannot_be_read_is_set_aside(tmp_path: Path, what: str) -> None:
    state, data = State(str(tmp_path)), damaged_parts()[what]
    place = Path(state.part_uri("v", 0))
    for number in ("", ".2"):
        storage.write_atomic(str(place), data)
        with pytest.raises(BrokenState, match="part 0"):
            state.read_part("v", 0, (1, 2))
        assert not place.exists() and place.with_name(f"{place.name}.broken{number}").read_bytes() == data
    assert state.segments_done("v") == {}
    state.write_part("v", 0, Part(np.ones((1, 2), np.int16)))
    assert state.has_part("v", 0, (1, 2)) and state.read_part("v", 0, (1, 2)).sound.all()
    assert not state.has_part("v", 0, (1, 3)) and not state.has_part("v", 0, (1, 2))


def test_headers_tell_most_of_it_without_reading_the_part(tmp_path: Path) -> None:
    state = State(str(tmp_path))
    assert not state.has_part("v", 0, (1, 2))
    passing = [what for what, data in damaged_parts().items() if _passes(state, data)]
    # Its zip has a checksum of what is behind the headers, and the facts are behind them too.
    assert all("fact" in what or what == "a stretch without an end" for what in passing)


def _passes(state: State, data: bytes) -> bool:
    storage.write_atomic(state.part_uri("v", 0), data)
    return state.has_part("v", 0, (1, 2))


def test_names_that_are_no_parts_do_not_count(tmp_path: Path) -> None:
    state = State(str(tmp_path))
    folder = Path(state.uri("parts", "v"))
    (folder / "00001.npz").mkdir(parents=True)
    for name in ("0.npz", "²0000.npz", "00000.npz.broken", "00002.tmp", "x.json"):
        (folder / name).write_bytes(b"")
    assert state.segments_done("v") == {}
    state.write_part("v", 1, Part(np.zeros((1, 2), np.int16)))
    assert state.segments_done("v") == {1: False}
    Path(state.uri("parts", "w")).write_bytes(b"a file in the place of the folder")
    assert state.segments_done("w") == {}
    state.write_part("w", 0, Part(np.zeros((1, 2), np.int16)))
    assert state.segments_done("w") == {0: False}


ROW = dub_rows.report_row(
    {"video_id": "v", "path": "a.mp4"}, "dubbed", output="a.mp4", output_size=5, duration_s=1.0
)
CONFIG = dict(model="m", model_sha256="0", recipe="r", seed=0, batch_size=1, precision="float32")
REQUEST = {"prompt": "a bell", "seed": 3, "spans": [[0, 1.5]]}
FAILURE = {"stage": "decode", "error_class": "E", "message": "m"}


@pytest.mark.parametrize(
    "kind, name, good, bad",
    [
        *(("row", "rows/v.json", ROW, ROW | change) for change in (
            {"video_id": "w"}, {"video_id": None}, {"path": 3}, {"path": ""}, {"status": "done"}, {"status": []},
            {"n_windows": "4"}, {"n_windows": 1 << 40}, {"seed": 1 << 70}, {"flags": [3]}, {"reason": 4},
            {"output": None}, {"output_size": "5"}, {"duration_s": None}, {"duration_s": {}},
        )),
        *(("config", "config.json", CONFIG, CONFIG | change) for change in (
            {"model": None}, {"seed": "0"}, {"seed": True}, {"batch_size": None}, {"recipe": ["r"]},
        )),
        *(("request", "asked/v.json", REQUEST, REQUEST | change) for change in (
            {"prompt": 3}, {"seed": "3"}, {"spans": 3}, {"spans": [[1]]}, {"spans": [["a", "b"]]}, {"other": 1},
        )),
        *(("failure", "parts/v/00000.json", FAILURE, FAILURE | change) for change in (
            {"stage": 1}, {"message": None}, {"more": ""},
        )),
    ],
)  # fmt: skip
def test_a_record_of_another_shape_is_set_aside(
    tmp_path: Path, kind: str, name: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    state = State(str(tmp_path))
    read: Any = {
        "row": lambda: state.read_row("v"),
        "config": state.read_config,
        "request": lambda: state.read_request("v"),
        "failure": lambda: asdict(state.read_failure("v", 0)),
    }[kind]
    place = tmp_path / "_v2a" / name
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(good))
    assert read() == good
    for number, content in (("", json.dumps(bad)), (".2", "["), (".3", json.dumps([good]))):
        place.write_text(content)
        if kind == "failure":
            with pytest.raises(BrokenState):
                read()
        else:
            assert not read()
        assert place.with_name(f"{place.name}.broken{number}").read_text() == content
    place.mkdir()
    if kind != "failure":
        assert not read() and place.with_name(f"{place.name}.broken.4").is_dir()


def test_a_row_of_an_earlier_release_lacks_columns(tmp_path: Path) -> None:
    state = State(str(tmp_path))
    lacking = {
        name: value for name, value in ROW.items() if name not in ("flags", "caption", "n_flags", "stage")
    }
    storage.write_atomic(state.row_uri("v"), json.dumps(lacking).encode())
    assert state.read_row("v") == ROW | {"n_flags": None}


def test_levels() -> None:
    meter = levels.LevelMeter()
    blocks = [
        np.full((1, 100), 16384, np.int16),
        np.full((1, 100), -16384, np.int16),
        np.zeros((1, 0), np.int16),
    ]
    assert sum(block.size for block in meter.watch(blocks, 1)) == 200
    assert meter.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert meter.rms_dbfs == pytest.approx(-6.02, abs=0.01)
    assert levels.dbfs(0) == -120

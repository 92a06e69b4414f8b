"""The state of a dub job: parts, failures and rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.dub.segment_facts import SegmentFacts
from pipelines.dub.state import Part, State
from pipelines.media.errors import Failure
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
    state.write_row({"video_id": "v", "path": "ä.mp4"})
    assert state.read_row("v") == {"video_id": "v", "path": "ä.mp4"}
    state.write_config({"seed": 1})
    state.clear()
    assert state.read_row("v") is None
    assert state.read_config() is None


def test_a_damaged_part_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a part"):
        Part.from_bytes(b"half a file")


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

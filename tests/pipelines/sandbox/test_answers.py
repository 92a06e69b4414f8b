"""Answers of children: whatever they hold, they are read as what was asked for, or refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.media.video import Probe
from pipelines.mux.packet_hashes import Digests
from pipelines.mux.track import MuxResult
from pipelines.sandbox import answers

SHA = "0" * 64
PROBE: dict[str, Any] = {
    "duration_s": 2.0, "fps": 25.0, "width": 48, "height": 32, "rotation": 0, "video_codec": "h264",
    "container": "mov,mp4", "audio_state": "none", "peak_dbfs": None, "video_start_s": 0.0, "n_audio_tracks": 0,
    "n_frames": 50, "note": "", "recorded_at": "", "sha256": SHA,
}  # fmt: skip
DIGESTS = {"video": [SHA], "kept": [], "generated": SHA, "alternatives": []}
MUX = {"container": "mp4", "audio_codec": "aac", "n_samples": 1, "size": 1, "dropped": [], "source_sha256": SHA,
       "digests": DIGESTS, "presented": {}}  # fmt: skip

LIES = {
    "duration_s": ["2.0", -1.0, 0.0, 1e300, True, None, [], 14 * 86_400 + 1.0],
    "fps": ["25", 0.0, -5.0, 1e12],
    "width": ["48", 0, -1, 1 << 40, 10**30, 1.5],
    "height": [0, 1 << 40, {}],
    "rotation": [45, "90", 360],
    "video_codec": [5, "a\nb", "\x1b[31m", "x" * 1000, "h264\u202e"],
    "container": [None, "\u0000"],
    "audio_state": ["loud", 1],
    "peak_dbfs": ["loud", 1e9],
    "video_start_s": [1e30, "0"],
    "recorded_at": ["yesterday", "2026-01-03", "2026-01-03T12:05:00<b>", None],
    "n_audio_tracks": [10**30, -1, "2"],
    "n_frames": [0, 10**30, 1.0],
    "note": [5, "x" * 100_000],
    "sha256": ["", "f" * 63, "F" * 64, SHA + "0"],
}


def test_the_schemas_have_the_fields_of_what_they_stand_for() -> None:
    for schema, record in (
        (answers.ProbeAnswer, Probe),
        (answers.MuxAnswer, MuxResult),
        (answers.DigestsAnswer, Digests),
    ):
        assert set(schema.model_fields) == {field.name for field in dataclasses.fields(record)}
    assert set(LIES) == set(PROBE)


def test_an_honest_answer_is_taken_over() -> None:
    assert answers.checked(answers.ProbeAnswer, PROBE).probe() == Probe(**PROBE)
    assert answers.checked(answers.MuxAnswer, MUX).size == 1


@pytest.mark.parametrize(("field", "lie"), [(field, lie) for field, lies in LIES.items() for lie in lies])
def test_a_lie_is_refused_with_its_field(field: str, lie: Any) -> None:
    with pytest.raises(answers.ValidationFailed, match=field):
        answers.checked(answers.ProbeAnswer, PROBE | {field: lie})


@pytest.mark.parametrize("field", PROBE)
def test_a_missing_field_is_refused(field: str) -> None:
    with pytest.raises(answers.ValidationFailed, match=field):
        answers.checked(answers.ProbeAnswer, {k: v for k, v in PROBE.items() if k != field})


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(answers.ValidationFailed, match="more"):
        answers.checked(answers.ProbeAnswer, PROBE | {"more": 1})


@pytest.mark.parametrize(
    "line",
    [
        b"", b"5", b"[]", b"null", b"{", b'{"a": 1} {"b": 2}', b"\xff\xfe", b'{"a": "\\ud800"}',
        b"[" * 100_000, b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_a_line_that_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        answers.parse(line)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    line = json.dumps(PROBE).replace("2.0", number)
    with pytest.raises(ValueError):
        answers.checked(answers.ProbeAnswer, answers.parse(line.encode()))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*PROBE, "other"]), values), values)
def test_no_answer_raises_anything_else(fields: dict[str, Any], other: Any) -> None:
    for answer in (PROBE | fields, fields, other):
        for schema in (answers.ProbeAnswer, answers.MuxAnswer, answers.FailedAnswer, answers.StretchAnswer):
            try:
                answers.checked(schema, answer)
            except answers.ValidationFailed as error:
                assert len(str(error)) < 500

"""JSON that was written to do harm."""

from __future__ import annotations

import json
import time

import pytest

from pipelines.provenance import hostile_json
from pipelines.provenance.hostile_json import Hostile, parse, parse_object


def test_records_are_read() -> None:
    value = {"text": 'brackets [[[ and "quotes\\" {{{', "list": [1, {"a": None}]}
    assert parse_object(json.dumps(value)) == parse_object(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b'{"a":' * 50 + b"1" + b"}" * 50,
        b"[" + b"[]," * 200_000 + b"1]",
        b'"' + b"x" * hostile_json.MOST_BYTES + b'"',
        b"\xff\xfe",
        b"{",
        b'{"a": 1e999999999, }',
        b"",
        b'{"a": 1, "a": 2}',
        b'{"a": [NaN]}',
        b'{"a": -Infinity}',
    ],
    ids=["open", "deep", "wide", "long", "bytes", "cut", "comma", "empty", "twice", "nan", "infinite"],
)
def test_what_is_too_large_or_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(Hostile):
        parse(text)


@pytest.mark.parametrize("end", [b"", b"\\", b"x"])
def test_a_text_without_an_end_takes_no_longer_than_another(end: bytes) -> None:
    """A search that began again at each quote would take hours."""
    began = time.process_time()
    with pytest.raises(Hostile):
        parse(b'"' + b'\\"' * (hostile_json.MOST_BYTES // 2 - 2) + end)
    assert time.process_time() - began < 10


def test_an_object_is_wanted() -> None:
    with pytest.raises(Hostile, match="not a JSON object"):
        parse_object("[1]")

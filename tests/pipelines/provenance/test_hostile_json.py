"""JSON that was written to do harm."""

from __future__ import annotations

import json

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
    ],
    ids=["open", "deep", "wide", "long", "bytes", "cut", "comma", "empty"],
)
def test_what_is_too_large_or_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(Hostile):
        parse(text)


def test_an_object_is_wanted() -> None:
    with pytest.raises(Hostile, match="not a JSON object"):
        parse_object("[1]")

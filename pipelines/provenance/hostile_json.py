"""JSON that somebody may have written to do harm: read with bounds on its size, its depth and its number of values."""

from __future__ import annotations

import json
import re
from typing import Any

MOST_BYTES = 4 << 20
"""Bytes of the longest text that is parsed; v2a's own records have some ten thousand."""

MOST_DEPTH = 40
"""Levels of nesting."""

MOST_VALUES = 100_000
"""Lists, objects and members."""

_TEXTS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A text, also one without an end: each sign is looked at once, whatever the signs are."""


class Hostile(ValueError):
    """A text that is no JSON, or more of it than a record can be."""


def parse(text: str | bytes) -> Any:
    """The value of a JSON text. Raises Hostile."""
    if len(text) > MOST_BYTES:
        raise Hostile(f"too large: more than {MOST_BYTES} bytes")
    try:
        text = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError as error:
        raise Hostile("not text") from error
    depth = deepest = values = 0
    for sign in re.findall(r"[\[\]{},]", _TEXTS.sub("", text)):
        depth += (sign in "[{") - (sign in "]}")
        deepest, values = max(deepest, depth), values + 1
    if deepest > MOST_DEPTH or values > MOST_VALUES:
        raise Hostile(f"too large: {deepest} levels, {values} values")
    try:
        return json.loads(text, object_pairs_hook=_members, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Hostile(f"not JSON: {str(error)[:200]}") from error


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. A name that occurs twice has another value for every reader."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return members


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object of a JSON text. Raises Hostile, for other values as well."""
    value = parse(text)
    if not isinstance(value, dict):
        raise Hostile("not a JSON object")
    return value

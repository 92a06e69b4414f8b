"""Streams and facts of a film that its copy does not hold, in words for the report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pipelines.mux import stream_facts
from pipelines.mux.track import MuxFailed

LATE = "a stream that begins later than the head of the file: it is not announced there"
"""Entry for packets of streams that were unknown when the file was opened."""

KEPT = "kept beside the film"
"""End of an entry for a stream that is in a file of its own, until that has a name (`named`)."""

_LONGEST = 200
"""Characters of an entry's name; names in a film may be of any length."""


def title(stream: Any) -> str:
    """A stream in words: kind, number in the file, and what is known of its coding, name and language.

    For example: `data stream 3 (bin_data, GoPro MET)`.
    """
    metadata = {key.lower(): str(value) for key, value in stream.metadata.items()}
    names = [metadata.get(name, "") for name in ("title", "name", "handler_name", "filename")]
    known = [
        stream_facts.codec(stream) or str(getattr(stream, "name", None) or ""),
        next((name for name in names if name and not stream_facts.is_usual_name(name)), ""),
        stream_facts.language(metadata.get("language", "")),
    ]
    told = ", ".join(dict.fromkeys(text for text in known if text))
    words = f"{stream.type} stream {stream.index}" + (f" ({told})" if told else "")
    return (
        (words if len(words) <= _LONGEST else words[: _LONGEST - 4] + " ...")
        .encode(errors="replace")
        .decode()
    )


def named(entries: Sequence[str], name: str, sha256: str) -> tuple[str, ...]:
    """The entries with the name of the file beside the film, and its hash."""
    return tuple(
        text.removesuffix(KEPT) + f"kept in {name}, sha256 {sha256}" if text.endswith(KEPT) else text
        for text in entries
    )


def is_kept(entry: str) -> bool:
    """True for an entry of a stream that is kept in a file of its own."""
    return entry.endswith(KEPT) or sha256_in(entry) != ""


def sha256_in(entry: str) -> str:
    """SHA-256 of the file that a stream is kept in; empty if it is not kept."""
    match = re.search(r"; kept in .+, sha256 ([0-9a-f]{64})$", entry)
    return match[1] if match else ""


def check_strict(entries: Sequence[str], muxer: str) -> None:
    """Raises MuxFailed (`StreamLeftOut`) if there are entries of what is lost."""
    if entries := [text for text in entries if not is_kept(text)]:
        raise MuxFailed("StreamLeftOut", f"{muxer} cannot hold {'; '.join(entries)}"[:2000])

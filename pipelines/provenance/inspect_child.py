"""Child process that reads the manifest or the film of one file, which is untrusted.

Started as `python -P -m pipelines.provenance.inspect_child`, it follows the protocol of `pipelines.sandbox.child` and
may write nothing. It is lent the file (order `file`).
"""

from __future__ import annotations

import json
from typing import IO, Any

from pipelines.media import container
from pipelines.media.errors import DecodeFailed
from pipelines.mux import packet_hashes, presented
from pipelines.mux.headers import mxf
from pipelines.provenance import signing
from pipelines.provenance.manifest_reader import read_manifest
from pipelines.sandbox.child import BeatingFile, load_decoders, serve
from pipelines.sandbox.lent_files import borrowed

_TEXT = 10_000
"""Characters of a tag that are returned."""

_DESCRIPTION = 300_000
"""Longest description of a film that is returned, in characters of JSON."""


def _answer(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """`answers.ManifestAnswer` or `answers.FilmAnswer`, as the order demands, or the error."""
    try:
        with borrowed(order["file"]) as opened:
            file = BeatingFile(opened)
            if order["reads"] == "film":
                return _media(file, set(order["clocks"]))
            manifest = None if order["manifest"] is None else bytes.fromhex(order["manifest"])
            signed, error = read_manifest(file, manifest, order["trust"])
            return {"signed": signed, "manifest_error": error}
    except OSError as error:
        return {"error": "storage", "message": error.strerror or str(error)}


def _media(file: Any, clocks: set[str]) -> dict[str, Any]:
    """Facts about the film, or the reason why it cannot be read."""
    try:
        return _media_facts(file, clocks)
    except DecodeFailed as error:
        return {"media_error": f"{error.error_class}: {error.message}"[:1000]}


def _media_facts(file: Any, clocks: set[str]) -> dict[str, Any]:
    """Tags, packet hashes, titles of the tracks, and the description of what the film presents."""
    with container.opened(file) as film:
        tags = {str(k).lower(): str(v)[:_TEXT] for k, v in mxf.tags_of(film).items()}
        tags = {name: tags[name] for name in ("comment", "v2a", "digital_source_type") if name in tags}
        describer = presented.Describer(film, clocks)
        hasher = packet_hashes.Hasher(describer.streams)
        for packet in describer.packets():
            describer.update(packet)
            if packet.size:
                hasher.update(packet, packet.stream)
        titles = [
            str(s.metadata.get("title") or s.metadata.get("handler_name", ""))[:200]
            for s in film.streams.audio
        ]
        facts = {"tags": tags, "video": hasher.of("video"), "sound": hasher.of("audio"), "titles": titles}
        description = describer.description()
    description |= describer.headers(file)
    if len(json.dumps(description)) > _DESCRIPTION:
        return facts | {"media_error": "more tracks, names or tags than a film has"}
    return facts | {"presented": description}


if __name__ == "__main__":
    serve(_answer, load_decoders, signing.warm_up)

"""Child process that inspects one file, which is untrusted: `python -P -m pipelines.provenance.inspect_child`.

It follows the protocol of `pipelines.sandbox.child` and may write nothing. It is lent the file (order `file`).
"""

from __future__ import annotations

import json
from typing import IO, Any

import c2pa

from pipelines.media import container
from pipelines.media.errors import DecodeFailed
from pipelines.mux import packet_hashes
from pipelines.provenance import signing
from pipelines.sandbox.child import BeatingFile, load_decoders, serve
from pipelines.sandbox.lent_files import borrowed
from pipelines.storage import hashing

_TEXT = 10_000
"""Longest tag that is returned, in characters; v2a's own are far shorter."""

_FACTS = 500_000
"""Longest assertion of v2a that is returned, in characters of JSON."""


def _answer(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """Fields of `inspection.Inspection` as JSON, or the error."""
    manifest = None if order["manifest"] is None else bytes.fromhex(order["manifest"])
    try:
        with borrowed(order["file"]) as opened:
            file = BeatingFile(opened)
            answer = _media_facts(file)
            answer["sha256"] = hashing.sha256(file)
            file.seek(0)
            answer["signed"], answer["manifest_error"] = _signature(file, manifest, order["trust"])
            return answer
    except OSError as error:
        return {"error": "storage", "message": error.strerror or str(error)}
    except DecodeFailed as error:
        facts = {"error_class": error.error_class, "message": error.message, "stage": error.stage}
        return {"error": "file", **facts}


def _media_facts(file: Any) -> dict[str, Any]:
    """Tags, packet hashes and titles of the tracks."""
    with container.opened(file) as film:
        tags = {str(k).lower(): str(v)[:_TEXT] for k, v in film.metadata.items()}
        tags = {name: tags[name] for name in ("comment", "v2a", "digital_source_type") if name in tags}
        streams = [s for s in film.streams if s.type in ("video", "audio")]
        hasher = packet_hashes.Hasher(streams)
        for packet in container.packets(film, streams) if streams else ():
            hasher.update(packet, packet.stream)
        titles = [
            str(s.metadata.get("title") or s.metadata.get("handler_name", ""))[:200]
            for s in film.streams.audio
        ]
        return {"tags": tags, "video": hasher.of("video"), "sound": hasher.of("audio"), "titles": titles}


def _signature(file: Any, manifest: bytes | None, trust: str) -> tuple[dict[str, Any] | None, str]:
    """Fields of `inspection.Signed` or None, and the reason if the manifest cannot be read."""
    settings = signing.SETTINGS | ({"trust": {"trust_anchors": trust}} if trust else {})
    try:
        context = c2pa.Context.from_dict(settings)
        reader = (
            _embedded(file, context)
            if manifest is None
            else c2pa.Reader(None, file, manifest, context=context)
        )
        if reader is None:
            return None, ""
        return _signed(json.loads(reader.json())), ""
    except c2pa.C2paError as error:
        return None, str(error)[:1000]


def _embedded(file: Any, context: Any) -> Any:
    """Reader of the manifest in the file, or None if there is none."""
    try:
        return c2pa.Reader.try_create(None, file, context=context)
    except c2pa.C2paError.NotSupported:
        return None  # such a container carries no manifest


def _signed(report: dict[str, Any]) -> dict[str, Any]:
    """Fields of `inspection.Signed` from C2PA's report."""
    active = report["manifests"][report["active_manifest"]]
    results = report.get("validation_results", {}).get("activeManifest", {})
    codes = [str(failure.get("code")) for failure in results.get("failure", [])]
    if report.get("validation_state") == "Invalid" and not codes:
        codes = ["invalid"]
    names = active.get("signature_info") or {}
    facts: Any = {}
    source_type = ""
    for assertion in active.get("assertions", []):
        label, data = str(assertion.get("label")), assertion.get("data")
        if label.startswith(signing.ASSERTION) and isinstance(data, dict):
            facts = data if len(json.dumps(data)) < _FACTS else {}
        elif label.startswith("c2pa.actions") and isinstance(data, dict):
            for action in data.get("actions", []):
                source_type = str(action.get("digitalSourceType") or source_type)
    return {
        "facts": facts,
        "signer": ", ".join(str(names[k])[:200] for k in ("common_name", "issuer") if names.get(k)),
        "source_type": source_type[:200],
        "failures": [code for code in codes if not code.startswith("signingCredential.untrusted")][:50],
        "trusted": "signingCredential.trusted" in [s.get("code") for s in results.get("success", [])],
    }


if __name__ == "__main__":
    serve(_answer, load_decoders, signing.warm_up)

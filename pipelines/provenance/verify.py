"""Whether a dubbed file is what it says it is: the judgement over what `pipelines.provenance.inspection` found.

`judge` is a pure function. A finding is good, a remark, or bad; a file passes if none is bad.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pipelines import storage
from pipelines.mux.packet_hashes import Digests
from pipelines.provenance import sidecar, signing
from pipelines.provenance.inspection import Inspection, Signed

Level = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    level: Level
    code: str
    """Short name for programs: `video-changed`, `sidecar-edited` ..."""
    text: str


@dataclass(frozen=True)
class Sidecar:
    """A record of OUT/_v2a/provenance."""

    facts: dict[str, Any]
    uri: str
    manifest_uri: str
    """Where the copy of the signed manifest lies, if there is one."""


def find_sidecar(uri: str) -> Sidecar | None:
    """The record of a dubbed file that lies where v2a wrote it. Raises StorageError."""
    full = uri if storage.is_remote(uri) else storage.local_path(uri)
    folder = storage.parent(full)
    while folder:
        records = storage.join(folder, storage.PRIVATE_FOLDER, "provenance")
        if storage.is_dir(records):
            return next(_records_of(records, full[len(folder) :].lstrip("/")), None)
        above = storage.parent(folder)
        if above == folder or (storage.is_remote(uri) and above.count("/") < 2):
            return None
        folder = above
    return None


def _records_of(records: str, output: str) -> Iterator[Sidecar]:
    for info in storage.list_tree(records):
        if info.path.endswith(".json"):
            side = read_sidecar(info.uri)
            if side is not None and side.facts.get("output") == output:
                yield side


def read_sidecar(uri: str) -> Sidecar | None:
    """The record at `uri`, or None if that is no record. Raises StorageError."""
    try:
        facts = json.loads(storage.read_bytes(uri))
    except ValueError:
        return None
    manifest = uri.removesuffix(".json") + ".c2pa"
    return (
        Sidecar(facts, uri, manifest if storage.exists(manifest) else "") if isinstance(facts, dict) else None
    )


def judge(
    found: Inspection, side: dict[str, Any] | None = None, source: Inspection | None = None
) -> list[Finding]:
    """All that can be said of a file, its sidecar and its source."""
    findings = [*_mark(found), *_signature(found)]
    signed = found.signed if found.signed is not None and found.signed.intact else None
    if signed is not None:
        findings += _content(found, signed.facts, signed.binds, "signed")
        if side is not None:
            findings += _against_manifest(found, side, signed)
        else:
            findings.append(Finding("note", "no-sidecar", "its JSON sidecar is not here: not compared"))
    elif side is not None:
        findings += _against_sidecar(found, side)
    else:
        findings.append(
            Finding(
                "bad", "no-record", "neither a manifest nor a sidecar that could prove anything was found"
            )
        )
    if source is not None:
        facts = signed.facts if signed is not None else side or {}
        findings += _source(found, facts, source)
    return findings


def _mark(found: Inspection) -> list[Finding]:
    if sidecar.SOURCE_TYPE in found.tags.get("comment", ""):
        return [Finding("good", "marked", "its metadata says that the sound is synthetic")]
    return [Finding("bad", "mark-missing", "its metadata does not say that the sound is synthetic: stripped")]


def _signature(found: Inspection) -> list[Finding]:
    if found.manifest_error:
        return [Finding("bad", "manifest-broken", f"its manifest cannot be read: {found.manifest_error}")]
    signed = found.signed
    if signed is None:
        return [Finding("note", "unsigned", "not signed")]
    if not signed.intact:
        codes = ", ".join(signed.failures)
        return [Finding("bad", "signature-broken", f"the manifest was edited, its signature fails ({codes})")]
    who = f"signed by {signed.signer}"
    if signing.TEST_MARK in signed.signer and not signed.trusted:
        return [Finding("note", "test-certificate", f"valid, but signed by a test certificate: {who}")]
    if not signed.trusted:
        return [
            Finding(
                "note",
                "unknown-signer",
                f"valid, but by an unknown signer: {who}; name whom you trust: --trust",
            )
        ]
    return [Finding("good", "trusted", f"valid, {who}, whom you trust")]


def _content(found: Inspection, facts: dict[str, Any], same_bytes: bool, what: str) -> list[Finding]:
    """Whether the tracks are those of the record. `what`: signed, or recorded."""
    try:
        then = Digests.from_json(facts.get("packets") or {})
    except ValueError:
        if same_bytes:
            return [Finding("good", "unchanged", f"byte for byte the file that was {what}")]
        return [Finding("bad", "changed", f"not the file that was {what}, and the record knows no packets")]
    video = sorted(found.video) == sorted(then.video)
    generated = then.generated in found.sound
    rest = list(found.sound)
    if generated:
        rest.remove(then.generated)
    # Where the generated track was changed it is among the rest.
    others = (*then.kept, *then.alternatives)
    kept = not Counter(others) - Counter(rest) and len(found.sound) == len(others) + 1
    if video and generated and kept:
        if same_bytes:
            return [
                Finding("good", "unchanged", f"byte for byte the file that was {what}, picture and sound too")
            ]
        return [
            Finding(
                "note",
                "remuxed",
                f"re-muxed or its metadata edited; picture and sound are those that were {what}",
            )
        ]
    if same_bytes:  # bytes as they were and yet other packets: the record is not about them
        return [
            Finding(
                "bad", "record-disagrees", f"the packets {what} are not those of the file that was {what}"
            )
        ]
    if not video and not generated:
        text = f"the record belongs to another file: neither picture nor sound are those that were {what}"
        return [Finding("bad", "other-file", text)]
    findings = []
    if not video:
        findings.append(Finding("bad", "video-changed", f"the picture is not the one that was {what}"))
    if not generated:
        findings.append(
            Finding("bad", "sound-changed", f"the generated sound is not the one that was {what}")
        )
    if not kept:
        text = f"the other sound tracks are not those that were {what}"
        findings.append(Finding("bad", "kept-sound-changed", text))
    return findings


def _against_manifest(found: Inspection, side: dict[str, Any], signed: Signed) -> list[Finding]:
    facts = sidecar.facts_of(side)
    wrong = sorted(
        name for name in facts.keys() | signed.facts.keys() if facts.get(name) != signed.facts.get(name)
    )
    if signed.binds and side.get("outputSha256") != found.sha256:
        wrong.append("outputSha256")
    if wrong:
        return [Finding("bad", "sidecar-edited", f"the sidecar is not what was signed: {', '.join(wrong)}")]
    return [Finding("good", "sidecar", "the sidecar holds what was signed")]


def _against_sidecar(found: Inspection, side: dict[str, Any]) -> list[Finding]:
    same = side.get("outputSha256") == found.sha256
    findings = _content(found, side, same, "recorded")
    try:
        tags = sidecar.tags_of(side)
    except ValueError as error:
        return [*findings, Finding("bad", "sidecar-edited", f"the sidecar is damaged: {error}")]
    if tags["comment"] not in found.tags.get("comment", "") and sidecar.SOURCE_TYPE in found.tags.get(
        "comment", ""
    ):
        findings.append(
            Finding("bad", "sidecar-edited", "sidecar and file name different models, seeds or versions")
        )
    findings.append(
        Finding("note", "sidecar-unsigned", "whoever can write the sidecar can change what it says")
    )
    return findings


def _source(found: Inspection, facts: dict[str, Any], source: Inspection) -> list[Finding]:
    same_video = sorted(source.video) == sorted(found.video)
    findings = [
        Finding("note", "sound-only", "a sound file: there is no picture to compare")
        if not found.video and facts.get("packets", {}).get("video") == []
        else Finding("good", "video-of-source", "the picture is the source's, packet for packet")
        if same_video
        else Finding("bad", "video-not-of-source", "the picture is not the source's")
    ]
    recorded = facts.get("sourceSha256")
    if recorded and recorded != source.sha256:
        findings.append(
            Finding("bad", "source-changed", "the source is not, byte for byte, the one that was dubbed")
        )
    elif recorded:
        findings.append(Finding("good", "source", "the source is, byte for byte, the one that was dubbed"))
    return findings

"""Verification of a dubbed file against its manifest, its sidecar and its source.

`check` is a pure function of `pipelines.provenance.inspection` results. A finding is good, a note, or bad; a file
passes if none is bad.
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
    """Result of one check."""

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
    """Place of the copy of the signed manifest; empty if there is none."""


def find_sidecar(uri: str) -> Sidecar | None:
    """The sidecar of a dubbed file that lies where v2a wrote it, or None. Raises StorageError."""
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
    """The sidecar at `uri`, or None if the file there is not one. Raises StorageError."""
    try:
        facts = json.loads(storage.read_bytes(uri))
    except ValueError:
        return None
    manifest = uri.removesuffix(".json") + ".c2pa"
    return (
        Sidecar(facts, uri, manifest if storage.exists(manifest) else "") if isinstance(facts, dict) else None
    )


def check(
    inspected: Inspection, side: dict[str, Any] | None = None, source: Inspection | None = None
) -> list[Finding]:
    """Findings about a file, its sidecar and its source."""
    findings = [*_mark(inspected), *_check_signature(inspected)]
    signed = inspected.signed if inspected.signed is not None and inspected.signed.intact else None
    if signed is not None:
        findings += _content(inspected, signed.facts, signed.binds, "signed")
        if side is not None:
            findings += _against_manifest(inspected, side, signed)
        else:
            findings.append(
                Finding("note", "no-sidecar", "its JSON sidecar was not found, so it was not compared")
            )
    elif side is not None:
        findings += _against_sidecar(inspected, side)
    else:
        findings.append(
            Finding("bad", "no-record", "neither a manifest nor a sidecar was found to check it against")
        )
    if source is not None:
        facts = signed.facts if signed is not None else side or {}
        findings += _source(inspected, facts, source)
    return findings


def _mark(inspected: Inspection) -> list[Finding]:
    if sidecar.SOURCE_TYPE in inspected.tags.get("comment", ""):
        return [Finding("good", "marked", "its metadata says that the sound is synthetic")]
    return [Finding("bad", "mark-missing", "its metadata does not say that the sound is synthetic: stripped")]


def _check_signature(inspected: Inspection) -> list[Finding]:
    if inspected.manifest_error:
        return [Finding("bad", "manifest-broken", f"its manifest cannot be read: {inspected.manifest_error}")]
    signed = inspected.signed
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
                f"valid, but by an unknown signer: {who}; list the authorities you trust with --trust",
            )
        ]
    return [Finding("good", "trusted", f"valid, {who}, whom you trust")]


def _content(inspected: Inspection, facts: dict[str, Any], same_bytes: bool, verb: str) -> list[Finding]:
    """Findings about the tracks against those of a record. verb: signed, or recorded."""
    try:
        recorded = Digests.from_json(facts.get("packets") or {})
    except ValueError:
        if same_bytes:
            return [Finding("good", "unchanged", f"byte for byte the file that was {verb}")]
        return [
            Finding("bad", "changed", f"not the file that was {verb}, and the record has no packet hashes")
        ]
    video = sorted(inspected.video) == sorted(recorded.video)
    generated = recorded.generated in inspected.sound
    rest = list(inspected.sound)
    if generated:
        rest.remove(recorded.generated)
    # A generated track that was changed is among the rest.
    others = (*recorded.kept, *recorded.alternatives)
    kept = not Counter(others) - Counter(rest) and len(inspected.sound) == len(others) + 1
    if video and generated and kept:
        if same_bytes:
            return [
                Finding("good", "unchanged", f"byte for byte the file that was {verb}, picture and sound too")
            ]
        return [
            Finding(
                "note",
                "remuxed",
                f"re-muxed or its metadata edited; picture and sound are those that were {verb}",
            )
        ]
    if same_bytes:  # the same bytes but other packets: the record is wrong
        return [
            Finding(
                "bad", "record-disagrees", f"the packets {verb} are not those of the file that was {verb}"
            )
        ]
    if not video and not generated:
        text = f"the record belongs to another file: neither picture nor sound are those that were {verb}"
        return [Finding("bad", "other-file", text)]
    findings = []
    if not video:
        findings.append(Finding("bad", "video-changed", f"the picture is not the one that was {verb}"))
    if not generated:
        findings.append(
            Finding("bad", "sound-changed", f"the generated sound is not the one that was {verb}")
        )
    if not kept:
        text = f"the other sound tracks are not those that were {verb}"
        findings.append(Finding("bad", "kept-sound-changed", text))
    return findings


def _against_manifest(inspected: Inspection, side: dict[str, Any], signed: Signed) -> list[Finding]:
    facts = sidecar.facts_of(side)
    wrong = sorted(
        name for name in facts.keys() | signed.facts.keys() if facts.get(name) != signed.facts.get(name)
    )
    if signed.binds and side.get("outputSha256") != inspected.sha256:
        wrong.append("outputSha256")
    if wrong:
        return [Finding("bad", "sidecar-edited", f"the sidecar is not what was signed: {', '.join(wrong)}")]
    return [Finding("good", "sidecar", "the sidecar holds what was signed")]


def _against_sidecar(inspected: Inspection, side: dict[str, Any]) -> list[Finding]:
    same = side.get("outputSha256") == inspected.sha256
    findings = _content(inspected, side, same, "recorded")
    try:
        tags = sidecar.tags_of(side)
    except ValueError as error:
        return [*findings, Finding("bad", "sidecar-edited", f"the sidecar is damaged: {error}")]
    if tags["comment"] not in inspected.tags.get("comment", "") and sidecar.SOURCE_TYPE in inspected.tags.get(
        "comment", ""
    ):
        findings.append(
            Finding("bad", "sidecar-edited", "sidecar and file name different models, seeds or versions")
        )
    findings.append(Finding("note", "sidecar-unsigned", "anyone who can write the sidecar can change it"))
    return findings


def _source(inspected: Inspection, facts: dict[str, Any], source: Inspection) -> list[Finding]:
    same_video = sorted(source.video) == sorted(inspected.video)
    findings = [
        Finding("note", "sound-only", "a sound file: there is no picture to compare")
        if not inspected.video and facts.get("packets", {}).get("video") == []
        else Finding("good", "video-of-source", "the picture is the source's, packet for packet")
        if same_video
        else Finding("bad", "video-not-of-source", "the picture is not the source's")
    ]
    recorded = facts.get("sourceSha256")
    if recorded and recorded != source.sha256:
        findings.append(Finding("bad", "source-changed", "the source has changed since it was dubbed"))
    elif recorded:
        findings.append(Finding("good", "source", "the source is byte for byte the file that was dubbed"))
    return findings

"""Records of a dubbed file in OUT/_v2a, and whether they agree with each other: sidecar, report, signed manifest.

Anyone who can write in OUT can change them, so they are read with bounds and believed only as far as they are signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipelines import storage
from pipelines.provenance import hostile_json, sidecar
from pipelines.provenance.hostile_json import Hostile
from pipelines.provenance.inspection import MOST_MANIFEST, Inspection, Signed

_MOST_REPORT = 1 << 30
"""Bytes of the largest report that is read."""

_ROW_AND_SIDECAR = {
    "path": "source",
    "output": "output",
    "source_sha256": "sourceSha256",
    "source_sha256_after": "sourceSha256",
    "output_sha256": "outputSha256",
    "model": "generator.model",
    "seed": "generator.seed",
    "signer": "signer",
    "prompt": "generator.prompt",
    "negative": "generator.negative",
}
"""Columns of the report, and the same facts in the sidecar."""

_REPORT_MEMORY_MB = 2048
_STALL_S = 120.0

_MOST_FIELDS = 30
_ABSENT = object()


@dataclass(frozen=True)
class Records:
    """The records about one file, as far as they were found."""

    side: dict[str, Any] | None = None
    """The sidecar."""
    uri: str = ""
    """Place of the sidecar."""
    manifest: bytes | None = None
    """Copy of the signed manifest."""
    row: dict[str, Any] | None = None
    """The file's row of the report, from OUT/_v2a/rows."""
    report: dict[str, Any] | None = None
    """The row in report.parquet."""
    damaged: tuple[str, ...] = ()
    """Records that are there and cannot be read, in words."""

    @property
    def says_signed(self) -> str:
        """The record that says that the file was signed; empty if none does."""
        if self.side is not None and (self.side.get("manifest") or self.side.get("signer")):
            return "the sidecar"
        if any(row is not None and row.get("signer") for row in (self.row, self.report)):
            return "the report"
        return "a copy of its manifest" if self.manifest is not None else ""


def find(uri: str) -> Records:
    """The records of a dubbed file that lie where v2a wrote them. Raises StorageError."""
    out, output = _home(uri)
    if not out:
        return Records()
    records = storage.join(out, storage.PRIVATE_FOLDER, "provenance")
    damaged: list[str] = []
    report = _report_row(out, output, damaged)
    found = None
    if storage.is_dir(records):
        # A film that was dubbed at two rates, or changed in between, has two records of one output.
        newest = _record_in(records, f"{(report or {}).get('video_id')}.json", output, [])
        found = newest or next(_records_of(records, output, damaged), None)
    if found is None:
        return Records(report=report, row=_row(out, report, damaged), damaged=tuple(damaged[:5]))
    row = _row(out, {"video_id": _identifier(found.uri)}, damaged)
    return replace(found, row=row, report=report, damaged=tuple(damaged[:5]))


def read(uri: str) -> Records:
    """The records of the sidecar at `uri`. Raises StorageError, and Hostile if the file there is no sidecar."""
    found = Records(_read_object(uri), uri, _manifest_beside(uri))
    folder = storage.parent(uri)
    home = storage.parent(storage.parent(folder))
    if not folder.endswith("provenance") or not storage.is_dir(storage.join(home, storage.PRIVATE_FOLDER)):
        return found
    return _with_rows(found, home, str((found.side or {}).get("output")))


def _home(uri: str) -> tuple[str, str]:
    """The output folder that holds a file, and the file's path in it; empty if there is none."""
    full = uri if storage.is_remote(uri) else storage.local_path(uri)
    folder = storage.parent(full)
    while folder:
        if storage.is_dir(storage.join(folder, storage.PRIVATE_FOLDER)):
            return folder, full[len(folder) :].lstrip("/")
        above = storage.parent(folder)
        if above == folder or (storage.is_remote(uri) and above.count("/") < 2):
            break
        folder = above
    return "", ""


def _records_of(folder: str, output: str, damaged: list[str]) -> Iterator[Records]:
    for info in storage.list_tree(folder):
        if info.path.endswith(".json") and (found := _record_in(folder, info.path, output, damaged)):
            yield found


def _record_in(folder: str, name: str, output: str, damaged: list[str]) -> Records | None:
    """The record in a file of a folder; None if it is none, or that of another output."""
    uri = storage.join(folder, name) if re.fullmatch(r"[\w.]{1,200}", name) else ""
    if not uri or not storage.exists(uri):
        return None
    try:
        side = _read_object(uri)
    except Hostile as error:
        damaged.append(f"{name}: {error}")
        return None
    return Records(side, uri, _manifest_beside(uri)) if side.get("output") == output else None


def _read_object(uri: str) -> dict[str, Any]:
    if storage.size(uri) > hostile_json.MOST_BYTES:
        raise Hostile("too large")
    return hostile_json.parse_object(storage.read_bytes(uri))


def _manifest_beside(uri: str) -> bytes | None:
    manifest = uri.removesuffix(".json") + ".c2pa"
    return read_manifest_file(manifest) if storage.exists(manifest) else None


def read_manifest_file(uri: str) -> bytes:
    """The bytes of a manifest; of one that is too large, just so many that its reader finds it too large."""
    with storage.reading(uri) as file:
        return file.read(MOST_MANIFEST + 1)


def _with_rows(found: Records, out: str, output: str) -> Records:
    damaged = list(found.damaged)
    row = _row(out, {"video_id": _identifier(found.uri)}, damaged)
    report = _report_row(out, output, damaged)
    return replace(found, row=row, report=report, damaged=tuple(damaged[:5]))


def _identifier(uri: str) -> str:
    """The video_id in the name of a sidecar; an alternative's has its number after it."""
    return uri.rpartition("/")[2].removesuffix(".json").partition(".")[0]


def _row(out: str, known: Mapping[str, Any] | None, damaged: list[str]) -> dict[str, Any] | None:
    name = str((known or {}).get("video_id", ""))
    uri = storage.join(out, storage.PRIVATE_FOLDER, "rows", f"{name}.json")
    if not re.fullmatch(r"\w{1,100}", name) or not storage.exists(uri):
        return None
    try:
        return _read_object(uri)
    except Hostile as error:
        damaged.append(f"rows/{name}.json: {error}")
        return None


def _report_row(out: str, output: str, damaged: list[str]) -> dict[str, Any] | None:
    """The row of report.parquet whose `output` is the file."""
    uri = storage.join(out, storage.PRIVATE_FOLDER, "report.parquet")
    if not storage.exists(uri):
        return None
    from pipelines.sandbox import answers, child

    try:
        if storage.size(uri) > _MOST_REPORT:
            raise ValueError("too large")
        answer = _asked(uri, {"output": output, "columns": ["video_id", *_ROW_AND_SIDECAR]})
        found = answers.checked(answers.ReportAnswer, answer)
        if found.damaged:
            raise ValueError(found.damaged)
    except (child.ChildFailed, ValueError) as error:
        damaged.append(f"report.parquet: {str(error)[:200]}")
        return None
    return found.row


def _asked(uri: str, order: dict[str, Any]) -> dict[str, Any]:
    """The answer of the process that reads a report."""
    from pipelines.sandbox import child, lent_files

    with lent_files.lend(uri) as file:
        order = order | {"file": file.to_json()}
        answer = child.converse(
            "pipelines.provenance.report_child", order, _REPORT_MEMORY_MB, _STALL_S, fds=(file.fd,)
        )
        file.check()
    return answer


# ---- agreement


def disagreements(
    records: Records, inspected: Inspection, signed: Signed | None, same_bytes: bool
) -> list[str]:
    """Fields in which the records differ from each other or from the file, in words.

    signed: the manifest, if it is intact. same_bytes: True if the file is byte for byte the one that was signed.
    """
    found = [f"{text} (damaged)" for text in records.damaged]
    side = records.side
    if side is not None:
        found += _wrong_types(side)
        if signed is not None and signed.facts:
            found += [
                f"{name}: sidecar and manifest" for name in _unequal(sidecar.facts_of(side), signed.facts)
            ]
            found += _of_other_signature(records, side, signed)
        if same_bytes and side.get("outputSha256") != inspected.sha256:
            found.append("outputSha256: sidecar and film")
        if signed is None or not signed.facts:
            found += _marks(side, inspected)
    for name, row in (("report", records.report), ("row", records.row)):
        facts = side if side is not None else signed.facts if signed is not None else None
        if row is not None and facts is not None:
            found += [f"{field}: {name} and sidecar" for field in _row_differs(row, facts, records.uri)]
        elif row is not None and same_bytes and row.get("output_sha256") != inspected.sha256:
            found.append(f"output_sha256: {name} and film")
    return list(dict.fromkeys(text[:300] for text in found))[:_MOST_FIELDS]


def _wrong_types(side: Mapping[str, Any]) -> Iterator[str]:
    kinds = {
        "generator": dict,
        "track": dict,
        "packets": dict,
        "software": dict,
        "source": str,
        "output": str,
    }
    kinds |= {"sourceSha256": str, "outputSha256": str}
    for name, kind in kinds.items():
        if not isinstance(side.get(name), kind):
            yield f"{name}: damaged in the sidecar"


def _unequal(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """Dotted names of the values that differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in sorted({*one, *other}, key=str):
            path = f"{at}.{name}" if at else str(name)
            yield from _unequal(one.get(name, _ABSENT), other.get(name, _ABSENT), path)
    elif one != other:
        yield at


def _of_other_signature(records: Records, side: Mapping[str, Any], signed: Signed) -> Iterator[str]:
    """Signs that the file was signed again, by somebody else or later."""
    serial, name = str(side.get("signerSerial") or ""), str(side.get("signer") or "")
    if serial and serial != signed.serial:
        yield "signerSerial: sidecar and manifest"
    elif name and not any(part.strip() and part.strip() in name for part in signed.signer.split(",")):
        yield "signer: sidecar and manifest"
    if records.manifest is not None and signed.label and signed.label.encode() not in records.manifest:
        yield "manifest: the film's, and the copy beside the sidecar"


def _marks(side: Mapping[str, Any], inspected: Inspection) -> Iterator[str]:
    """Differences between an unsigned sidecar and the mark in the file, which tells the same."""
    comment = inspected.tags.get("comment", "")
    try:
        wanted = sidecar.tags_of(side)["comment"]
    except (ValueError, AttributeError) as error:
        yield f"generator: damaged in the sidecar ({str(error)[:100]})"
        return
    if sidecar.SOURCE_TYPE in comment and wanted not in comment:
        yield "generator: sidecar, and the mark in the film (model, seed or version)"


def _row_differs(row: Mapping[str, Any], side: Mapping[str, Any], uri: str) -> Iterator[str]:
    """Columns that differ from the sidecar, or from the facts in the manifest."""
    is_first = "." not in uri.rpartition("/")[2].removesuffix(".json")
    for column, name in _ROW_AND_SIDECAR.items():
        if column not in row or (not is_first and column in ("output", "output_sha256")):
            continue  # a row of an earlier version, or of the first of several files
        value: Any = side
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None and name in ("outputSha256", "signer") and not uri:
            continue  # the manifest cannot hold these
        if column == "source_sha256" and not row[column]:
            continue  # the scan did not hash the source
        if (row[column] or None) != (value or None):
            yield column

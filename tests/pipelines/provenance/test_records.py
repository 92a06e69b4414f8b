"""Records of dubbed files: found where v2a wrote them, read with bounds, compared field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.provenance import records, sidecar
from pipelines.provenance.hostile_json import Hostile
from pipelines.provenance.inspection import MOST_MANIFEST, Inspection, Signed
from pipelines.provenance.records import Records, disagreements, find, read
from pipelines.provenance.sidecar import FileFacts, GeneratorFacts, TrackFacts

GENERATOR = GeneratorFacts("mini", "ab" * 32, "4f2e", seed=7, version="0.1.0")
FILE = FileFacts("sub/a.mp4", "sub/a.mp4", "aa", "01", {"video": []})
SIDE = sidecar.sidecar(GENERATOR, TrackFacts("t", 1.0, 1), FILE) | {"outputSha256": "02"}
ROW: dict[str, Any] = {"video_id": "aa", "path": "sub/a.mp4", "output": "sub/a.mp4", "source_sha256": "01"} | {
    "source_sha256_after": "01", "output_sha256": "02", "model": "mini", "seed": 7, "signer": "",
}  # fmt: skip
INSPECTED = Inspection("02", {"comment": sidecar.tags(GENERATOR)["comment"]}, (), ())


def out(folder: Path, side: bytes = json.dumps(SIDE).encode(), row: Any = ROW) -> Path:
    """The path of a dubbed file in an output folder; the file is not there."""
    for part in ("provenance", "rows"):
        (folder / "_v2a" / part).mkdir(parents=True)
    (folder / "_v2a" / "provenance" / "aa.json").write_bytes(side)
    (folder / "_v2a" / "rows" / "aa.json").write_text(json.dumps(row))
    return folder / "sub" / "a.mp4"


def test_they_are_found(tmp_path: Path) -> None:
    found = find(str(out(tmp_path)))
    assert found.side == SIDE and found.row == ROW and found.report is None and found.damaged == ()
    assert read(found.uri) == found
    assert find(str(tmp_path / "sub" / "other.mp4")) == Records()
    assert find("/nowhere/at/all.mp4") == Records()


def test_damaged_ones_are_told(tmp_path: Path) -> None:
    name = out(tmp_path, side=b"[" * 100_000)
    found = find(str(name))
    assert found.side is None and len(found.damaged) == 1 and found.damaged[0].startswith("aa.json")
    with pytest.raises(Hostile):
        read(str(tmp_path / "_v2a" / "provenance" / "aa.json"))


def test_a_manifest_is_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "a.c2pa").write_bytes(bytes(MOST_MANIFEST + 100))
    assert len(records.read_manifest_file(str(tmp_path / "a.c2pa"))) == MOST_MANIFEST + 1


def test_good_records_agree() -> None:
    found = Records(SIDE, "x/provenance/aa.json", row=ROW, report=ROW)
    assert disagreements(found, INSPECTED, None, same_bytes=True) == []
    signed = Signed(sidecar.facts_of(SIDE), "somebody", "", (), trusted=False)
    assert disagreements(found, INSPECTED, signed, same_bytes=True) == []


@pytest.mark.parametrize("column", [name for name in ROW if name != "video_id"])
def test_each_column_is_compared(column: str) -> None:
    spoilt = ROW | {column: 8 if column == "seed" else "other"}
    found = disagreements(Records(SIDE, "x/aa.json", report=spoilt), INSPECTED, None, same_bytes=True)
    assert found == [f"{column}: report and sidecar"]


@pytest.mark.parametrize("name", [*sidecar.facts_of(SIDE), "generator.seed", "track.title"])
def test_each_signed_field_is_compared(name: str) -> None:
    spoilt = json.loads(json.dumps(SIDE))
    *path, last = name.split(".")
    place = spoilt
    for part in path:
        place = place[part]
    place[last] = {"x": 1} if isinstance(place[last], dict) else "other"
    signed = Signed(sidecar.facts_of(SIDE), "somebody", "", (), trusted=False)
    found = disagreements(Records(spoilt, "x/aa.json"), INSPECTED, signed, same_bytes=True)
    assert any(text.startswith(name) and text.endswith("sidecar and manifest") for text in found)


@pytest.mark.parametrize("value", [None, 5, [], {}, "x", [1, [2]], {"a": {"b": [{}]}}])
def test_wrong_types_never_crash(value: Any) -> None:
    for name in (*SIDE, "edits", "presented", "signer", "signerSerial", "manifest"):
        for signed in (None, Signed({name: 7, "packets": value}, "somebody", "", (), trusted=False)):
            found = Records(
                SIDE | {name: value}, "x/aa.json", b"", ROW | {"seed": value}, ROW | {"signer": value}
            )
            assert isinstance(disagreements(found, INSPECTED, signed, same_bytes=True), list)


def test_an_alternative_shares_the_row_of_the_first_file() -> None:
    side = SIDE | {"output": "sub/a.2.mp4", "outputSha256": "03"}
    inspected = Inspection("03", INSPECTED.tags, (), ())
    assert (
        disagreements(Records(side, "x/provenance/aa.2.json", row=ROW), inspected, None, same_bytes=True)
        == []
    )

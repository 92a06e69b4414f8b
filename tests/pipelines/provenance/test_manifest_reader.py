"""Manifests that were written to do harm: unreadable, whoever signed them, and never a crash."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import c2pa
import pytest

from pipelines.provenance import manifest_reader, signing
from pipelines.provenance.manifest_reader import read_manifest
from tests.support import media_files

GOOD: dict[str, Any] = {
    "active_manifest": "urn:1",
    "manifests": {
        "urn:1": {
            "assertions": [
                {"label": signing.ASSERTION, "data": {"seed": 7}},
                {"label": "c2pa.actions.v2", "data": {"actions": [{"when": "2026-01-01T00:00:00Z"}]}},
            ],
            "signature_info": {"common_name": "somebody", "cert_serial_number": "5"},
        }
    },
    "validation_state": "Valid",
}


class Reader:
    """A reader that reports what it is told."""

    def __init__(self, report: Any, details: Any = None) -> None:
        self._report, self._details = report, {} if details is None else details

    def json(self) -> str:
        return self._report if isinstance(self._report, str) else json.dumps(self._report)

    def crjson(self) -> str:
        return self._details if isinstance(self._details, str) else json.dumps(self._details)


def read(monkeypatch: pytest.MonkeyPatch, *reports: Any) -> tuple[dict[str, Any] | None, str]:
    monkeypatch.setattr(manifest_reader, "_embedded", lambda *_: Reader(*reports))
    return read_manifest(io.BytesIO(b""), None, "")


def nested(depth: int) -> str:
    return json.dumps(GOOD)[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"


def test_a_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"validity": {"notBefore": "a", "notAfter": "b"}}
    details = {"manifests": [{"label": "urn:1", "signature": {"certificateInfo": info}}]}
    signed, error = read(monkeypatch, GOOD, details)
    assert error == "" and signed is not None
    assert signed["facts"] == {"seed": 7} and signed["signed_at"] == "2026-01-01T00:00:00Z"
    assert (signed["valid_from"], signed["valid_to"], signed["serial"]) == ("a", "b", "5")


@pytest.mark.parametrize(
    "report",
    [
        nested(100_000),
        nested(60),
        "[]",
        "nonsense",
        {**GOOD, "active_manifest": "urn:2"},
        {**GOOD, "manifests": [1, 2]},
        {**GOOD, "manifests": {"urn:1": "text"}},
        {**GOOD, "validation_results": {"activeManifest": {"failure": "text"}}},
        {**GOOD, "manifests": {"urn:1": {"assertions": [7]}}},
        {**GOOD, "manifests": {"urn:1": {"assertions": [{"label": "c2pa.actions", "data": {"actions": [7]}}]}}},
        {**GOOD, "manifests": {"urn:1": {"signature_info": ["a"]}}},
        {**GOOD, "manifests": {"urn:1": {"assertions": [
            {"label": signing.ASSERTION, "data": {"x": "y" * 400_000}}]}}},
        {**GOOD, "ingredients": [{"title": "x"}] * 60_000},
    ],
)  # fmt: skip
def test_hostile_reports(monkeypatch: pytest.MonkeyPatch, report: Any) -> None:
    signed, error = read(monkeypatch, report)
    assert signed is None and "not a manifest that v2a reads" in error


def test_hostile_details(monkeypatch: pytest.MonkeyPatch) -> None:
    for details in ({"manifests": 7}, {"manifests": [{"label": "urn:1", "signature": "x"}]}, nested(100_000)):
        signed, error = read(monkeypatch, GOOD, details)
        assert signed is None and error
    signed, error = read(
        monkeypatch, GOOD, {"manifests": [{"label": "urn:1", "signature": {"certificateInfo": [1]}}]}
    )
    assert signed is not None and signed["valid_to"] == ""


def test_other_labels_are_not_v2as(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [{"label": f"{signing.ASSERTION}__1", "data": {"seed": 8}}]
    report = {**GOOD, "manifests": {"urn:1": {"assertions": others}}}
    signed, _ = read(monkeypatch, report)
    assert signed is not None and signed["facts"] == {}


def test_a_signed_manifest_with_an_assertion_nested_deeply(tmp_path: Path) -> None:
    """Signed properly, by somebody who means harm."""
    signer = signing.make_test_certificate(tmp_path)
    deep: Any = "end"
    for _ in range(100):
        deep = {"a": deep}
    definition = signing.manifest({"deep": deep}, "a.mp4", "", "0")
    film = media_files.write_video(tmp_path / "a.mp4", duration_s=0.2)
    signed = io.BytesIO()
    with film.open("rb") as file:
        try:
            loaded = signing.load(signer)
            key = loaded.algorithm, loaded.chain, loaded.sign
            signing.sign_stream(*key, definition, "video/mp4", file, signed)
        except c2pa.C2paError:
            pytest.skip("C2PA's library does not sign it")
    signed.seek(0)
    found, error = read_manifest(signed, None, "")
    assert found is None and error

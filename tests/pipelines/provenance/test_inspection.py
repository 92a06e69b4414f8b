"""Inspection by processes that may lie: one about the manifest, and another about the film."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipelines.media.errors import DecodeFailed
from pipelines.provenance import inspection
from tests.support import media_files

SIGNED = {
    **dict.fromkeys(("signer", "source_type", "signed_at", "valid_from", "valid_to", "serial", "label"), ""),
    **{"facts": {}, "failures": [], "trusted": True, "expired": False},
}
MANIFEST: dict[str, Any] = {"signed": SIGNED, "manifest_error": ""}
FILM: dict[str, Any] = {"presented": {"start": "0", "tags": {}}}


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return media_files.write_video(tmp_path / "a.mp4", duration_s=0.2)


def inspect(
    monkeypatch: pytest.MonkeyPatch, film: Path, said: dict[str, dict[str, Any]]
) -> inspection.Inspection:
    """The inspection of a film whose readers say this."""
    monkeypatch.setattr(inspection, "_conversed", lambda uri, order, stall_s: said[order["reads"]])
    return inspection.inspect(str(film))


def test_what_is_honest_is_believed(monkeypatch: pytest.MonkeyPatch, film: Path) -> None:
    found = inspect(monkeypatch, film, {"manifest": MANIFEST, "film": FILM})
    assert found.signed is not None and found.signed.trusted and found.presented == FILM["presented"]


@pytest.mark.parametrize(
    "lie",
    [
        {"signed": SIGNED},
        {"sha256": "0" * 64},
        {"video": "text"},
        {"video": ["0"]},
        {"titles": [5]},
        {"tags": {"comment": "x" * 20_000}},
        {"presented": {"start": "0", "tags": {}, "video": "text"}},
        {"presented": {"start": "0", "tags": {}, "video": [[[]]]}},
        {"presented": {"video": []}},
        {"refused": "no sandbox"},
    ],
)
def test_who_reads_the_film_says_nothing_else(
    monkeypatch: pytest.MonkeyPatch, film: Path, lie: dict[str, Any]
) -> None:
    with pytest.raises(DecodeFailed, match="invalid reply"):
        inspect(monkeypatch, film, {"manifest": MANIFEST, "film": FILM | lie})


@pytest.mark.parametrize(
    "lie",
    [
        {"signed": {**SIGNED, "trusted": "yes"}},
        {"signed": {**SIGNED, "failures": "none"}},
        {"signed": {"trusted": True}},
        {"signed": SIGNED, "manifest_error": None},
        {"presented": {}},
    ],
)
def test_a_lie_about_the_manifest_makes_it_unreadable(
    monkeypatch: pytest.MonkeyPatch, film: Path, lie: dict[str, Any]
) -> None:
    found = inspect(monkeypatch, film, {"manifest": MANIFEST | lie, "film": FILM})
    assert found.signed is None and "invalid reply" in found.manifest_error


def test_the_film_is_hashed_by_neither(monkeypatch: pytest.MonkeyPatch, film: Path) -> None:
    found = inspect(monkeypatch, film, {"manifest": MANIFEST, "film": FILM})
    assert found.sha256 == hashlib.sha256(film.read_bytes()).hexdigest()

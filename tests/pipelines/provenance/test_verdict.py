"""Verdicts on films and records to which something was done: every row of the table of tampering."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from jobs import cli, verify
from jobs.verify import Checked, VerifyConfig
from pipelines.provenance import inspection
from pipelines.provenance.inspection import Inspection, Signed
from pipelines.provenance.records import Records
from pipelines.provenance.verdict import Demands, judge
from tests.pipelines.provenance.tampering import ROWS, Row, World, packet_place, words
from tests.support import media_files
from tests.support.signed_films import Film, copy_film, inspected_here, signed_film


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def here() -> Iterator[None]:
    with inspected_here():
        yield


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_tampering(world: World, tmp_path: Path, row: Row, here: None) -> None:
    found, code = row.checked(world, tmp_path)
    states = found.verdict.states
    told = (states.get("signature"), states["film"], states.get("records"), code)
    assert told == (row.signature, row.film, row.records, row.exit), words(found)
    assert row.says in words(found)
    levels = [answer.level for answer in found.verdict.answers]
    assert levels == sorted(levels, key=["bad", "note", "good"].index)  # worst first


def test_the_table_covers_what_can_be_done() -> None:
    assert len(ROWS) >= 100
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [("a.mov", "libx264", None), ("a.avi", "mpeg4", None), ("a.webm", "libvpx-vp9", None), ("b.mkv", "libx265", "ac3"),
     ("c.mkv", "mpeg2video", "pcm_s16le"), ("d.mkv", "libx264", "libopus"), ("e.mkv", "mjpeg", "libmp3lame")],
)  # fmt: skip
def test_other_containers_and_codecs(
    world: World, tmp_path: Path, name: str, codec: str, sound: str | None, here: None
) -> None:
    """Copied as they are, and copied to Matroska, they present the same; a byte of the picture is missed."""
    try:
        source = media_files.write_video(
            tmp_path / name, codec=codec, sound="audible", audio_codec=sound,
            pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p", duration_s=0.6,
        )  # fmt: skip
    except (ValueError, av.FFmpegError):
        pytest.skip(f"FFmpeg was built without {codec} or {sound}")
    film = signed_film(tmp_path / "film", name, world.signers["usual"], made_from=source)
    found = check(film, source=str(source))
    assert found.verdict.passed and found.verdict["film"].state == "unchanged", words(found)
    assert found.verdict["picture"].state == "of-source"
    manifest = str(film.copy_of_manifest)
    whole, other = film.path.read_bytes(), film.path.with_name("copy.mkv")
    copy_film(film.path, other)
    found = verify.check(str(other), VerifyConfig((str(other),), manifest=manifest))
    assert found.verdict["film"].state == "re-muxed", words(found)
    data = bytearray(whole)
    at, size = packet_place(bytes(data), film.path, "video", 5)
    data[at + size // 2] ^= 0x55
    film.path.write_bytes(data)
    assert "picture: content" in words(check(film))


def check(film: Film, **options: str) -> Checked:
    return verify.check(str(film.path), VerifyConfig((str(film.path),), **options))  # type: ignore[arg-type]


# ---- through the command line, with the child processes


def run(*arguments: str | Path) -> int:
    return cli.main(["verify", *map(str, arguments)])


def test_the_command_line(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = world.films["mp4"]
    assert run(film.path, "--trust", world.signers["usual"].certificate, "--strict") == 0
    assert "signature trusted" in capsys.readouterr().out
    assert run(film.path, "--trust", world.signers["other"].certificate) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("DOES NOT PASS") and lines[1].startswith("  BAD  signature unknown-signer")

    rows = {row.name: row for row in ROWS}
    for name, text in (
        ("boundary of NAL units moved", "picture: content"),
        ("bit of the PPS flipped", "configuration"),
        ("manifest box made a free box", "the sidecar says that it was signed"),
        ("sidecar nested without end", "too large"),
    ):
        with inspected_here():
            found, _ = rows[name].checked(world, tmp_path / name)
        capsys.readouterr()
        assert run(found.name) == 1
        assert text in capsys.readouterr().out.replace("\n", " ").replace("  ", " ")


def test_a_manifest_beside_a_film_is_checked_with_it(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], here: None
) -> None:
    film = world.films["mkv"].copied(tmp_path / "out")
    assert run(film.beside, film.path) == 0
    assert "checked with that file" in capsys.readouterr().out.replace("\n", " ")
    assert run(film.beside) == 0
    assert run(film.beside, "--trust", world.signers["other"].certificate) == 1
    film.path.write_bytes(film.path.read_bytes()[:-20_000])
    assert run(film.beside) == 1
    film.path.unlink()
    assert run(film.beside) == 1
    assert "without its film" in capsys.readouterr().out


def test_json_is_complete(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    film = world.films["mp4"]
    assert run(film.path, "--json", "--source", film.out.parent / "source-a.mp4") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["file"] == str(film.path) and answer["passed"] is True
    assert {a["question"]: a["state"] for a in answer["answers"]} == {
        "signature": "unknown-signer",
        "film": "unchanged",
        "records": "agree",
        "picture": "of-source",
        "source": "unchanged",
    }
    assert all({"question", "state", "level", "text", "details"} == a.keys() for a in answer["answers"])
    manifest = answer["manifest"]
    assert manifest["validFrom"] < manifest["signedAt"] < manifest["validTo"]
    assert not manifest["expired"] and not manifest["trusted"] and manifest["failures"] == []


def test_a_manifest_that_crashes_its_reader_is_invalid(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does one that takes all memory stop anything: the film is read by a second process, without its manifest."""
    monkeypatch.setattr(inspection, "INSPECT_MEMORY_MB", 2048)
    from pipelines.sandbox import child

    conversing = child.converse

    def crashing(
        module: str, order: dict[str, object], *more: object, **options: object
    ) -> dict[str, object]:
        if order.get("reads") == "manifest":
            raise child.ChildFailed("OutOfMemory", "exceeded its memory limit")
        return conversing(module, order, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(child, "converse", crashing)
    assert run(world.films["mp4"].path) == 1
    told = capsys.readouterr().out
    assert "BAD  signature invalid" in told and "ReaderOutOfMemory" in told.replace("\n", "")
    assert "film unchanged" in told


# ---- demands


SIGNED = Signed({}, "somebody", "", (), trusted=False, serial="1", label="urn:1")
INSPECTED = Inspection("00", {}, (), (), SIGNED)


@pytest.mark.parametrize(
    ("change", "demands", "state", "level"),
    [
        ({}, Demands(), "unknown-signer", "note"),
        ({}, Demands(signature=True), "unknown-signer", "note"),
        ({}, Demands(trust=True), "unknown-signer", "bad"),
        ({}, Demands(strict=True), "unknown-signer", "bad"),
        ({"trusted": True}, Demands(trust=True, strict=True), "trusted", "good"),
        ({"failures": ("claimSignature.mismatch",)}, Demands(), "invalid", "bad"),
        ({"expired": True}, Demands(), "expired-late", "bad"),
        ({"expired": True, "signed_at": "2026-03-01T00:00:00Z"}, Demands(), "expired", "note"),
        ({"expired": True, "signed_at": "2026-03-01T00:00:00Z"}, Demands(trust=True), "expired", "bad"),
        ({"expired": True, "signed_at": "2026-07-01T00:00:00Z"}, Demands(), "expired-late", "bad"),
        ({"expired": True, "signed_at": "yesterday"}, Demands(), "expired-late", "bad"),
    ],
)
def test_answers_about_signatures(
    change: dict[str, object], demands: Demands, state: str, level: str
) -> None:
    dates = {"valid_from": "2026-01-01T00:00:00+00:00", "valid_to": "2026-06-01T00:00:00+00:00"}
    signed = dataclasses.replace(SIGNED, **dates, **change)  # type: ignore[arg-type]
    answer = judge(dataclasses.replace(INSPECTED, signed=signed), Records(), demands)["signature"]
    assert (answer.state, answer.level) == (state, level)


def test_a_signature_is_missed_where_any_record_tells_of_one() -> None:
    bare = dataclasses.replace(INSPECTED, signed=None)
    for records in (
        Records(side={"manifest": "embedded"}),
        Records(side={"signer": "CN=a"}),
        Records(report={"signer": "CN=a"}),
        Records(row={"signer": "CN=a"}),
        Records(manifest=b"x"),
    ):
        assert judge(bare, records)["signature"].state == "missing"
    assert judge(bare, Records())["signature"].state == "none"
    assert judge(bare, Records(), Demands(signature=True))["signature"].level == "bad"

"""Signing a dubbed file, and finding out what was done to it afterwards."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from jobs import verify
from jobs.verify import VerifyConfig
from pipelines import storage
from pipelines.dub.output import Proof
from pipelines.mux.child import mux_in_child
from pipelines.mux.remux import TITLE, video_digest
from pipelines.mux.track import MuxResult, Track
from pipelines.provenance import sidecar, signing
from pipelines.provenance.sidecar import FileFacts, GeneratorFacts, TrackFacts
from pipelines.provenance.signing import Signer, SigningError
from pipelines.storage import hashing
from tests.support import media_files

FACTS = GeneratorFacts("mini", "ab" * 32, "4f2e", seed=7, version="0.1.0")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signing.make_test_certificate(tmp_path_factory.mktemp("certificate"))


def make(folder: Path, name: str, signer: Signer | None, number: int = 0, source: Path | None = None) -> Path:
    """OUT/name as `v2a dub` leaves it: the file, its sidecar, and its manifest where it is signed."""
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    if source is None:
        source = folder / f"source-{number}-{name}"
        folder.mkdir(exist_ok=True)
        media_files.write_video(
            source, codec=codec, sound="audible",
            picture=lambda k, w, h: media_files.numbered(k + number, w, h),
        )  # fmt: skip
    out, proof = folder / "out" / name, Proof()
    records = folder / "out" / "_v2a" / "provenance"
    records.mkdir(parents=True, exist_ok=True)

    def seal(path: Path, _: int, made: MuxResult) -> None:
        film = FileFacts(name, name, f"{number:016}", made.source_sha256, made.digests.to_json())
        proof.facts = sidecar.sidecar(FACTS, TrackFacts(TITLE, 1.0, 1), film)
        if signer is not None:
            definition = signing.manifest(proof.facts, name, made.source_sha256, "0.1.0")
            proof.manifest = signing.sign_file(signer, definition, path, name)
        with path.open("rb") as file:
            proof.output_sha256 = hashing.sha256(file)

    sound = np.random.default_rng(number).integers(-9000, 9000, (1, 44_100)).astype(np.int16)
    mux_in_child(
        str(source),
        [sound],
        out,
        Track(n_samples=44_100, video_start_s=0.0, default=False, tags=sidecar.tags(FACTS)),
        seal=seal,
    )
    side = proof.facts | {"outputSha256": proof.output_sha256}
    (records / f"{number:016}.json").write_text(json.dumps(side))
    if signer is not None:
        (records / f"{number:016}.c2pa").write_bytes(proof.manifest)
        if not signing.embeds(name):
            Path(f"{out}{signing.BESIDE}").write_bytes(proof.manifest)
    return out


def codes(path: Path, **more: Any) -> dict[str, str]:
    """Findings about a file, by code."""
    config = VerifyConfig((str(path),), **more)
    return {f.code: f.level for f in verify.check(str(path), config)}


def bad(path: Path, **more: Any) -> set[str]:
    return {code for code, level in codes(path, **more).items() if level == "bad"}


def flip(path: Path, stream: str, title: str | None = None) -> None:
    """Change one byte in the middle of the longest packet of a track."""
    with av.open(str(path)) as film:
        tracks = list(getattr(film.streams, stream))
        if title is not None:
            tracks = [s for s in tracks if title in (s.metadata.get("title"), s.metadata.get("handler_name"))]
        payload = max((bytes(p) for p in film.demux(tracks[0])), key=len)
    data = path.read_bytes()
    at = data.index(payload) + len(payload) // 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])


def remux(source: Path, out: Path) -> Path:
    """Copy all packets into another container, as `ffmpeg -c copy -map 0` does."""
    with av.open(str(source)) as film, av.open(str(out), "w") as copy:
        copy.metadata.update(film.metadata)
        streams = {s: copy.add_stream_from_template(s, opaque=True) for s in film.streams}
        for packet in film.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                copy.mux(packet)
    return out


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.avi", "a.mkv"])
def test_a_signed_file_and_what_can_be_done_to_it(tmp_path: Path, signer: Signer, name: str) -> None:
    out = make(tmp_path, name, signer)
    source = tmp_path / f"source-0-{name}"
    assert video_digest(str(out)) == video_digest(str(source))  # signing left the picture alone
    found = codes(out, source=str(source))
    assert found == {
        "marked": "good",
        "test-certificate": "note",
        "unchanged": "good",
        "sidecar": "good",
        "video-of-source": "good",
        "source": "good",
    }
    whole, record = out.read_bytes(), next((out.parent / "_v2a").rglob("*.json"))
    flip(out, "video")
    assert "video-changed" in bad(out) and "sound-changed" not in bad(out)
    out.write_bytes(whole)
    # The second track of an AVI has no title.
    flip(out, "audio", None if name == "a.avi" else TITLE)
    assert ("kept-sound-changed" if name == "a.avi" else "sound-changed") in bad(out)
    assert "video-changed" not in bad(out)
    out.write_bytes(whole)
    side = json.loads(record.read_text())
    record.write_text(json.dumps(side | {"sourceSha256": "0" * 64}))
    assert bad(out) == {"sidecar-edited"}
    record.write_text(json.dumps(side | {"outputSha256": "0" * 64}))
    assert bad(out) == {"sidecar-edited"}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_manifest_moved_to_another_file(tmp_path: Path, signer: Signer, name: str) -> None:
    one, two = make(tmp_path / "1", name, signer), make(tmp_path / "2", name, signer, 20)
    shutil.rmtree(two.parent / "_v2a")
    if name == "a.mkv":
        shutil.copy(f"{one}.c2pa", f"{two}.c2pa")
    else:
        data, moved = (bytearray(path.read_bytes()) for path in (two, one))
        mine, theirs = _manifest_box(data), _manifest_box(moved)
        assert mine.stop - mine.start == theirs.stop - theirs.start
        data[mine] = moved[theirs]
        two.write_bytes(data)
    assert bad(two) == {"other-file"}


def _manifest_box(data: bytes) -> slice:
    at = 0
    while data[at + 4 : at + 8] != b"uuid":
        at += int.from_bytes(data[at : at + 4], "big")
    return slice(at, at + int.from_bytes(data[at : at + 4], "big"))


def test_a_remux_keeps_what_was_signed(tmp_path: Path, signer: Signer) -> None:
    out = make(tmp_path, "a.mp4", signer)
    copy = remux(out, tmp_path / "copy.mkv")
    assert bad(copy) == {"no-record"}  # alone it proves nothing
    manifest = next((out.parent / "_v2a").rglob("*.c2pa"))
    found = codes(copy, manifest=str(manifest))
    assert found["remuxed"] == "note" and found["test-certificate"] == "note"
    assert not bad(copy, manifest=str(manifest))
    # In its own place the copy of the manifest is found.
    remux(out, tmp_path / "b.mp4").replace(out)
    assert codes(out)["remuxed"] == "note" and not bad(out)
    flip(out, "video")
    assert "video-changed" in bad(out)


def test_a_manifest_that_was_edited(tmp_path: Path, signer: Signer) -> None:
    out = make(tmp_path, "a.mp4", signer)
    data = out.read_bytes()
    at = data.index(b"unchanged", _manifest_box(data).start)
    out.write_bytes(data[:at] + b"u" + b"N" + data[at + 2 :])
    assert "signature-broken" in bad(out)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_unsigned_files_are_checked_by_mark_and_sidecar(tmp_path: Path, name: str) -> None:
    out = make(tmp_path, name, None)
    found = codes(out)
    assert found == {"marked": "good", "unsigned": "note", "unchanged": "good", "sidecar-unsigned": "note"}
    whole, record = out.read_bytes(), next((out.parent / "_v2a").rglob("*.json"))
    flip(out, "video")
    assert bad(out) == {"video-changed"}
    out.write_bytes(whole)
    flip(out, "audio", TITLE)
    assert bad(out) == {"sound-changed"}
    out.write_bytes(whole)
    side = json.loads(record.read_text())
    side["generator"]["seed"] = 8
    record.write_text(json.dumps(side))
    assert bad(out) == {"sidecar-edited"}
    record.unlink()
    assert bad(out) == {"no-record"}


def test_the_command(tmp_path: Path, signer: Signer, capsys: pytest.CaptureFixture[str]) -> None:
    out = make(tmp_path, "a.mp4", signer)
    assert verify.run(VerifyConfig((str(out),))) == 0
    assert "valid, but signed by a test certificate" in capsys.readouterr().out
    # The authority of the test certificate is trusted only where somebody says so.
    assert verify.run(VerifyConfig((str(out),), trust=signer.certificate, json=True)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] and "trusted" in [f["code"] for f in answer["findings"]]
    (tmp_path / "text.mp4").write_text("not a film")
    assert verify.run(VerifyConfig((str(out), str(tmp_path / "text.mp4"), str(tmp_path / "gone.mp4")))) == 1
    text = capsys.readouterr().out
    assert "cannot be read as a film" in text and "gone.mp4: DOES NOT PASS" in text
    beside = make(tmp_path, "b.mkv", signer)
    lone = beside.with_name(beside.name + signing.BESIDE)
    assert verify.run(VerifyConfig((str(beside), str(lone)))) == 0  # as OUT/* gives them
    beside.unlink()
    assert verify.run(VerifyConfig((str(lone),))) == 1
    assert "manifest-alone" in capsys.readouterr().out
    for wrong in (
        VerifyConfig(),
        VerifyConfig((str(out),), source=str(tmp_path / "none")),
        VerifyConfig((str(out), str(out)), source=str(out)),
        VerifyConfig((str(out),), trust=str(out)),
        VerifyConfig((), make_test_certificate=str(Path(signer.key).parent)),
    ):
        assert verify.run(wrong) == 2
        assert "Traceback" not in capsys.readouterr().err


# certificates


def test_keys_and_certificates_that_cannot_sign(tmp_path: Path, signer: Signer) -> None:
    assert signing.TEST_MARK in signing.check_signer(signer).name
    other = signing.make_test_certificate(tmp_path / "other")
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    expired = signing.make_test_certificate(tmp_path / "old", days=10, now=old)
    early = signing.make_test_certificate(tmp_path / "early", now=old + datetime.timedelta(days=60))
    for wrong, words in (
        (Signer(other.key, signer.certificate), "is not the key of"),
        (expired, "expired on .*renew it"),
        (early, "not valid before"),
        (Signer(signer.certificate, signer.certificate), "no private key"),
        (Signer(signer.key, signer.key), "no certificate"),
        (Signer(str(tmp_path / "none"), signer.certificate), "cannot read the key"),
        (Signer(Path(signer.key).read_text(), signer.certificate), "path of the file"),
    ):
        with pytest.raises(SigningError, match=words) as caught:
            signing.check_signer(wrong)
        assert "PRIVATE" not in str(caught.value)
    secret = Path(signer.key).read_text().splitlines()[1]
    assert secret not in repr(signing.load(signer)) and Path(signer.key).stat().st_mode & 0o077 == 0


def test_a_self_signed_certificate_is_refused(tmp_path: Path) -> None:
    chain = signing.make_test_certificate(tmp_path / "a")
    authority = Path(chain.certificate).read_text().split("-----END CERTIFICATE-----\n")[1]
    (tmp_path / "ca.pem").write_text(authority + "-----END CERTIFICATE-----\n")
    with pytest.raises(SigningError, match="is not the key of"):
        signing.check_signer(Signer(chain.key, str(tmp_path / "ca.pem")))


def test_a_signature_that_cannot_be_made_leaves_nothing(tmp_path: Path, signer: Signer) -> None:
    source = media_files.write_video(tmp_path / "a.mp4")
    (tmp_path / "out").mkdir()

    def seal(path: Path, _: int, made: MuxResult) -> None:
        path.write_bytes(b"no film at all")
        signing.sign_file(signer, signing.manifest({}, "a.mp4", "", "0"), path, "a.mp4")

    with pytest.raises(SigningError, match=r"cannot sign a\.mp4"):
        mux_in_child(
            str(source),
            [np.zeros((1, 44_100), np.int16)],
            tmp_path / "out" / "a.mp4",
            Track(n_samples=44_100, video_start_s=0.0),
            seal=seal,
        )
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(storage.StorageError):
        signing.sign_file(signer, {}, tmp_path / "no" / "a.mp4", "a.mp4")

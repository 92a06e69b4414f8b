"""Keys and certificates: those that can sign, and those that cannot."""

from __future__ import annotations

import datetime
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import storage
from pipelines.mux.child import mux_in_child
from pipelines.mux.track import MuxResult, Track
from pipelines.provenance import signing
from pipelines.provenance.signing import Signer, SigningError
from pipelines.sandbox import child, lent_files
from tests.support import media_files


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signing.make_test_certificate(tmp_path_factory.mktemp("certificate"))


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


def test_a_manifest_states_when_it_was_signed() -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    definition = signing.manifest({}, "a.mp4", "", "0")
    [action] = [a for a in definition["assertions"][0]["data"]["actions"] if "when" in a]
    assert before <= datetime.datetime.fromisoformat(action["when"]) <= datetime.datetime.now(datetime.UTC)


def test_the_child_gets_one_signature_and_never_the_key(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, orders = media_files.write_video(tmp_path / "a.mp4"), []

    def hostile(module: str, order: dict[str, Any], *_: object, **more: object) -> dict[str, Any]:
        orders.append(order)
        service = socket.socket(fileno=os.dup(order["signer"]))
        try:
            assert len(lent_files.ask(service, b"a claim")) == 64
            with pytest.raises(lent_files.Refused):
                lent_files.ask(service, b"another claim")
        finally:
            service.close()
        return {"error": "signing", "message": "enough"}

    monkeypatch.setattr(child, "converse", hostile)
    with pytest.raises(SigningError, match="enough"):
        signing.sign_file(signer, {}, path, "a.mp4")
    secret = Path(signer.key).read_text().splitlines()[1]
    assert secret not in str(orders) and "PRIVATE" not in str(orders)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "manifest"),
        ({"manifest": 5}, "manifest"),
        ({"manifest": "no digits"}, "manifest"),
        ({"manifest": "00", "more": 1}, "more"),
        ({"refused": "no sandbox"}, "invalid reply"),
        ({"error": "else", "message": ""}, "error"),
        ({"error": "storage", "message": "No space left on device"}, "No space"),  # a lie: there is
    ],
)
def test_a_child_that_lies_is_the_films_fault(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], words: str
) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", duration_s=0.2)
    film = path.read_bytes()
    monkeypatch.setattr(child, "converse", lambda *_, **__: answer)
    with pytest.raises(SigningError, match=words):
        signing.sign_file(signer, {}, path, "a.mp4")
    assert path.read_bytes() == film and list(tmp_path.iterdir()) == [path]

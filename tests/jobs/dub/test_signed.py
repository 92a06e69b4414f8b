"""`v2a dub` with a key: nothing unsigned is seen, the key stays where it is, originals are proven unchanged."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import dub, verify
from jobs.dub import DubConfig
from jobs.verify import VerifyConfig
from pipelines.provenance import signing
from tests.support.toy_generators import NOISE, write_video

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("ray_session")]


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in pq.read_table(out / "_v2a" / "report.parquet").to_pylist()}


def test_a_signed_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    for name in ("a.mp4", "sub/b.mkv"):
        write_video(archive / name, 1.0)
    signer = signing.make_test_certificate(tmp_path / "certificate")
    monkeypatch.setenv("V2A_SIGN_KEY", signer.key)
    monkeypatch.setenv("V2A_SIGN_CERT", signer.certificate)
    assert dub.run(DubConfig(str(archive), str(out), model=NOISE)) == 0
    for path, row in rows(out).items():
        assert row["status"] == "dubbed"
        assert row["source_sha256"] == row["source_sha256_after"]
        assert row["source_sha256"] == hashlib.sha256((archive / path).read_bytes()).hexdigest()
        assert row["output_sha256"] == hashlib.sha256((out / row["output"]).read_bytes()).hexdigest()
        assert signing.TEST_MARK in row["signer"]
        config = VerifyConfig((str(out / row["output"]),), source=str(archive / path))
        found = verify.check(config.files[0], config).verdict
        assert found.passed
        assert found.states == {
            "signature": "unknown-signer",
            "film": "unchanged",
            "records": "agree",
            "picture": "of-source",
            "source": "unchanged",
        }
    assert (out / "sub" / "b.mkv.c2pa").exists()

    # The key is nowhere: not in what was written, MLflow's database included, nor in what was said.
    secrets = [line.encode() for line in Path(signer.key).read_text().splitlines()[1:-1]]
    written = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    said = capfd.readouterr()
    for secret in secrets:
        assert not any(secret in data for data in [*written, (said.out + said.err).encode()])

    # Without the key nothing is added to a signed output, and what is there stays.
    monkeypatch.delenv("V2A_SIGN_KEY")
    monkeypatch.delenv("V2A_SIGN_CERT")
    assert dub.run(DubConfig(str(archive), str(out), model=NOISE, tracking_uri="off")) == 2
    assert "signed: yes there, None now" in capfd.readouterr().err


def test_keys_that_cannot_sign_are_refused_before_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    write_video(archive / "a.mp4", 0.3)
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    expired = signing.make_test_certificate(tmp_path / "old", days=10, now=old)
    good = signing.make_test_certificate(tmp_path / "good")
    for key, cert, words in (
        (expired.key, expired.certificate, "expired on"),
        (good.key, expired.certificate, "is not the key of"),
        (good.key, None, "the certificate is missing"),
        (Path(good.key).read_text(), good.certificate, "give the path of the file"),
    ):
        config = DubConfig(
            str(archive), str(out), model=NOISE, sign_key=key, sign_cert=cert, tracking_uri="off"
        )
        assert dub.run(config) == 2
        answer = capsys.readouterr().err
        assert words in answer and "PRIVATE KEY" not in answer
    assert not out.exists()


def test_a_source_that_changes_meanwhile_is_a_failed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.archive import ray_scan

    archive, out = tmp_path / "archive", tmp_path / "out"
    for name in ("a.mp4", "b.mp4"):
        write_video(archive / name, 1.0)
    scanned = ray_scan.scan_rows

    def then_changed(*args: Any, **more: Any) -> Any:
        found = scanned(*args, **more)
        with (archive / "a.mp4").open("ab") as file:
            file.write(b"\0\0\0\x10free somebody")
        return found

    monkeypatch.setattr(ray_scan, "scan_rows", then_changed)
    assert dub.run(DubConfig(str(archive), str(out), model=NOISE, tracking_uri="off")) == 1
    found = rows(out)
    assert found["b.mp4"]["status"] == "dubbed" and not (out / "a.mp4").exists()
    assert (found["a.mp4"]["status"], found["a.mp4"]["error_class"]) == ("failed", "SourceChanged")
    assert "changed while it was dubbed" in found["a.mp4"]["message"]
    assert found["a.mp4"]["source_sha256"] != found["a.mp4"]["source_sha256_after"] != ""
    # Left alone, it is dubbed by the next run.
    monkeypatch.setattr(ray_scan, "scan_rows", scanned)
    assert dub.run(DubConfig(str(archive), str(out), model=NOISE, tracking_uri="off")) == 0

"""Killed while a dubbed film is being signed: nothing unsigned, and nothing in part, is ever under its name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from jobs import verify
from pipelines.provenance import signing
from tests.support import REPOSITORY
from tests.support.dubbing import quickly, report

pytestmark = pytest.mark.timeout(600)

COMMAND = """
import sys
sys.path.insert(0, {root!r})
from tests.support import dubbing
dubbing.quickly(*sys.argv[1:])
"""


def large(path: Path) -> Path:
    """A film of 60 MB, which takes a while to sign."""
    path.parent.mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (1080, 1280), np.uint8)
    with av.open(str(path), "w") as out:
        video = out.add_stream("rawvideo", rate=10)
        video.width, video.height, video.pix_fmt = 1280, 720, "yuv420p"
        for k in range(45):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, k, axis=1), format="yuv420p")
            frame.pts = k
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def visible(out: Path) -> list[str]:
    """Files that anybody sees, but for the job's own."""
    files = (path for path in out.rglob("*") if path.is_file() and "_v2a" not in path.parts)
    return [path.name for path in files if not path.name.startswith(".")]


def test_killed_while_signing(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    source = large(archive / "film.avi")
    signer = signing.make_test_certificate(tmp_path / "keys")
    options = [str(archive), str(out), "--sign-key", signer.key, "--sign-cert", signer.certificate]
    caught = False
    for _ in range(5):  # on a busy machine it may be over before this process has its turn
        job = subprocess.Popen(
            [sys.executable, "-c", COMMAND.format(root=str(REPOSITORY)), *options],
            cwd=REPOSITORY,
        )
        while job.poll() is None and not list(out.glob(".v2a-tmp-*.signed*")):
            time.sleep(0.002)
        if job.poll() is None:
            family = psutil.Process(job.pid).children(recursive=True)
            os.kill(job.pid, signal.SIGKILL)
            job.wait()
            psutil.wait_procs(family, timeout=30)  # what it had started ends with it
            caught = "film.avi" not in visible(out)
            if caught:
                break
        (out / "film.avi").unlink(missing_ok=True)
    assert caught
    assert visible(out) == [] and not list((out / "_v2a").glob("rows/*"))
    assert list(out.glob(".v2a-tmp-*"))  # it did get in between

    rows = quickly(*options)
    assert rows["film.avi"]["status"] == "dubbed" and visible(out) == ["film.avi"]
    assert not list(out.rglob(".v2a-tmp-*"))
    config = verify.VerifyConfig((str(out / "film.avi"),), source=str(source))
    found = verify.check(config.files[0], config).verdict
    assert found.passed and found.states["signature"] == "unknown-signer"
    assert signing.TEST_MARK in report(out)["film.avi"]["signer"]


def test_a_certificate_that_expires_while_films_are_dubbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was good when the job began: the film is a failed row, and no unsigned one is there."""
    from pipelines.dub import finish
    from tests.support.dubbing import film

    archive, out = tmp_path / "archive", tmp_path / "out"
    film(archive / "reel.mp4", None, 1.0)
    good = signing.make_test_certificate(tmp_path / "good")
    import datetime

    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    expired = signing.make_test_certificate(tmp_path / "old", days=10, now=old)
    closing = finish.finish_item

    def later(*arguments: object) -> object:
        Path(good.key).write_bytes(Path(expired.key).read_bytes())
        Path(good.certificate).write_bytes(Path(expired.certificate).read_bytes())
        return closing(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(finish, "finish_item", later)
    rows = quickly(archive, out, "--sign-key", good.key, "--sign-cert", good.certificate)
    row = rows["reel.mp4"]
    assert (row["status"], row["stage"], row["error_class"]) == ("failed", "sign", "SigningFailed")
    assert "expired on" in row["message"] and visible(out) == []

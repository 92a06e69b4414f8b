"""The sandbox: whatever a file does to its decoder, the caller sees one exception and goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import storage
from pipelines.media import video
from pipelines.media.errors import DecodeFailed
from pipelines.sandbox.decoder import Sandbox, View
from tests.support import media_files
from tests.support.sandboxed import VIEWS, waiting_child


def test_answers_are_those_of_decode(shared: Sandbox, film: str) -> None:
    with open(film, "rb") as file:
        known = video.probe(file)
    # The child also hashes what it reads.
    assert shared.probe(film) == dataclasses.replace(
        known, sha256=hashlib.sha256(Path(film).read_bytes()).hexdigest()
    )
    with open(film, "rb") as file:
        file.seek(0)
        expected = video.decode_views(file, VIEWS, 0.5, 1.5)
        for got, wanted in zip(shared.decode_views(film, VIEWS, 0.5, 1.5), expected, strict=True):
            assert np.array_equal(got, wanted)
        file.seek(0)
        assert np.array_equal(shared.decode_sound(film, 0.5, 1.5), video.decode_sound(file, 0.5, 1.5))
        more: dict[str, Any] = {"origin_s": 0.1, "channels": 1}
        expected_sound = video.decode_sound(file, 0.5, 1.5, **more)
        assert np.array_equal(shared.decode_sound(film, 0.5, 1.5, **more), expected_sound)
        with pytest.raises(ValueError, match="channels"):
            shared.decode_sound(film, 0.5, 1.5, channels=3)


def test_answers_stay_right_when_larger_and_smaller_requests_alternate(shared: Sandbox, film: str) -> None:
    first = shared.decode_views(film, VIEWS, 0, 0.4)
    second = shared.decode_views(film, [View(50, 96, 64)], 0, 2)[0]
    third = shared.decode_views(film, VIEWS, 0, 0.4)
    assert second.shape == (100, 64, 96, 3)
    for a, b in zip(first, third, strict=True):
        assert np.array_equal(a, b)


def test_one_child_serves_many_requests_and_survives_bad_files(
    shared: Sandbox, film: str, tmp_path: Path
) -> None:
    pid = waiting_child(shared, film)
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    for _ in range(3):
        with pytest.raises(DecodeFailed) as caught:
            shared.probe(str(tmp_path / "bad.mp4"))
        assert caught.value.error_class == "NotAVideo"
        assert caught.value.stage == "open"
        assert shared.probe(film).n_frames == 50
    assert shared.pid == pid


def test_relative_paths_and_odd_names(
    shared: Sandbox, film: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in media_files.ODD_NAMES:
        Path(name).write_bytes(Path(film).read_bytes())
        assert shared.probe(f"./{name}").n_frames == 50


def test_a_missing_file_is_a_storage_error(shared: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(storage.StorageNotFound):
        shared.probe(str(tmp_path / "nothing.mp4"))


def test_a_pipe_does_not_block(shared: Sandbox, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(storage.StorageError, match="regular"):
        shared.probe(str(tmp_path / "pipe.mp4"))


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that cannot be read")
def test_a_read_error_is_a_storage_error_and_not_a_bad_file(shared: Sandbox) -> None:
    with pytest.raises(storage.StorageError, match="/proc/self/mem"):
        shared.probe("/proc/self/mem")


def test_a_closed_sandbox_says_so(film: str) -> None:
    sandbox = Sandbox()
    sandbox.close()
    with pytest.raises(RuntimeError, match="closed"):
        sandbox.probe(film)


def test_a_child_that_cannot_start_is_not_the_files_fault(film: str) -> None:
    with Sandbox(memory_mb=20) as sandbox, pytest.raises(RuntimeError, match="failed to start"):
        sandbox.probe(film)


def test_wrong_spans_are_the_callers_mistake(shared: Sandbox, film: str) -> None:
    for span in ((1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="not a time span"):
            shared.decode_views(film, VIEWS, *span)


def test_a_killed_idle_child_is_replaced(film: str) -> None:
    with Sandbox(threads=1) as sandbox:
        pid = waiting_child(sandbox, film)
        os.kill(pid, signal.SIGKILL)
        assert sandbox.probe(film).n_frames == 50
        assert sandbox.pid != pid


def _during(sandbox: Sandbox, pid: int, *signals: signal.Signals) -> threading.Thread:
    """Stops the child, and while a request waits for it sends `signals`."""
    os.kill(pid, signal.SIGSTOP)

    def strike() -> None:
        time.sleep(0.3)
        for each in signals:
            os.kill(pid, each)

    thread = threading.Thread(target=strike)
    thread.start()
    return thread


def test_a_crash_is_a_failure_of_that_file_only(film: str) -> None:
    with Sandbox(threads=1, retries=0) as sandbox:
        thread = _during(sandbox, waiting_child(sandbox, film), signal.SIGSEGV, signal.SIGCONT)
        with pytest.raises(DecodeFailed) as caught:
            sandbox.decode_views(film, VIEWS, 0, 1)
        thread.join()
        assert caught.value.error_class == "DecoderCrashed"
        assert "SIGSEGV" in caught.value.message
        assert sandbox.probe(film).n_frames == 50


def test_a_crash_is_tried_once_more(film: str) -> None:
    with Sandbox(threads=1) as sandbox:
        thread = _during(sandbox, waiting_child(sandbox, film), signal.SIGKILL)
        assert len(sandbox.decode_views(film, VIEWS, 0, 1)[0]) == 25
        thread.join()


def test_a_hang_ends_after_the_time_limit(film: str) -> None:
    with Sandbox(threads=1, timeout_s=20) as sandbox:
        pid = waiting_child(sandbox, film)
        sandbox.timeout_s = 0.5
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(DecodeFailed) as caught:
            sandbox.probe(film)
        assert caught.value.error_class == "DecoderTimeout"
        sandbox.timeout_s = 20
        assert sandbox.probe(film).n_frames == 50
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_file_that_needs_too_much_memory_fails_alone(film: str, tmp_path: Path) -> None:
    path = media_files.write_video(
        tmp_path / "a.avi", duration_s=0.2, codec="mjpeg", pix_fmt="yuvj420p", size=(64, 64)
    )
    media_files.set_jpeg_size(path, 8000, 8000)  # 96 MB as a picture, from a few hundred bytes
    with Sandbox(threads=1, memory_mb=420) as sandbox:
        with pytest.raises(DecodeFailed) as caught:
            sandbox.decode_views(str(path), VIEWS, 0, 0.2)
        assert caught.value.error_class in ("DecoderOutOfMemory", "InvalidData")
        with pytest.raises(DecodeFailed) as caught:
            sandbox.decode_views(film, [View(25, 3000, 3000)], 0, 2)
        assert caught.value.error_class == "DecoderOutOfMemory"
        assert sandbox.probe(film).n_frames == 50


@pytest.mark.parametrize("make", [media_files.hls, media_files.ffconcat])
def test_a_playlist_in_disguise_opens_nothing(shared: Sandbox, tmp_path: Path, make: object) -> None:
    hits = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = tmp_path / "a.mp4"
    assert callable(make)
    path.write_bytes(make(f"http://127.0.0.1:{server.server_port}/a.ts"))
    with pytest.raises(DecodeFailed) as caught:
        shared.probe(str(path))
    server.shutdown()
    server.server_close()
    assert caught.value.error_class == "ForbiddenFormat"
    assert hits == []


def test_the_child_cannot_write_files(film: str) -> None:
    with Sandbox(threads=1) as sandbox:
        pid = waiting_child(sandbox, film)
        limits = Path(f"/proc/{pid}/limits")
        if not limits.exists():
            pytest.skip("limits of another process can be read on Linux only")
        text = " ".join(limits.read_text().split())
        assert "Max file size 0 0" in text
        assert "Max core file size 0 0" in text
        assert f"Max address space {2048 << 20}" in text


def test_closing_ends_the_child(film: str) -> None:
    with Sandbox(threads=1) as sandbox:
        pid = waiting_child(sandbox, film)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    sandbox.close()


def test_threads_can_share_one_sandbox(shared: Sandbox, film: str) -> None:
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(len(shared.decode_views(film, VIEWS, 0, 1)[0])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [25] * 4

"""The sandbox stretch by stretch: the same as at once, in bounded memory, whatever the child does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.media import video
from pipelines.media.errors import DecodeFailed
from pipelines.sandbox import decoder_process
from pipelines.sandbox.decoder import Sandbox, View
from tests.support import media_files
from tests.support.sandboxed import VIEWS, waiting_child

LOOKS = [View(25, 48, 32), View(8, 32, 32, "crop")]
ENDS = [0.25 * (k + 1) for k in range(8)]


@pytest.fixture(scope="module")
def expected(film: str) -> list[list[np.ndarray]]:
    with open(film, "rb") as file:
        return list(video.iter_views(file, LOOKS, 0, ENDS))


def same(got: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    return len(got) == len(wanted) and all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_stretches_are_those_of_decode_and_hold_until_the_next(
    shared: Sandbox, film: str, expected: list[list[np.ndarray]]
) -> None:
    n = 0
    for got, wanted in zip(shared.iter_views(film, LOOKS, 0, ENDS), expected, strict=True):
        time.sleep(0.05)  # time for the child to get ahead, if it were let
        assert same(got, wanted)
        n += 1
    assert n == len(ENDS)


def test_one_stretch_and_none_at_all(shared: Sandbox, film: str) -> None:
    [[only]] = list(shared.iter_views(film, [View(25, 48, 32)], 0.5, [1.0]))
    assert [media_files.number_of(p) for p in only] == list(range(12, 25))
    with pytest.raises(ValueError, match="not a time span"):
        shared.iter_views(film, LOOKS, 0, [])


def test_a_crash_in_the_middle_is_tried_again_from_there(film: str, expected: list[list[np.ndarray]]) -> None:
    with Sandbox(threads=1) as sandbox:
        pids = set()
        for k, got in enumerate(sandbox.iter_views(film, LOOKS, 0, ENDS)):
            assert same(got, expected[k])
            pids.add(sandbox.pid)
            if k == 2:
                assert sandbox.pid is not None
                os.kill(sandbox.pid, signal.SIGKILL)
                time.sleep(0.1)
                assert same(got, expected[k]), "still there without the child"
        assert k == len(ENDS) - 1
        assert len(pids - {None}) == 2


@pytest.mark.parametrize("retries", [0, 1])
def test_a_file_that_keeps_killing_its_decoder_fails(film: str, retries: int) -> None:
    with Sandbox(threads=1, retries=retries) as sandbox:
        stretches = sandbox.iter_views(film, LOOKS, 0, ENDS)
        with pytest.raises(DecodeFailed) as caught:
            for _ in stretches:
                assert sandbox.pid is not None
                os.kill(sandbox.pid, signal.SIGKILL)
        assert caught.value.error_class == "DecoderCrashed"
        assert "SIGKILL" in caught.value.message
        assert sandbox.probe(film).n_frames == 50


def test_a_hang_in_the_middle_ends_and_a_slow_caller_does_not(film: str) -> None:
    with Sandbox(threads=1, timeout_s=1) as sandbox:
        stretches = sandbox.iter_views(film, LOOKS, 0, ENDS)
        next(stretches)
        time.sleep(1.2)
        next(stretches)
        assert sandbox.pid is not None
        os.kill(sandbox.pid, signal.SIGSTOP)
        with pytest.raises(DecodeFailed, match="DecoderTimeout"):
            list(stretches)
        assert sandbox.probe(film).n_frames == 50


def test_breaking_off_leaves_the_sandbox_usable(film: str, expected: list[list[np.ndarray]]) -> None:
    with open(film, "rb") as file:
        late = video.decode_views(file, LOOKS, 1, 1.25)
    with Sandbox(threads=1, retries=0) as sandbox:
        for n_read in (1, 2, 5):
            for k, _ in enumerate(sandbox.iter_views(film, LOOKS, 0, ENDS), start=1):
                if k == n_read:
                    break
            # Shaped as the stretches that the child may have been about to announce.
            assert same(next(sandbox.iter_views(film, LOOKS, 1, [1.25, 1.5])), late)
            assert sandbox.probe(film).n_frames == 50
        first = next(sandbox.iter_views(film, LOOKS, 0, ENDS))
        assert same(first, expected[0]), "holds although the iteration is gone"


def test_an_iteration_closed_after_its_last_stretch_keeps_the_child(film: str) -> None:
    with Sandbox(threads=1) as sandbox:
        pid = waiting_child(sandbox, film)
        stretches = sandbox.iter_views(film, LOOKS, 0, ENDS)
        for _, _ in zip(ENDS, stretches, strict=False):
            pass
        stretches.close()  # type: ignore[attr-defined]
        assert len(sandbox.decode_views(film, VIEWS, 0, 1)[0]) == 25
        assert sandbox.pid == pid


def test_damage_in_the_middle_leaves_no_stale_words(tmp_path: Path, film: str) -> None:
    good = media_files.write_video(tmp_path / "a.mp4", duration_s=4, gop=5)
    bad = str(media_files.scrambled(good, tmp_path / "most.mp4", 0.7))
    with Sandbox(threads=1) as sandbox:
        pid = waiting_child(sandbox, film)
        for _ in range(2):
            n = 0
            with pytest.raises(DecodeFailed, match="InvalidData"):
                for _ in sandbox.iter_views(bad, LOOKS, 0, [0.1, 0.2, 0.3, 0.4, 3, 4]):
                    n += 1
            assert n == 4
            assert sandbox.probe(film).n_frames == 50
            assert len(list(sandbox.iter_views(film, LOOKS, 0, ENDS))) == len(ENDS)
        assert sandbox.pid == pid


def test_asking_for_more_in_the_midst_is_an_error_and_other_threads_wait(shared: Sandbox, film: str) -> None:
    answers: list[int] = []
    stretches = shared.iter_views(film, LOOKS, 0, ENDS)
    next(stretches)
    for ask in (
        lambda: shared.probe(film),
        lambda: shared.decode_views(film, VIEWS, 0, 1),
        lambda: next(shared.iter_views(film, LOOKS, 0, ENDS)),
    ):
        with pytest.raises(RuntimeError, match="iter_views"):
            ask()
    other = threading.Thread(target=lambda: answers.append(shared.probe(film).n_frames))
    other.start()
    time.sleep(0.1)
    assert answers == []
    assert len(list(stretches)) == len(ENDS) - 1
    other.join(20)
    assert answers == [50]
    assert shared.probe(film).n_frames == 50


def blocks(sandbox: Sandbox) -> int:
    """Bytes that the shared memory takes."""
    assert sandbox._process.shared is not None
    return os.fstat(sandbox._process.shared.fd).st_blocks * 512


def test_hundreds_of_megabytes_come_whole_and_are_given_back(film: str) -> None:
    large = View(50, 1152, 900)
    with Sandbox(threads=1) as sandbox:
        [got] = sandbox.decode_views(film, [large], 0, 2)
        assert got.nbytes > 300_000_000
        assert [media_files.number_of(p[::50, ::12]) for p in got[::2]] == list(range(50))
        assert blocks(sandbox) <= 65 << 20
        n = 0
        for [stretch] in sandbox.iter_views(film, [large], 0, [1, 2]):
            n += len(stretch)
        assert n == 100
        assert len(sandbox.decode_views(film, VIEWS, 0, 1)[0]) == 25
        assert blocks(sandbox) <= 65 << 20
    with Sandbox(threads=1, memory_mb=450) as sandbox:
        with pytest.raises(DecodeFailed, match="DecoderOutOfMemory"):
            sandbox.decode_views(film, [large], 0, 2)  # it fits, but not beside the decoder
        assert sandbox.probe(film).n_frames == 50


def resident(pid: int) -> int:
    """Bytes of main memory that a process takes, shared ones included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_film_nor_with_requests(film: str) -> None:
    views, ends_s = [View(25, 224, 224)], [float(k + 1) for k in range(40)]  # 150 MB, most of it held over

    with Sandbox(threads=1) as sandbox:

        def most(n: int) -> int:
            pid = waiting_child(sandbox, film)
            peak = 0
            for [stretch] in sandbox.iter_views(film, views, 0, ends_s[:n]):
                assert stretch[::5].max() > 0
                peak = max(peak, resident(os.getpid()) + resident(pid))
            return peak

        short = most(4)
        assert most(40) - short < 20 << 20
        assert most(40) - short < 20 << 20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_requests_leak_no_pictures(tmp_path: Path) -> None:
    film = str(media_files.write_video(tmp_path / "large.mp4", duration_s=1, size=(960, 540)))
    with Sandbox(threads=1) as sandbox:
        pid, sizes = waiting_child(sandbox, film), []
        for _ in range(40):
            sandbox.decode_views(film, VIEWS, 0, 0.4)
            sizes.append(resident(pid))
        # Every request once left 2.6 MB of a decoder's buffers behind.
        assert sandbox.pid == pid and sizes[-1] - sizes[4] < 10 << 20


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_requests_leak_no_descriptors(film: str) -> None:
    def n_open(pid: int) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    with Sandbox(threads=1) as sandbox:
        pid, counts = waiting_child(sandbox, film), []
        for k in range(50):
            size = 16 + 8 * k  # growing: mapped anew again and again
            for stretch in sandbox.iter_views(film, [View(25, size, size)], 0, [0.2, 0.4, 0.6]):
                assert stretch[0].shape == (5, size, size, 3)
            sandbox.decode_views(film, VIEWS, 0, 0.4)
            counts.append((n_open(os.getpid()), n_open(pid)))
        assert sandbox.pid == pid
        assert counts[-1][0] <= counts[1][0] and counts[-1][1] <= counts[1][1]
        del stretch
        before = n_open(os.getpid())
        for _ in range(3):
            os.kill(waiting_child(sandbox, film), signal.SIGKILL)
        sandbox.close()
        assert n_open(os.getpid()) < before


@pytest.mark.parametrize(
    "lie",
    [
        {"shapes": [[7, 32, 48, 3], [2, 32, 32, 3]]},
        {"shapes": [[1 << 40, 32, 48, 3], [2, 32, 32, 3]]},
        {"shapes": []},
        {"shapes": 5},
        {},
        [],
        {"failed": 1},
    ],
)
def test_a_child_that_lies_is_not_believed(film: str, lie: object, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        f"print('{{}}', flush=True)\nwhile input():\n    print({json.dumps(json.dumps(lie))}, flush=True)"
    )

    def start(memory_mb: int, shared_fd: int, control_fd: int) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", script], stdin=control_fd, stdout=pipe, stderr=pipe)

    monkeypatch.setattr(decoder_process, "start_decoder", start)
    with Sandbox(threads=1) as sandbox, pytest.raises(DecodeFailed, match="invalid reply"):
        list(sandbox.iter_views(film, LOOKS, 0, ENDS))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs sealed memory")
def test_the_memory_cannot_be_made_shorter_under_the_parent(film: str) -> None:
    with Sandbox(threads=1) as sandbox:
        first = next(sandbox.iter_views(film, LOOKS, 0, ENDS))
        sandbox.decode_views(film, VIEWS, 0, 1)
        assert sandbox._process.shared is not None
        with pytest.raises(PermissionError):
            os.ftruncate(sandbox._process.shared.fd, 0)
        assert first[0].shape == (7, 32, 48, 3)

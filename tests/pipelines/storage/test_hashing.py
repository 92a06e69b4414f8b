"""sha256 of files that are read anyway."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest

from pipelines.mux import remux
from pipelines.mux.track import Track
from pipelines.sandbox.decoder import Sandbox
from pipelines.storage import hashing
from tests.support import media_files


class Counted(io.BytesIO):
    n_read = 0

    def read(self, n: int | None = -1) -> bytes:
        data = super().read(n)
        self.n_read += len(data)
        return data


def test_what_was_read_in_order_is_not_read_again() -> None:
    data = np.random.default_rng(0).bytes(100_000)
    file, running = Counted(data), hashing.Running()
    # The start, the index at the end, the start again, and all up to the index.
    for offset, n in ((0, 4000), (90_000, 10_000), (0, 4000), (3000, 50_000), (53_000, 37_000)):
        running.update(offset, data[offset : offset + n])
    assert running.done == 90_000
    assert running.finish(file) == hashlib.sha256(data).hexdigest()
    assert file.n_read == 10_000
    assert hashing.sha256(io.BytesIO(data)) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_probe_and_copy_agree_on_the_source(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name == "a.avi" else "libx264"
    source = media_files.write_video(tmp_path / name, codec=codec, sound="silent")
    source.write_bytes(source.read_bytes() + b"what no demuxer reads" * 1000)
    expected = hashlib.sha256(source.read_bytes()).hexdigest()
    with Sandbox() as sandbox:
        assert sandbox.probe(str(source)).sha256 == expected
    sound = [np.zeros((1, 44_100), np.int16)]
    made = remux.mux(str(source), sound, tmp_path / "out.mkv", Track(n_samples=44_100, video_start_s=0.0))
    assert made.source_sha256 == expected

"""Sandboxes, a film and a small archive that several modules of tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.archive import scan
from pipelines.sandbox.decoder import Sandbox
from tests.support import media_files
from tests.support.toy_generators import write_video


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with Sandbox(threads=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("film")
    return str(media_files.write_video(folder / "a.mp4", duration_s=2, sound="audible", channels=2))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    """Scan rows of a small archive, by path."""
    root = tmp_path_factory.mktemp("archive")
    write_video(root / "silent.mp4", 3.3)
    write_video(root / "short.mp4", 0.5)
    write_video(root / "loud.mp4", 1.0, sound=0.5)
    write_video(root / "quiet.mkv", 1.0, sound=0.0)
    (root / "notes.txt").write_text("no video")
    (root / "broken.mp4").write_bytes(b"nothing that a decoder knows" * 40)
    return {row["path"]: row for row in scan.scan(str(root), sandbox)}

"""A sandbox and a film for the tests of the sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import media
import pytest

from pipelines.sandbox import Sandbox


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with Sandbox(threads=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("film")
    return str(media.write_video(folder / "a.mp4", duration_s=2, sound="audible", channels=2))

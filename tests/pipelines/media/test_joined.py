"""Films of several mp4 files: the packets of all, on one clock."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.media import clock, joined, video
from pipelines.media.errors import DecodeFailed
from pipelines.media.video import View
from tests.support import media_files


class Several(io.BytesIO):
    """Files as one."""

    def __init__(self, *files: bytes) -> None:
        super().__init__(b"".join(files))
        self.parts = tuple(map(len, files))


@given(
    files=st.lists(st.binary(max_size=12), min_size=1, max_size=4),
    at=st.integers(0, 15),
    n=st.integers(-1, 15),
)
def test_windows_read_like_the_files(files: list[bytes], at: int, n: int) -> None:
    found = joined.windows(Several(*files))
    assert len(found) == len(files)
    for window, data in zip(found, files, strict=True):
        alone = io.BytesIO(data)
        assert window.seek(at) == alone.seek(at)
        assert window.read(n) == alone.read(n)
        assert window.seek(0, 2) == len(data)
    assert joined.windows(io.BytesIO()) == []


Make = Callable[..., bytes]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def film(name: str = "a.mp4", **facts: Any) -> bytes:
        return media_files.write_video(tmp_path / name, **({"duration_s": 1.0} | facts)).read_bytes()

    return film


def test_pictures_of_all_files_follow_each_other(make: Make) -> None:
    files = make(bframes=2), make(bframes=2, duration_s=2)
    found = video.probe(Several(*files))
    assert (found.container, found.n_frames, found.duration_s) == (clock.JOINED, 75, pytest.approx(3))
    assert clock.has_leaps(found.note), "no time can be looked up"
    [pictures] = video.decode_views(Several(*files), [View(25, 48, 32)], 0.8, 1.2, seeks=False)
    assert [media_files.number_of(picture) for picture in pictures] == [*range(20, 25), *range(5)]


def test_sound_stays_with_its_pictures(make: Make) -> None:
    files = make(sound="silent"), make(sound="audible")
    sound = video.decode_sound(Several(*files), 0, 2, seeks=False)
    assert abs(sound[:, : int(0.95 * 44_100)]).max() < 0.01
    assert abs(sound[:, int(1.05 * 44_100) : int(1.9 * 44_100)]).max() > 0.1


@pytest.mark.parametrize(
    "other",
    [
        {"size": (128, 64)},
        {"codec": "mpeg4"},
        {"bframes": 1},
        {"fps": 30, "codec": "mpeg4"},
        {"sound": "silent"},
    ],
)
def test_a_file_that_differs_is_refused(make: Make, other: dict[str, Any]) -> None:
    first = {"sound": "audible"} if "sound" in other else {}
    second = make(**other) if "sound" not in other else make()
    with pytest.raises(DecodeFailed, match="file 2 does not go on with the"):
        video.probe(Several(make(**first), second))

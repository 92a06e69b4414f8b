"""Pictures coded anew in the sandbox: sizes, pixels, and pictures that cannot be decoded."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipelines import storage
from pipelines.mux.streams import proxy
from pipelines.mux.track import MuxFailed
from tests.support import picture_files


def run_of(folder: Path, suffix: str, n: int = 4) -> str:
    return storage.source_uri(str(folder / f"scan_{{0000000-{n - 1:07d}}}.{suffix}"), "24")


def decoded(path: Path, pixels: str = "rgb24") -> np.ndarray:
    with av.open(str(path)) as film:
        return np.stack([frame.to_ndarray(format=pixels) for frame in film.decode(video=0)])


@pytest.mark.parametrize("suffix", ["dpx", "tif", "png", "jpg"])
def test_ffv1_keeps_every_pixel(suffix: str, tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, range(4), suffix)
    destination = tmp_path / "film.mkv"
    proxy.encode_in_child(run_of(tmp_path, suffix), destination, "ffv1")
    pixels = "yuv444p" if suffix == "jpg" else "rgb24"
    with av.open(str(tmp_path / f"scan_0000002.{suffix}")) as picture:
        original = next(picture.decode(video=0))
        wanted = original.to_ndarray(format="yuvj444p" if suffix == "jpg" else "rgb24")
    found = decoded(destination, pixels)[2]
    assert np.array_equal(found, wanted)


def test_mp4_is_never_higher_than_its_most_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        data = picture_files.coded("png", number, (1500, 1201))
        (tmp_path / f"scan_{number:07d}.png").write_bytes(data)
    destination = tmp_path / "film.mp4"
    proxy.encode_in_child(run_of(tmp_path, "png"), destination, "mp4")
    with av.open(str(destination)) as film:
        context = film.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.height) == ("h264", "yuv420p", proxy.MOST_LINES)
        assert context.width == round(1500 * 1080 / 1201 / 2) * 2
    assert picture_files.numbers_of(decoded(destination)) == list(range(4))


def test_pictures_that_cannot_be_decoded_are_an_error_of_the_film(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"scan_{number:07d}.png").write_bytes(b"broken")
    with pytest.raises(MuxFailed, match="cannot be decoded"):
        proxy.encode_in_child(run_of(tmp_path, "png"), tmp_path / "film.mp4", "mp4")

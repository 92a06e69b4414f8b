"""Interlaced films: models see one field of each picture, the earlier one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.filter import Graph

from pipelines.media.pictures.fields import first_field
from pipelines.media.video import View
from pipelines.sandbox.decoder import Sandbox
from tests.support.decoding import views

WIDTH, HEIGHT = 96, 64


def write_combed(path: Path, order: str, n: int = 12) -> Path:
    """A film of bright upper lines and dark lower lines. order: tff, bff, or "" for progressive pictures."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"qp": "4", "x264-params": f"{order}=1" if order else "qp=4"}
        for k in range(n):
            picture = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
            picture[0::2] = 220
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(video.encode(_marked(frame, order) if order else frame))
        out.mux(video.encode(None))
    return path


def _marked(frame: Any, order: str) -> Any:
    """The picture with its order of fields, which the encoder takes from each picture."""
    graph = Graph()
    source = graph.add_buffer(width=WIDTH, height=HEIGHT, format=frame.format.name, time_base=Fraction(1, 25))
    mark, sink = graph.add("setfield", order), graph.add("buffersink")
    source.link_to(mark)
    mark.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()


@pytest.mark.parametrize(("order", "brightness"), [("tff", 220), ("bff", 20)])
def test_the_earlier_field_is_seen_without_combs(tmp_path: Path, order: str, brightness: int) -> None:
    film = write_combed(tmp_path / "film.mkv", order)
    [pictures] = views(film, 0.0, 0.4, View(25, WIDTH, HEIGHT))
    assert pictures.shape == (10, HEIGHT, WIDTH, 3)
    assert np.abs(pictures.astype(int) - brightness).max() < 40
    # The same from the middle on, and in the confined child.
    [later] = views(film, 0.2, 0.4, View(25, WIDTH, HEIGHT))
    assert np.array_equal(later, pictures[5:])
    with Sandbox(threads=1) as sandbox:
        [confined] = sandbox.decode_views(str(film), [View(25, WIDTH, HEIGHT)], 0.0, 0.4)
    assert np.array_equal(confined, pictures)


def test_progressive_pictures_keep_all_lines(tmp_path: Path) -> None:
    [pictures] = views(write_combed(tmp_path / "film.mkv", ""), 0.0, 0.2, View(25, WIDTH, HEIGHT))
    assert pictures[:, 0::2].mean() > 180 and pictures[:, 1::2].mean() < 60


def test_the_shape_of_the_picture_stays(tmp_path: Path) -> None:
    film = write_combed(tmp_path / "film.mkv", "tff")
    for view in (View(25, 32, 32, "crop"), View(25, 40, 24, "squeeze")):
        assert views(film, 0.0, 0.2, view)[0].shape == (5, view.height, view.width, 3)
    with av.open(str(film)) as opened:
        frames = list(opened.decode(video=0))
    assert {(field.width, field.height) for field in map(first_field, frames)} == {(WIDTH, HEIGHT // 2)}

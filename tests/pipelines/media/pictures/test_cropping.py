"""The shown part of a picture is what models see, what a row says, and what the copy shows."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.media.pictures.cropping import Crop, cropped, read_crops
from pipelines.media.video import View
from pipelines.mux import remux
from pipelines.mux.track import Track
from tests.support import media_files
from tests.support.decoding import probe, views
from tests.support.mp4_boxes import ENTRY, box, edited
from tests.support.muxing import dub


def aperture(width: int, height: int, right_by: float, down_by: float) -> bytes:
    """A `clap` box: the size of the shown part, and how far its middle lies from that of the picture."""
    moved = round(2 * right_by), 2, round(2 * down_by), 2
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, *moved))


def corner_film(path: Path, **more: object) -> Path:
    """A film of 96 x 64 of which the lower right quarter, white, is shown: 48 x 32."""
    media_files.write_video(path, duration_s=0.4, picture=media_files.quadrants, **more)  # type: ignore[arg-type]
    path.write_bytes(edited(path.read_bytes(), ENTRY, aperture(48, 32, 24, 16)))
    return path


def rewritten(source: Path, path: Path, filters: str) -> Path:
    """A copy of a film's pictures, their headers changed by a bit stream filter of FFmpeg."""
    with av.open(str(source)) as film, av.open(str(path), "w") as out:
        video = film.streams.video[0]
        changed = av.BitStreamFilterContext(filters, video)
        copy = out.add_stream_from_template(video)
        for packet in film.demux(video):
            for made in changed.filter(packet if packet.size else None):
                made.stream = copy
                out.mux(made)
    return path


def aspect_of(path: Path) -> Fraction:
    with av.open(str(path)) as film:
        return Fraction(film.streams.video[0].sample_aspect_ratio or 1)


def crops_of(path: Path) -> dict[int, Crop]:
    with path.open("rb") as file, av.open(file) as film:
        return read_crops(file, film)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_an_aperture(tmp_path: Path, name: str) -> None:
    film = corner_film(tmp_path / name)
    found = probe(film)
    assert (found.width, found.height) == (48, 32)
    [seen] = views(film, 0.0, 0.2, View(25, 24, 16))
    assert (seen > 200).all()
    [squeezed] = views(film, 0.0, 0.2, View(25, 16, 16, "crop"))
    assert (squeezed > 200).all()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("aspect", [None, Fraction(4, 3)])
def test_the_copy_shows_the_same_part(tmp_path: Path, name: str, aspect: Fraction | None) -> None:
    source = corner_film(tmp_path / "a.mp4", aspect=aspect)
    copy = tmp_path / f"copy-{name}"
    remux.mux(str(source), [np.zeros((1, 100), np.int16)], copy, Track(100, 0.0))
    assert crops_of(copy) == crops_of(source) == {0: Crop(48, 32, 0, 0)}
    assert aspect_of(copy) == aspect_of(source) == (aspect or 1)
    sizes = [(found.width, found.height) for found in (probe(source), probe(copy))]
    assert sizes[0] == sizes[1] == ((64 if aspect else 48), 32)
    [seen] = views(copy, 0.0, 0.2, View(25, 24, 16))
    assert (seen > 200).all()
    again, _ = dub(copy, tmp_path / "again")
    assert crops_of(again) == crops_of(source) and aspect_of(again) == (aspect or 1)


def test_a_turned_film_is_cropped_before_it_is_turned(tmp_path: Path) -> None:
    film = media_files.write_video(
        tmp_path / "a.mp4", duration_s=0.2, picture=media_files.quadrants, rotation=90
    )
    film.write_bytes(edited(film.read_bytes(), ENTRY, aperture(96, 32, 0, 16)))  # blue and white are left
    found = probe(film)
    assert (found.width, found.height, found.rotation) == (32, 96, 90)
    [[seen, *_]] = views(film, 0.0, 0.2, View(25, 32, 96))
    assert seen[20].mean(0).tolist() == pytest.approx([0, 0, 255], abs=30) and seen[76].min() > 200


@pytest.mark.parametrize(("left", "size"), [(8, (72, 62)), (2, (78, 62)), (32, (48, 62))])
def test_the_cropped_edge_of_a_coded_stream_is_exact(
    tmp_path: Path, left: int, size: tuple[int, int]
) -> None:
    """H.264 crops by itself; a left edge that is not aligned to rows of 32 pixels too."""
    plain = media_files.write_video(tmp_path / "plain.ts", duration_s=0.4, picture=media_files.quadrants)
    film = rewritten(plain, tmp_path / "a.ts", f"h264_metadata=crop_left={left}:crop_right=16:crop_top=2")
    found = probe(film)
    assert (found.width, found.height) == size
    [[seen, *_]] = views(film, 0.0, 0.2, View(25, *size))
    edge = int(np.argmax((seen[5] > 128)[:, 1]))  # where red turns to green
    assert edge == pytest.approx(48 - left, abs=1)


def test_a_size_of_another_multiple_than_blocks(tmp_path: Path) -> None:
    for size in ((98, 54), (66, 50)):
        film = media_files.write_video(tmp_path / f"{size[0]}.mp4", duration_s=0.2, size=size)
        found = probe(film)
        assert (found.width, found.height) == size


def test_a_size_that_changes_on_the_way(tmp_path: Path) -> None:
    """A joined transport stream: each picture is shown at its own size, and the row has that of the first."""
    parts = [
        media_files.write_video(
            tmp_path / f"{k}.ts", duration_s=0.48, size=size, start_s=0.48 * k, picture=media_files.quadrants
        )
        for k, size in enumerate([(96, 64), (64, 96)])
    ]
    film = tmp_path / "a.ts"
    film.write_bytes(b"".join(part.read_bytes() for part in parts))
    found = probe(film)
    assert (found.width, found.height) == (96, 64)
    [seen] = views(film, 0.0, 0.96, View(25, 48, 48, "crop"))
    assert [media_files.corners(picture) for picture in seen] == ["rgbw"] * 24


def test_what_cannot_be_cropped_is_shown_whole() -> None:
    frame = av.VideoFrame.from_ndarray(media_files.quadrants(0, 96, 64), format="rgb24")
    assert cropped(frame, Crop(90, 0, 6, 0)) is frame and cropped(frame, Crop()) is frame
    part = cropped(frame.reformat(format="yuv420p"), Crop(3, 1, 0, 2))
    assert (part.width, part.height) == (93, 61)
    assert Crop(1, 2, 3, 4).shown_size(100, 50) == (96, 44)


def test_an_aperture_beyond_the_picture_is_none(tmp_path: Path) -> None:
    film = media_files.write_video(tmp_path / "a.mp4", duration_s=0.2)
    film.write_bytes(edited(film.read_bytes(), ENTRY, aperture(200, 200, 0, 0)))
    found = probe(film)
    assert (found.width, found.height) == (96, 64)


def test_the_position_of_the_file_stays(tmp_path: Path) -> None:
    with corner_film(tmp_path / "a.mp4").open("rb") as file, av.open(file) as film:
        at = file.seek(77)
        assert read_crops(file, film) == {0: Crop(48, 32, 0, 0)} and file.tell() == at

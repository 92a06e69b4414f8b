"""MXF films, dubbed by the real command line: the copy is MXF where FFmpeg writes its pictures there."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from jobs import cli
from tests.support import media_files
from tests.support.dubbing import codecs, quickly
from tests.support.muxing import decode_track, picture_times
from tests.support.toy_generators import NOISE

SECONDS = 2
KINDS = {
    "long.mxf": dict(codec="mpeg2video", pix_fmt="yuv420p", bframes=2),
    "ntsc.mxf": dict(codec="mpeg2video", pix_fmt="yuv422p", fps=Fraction(30_000, 1001)),
    "prores.mxf": dict(codec="prores", pix_fmt="yuv422p10le"),
    "dv.mxf": dict(codec="dvvideo", size=(720, 576)),
    "jpeg.mxf": dict(codec="jpeg2000"),
    "avc.mxf": dict(codec="libx264", pix_fmt="yuv422p10le", gop=1),
    "loud.mxf": dict(codec="mpeg2video", sound="audible", audio_codec="pcm_s24le", rate=48_000, channels=2),
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for name, facts in KINDS.items():
        media_files.write_video(folder / name, duration_s=SECONDS, **facts)
    return folder


@pytest.fixture(scope="module")
def report(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("out")
    return out, quickly(archive, out, "--only", "all")


@pytest.mark.parametrize("name", KINDS)
def test_the_copy_is_mxf_with_the_same_pictures_and_48_khz(
    archive: Path, report: tuple[Path, dict], name: str
) -> None:
    out, rows = report
    row = rows[name]
    assert (row["status"], row["output"], row["reason"]) == ("dubbed", name, "")
    assert np.allclose(picture_times(out / name), picture_times(archive / name), atol=0.002)
    assert sorted(codecs(out / name)) == sorted(["pcm_s16le", *codecs(archive / name)])
    sound, start_s, rate = decode_track(out / name, 1)
    assert (start_s, rate) == (0, 48_000)
    assert sound.shape[1] == pytest.approx(row["duration_s"] * 48_000, abs=1)
    assert sound.any()


def test_the_copy_says_that_its_sound_is_synthetic_and_is_verified(
    archive: Path, report: tuple[Path, dict], capfd
) -> None:
    out, _ = report
    for name in ("long.mxf", "loud.mxf"):
        code = cli.main(["verify", str(out / name), "--source", str(archive / name)])
        assert code == 0, capfd.readouterr()
    with av.open(str(out / "loud.mxf")) as film:
        assert "Sound track generated" in film.metadata["comment_comment"]


def test_the_same_film_gives_the_same_bytes(archive: Path, report: tuple[Path, dict], tmp_path: Path) -> None:
    out, _ = report
    quickly(archive, tmp_path, "--only", "all", "--include", "long.mxf")
    assert (tmp_path / "long.mxf").read_bytes() == (out / "long.mxf").read_bytes()


def test_the_time_code_is_kept(archive: Path, tmp_path: Path) -> None:
    coded = tmp_path / "in" / "coded.mxf"
    coded.parent.mkdir()
    with av.open(str(archive / "long.mxf")) as film, av.open(str(coded), "w") as out:
        stream = film.streams.video[0]
        copy = out.add_stream_from_template(stream)
        out.metadata["timecode"] = "10:11:12:13"
        for packet in film.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    quickly(coded.parent, tmp_path / "out")
    with av.open(str(tmp_path / "out" / "coded.mxf")) as film:
        assert film.metadata["timecode"] == "10:11:12:13"


def test_what_mxf_does_not_take_becomes_matroska_and_the_report_says_why(tmp_path: Path) -> None:
    folder, odd = tmp_path / "in", {"container_options": {"strict": "unofficial"}}
    folder.mkdir()
    media_files.write_video(folder / "odd.mxf", duration_s=SECONDS, codec="mpeg2video", fps=15, **odd)
    rows = quickly(folder, tmp_path / "out")
    assert (rows["odd.mxf"]["status"], rows["odd.mxf"]["output"]) == ("dubbed", "odd.mxf.mkv")
    assert "mxf cannot hold this film" in rows["odd.mxf"]["reason"]
    assert not list((tmp_path / "out").glob("*.mxf"))


def test_a_codec_that_mxf_does_not_hold_is_kept_in_another_container(archive: Path, tmp_path: Path) -> None:
    rows = quickly(
        archive, tmp_path, "--include", "long.mxf", "dv.mxf", "--audio-codec", "aac", "--only", "all"
    )
    assert {row["output"] for row in rows.values()} == {"long.mxf.mkv", "dv.mxf.mov"}


def test_one_part_of_the_sound_is_made_again(report: tuple[Path, dict], tmp_path: Path) -> None:
    out, _ = report
    copied = tmp_path / "out"
    shutil.copytree(out, copied)
    words = ("--start", "1", "--end", "1.5", "--seed", "8", "--model", NOISE)
    assert cli.main(["redub", str(copied), "long.mxf", *words]) == 0
    before, after = (decode_track(folder / "long.mxf", 1)[0] for folder in (out, copied))
    assert np.array_equal(before[:, :48_000], after[:, :48_000])
    assert not np.array_equal(before, after)

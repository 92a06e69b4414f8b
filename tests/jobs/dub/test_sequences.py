"""Numbered pictures are films for scan and dub: one row, sound of the exact length, and no sound for another rate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import cli
from pipelines.mux import audio_file
from tests.support import REPOSITORY, media_files, picture_files
from tests.support.dubbing import only_track, quickly
from tests.support.toy_generators import NOISE

PATH = "reel1/scan_{0086400-0086459}.dpx"
GAPS = (86410, 86411, 86430)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reel of DPX with two gaps, and photos of a camera."""
    root = tmp_path_factory.mktemp("scans")
    picture_files.write_run(root / "reel1", (k for k in range(86400, 86460) if k not in GAPS))
    (root / "photos").mkdir()
    for number in range(30):
        data = picture_files.with_exif(picture_files.coded("jpg", number))
        (root / "photos" / f"IMG_{number:04d}.jpg").write_bytes(data)
    return root


def bext(path: Path) -> dict[str, str]:
    """Fields of the chunk `bext` of a WAV file, as EBU Tech 3285 places them."""
    data = path.read_bytes()
    at = data.index(b"bext") + 8

    def text(start: int, n: int) -> str:
        return data[at + start : at + start + n].rstrip(b"\0").decode("ascii")

    reference = int.from_bytes(data[at + 338 : at + 346], "little")
    size = int.from_bytes(data[at - 4 : at], "little")
    return {
        "description": text(0, 256),
        "originator": text(256, 32),
        "date": text(320, 10),
        "reference": str(reference),
        "history": text(602, size - 602),
    }


def raw_stream(path: Path, fps: int, n: int) -> None:
    """H.264 without a container, which states its rate."""
    with path.open("wb") as file, av.open(file, "w", format="h264") as out:
        stream: Any = out.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.options = {"preset": "ultrafast", "bf": "0"}
        for number in range(n):
            frame = av.VideoFrame.from_ndarray(media_files.numbered(number, 96, 64), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def test_scan_through_the_real_command_line(archive: Path, tmp_path: Path) -> None:
    table = tmp_path / "scan.parquet"
    words = [sys.executable, "-m", "jobs.scan", str(archive), "--fps", "23.976", "--out", str(table)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "1 videos" in done.stdout and "passed over: 30 photos" in done.stdout
    [row] = [row for row in pq.read_table(table).to_pylist() if row["status"] == "ok"]
    assert (row["path"], row["video_codec"]) == (PATH, "dpx")
    assert row["duration_s"] == pytest.approx(60 * 1001 / 24000, abs=1e-9)
    assert row["fps"] == pytest.approx(24000 / 1001)
    assert row["error"] == "frames 86410-86411, 86430 are missing, held"


def test_a_reel_without_a_rate_is_a_failed_row_that_names_the_option(
    archive: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert cli.main(["scan", str(archive), "--include", "reel1"]) == 1
    assert "57 pictures that states no rate: give --fps" in capsys.readouterr().out


@pytest.mark.parametrize("rate", ["0", "fast", "1/0"])
def test_a_wrong_rate_is_wrong_usage(archive: Path, rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scan", str(archive), "--fps", rate]) == 2
    assert "--fps: a rate is a number of pictures per second" in capsys.readouterr().err


@pytest.fixture(scope="module")
def dubbed(
    archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, object]]]:
    out = tmp_path_factory.mktemp("out")
    yield out, quickly(archive, out, "--fps", "24")[PATH]


def test_the_sound_has_the_exact_length_and_no_pictures_are_copied(
    dubbed: tuple[Path, dict[str, object]],
) -> None:
    out, row = dubbed
    assert (row["status"], row["output"]) == ("dubbed", f"{PATH}.wav")
    assert only_track(out / f"{PATH}.wav").shape[1] == round(60 / 24 * 44_100)
    files = [path.name for path in out.rglob("*") if path.is_file() and "_v2a" not in path.parts]
    assert files == [f"{PATH}.wav".rpartition("/")[2]]
    assert row["reason"] == "frames 86410-86411, 86430 are missing, held"
    assert (out / "_v2a" / "cards" / f"{row['video_id']}.webp").stat().st_size > 0


def test_the_sound_is_a_broadcast_wave_that_begins_at_the_number_of_its_first_picture(
    dubbed: tuple[Path, dict[str, object]],
) -> None:
    fields = bext(dubbed[0] / f"{PATH}.wav")
    assert fields["description"].startswith("Synthetic sound by v2a") and PATH in fields["description"]
    assert fields["originator"].startswith("v2a") and len(fields["date"]) == 10
    assert fields["reference"] == str(3600 * 44_100)  # picture 86400 at 24 per second: one hour
    assert fields["history"].startswith("A=PCM,F=44100,W=16,M=mono")


def test_another_rate_is_another_film(archive: Path, dubbed: tuple[Path, dict[str, object]]) -> None:
    out, row = dubbed
    again = quickly(archive, out, "--fps", "24")[PATH]
    assert (again["video_id"], again["run_id"]) == (row["video_id"], row["run_id"])  # kept
    slower = quickly(archive, out, "--fps", "18")[PATH]
    assert slower["video_id"] != row["video_id"] and slower["status"] == "dubbed"
    sound = only_track(out / f"{PATH}.wav")
    assert sound.shape[1] == round(60 / 18 * 44_100)
    back = quickly(archive, out, "--fps", "24")[PATH]
    assert back["video_id"] == row["video_id"]
    assert only_track(out / f"{PATH}.wav").shape[1] == round(60 / 24 * 44_100)


def test_the_manifest_sets_the_rate_of_one_film(archive: Path, tmp_path: Path) -> None:
    table = tmp_path / "films.csv"
    table.write_text(f"path,fps\n{PATH},16\n")
    row = quickly(archive, tmp_path / "out", "--fps", "24", "--manifest", table)[PATH]
    assert (row["status"], row["duration_s"]) == ("dubbed", 60 / 16)


def test_verify_finds_the_source_and_redub_finds_the_pictures(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    quickly(archive, out, "--fps", "23.976")
    wav = str(out / f"{PATH}.wav")
    assert cli.main(["verify", wav, "--source", str(archive / PATH)]) == 0
    assert "source unchanged" in capsys.readouterr().out
    before = np.concatenate(list(audio_file.read(Path(wav))), axis=1)
    words = ["redub", str(out), PATH, "--start", "1", "--end", "2", "--seed", "5"]
    words += ["--archive", str(archive), "--model", NOISE]
    assert cli.main(words) == 0, capsys.readouterr().err
    after = np.concatenate(list(audio_file.read(Path(wav))), axis=1)
    assert after.shape == before.shape and not np.array_equal(after, before)
    assert np.array_equal(after[:, :44_100], before[:, :44_100])
    assert bext(Path(wav))["reference"] == str(round(86400 * 1001 / 24000 * 44_100))


def test_a_frame_that_breaks_in_the_middle_is_reported_as_damage(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path / "films", range(48), "png")
    (tmp_path / "films" / "scan_0000024.png").write_bytes(b"broken")
    [row] = quickly(tmp_path / "films", tmp_path / "out", "--fps", "24").values()
    assert row["status"] == "dubbed"
    assert row["reason"] == "damaged, last good frame held: 1.0 to 1.0 s"


def test_a_stream_without_a_container_follows_the_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    raw_stream(films / "reel.h264", 12, 36)
    media_files.write_video(films / "other.mkv", duration_s=1)
    before = quickly(films, out)
    assert before["reel.h264"]["duration_s"] == 3
    rows = quickly(films, out, "--fps", "18")
    row, copy = rows["reel.h264"], out / "reel.h264.mkv"
    assert (row["status"], row["duration_s"]) == ("dubbed", 2)
    assert only_track(copy).shape[1] == 2 * 44_100
    with av.open(str(copy)) as film:
        times = [float(packet.pts * packet.time_base) for packet in film.demux(video=0) if packet.size]
    assert times == pytest.approx([k / 18 for k in range(36)], abs=0.001)
    verified = cli.main(["verify", str(copy), "--source", str(films / "reel.h264")])
    assert verified == 0, capsys.readouterr()
    assert "picture for picture and time for time" in capsys.readouterr().out
    assert (
        rows["other.mkv"]["run_id"] == before["other.mkv"]["run_id"] != row["run_id"]
    )  # another film is kept

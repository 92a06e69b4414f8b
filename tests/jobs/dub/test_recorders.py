"""Recordings that a recorder cut into several files, dubbed as one film by the real command line."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import av
import numpy as np
import pytest

from jobs import cli
from jobs.common.verb import WrongUsage
from pipelines import storage
from pipelines.archive import scan
from tests.support import dav_files, decoding, media_files
from tests.support.dubbing import quickly, titles, track
from tests.support.muxing import decode_track, picture_times
from tests.support.toy_generators import NOISE

SECONDS = 3


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parts of a camera, two of another, and a film of its own."""
    folder = tmp_path_factory.mktemp("recorder")
    clip = media_files.write_video(folder / "clip.ts", duration_s=SECONDS)
    for name in ("cam1_120000", "cam1_120003", "cam1_120010", "cam2_1", "cam2_2"):
        (folder / f"{name}.ts").write_bytes(clip.read_bytes())
    return folder


@pytest.fixture(scope="module")
def report(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("out")
    return out, quickly(parts, out, "--join-by", r"(cam\d+)_.*")


def test_parts_are_one_row_one_film_and_one_copy(parts: Path, report: tuple[Path, dict]) -> None:
    out, rows = report
    assert {path: row["status"] for path, row in rows.items()} == dict.fromkeys(
        ("cam1_120000.ts", "cam2_1.ts", "clip.ts"), "dubbed"
    )
    assert sorted(path.name for path in out.glob("*.mkv")) == [f"{path}.mkv" for path in sorted(rows)]
    row = rows["cam1_120000.ts"]
    assert row["parts"] == ["cam1_120000.ts", "cam1_120003.ts", "cam1_120010.ts"]
    assert row["duration_s"] == pytest.approx(3 * SECONDS, abs=0.01)
    assert rows["clip.ts"]["parts"] == []
    copy = out / row["output"]
    times = picture_times(copy)
    assert len(times) == 3 * SECONDS * 25
    assert np.allclose(np.diff(times), 0.04, atol=0.0015), "the film goes on over the borders"
    assert decoding.numbers(copy, 0, 9)[:150] == decoding.numbers(parts / "clip.ts", 0, 3) * 2
    assert track(copy, "v2a (generated)").shape[1] == 3 * SECONDS * 44_100


def test_one_film_is_not_the_sound_of_its_parts_put_together(report: tuple[Path, dict]) -> None:
    out, rows = report
    sound = track(out / rows["cam1_120000.ts"]["output"], "v2a (generated)")[0]
    one, two = np.split(sound[: 2 * SECONDS * 44_100], 2)
    assert not np.array_equal(one, two)


def test_what_is_missing_is_noted(report: tuple[Path, dict]) -> None:
    _, rows = report
    reason = rows["cam1_120000.ts"]["reason"]
    assert "3 files as one film, to cam1_120010.ts" in reason
    assert "4 s are missing between cam1_120003.ts and cam1_120010.ts" in reason
    assert "cam1_120000.ts and" not in reason, "nothing is missing there"


def test_the_copy_is_verified_with_its_parts(parts: Path, report: tuple[Path, dict], capfd) -> None:
    out, rows = report
    copy = out / rows["cam1_120000.ts"]["output"]
    side = json.loads((out / "_v2a/provenance" / f"{rows['cam1_120000.ts']['video_id']}.json").read_text())
    assert side["parts"] == rows["cam1_120000.ts"]["parts"]
    assert cli.main(["verify", str(copy), "--source", str(parts / "cam1_120000.ts")]) == 0, capfd.readouterr()
    assert cli.main(["verify", str(copy), "--source", str(parts / "clip.ts")]) == 1


def test_the_same_command_keeps_what_is_done(parts: Path, report: tuple[Path, dict]) -> None:
    out, rows = report
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.mkv")}
    again = quickly(parts, out, "--join-by", r"(cam\d+)_.*")
    assert {path: row["video_id"] for path, row in again.items()} == {
        path: row["video_id"] for path, row in rows.items()
    }
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.mkv")} == before


def test_recordings_of_a_dahua_recorder_are_joined(tmp_path: Path) -> None:
    archive, film = tmp_path / "in", media_files.write_video(tmp_path / "film.mp4", duration_s=SECONDS)
    archive.mkdir()
    for k, pause_s in enumerate((0, 3, 7)):
        began = dav_files.BEGAN + timedelta(seconds=SECONDS * k + pause_s)
        dav_files.write_dav(film, archive / f"ch01_{k + 1}.dav", began=began, sound="pcm_alaw")
    (archive / "ch01_3.dav").rename(archive / "ch01_4.dav")
    [row] = quickly(archive, tmp_path / "out", "--join-by", "folder", "--only", "all").values()
    assert (row["status"], row["path"]) == ("dubbed", "ch01_1.dav")
    assert (row["recorded_at"], row["recorded_by"]) == (dav_files.BEGAN.isoformat(), "metadata")
    assert "missing between its parts: 3" in row["reason"]
    assert "3 s are missing between ch01_1.dav and ch01_2.dav" in row["reason"]
    assert row["duration_s"] == pytest.approx(3 * SECONDS + 7), "short pauses stay, as the clock says"


@pytest.mark.parametrize(
    ("name", "second", "error", "words"),
    [
        ("a.avi", {}, "CannotJoin", "transport streams"),
        ("a.mp4", {"bframes": 2}, "CannotJoin", "file 2 does not go on with the video of the first"),
        ("a.ts", {"size": (128, 64)}, "CannotJoin", "width is 128, not 96"),
        ("a.ts", {"sound": "silent"}, "CannotJoin", "n audio tracks is 1, not 0"),
        ("a.ts", None, "PartUnreadable", "leave it out with --exclude"),
    ],
)
def test_files_that_cannot_be_one_film_are_one_failed_row(
    tmp_path: Path, name: str, second: dict | None, error: str, words: str
) -> None:
    archive = tmp_path / "in"
    archive.mkdir()
    media_files.write_video(archive / f"1{name}", duration_s=0.4)
    if second is None:
        (archive / f"2{name}").write_bytes(b"")
    else:
        media_files.write_video(archive / f"2{name}", duration_s=0.4, **second)
    media_files.write_video(archive / "other.mkv", duration_s=0.4)
    rows = quickly(archive, tmp_path / "out", "--join-by", "folder")
    assert {path: row["status"] for path, row in rows.items()} == {
        f"1{name}": "failed",
        "other.mkv": "dubbed",
    }
    assert rows[f"1{name}"]["error_class"] == error
    assert words in rows[f"1{name}"]["message"]


def test_chapters_of_an_action_camera_are_one_film(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    archive, out = tmp_path / "in", tmp_path / "out"
    archive.mkdir()
    for name in ("GH010123.MP4", "GH020123.MP4", "GH010124.MP4", "GX020123.MP4"):
        media_files.write_video(archive / name, duration_s=SECONDS, sound="audible", rate=48_000)
    rows = quickly(archive, out, "--join-by", "gopro", "--only", "all")
    assert {path: len(row["parts"]) for path, row in rows.items()} == {
        "GH010123.MP4": 2, "GH010124.MP4": 0, "GX020123.MP4": 0,
    }  # fmt: skip
    row = rows["GH010123.MP4"]
    assert (row["status"], row["output"], row["audio_state"]) == ("dubbed", "GH010123.MP4.mkv", "audible")
    assert row["duration_s"] == pytest.approx(2 * SECONDS, abs=0.01)
    copy = out / row["output"]
    times = picture_times(copy)
    assert len(times) == 2 * SECONDS * 25
    assert np.allclose(np.diff(times), 0.04, atol=0.0015), "the film goes on over the border"
    shown = decoding.numbers(copy, 0, 2 * SECONDS)
    assert shown == decoding.numbers(archive / "GH010123.MP4", 0, SECONDS) * 2
    [kept] = [k for k, title in enumerate(titles(copy)) if title != "v2a (generated)"]
    sound, start_s, rate = decode_track(copy, 1 + kept)
    assert abs(start_s) < 0.03
    assert sound.shape[1] / rate == pytest.approx(2 * SECONDS, abs=0.1)
    assert cli.main(["verify", str(copy), "--source", str(archive / "GH010123.MP4")]) == 0, capfd.readouterr()


def test_a_manifest_names_the_files_of_a_film_and_their_order(parts: Path, tmp_path: Path) -> None:
    table = tmp_path / "films.csv"
    table.write_text("path,seed,film\ncam2_2.ts,7,night\ncam1_120000.ts,,night\nclip.ts,8,\n")
    chosen = ("--include", "cam2_2.ts", "cam1_120000.ts", "clip.ts")
    rows = quickly(parts, tmp_path / "out", "--manifest", table, *chosen)
    assert {path: (row["seed"], row["parts"]) for path, row in rows.items()} == {
        "cam2_2.ts": (7, ["cam2_2.ts", "cam1_120000.ts"]),
        "clip.ts": (8, []),
    }
    table.write_text(table.read_text() + "cam2_1.ts,9,night\n")
    with pytest.raises(WrongUsage, match=r"row 5: film 'night' has its settings in its first row"):
        quickly(parts, tmp_path / "out", "--manifest", table, *chosen)


def test_a_rule_that_is_none_is_wrong_usage(tmp_path: Path, capfd) -> None:
    assert cli.main(["scan", str(tmp_path), "--join-by", "(cam"]) == 2
    assert "avchd, dvd, gopro, folder" in capfd.readouterr().err


def test_a_scan_lists_the_parts(parts: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    assert (
        cli.main(["scan", str(parts), "--join-by", r"(cam\d+)_.*", "--out", str(tmp_path / "t.parquet")]) == 0
    )
    rows = {row["path"]: row for row in pq.read_table(tmp_path / "t.parquet").to_pylist()}
    assert rows["cam2_1.ts"]["parts"] == ["cam2_1.ts", "cam2_2.ts"]
    assert rows["clip.ts"]["parts"] is None
    assert storage.parts_of(rows["cam2_1.ts"]["uri"]) == [str(parts / "cam2_1.ts"), str(parts / "cam2_2.ts")]
    assert set(rows["clip.ts"]) == set(scan.SCAN_SCHEMA.names)
    with av.open(str(parts / "clip.ts")) as film:
        assert film.format.name == "mpegts"


def test_one_part_of_the_sound_is_made_again(parts: Path, report: tuple[Path, dict], tmp_path: Path) -> None:
    out, rows = report
    copied = tmp_path / "out"
    shutil.copytree(out, copied)
    name = rows["cam1_120000.ts"]["output"]
    words = ("--start", "4", "--end", "5", "--seed", "8", "--model", NOISE)
    assert cli.main(["redub", str(copied), name, *words]) == 0
    before, after = (track(folder / name, "v2a (generated)")[0] for folder in (out, copied))
    assert np.array_equal(before[: 4 * 44_100], after[: 4 * 44_100])
    assert not np.array_equal(before, after)

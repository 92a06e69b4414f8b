"""The table of an archive: every file once, each with the right status."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import retry, storage
from pipelines.archive import scan
from pipelines.media import raw_streams
from pipelines.sandbox.decoder import Sandbox
from pipelines.storage import FileInfo
from tests.pipelines.archive.test_kinds import APPLE_DOUBLE
from tests.support import SHARED, dav_files, media_files


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(threads=1) as own:
        yield own


def row_of(path: Path, sandbox: Sandbox) -> dict[str, object]:
    info = storage.stat_file(str(path), path.name)
    row = scan.scan_file(info, sandbox)
    scan.to_table([row])  # fits the schema
    return row


@given(st.text(min_size=1), st.integers(0, 2**50), st.text())
def test_video_id_is_stable_and_depends_on_everything(path: str, size: int, version: str) -> None:
    path, version = (text.encode("utf-8", "replace").decode() for text in (path, version))
    name = scan.video_id(path, size, version)
    assert len(name) == 16 and int(name, 16) >= 0
    assert name == scan.video_id(path, size, version)
    assert name != scan.video_id(path, size + 1, version)
    assert name != scan.video_id(path + "x", size, version)
    assert name != scan.video_id(path, size, version + "x")


def test_video_id_never_changes_between_versions_of_this_program() -> None:
    assert scan.video_id("a/b.mp4", 123, "456") == "ae550b9af6b28356"


@pytest.mark.parametrize(
    ("path", "suffix"),
    [("a.MP4", ".mp4"), ("x/y.tar.mkv", ".mkv"), ("x.mp4/readme", ""), (".mp4", ""), ("a", "")],
)
def test_suffix(path: str, suffix: str) -> None:
    assert scan.suffix(path) == suffix


def test_a_video(tmp_path: Path, sandbox: Sandbox) -> None:
    path = media_files.write_video(tmp_path / "a.mkv", sound=("silent", "empty"), duration_s=1)
    row = row_of(path, sandbox)
    assert row["status"] == "ok" and row["error"] == ""
    assert (row["audio_state"], row["n_audio_tracks"], row["peak_dbfs"]) == ("silent", 2, -120)
    assert (row["width"], row["height"], row["video_codec"]) == (96, 64, "h264")
    assert row["duration_s"] == pytest.approx(1, abs=0.002)


def test_a_video_without_a_video_suffix_is_found_by_its_content(tmp_path: Path, sandbox: Sandbox) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", duration_s=0.2)
    stream = media_files.write_video(tmp_path / "a.ts", duration_s=0.4).rename(tmp_path / "stream")
    assert row_of(stream, sandbox)["status"] == "ok"
    for name in ("recording", "a.mp4.bak", "a.txt"):
        assert row_of(path.rename(tmp_path / name), sandbox)["status"] == "ok"
        path = tmp_path / name


def test_sound_text_and_pictures_are_not_failures(tmp_path: Path, sandbox: Sandbox) -> None:
    assert row_of(media_files.write_sound(tmp_path / "a.wav"), sandbox)["status"] == "audio_only"
    assert row_of(media_files.write_sound(tmp_path / "a.mp4"), sandbox)["status"] == "audio_only"
    for name, data in {
        "list.csv": b"a,b\n1,2\n",
        "a.srt": b"1\n00:00:01,000 --> 00:00:02,000\nhello\n",
        "a.m3u8": media_files.hls("a.ts"),
        "a.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "empty": b"",
        "a.mp3": b"not sound at all, but nobody said that it was footage",
    }.items():
        (tmp_path / name).write_bytes(data)
        assert row_of(tmp_path / name, sandbox)["status"] == "not_video", name


def test_what_should_be_a_video_and_is_not_has_failed_with_the_reason(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    good = media_files.write_video(tmp_path / "good.mp4", duration_s=0.4)
    for name, data in {
        "EmptyFile.mp4": b"",
        "NotAVideo.mkv": b"text " * 1000,
        "ForbiddenFormat.mov": media_files.hls("good.mp4"),
    }.items():
        (tmp_path / name).write_bytes(data)
    media_files.truncated(good, tmp_path / "NotAVideo.mp4")
    media_files.encrypted(tmp_path / "Encrypted.mp4", duration_s=0.4)
    media_files.scrambled(good, tmp_path / "InvalidData.mp4")
    good.unlink()
    for path in sorted(tmp_path.iterdir()):
        row = row_of(path, sandbox)
        assert (row["status"], row["error_class"]) == ("failed", path.stem)
        assert row["error"] and row["duration_s"] is None


def test_a_whole_tree_gives_one_row_per_file(tmp_path: Path, sandbox: Sandbox) -> None:
    root = tmp_path / "root"
    root.mkdir()
    good = media_files.write_video(root / "good.mp4", duration_s=0.2)
    for name in media_files.ODD_NAMES:
        (root / name).write_bytes(good.read_bytes())
    (root / "loop").symlink_to(root)
    (tmp_path / "outside.mp4").write_bytes(good.read_bytes())
    (root / "outside.mp4").symlink_to(tmp_path / "outside.mp4")
    rows = list(scan.scan(str(root), sandbox))
    table = scan.to_table(rows)
    status = dict(zip(table["path"].to_pylist(), table["status"].to_pylist(), strict=True))
    assert len(rows) == len(status) == len(media_files.ODD_NAMES) + 3
    assert all(status[name] == "ok" for name in media_files.ODD_NAMES)
    assert status["loop"] == "not_video"
    assert status["outside.mp4"] == "failed"
    assert table["path"].to_pylist() == sorted(status)


def test_storage_is_asked_again_before_a_file_has_failed(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", duration_s=0.2)
    answers = [storage.StorageError("connection reset"), storage.StorageError("slow down")]
    real = sandbox.probe

    def flaky(uri: str) -> object:
        if answers:
            raise answers.pop()
        return real(uri)

    monkeypatch.setattr(retry, "SCAN", retry.RetryPolicy(3, 0.0))
    monkeypatch.setattr(sandbox, "probe", flaky)
    assert row_of(path, sandbox)["status"] == "ok"
    answers += [storage.StorageError("connection reset")] * 3
    row = row_of(path, sandbox)
    assert (row["status"], row["error_class"]) == ("failed", "StorageError")


def test_a_file_that_vanished_is_a_row(tmp_path: Path, sandbox: Sandbox) -> None:
    row = scan.scan_file(FileInfo("a.mp4", str(tmp_path / "a.mp4"), 1, "1"), sandbox)
    assert (row["status"], row["error_class"]) == ("failed", "StorageNotFound")


def test_photos_and_apple_doubles_are_no_films_under_any_name(tmp_path: Path, sandbox: Sandbox) -> None:
    media_files.write_photo(tmp_path / "a.avif")
    for name in ("a.avif", "photo", "photo.mp4", "photo.heic", "photo.mov"):
        (tmp_path / name).write_bytes((tmp_path / "a.avif").read_bytes())
        row = row_of(tmp_path / name, sandbox)
        assert (row["status"], row["error"]) == ("not_video", "photo"), name
    for name in ("._film.mp4", "._film.mov", "film.mkv", "._a"):
        (tmp_path / name).write_bytes(APPLE_DOUBLE)
        row = row_of(tmp_path / name, sandbox)
        assert (row["status"], row["error"]) == ("not_video", "AppleDouble file"), name
    film = media_files.write_video(tmp_path / "._a film.mp4", duration_s=0.2)  # only called like one
    assert row_of(film, sandbox)["status"] == "ok"


def test_streams_of_recorders_are_films_with_and_without_a_name(tmp_path: Path, sandbox: Sandbox) -> None:
    for codec, format_name, suffixes in (
        ("libx264", "h264", (".264", ".avc", ".26l", ".jvt", ".h264")),
        ("libx265", "hevc", (".265", ".hvc", ".h265")),
        ("libsvtav1", "obu", (".obu",)),
    ):
        stream = media_files.write_video(
            tmp_path / "a.mkv", duration_s=1, codec=codec, container_format=format_name
        )
        for name in ("stream", "stream.bin", "001.dat", *(f"a{suffix}" for suffix in suffixes)):
            row = row_of(stream.rename(tmp_path / name), sandbox)
            assert row["status"] == "ok" and row["error"] in ("", raw_streams.NOTE), (format_name, name, row)
            assert row["duration_s"] == pytest.approx(1, abs=0.1)
            stream = tmp_path / name
    film = media_files.write_video(tmp_path / "b.mp4", duration_s=1)
    for name in ("a.dav", "channel 1"):
        row = row_of(dav_files.write_dav(film, tmp_path / name), sandbox)
        assert (row["status"], row["container"], row["video_codec"]) == ("ok", "dhav", "h264"), row


def test_a_row_says_when_its_film_was_recorded(tmp_path: Path, sandbox: Sandbox) -> None:
    film = media_files.write_video(tmp_path / "reel.mp4", duration_s=0.4)
    assert [row_of(film, sandbox)[name] for name in scan.LATER[:2]] == [None, None]
    named = film.rename(tmp_path / "20260103_120500.mp4")
    assert [row_of(named, sandbox)[name] for name in scan.LATER[:2]] == ["2026-01-03T12:05:00", "name"]
    recorded = dav_files.write_dav(named, tmp_path / "20200101_000000.dav")
    assert [row_of(recorded, sandbox)[name] for name in scan.LATER[:2]] == ["2026-01-03T12:05:00", "metadata"]


def test_text_is_no_film_under_a_name_that_others_have(tmp_path: Path, sandbox: Sandbox) -> None:
    for name in ("index.ts", "b.mts", "go.mod", "app_de.ts", "data.rm", "old.TS"):
        (tmp_path / name).write_bytes(b"export const film = 1;\n" * 300)
        row = row_of(tmp_path / name, sandbox)
        assert (row["status"], row["error"]) == ("not_video", "text file"), name
    stream = media_files.write_video(tmp_path / "a.ts", duration_s=0.4)
    assert row_of(stream, sandbox)["status"] == "ok"
    (tmp_path / "damaged.ts").write_bytes(bytes(range(256)) * 40)
    assert row_of(tmp_path / "damaged.ts", sandbox)["status"] == "failed"


def test_what_is_probably_a_film_has_failed_whatever_its_name(tmp_path: Path, sandbox: Sandbox) -> None:
    """And it is told apart from what is no film."""
    good = media_files.write_video(tmp_path / "good.mp4", duration_s=0.4)
    for name in ("rescued", "rescued.bin", "FILE0001.CHK"):
        row = row_of(media_files.truncated(good, tmp_path / name), sandbox)
        assert (row["status"], row["error_class"]) == ("failed", "NotAVideo"), name
        assert scan.kind_passed_over(row) == ""
    (tmp_path / "broken.m4a").write_bytes(good.read_bytes()[:300])
    assert row_of(tmp_path / "broken.m4a", sandbox)["status"] == "not_video"


def test_kinds_of_what_is_passed_over(tmp_path: Path, sandbox: Sandbox) -> None:
    media_files.write_sound(tmp_path / "a.wav")
    media_files.write_photo(tmp_path / "b.avif")
    for name, data in {
        "c.txt": b"text",
        "d.pdf": b"%PDF-1.7",
        "e.zip": b"PK\x03\x04\x14\x00",
        "f": b"",
        "g.exe": b"MZ\x90\x00",
    }.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "h.mp4").write_bytes(b"")
    (tmp_path / "i").symlink_to("/etc/passwd")
    rows = list(scan.scan(str(tmp_path), sandbox))
    assert [scan.kind_passed_over(row) for row in rows] == [
        "sound file", "photo", "text file", "document", "packed file", "empty file", "other file", "", "",
    ]  # fmt: skip


REAL = SHARED / "archive"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real footage in ../shared/media/archive")
def test_real_archive_agrees_with_its_manifest(sandbox: Sandbox) -> None:
    rows = {str(row["path"]): row for row in scan.scan(str(REAL), sandbox)}
    with (REAL / "manifest.csv").open(newline="") as file:
        manifest = list(csv.DictReader(file))
    assert len(manifest) == 33 and len(rows) == 34
    failed = {path for path, row in rows.items() if row["status"] == "failed"}
    assert failed == {
        "bipbop_nonfragment_header.mp4",  # a header whose fragments are elsewhere
        "chunk_out_of_range.mp4",
        "result.webm",
        "short-cenc.mp4",
    }
    assert rows["sine-3s-xhe-aac-44khz-mono.mp4"]["status"] == "audio_only"
    assert rows["manifest.csv"]["status"] == "not_video"
    for line in manifest:
        row = rows[line["file"]]
        if row["status"] != "ok":
            continue
        turned = int(line["rotation"]) % 180 == 90
        size = (int(line["width"]), int(line["height"]))
        assert (row["width"], row["height"]) == (size[::-1] if turned else size), line["file"]
        if line["duration_s"]:  # of the container there: the sound may last a little longer
            assert row["duration_s"] == pytest.approx(float(line["duration_s"]), abs=0.2), line["file"]
        assert (row["audio_state"] == "none") == (line["audio"] == "none"), line["file"]
        if line["audio_peak_rms_dbfs"]:
            loud = float(line["audio_peak_rms_dbfs"].split("/")[0]) > -60
            assert row["audio_state"] == ("audible" if loud else "silent"), line["file"]

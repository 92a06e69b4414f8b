"""Storage: listing is complete and safe, writing is all or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipelines import storage
from pipelines.storage import listing, uri
from tests.support import media_files, servers


def listed(root: Path) -> dict[str, str]:
    """path -> problem of everything below `root`."""
    return {info.path: info.problem for info in storage.list_tree(str(root))}


def put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_lists_every_file_sorted_per_folder_with_relative_paths(tmp_path: Path) -> None:
    for name in ("b/2.mp4", "b/1.mp4", "a.mp4", "c/d/e.mkv", "z.txt"):
        put(tmp_path / name)
    infos = list(storage.list_tree(str(tmp_path)))
    assert [info.path for info in infos] == ["a.mp4", "b/1.mp4", "b/2.mp4", "c/d/e.mkv", "z.txt"]
    assert all(storage.read_bytes(info.uri) == b"x" and info.size == 1 for info in infos)


def test_version_changes_with_the_content(tmp_path: Path) -> None:
    path = put(tmp_path / "a.mp4")
    before = next(storage.list_tree(str(tmp_path))).version
    os.utime(path, ns=(1, 1))
    assert next(storage.list_tree(str(tmp_path))).version != before


@pytest.mark.parametrize("name", media_files.ODD_NAMES)
def test_odd_names_can_be_listed_read_and_joined(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, b"content")
    info = next(storage.list_tree(str(tmp_path)))
    assert info.path == name
    assert storage.read_bytes(info.uri) == b"content"
    assert storage.read_bytes(storage.join(str(tmp_path), name)) == b"content"


def test_a_name_that_is_not_utf8_is_listed_in_printable_form_and_can_be_read(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    try:
        with open(raw, "wb") as file:
            file.write(b"content")
    except OSError:
        pytest.skip("this file system only takes UTF-8 names")
    info = next(storage.list_tree(str(tmp_path)))
    assert info.path == "caf\\xe9.mp4"
    info.uri.encode()  # fit for a table
    assert storage.read_bytes(info.uri) == b"content"


def test_symbolic_links_are_followed_to_files_inside_only(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", put(tmp_path / "outside" / "secret.mp4")
    put(root / "real.mp4")
    (root / "inside.mp4").symlink_to(root / "real.mp4")
    (root / "escape.mp4").symlink_to(outside)
    (root / "escape_folder").symlink_to(outside.parent)
    (root / "broken.mp4").symlink_to(root / "nothing.mp4")
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    problems = listed(root)
    assert problems["real.mp4"] == problems["inside.mp4"] == ""
    assert "leaves" in problems["escape.mp4"]
    assert "leaves" in problems["escape_folder"]
    assert "folder" in problems["loop"]
    assert problems["broken.mp4"] and problems["self"]
    assert len(problems) == 7


def test_a_root_that_is_itself_a_link_is_listed(tmp_path: Path) -> None:
    put(tmp_path / "real" / "a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert listed(tmp_path / "link") == {"a.mp4": ""}


def test_pipes_are_listed_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "regular" in listed(tmp_path)["pipe.mp4"]
    with pytest.raises(storage.StorageError, match="regular"):
        storage.open_read(str(tmp_path / "pipe.mp4"))


def test_own_records_and_temporaries_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    put(tmp_path / "_v2a" / "report.html")
    put(tmp_path / "b" / f"{uri.TEMPORARY_PREFIX}1-c.mp4")
    assert set(listed(tmp_path)) == {"a.mp4"}


def test_missing_and_wrong_roots_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(storage.StorageNotFound, match="spelling"):
        list(storage.list_tree(str(tmp_path / "nothing")))
    with pytest.raises(storage.StorageError, match="folder that holds"):
        list(storage.list_tree(str(put(tmp_path / "file"))))
    with pytest.raises(storage.StorageError, match="s3://"):
        storage.open_read("https://example.org/a.mp4")


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.bin"
    storage.write_atomic(str(target), b"one")
    storage.write_atomic(str(target), b"two")
    assert target.read_bytes() == b"two"
    assert os.listdir(target.parent) == ["a.bin"]


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = put(tmp_path / "a.bin", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(storage.StorageError, match="No space left"):
        storage.write_atomic(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_put_atomic_copies_and_keeps_the_source(tmp_path: Path) -> None:
    source = put(tmp_path / "local", b"data" * 1000)
    storage.put_atomic(str(source), str(tmp_path / "out" / "there"))
    assert (tmp_path / "out" / "there").read_bytes() == source.read_bytes()


def test_long_names_can_be_written(tmp_path: Path) -> None:
    name = "é" * 120 + ".mp4"  # 244 of 255 bytes
    storage.write_atomic(str(tmp_path / name), b"x")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["é" * 120 + ".mp4", "a" * 255, "x." + "y" * 253, "\udcff" * 200 + ".mkv"])
def test_temporary_names_are_short_and_legal(name: str, tmp_path: Path) -> None:
    made = Path(storage.temporary_name(str(tmp_path / name))).name
    assert len(made.encode()) <= 100 and made.startswith(uri.TEMPORARY_PREFIX)
    storage.write_atomic(str(tmp_path / name), b"x")
    assert os.listdir(tmp_path) == [name]


def test_sweep_removes_only_what_a_killed_run_left(tmp_path: Path) -> None:
    put(tmp_path / "a" / "keep.mp4")
    left = Path(storage.temporary_name(str(tmp_path / "a" / "b.mp4")))
    put(left)
    assert left.parent == tmp_path / "a" and left.suffix == ".mp4"
    assert storage.sweep_temporaries(str(tmp_path)) == 1
    assert os.listdir(tmp_path / "a") == ["keep.mp4"]


def test_delete(tmp_path: Path) -> None:
    path = put(tmp_path / "a")
    storage.delete(str(path))
    storage.delete(str(path))
    with pytest.raises(storage.StorageNotFound):
        storage.delete(str(path), missing_ok=False)


@pytest.mark.parametrize(
    ("root", "other", "expected"),
    [
        ("{}/a", "{}/a", True),
        ("{}/a", "{}/a/b", True),
        ("{}/a", "{}/ab", False),
        ("{}/a", "{}", False),
        ("{}/a", "{}/a/../b", False),
        ("s3://bucket/a", "s3://bucket/a/b", True),
        ("s3://bucket/a", "s3://bucket/ab", False),
        ("s3://bucket", "{}/bucket", False),
    ],
)
def test_is_within(tmp_path: Path, root: str, other: str, expected: bool) -> None:
    assert storage.is_within(root.format(tmp_path), other.format(tmp_path)) is expected


def test_is_within_sees_through_links(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "archive")
    assert storage.is_within(str(tmp_path / "archive"), str(tmp_path / "out"))


@pytest.mark.parametrize("part", ["../x", "a/../../x", "/etc/passwd"])
def test_join_does_not_climb_out(part: str) -> None:
    with pytest.raises(ValueError, match="below the root"):
        storage.join("/archive", part)
    with pytest.raises(ValueError, match="below the root"):
        storage.join("s3://bucket/archive", part)


def test_a_folder_is_listed_in_the_order_of_paths(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("order")
    names = [
        "a.mp4",
        "a/b.mp4",
        "a/c/d.mp4",
        "a/c.mp4",
        "a0.mp4",
        "b",
        "é.mp4",
        "\U0001f3a5.mp4",
        "\uffee.mp4",
    ]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    listed = [info.path for info in storage.list_tree(str(root))]
    assert listed == sorted(names)


def test_folders_of_a_bucket_are_known_without_listing_them(
    s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in servers.environment(s3_port).items():
        monkeypatch.setenv(name, value)
    client = servers.client(s3_port)
    client.create_bucket(Bucket="folders")
    assert storage.is_dir("s3://folders")
    for k in range(3):
        client.put_object(Bucket="folders", Key=f"films/{k}.mp4", Body=b"x")
    asked = []
    page = uri.s3_page

    def counted(bucket: str, prefix: str, n: int, **where: str) -> Any:
        asked.append(n)
        return page(bucket, prefix, n, **where)

    monkeypatch.setattr(uri, "s3_page", counted)
    assert storage.is_dir("s3://folders/films") and storage.is_dir("s3://folders/films/")
    assert not storage.is_dir("s3://folders/film") and not storage.is_dir("s3://folders/films/0.mp4")
    assert not storage.is_dir("s3://no-such-bucket") and not storage.is_dir("s3://no-such-bucket/films")
    assert set(asked) == {1}


def test_every_key_of_a_bucket_is_listed_and_none_climbs_out(
    s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 takes any key: `..` is a name like others there, and a way out in a folder."""
    for name, value in servers.environment(s3_port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(listing, "S3_PAGE", 4)
    client = servers.client(s3_port)
    client.create_bucket(Bucket="listed")
    good = [
        "a.mp4",
        "a/b.mp4",
        "a/c.mp4",
        "a0.mp4",
        "z.mp4",
        "é ü.mp4",
        *(f"many/{k:04}.mp4" for k in range(9)),
    ]
    odd = ["../../evil.mp4", "a/../../../evil.mp4", "sub/../twin.mp4", "./dot.mp4", "/rooted.mp4", "a//b.mp4"]
    own = ["_v2a/config.json", "_v2a/rows/1.json", "a/_v2a/rows/2.json", ".v2a-tmp-1-x.mp4", "empty/"]
    for key in [*good, *odd, *own]:
        client.put_object(Bucket="listed", Key=f"films/{key}", Body=b"x")
    client.put_object(Bucket="listed", Key="films-of-others/a.mp4", Body=b"x")
    found = {info.path: info for info in storage.list_tree("s3://listed/films")}
    assert set(found) == {*good, *odd}
    assert {path for path, info in found.items() if info.problem} == set(odd)
    assert found["a/b.mp4"].uri == "s3://listed/films/a/b.mp4" and found["a/b.mp4"].size == 1
    assert storage.read_bytes(found["é ü.mp4"].uri) == b"x"
    # A bucket itself; the same private folders below it.
    assert {info.path for info in storage.list_tree("s3://listed")} == {
        "films-of-others/a.mp4", *(f"films/{key}" for key in [*good, *odd])
    }  # fmt: skip

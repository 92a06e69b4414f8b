"""Several files as one: bytes, versions and errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import storage
from pipelines.sandbox import lent_files
from tests.support import servers


@given(
    parts=st.lists(st.binary(max_size=20), min_size=2, max_size=5),
    at=st.integers(0, 120),
    n=st.integers(-1, 60),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_read_like_one_file(tmp_path: Path, parts: list[bytes], at: int, n: int) -> None:
    uris = []
    for k, part in enumerate(parts):
        (tmp_path / str(k)).write_bytes(part)
        uris.append(str(tmp_path / str(k)))
    whole, uri = b"".join(parts), storage.joined_uri(uris)
    assert storage.parts_of(uri) == uris
    assert storage.size(uri) == len(whole)
    with storage.reading(uri) as file:
        assert file.seek(0, os.SEEK_END) == len(whole)
        file.seek(at)
        assert file.read(n) == (whole[at:] if n < 0 else whole[at : at + n])
    assert storage.read_head(uri, 7) == whole[:7]


def test_one_file_stays_itself(tmp_path: Path) -> None:
    assert storage.joined_uri([str(tmp_path)]) == str(tmp_path)
    assert storage.parts_of(str(tmp_path)) == [str(tmp_path)]
    assert not storage.is_joined("joined:camera.ts"), "a file may be called so"


def test_the_version_changes_with_any_part_and_their_order(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"x")
    infos = list(storage.list_tree(str(tmp_path)))
    film = storage.joined_info(infos)
    assert (film.path, film.size, film.parts) == ("a", 2, ("a", "b"))
    assert storage.stat_file(film.uri).version == film.version
    assert storage.joined_info(infos[::-1]).version != film.version
    os.utime(tmp_path / "b", ns=(1, 1))
    assert storage.stat_file(film.uri).version != film.version


def test_a_part_that_is_gone_or_shorter_is_an_error_of_storage(tmp_path: Path) -> None:
    uris = [str(tmp_path / name) for name in "ab"]
    for uri in uris:
        Path(uri).write_bytes(b"1234")
    joined = storage.joined_uri(uris)
    with pytest.raises(storage.StorageError, match="ends early"), storage.reading(joined) as file:
        Path(uris[1]).write_bytes(b"1")
        file.read()
    Path(uris[1]).unlink()
    with pytest.raises(storage.StorageNotFound, match=uris[1]), storage.reading(joined) as file:
        file.read()


def test_a_child_reads_the_parts_as_one(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 100_000)
    with lent_files.lend(storage.joined_uri([str(tmp_path / name) for name in "abc"])) as lent:
        assert (lent.served, lent.size) == (True, 300_000)
        file = lent_files.borrowed(lent.to_json(), os.dup(lent.fd))
        file.seek(99_999)
        assert file.read(100_002) == b"a" + b"b" * 100_000 + b"c"
        file.close()


def test_objects_of_a_bucket_are_joined(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in servers.environment(s3_port).items():
        monkeypatch.setenv(name, value)
    servers.client(s3_port).create_bucket(Bucket="joined")
    for name in "ab":
        storage.write_atomic(f"s3://joined/films/{name}", name.encode() * 10)
    film = storage.joined_info(list(storage.list_tree("s3://joined/films")))
    assert storage.read_bytes(film.uri) == b"a" * 10 + b"b" * 10
    assert storage.stat_file(film.uri).version == film.version

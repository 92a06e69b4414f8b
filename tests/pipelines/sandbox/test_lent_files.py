"""Files that are lent to a child: read through a descriptor, or by the parent on its behalf."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import storage
from pipelines.sandbox import lent_files
from pipelines.sandbox.decoder import Sandbox
from tests.support import servers
from tests.support.sandboxed import VIEWS

DATA = bytes(range(256)) * 50


@pytest.fixture(scope="module")
def served() -> Iterator[lent_files._ServedFile]:
    """A file of DATA as a child sees it."""

    def read(request: bytes) -> bytes:
        offset, n = struct.unpack("<QQ", request)
        return DATA[offset : offset + min(n, 1000)]

    with lent_files.Service(read) as service:
        yield lent_files._ServedFile(socket.socket(fileno=os.dup(service.fd)), len(DATA))


@given(st.integers(0, len(DATA) + 100), st.integers(0, 5000))
def test_a_served_file_reads_like_a_file(served: lent_files._ServedFile, at: int, n: int) -> None:
    assert served.seek(at) == at == served.tell()
    assert served.read(n) == DATA[at : at + n]
    assert served.tell() == max(at, min(at + n, len(DATA)))


def test_a_served_file_seeks_like_a_file(served: lent_files._ServedFile) -> None:
    assert served.seek(-5, os.SEEK_END) == len(DATA) - 5
    assert served.read() == DATA[-5:]
    assert served.seek(-10, os.SEEK_CUR) == len(DATA) - 10
    with pytest.raises(ValueError, match="before the start"):
        served.seek(-1)


def test_an_error_of_the_parent_stays_with_the_parent() -> None:
    def read(request: bytes) -> bytes:
        raise storage.StorageError("the password is wrong: secret")

    with lent_files.Service(read) as service:
        theirs = socket.socket(fileno=os.dup(service.fd))
        with pytest.raises(lent_files.Refused) as caught:
            lent_files.ask(theirs, b"x")
        theirs.close()
    assert "secret" not in str(caught.value)
    assert isinstance(service.error, storage.StorageError)


@pytest.mark.parametrize("message", [b"", b"\x01", struct.pack("<Bq", 1, -1), struct.pack("<Bq", 1, 1 << 40)])
def test_a_service_survives_any_request(message: bytes) -> None:
    with lent_files.Service(lambda request: request) as service:
        theirs = socket.socket(fileno=os.dup(service.fd))
        theirs.sendall(message)
        theirs.close()


def test_a_local_file_is_lent_for_reading(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with lent_files.lend(str(tmp_path / "a")) as file:
        assert (file.size, file.served) == (len(DATA), False)
        with pytest.raises(OSError):
            os.write(file.fd, b"x")
        with lent_files.borrowed(file.to_json(), os.dup(file.fd)) as borrowed:
            assert borrowed.read() == DATA
    with pytest.raises(storage.StorageNotFound), lent_files.lend(str(tmp_path / "none")):
        pass


def test_a_film_on_s3_is_read_without_credentials(
    film: str, s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.client(s3_port).create_bucket(Bucket="lent")
    for name, value in servers.environment(s3_port).items():
        monkeypatch.setenv(name, value)
    uri = "s3://lent/film.mp4"
    storage.put_atomic(film, uri)
    with Sandbox(threads=1) as sandbox:
        assert sandbox.probe(uri) == sandbox.probe(film)
        assert b"AWS_" not in Path(f"/proc/{sandbox.pid}/environ").read_bytes()
        for a, b in zip(
            sandbox.decode_views(uri, VIEWS, 0.5, 1.5),
            sandbox.decode_views(film, VIEWS, 0.5, 1.5),
            strict=True,
        ):
            assert (a == b).all()
        with pytest.raises(storage.StorageNotFound):
            sandbox.probe(uri + ".none")

"""Names and folders are checked before anything is written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from pipelines import storage


def put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    put(tmp_path / "file")
    for name in ("folder", "file/below", "x" * 256, "new/" + "x" * 256 + "/a.mp4"):
        with pytest.raises(storage.StorageRefused):
            storage.check_name(str(tmp_path / name))
        with pytest.raises(storage.StorageRefused):
            storage.write_atomic(str(tmp_path / name), b"x")
    for name in ("file", "new/" + "x" * 255, "folder/a.mp4"):
        storage.check_name(str(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) in (["file", "folder"], ["file", "folder", "new"])
    storage.check_name("s3://bucket/" + "x" * 1024)
    with pytest.raises(storage.StorageRefused, match="1025 bytes, and S3 allows 1024"):
        storage.check_name("s3://bucket/" + "x" * 1025)
    assert (storage.name_limit(str(tmp_path / "new")), storage.name_limit("s3://bucket/a/b")) == (255, 1020)
    assert storage.name_limit("s3://bucket") == 1024


def test_a_folder_without_permission(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # whom pytest's own folder keeps out
        closed = Path(name, "closed")
        closed.mkdir()
        Path(name).chmod(0o755)
        closed.chmod(0o555)
        if was_root := os.geteuid() == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(storage.StorageDenied, match="make that folder writable"):
                storage.check_name(str(closed / "sub" / "a.mp4"))
            with pytest.raises(storage.StorageDenied):
                storage.write_atomic(str(closed / "a.mp4"), b"x")
        finally:
            if was_root:
                os.seteuid(0)


def test_check_writable(tmp_path: Path) -> None:
    storage.check_writable(str(tmp_path / "new" / "folder"))
    assert os.listdir(tmp_path / "new" / "folder") == []
    with pytest.raises(storage.StorageError, match="is a file"):
        storage.check_writable(str(put(tmp_path / "file")))
    with pytest.raises(storage.StorageError, match="choose another"):
        storage.check_writable("/proc/v2a")

"""Positions in a file that exists only while it is read."""

from __future__ import annotations

import os

import pytest

from pipelines.storage.virtual_file import VirtualFile


def test_it_seeks_as_a_file_does() -> None:
    file = VirtualFile(10)
    assert file.readable() and file.seekable() and file.tell() == 0
    assert (file.seek(4), file.seek(3, os.SEEK_CUR), file.seek(-2, os.SEEK_END)) == (4, 7, 8)
    assert file.seek(20) == file.tell() == 20  # behind the end, where nothing can be read
    for offset, whence in ((-1, os.SEEK_SET), (-21, os.SEEK_CUR), (-11, os.SEEK_END)):
        with pytest.raises(ValueError, match="before the start"):
            file.seek(offset, whence)
    assert file.tell() == 20

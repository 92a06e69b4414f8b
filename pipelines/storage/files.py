"""Local folders and S3 buckets through one small set of functions.

No other package uses fsspec. A URI is a local path (absolute or relative, also with `file://`) or `s3://bucket/key`.
Credentials and the endpoint of an S3 store come from the usual AWS environment variables and profile files.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import secrets
import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, cast

from pipelines import scratch
from pipelines.storage.joined import is_joined, joined_info, open_joined, parts_of
from pipelines.storage.listing import s3_info
from pipelines.storage.rates import parse_rate, rate_of, rated, rated_version, unrated
from pipelines.storage.sequences import (
    is_run_name,
    is_sequence,
    list_run,
    open_sequence,
    sequence_info,
    sequence_uri,
)
from pipelines.storage.uri import (
    TEMPORARY_PREFIX,
    FileInfo,
    StorageNotFound,
    StorageRefused,
    is_remote,
    is_temporary,
    key,
    local_path,
    parent,
    s3_filesystem,
    translated,
)

_S3_BLOCK = 4 << 20
_S3_BLOCKS_KEPT = 12


def exists(uri: str) -> bool:
    """True if a file or folder exists at `uri`."""
    if not is_remote(uri):
        return os.path.exists(local_path(uri))
    with translated(uri):
        return bool(s3_filesystem().exists(key(uri)))


def size(uri: str) -> int:
    """Size of the file in bytes. Raises StorageNotFound if there is none."""
    if is_joined(uri):
        return sum(map(size, parts_of(uri)))
    uri = unrated(uri)
    with translated(uri):
        if is_remote(uri):
            return int(s3_filesystem().info(key(uri), refresh=True)["size"])
        return os.stat(local_path(uri)).st_size


def stat_file(uri: str, path: str = "") -> FileInfo:
    """FileInfo of one file, without a listing; `path` defaults to its base name. `uri` may have a rate, or be that of
    several files as one."""
    with translated(uri):
        name, place = path or posixpath.basename(uri), unrated(uri)
        if is_sequence(uri):
            return sequence_info(uri, name)
        if is_joined(place):
            info = joined_info([stat_file(part) for part in parts_of(place)])
        elif is_remote(place):
            facts = s3_filesystem().info(key(place), refresh=True)
            info = s3_info(name, f"s3://{facts['name']}", facts["size"], str(facts.get("ETag", "")))
        else:
            local = os.stat(local_path(place))
            info = FileInfo(name, place, local.st_size, str(local.st_mtime_ns))
        return replace(info, uri=uri, version=rated_version(info.version, rate_of(uri)))


def source_uri(place: str, rate: str) -> str:
    """URI of the film at `place`, which may be a sequence of pictures, at a rate that was recorded; empty for none.

    Raises StorageError.
    """
    if is_run_name(place) and not exists(place):
        place = sequence_uri(list_run(place).version, place)
    return rated(place, parse_rate(rate)) if rate else place


def open_read(uri: str) -> BinaryIO:
    """Open the file for reading. It is seekable; on S3, reads are ranged requests. `uri` may have a rate, or be that of
    several files as one.

    Raises StorageNotFound, StorageDenied or StorageError.
    """
    if is_sequence(uri):
        return cast(BinaryIO, open_sequence(uri, open_read))
    uri = unrated(uri)
    if is_joined(uri):
        return open_joined([(part, size(part)) for part in parts_of(uri)], open_read)
    with translated(uri):
        if not is_remote(uri):
            path = local_path(uri)
            # A named pipe or a device could block or never end: refuse it before opening.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise StorageRefused(f"not a regular file: {path}")
            return open(path, "rb")
        # Blocks in an LRU cache: in a badly interleaved container the reader jumps between index, pictures and sound,
        # and a plain read-ahead would fetch everything again.
        return cast(
            BinaryIO,
            s3_filesystem().open(
                key(uri),
                "rb",
                block_size=_S3_BLOCK,
                cache_type="blockcache",
                cache_options={"maxblocks": _S3_BLOCKS_KEPT},
            ),
        )


@contextlib.contextmanager
def reading(uri: str) -> Iterator[BinaryIO]:
    """The file, open for the block; errors while reading are StorageError too."""
    with translated(uri), open_read(uri) as file:
        yield file


def read_bytes(uri: str) -> bytes:
    """Content of a small file."""
    with reading(uri) as file:
        return file.read()


def read_head(uri: str, n: int) -> bytes:
    """The first `n` bytes of a file, or all of a smaller one; on S3, of an object that is not empty."""
    uri = unrated(uri)
    if not is_remote(uri):
        with reading(uri) as file:
            return file.read(n)
    with translated(uri):
        # `open_read` would fetch a block of 4 MiB.
        return cast(bytes, s3_filesystem().cat_file(key(uri), start=0, end=n))


def makedirs(uri: str) -> None:
    """Create a folder and its parents; does nothing on S3."""
    if not is_remote(uri):
        with translated(uri):
            _make_folders(local_path(uri))


def remove_empty(uri: str) -> None:
    """Remove a folder if it is empty; does nothing on S3."""
    if not is_remote(uri):
        with contextlib.suppress(OSError):
            os.rmdir(local_path(uri))


def delete(uri: str, missing_ok: bool = True) -> None:
    """Remove one file. Raises StorageNotFound if there is none and `missing_ok` is false."""
    try:
        with translated(uri):
            if is_remote(uri):
                if not missing_ok and not s3_filesystem().exists(key(uri)):
                    raise StorageNotFound(f"nothing at {uri}")
                s3_filesystem().rm_file(key(uri))
            else:
                os.unlink(local_path(uri))
    except StorageNotFound:
        if not missing_ok:
            raise


def write_atomic(uri: str, data: bytes) -> None:
    """Write a file so that a reader sees either the old or the new content, never a part."""
    with translated(uri):
        if is_remote(uri):
            s3_filesystem().pipe_file(key(uri), data)
            return
        with _beside(local_path(uri)) as temporary, open(temporary, "wb") as file:
            file.write(data)
            _sync(file)


def put_atomic(local_file: str, uri: str) -> None:
    """Copy a finished local file to `uri`, atomically like `write_atomic`."""
    with translated(uri):
        if is_remote(uri):
            s3_filesystem().put_file(local_file, key(uri))
            return
        with (
            _beside(local_path(uri)) as temporary,
            open(local_file, "rb") as source,
            open(temporary, "wb") as file,
        ):
            while chunk := source.read(4 << 20):
                file.write(chunk)
            _sync(file)


def copy(uri: str, to: str) -> None:
    """Copy a file within the same store, atomically like `write_atomic`, without holding it in memory."""
    with translated(to):
        if is_remote(uri):
            s3_filesystem().copy(key(uri), key(to))
            return
    put_atomic(local_path(uri), to)


class Pending:
    """A local file to write at `path`, which `commit` moves to `uri` as a whole. A context manager.

    It lies beside a local `uri`, where `sweep_temporaries` finds the files of killed runs.
    """

    def __init__(self, uri: str) -> None:
        self.uri, self.committed = uri, False
        self._folder = contextlib.ExitStack()
        if is_remote(uri):
            self.path = str(self._folder.enter_context(scratch.folder()) / f"file{os.path.splitext(uri)[1]}")
        else:
            makedirs(parent(uri))
            self.path = temporary_name(uri)

    def commit(self) -> None:
        """Move the file to `uri`. Raises StorageError."""
        if is_remote(self.uri):
            put_atomic(self.path, self.uri)
        else:
            with translated(self.uri), open(self.path, "rb+") as file:
                os.fsync(file.fileno())
                rename(self.path, local_path(self.uri))
                self.committed = True

    def __enter__(self) -> Pending:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.committed:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self._folder.close()


def rename(path: str | os.PathLike[str], to: str | os.PathLike[str]) -> None:
    """Give a finished local file its name, and bring that to disk: a power cut does not undo it. Raises OSError."""
    os.replace(path, to)
    sync_folder(os.path.dirname(os.path.abspath(to)))


def sync_folder(folder: str) -> None:
    """Bring the names in a local folder to disk, where its file system can do that."""
    with contextlib.suppress(OSError):  # the file is there; some network file systems refuse folders
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def temporary_name(uri: str) -> str:
    """A new local path in the folder of `uri`, so that `os.replace` is atomic."""
    folder, name = os.path.split(local_path(uri))
    # Short, so that it is legal wherever the name itself is; with the suffix, from which a muxer takes its format.
    # No part of a multi-byte character, which some file systems refuse.
    stem = os.fsencode(os.path.splitext(name)[0])[:40].decode("utf-8", "ignore")
    suffix = os.path.splitext(name)[1]
    suffix = suffix if len(os.fsencode(suffix)) <= 16 else ""
    return os.path.join(folder, f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{stem}{suffix}")


def sweep_temporaries(root: str) -> int:
    """Remove the temporary files of killed runs below a local `root`. Returns their number."""
    if is_remote(root):  # a put is atomic: S3 never holds a half-written object
        return 0
    removed = 0
    for folder, _, names in os.walk(local_path(root)):
        for name in names:
            if is_temporary(name):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))
                    removed += 1
    return removed


def _make_folders(path: str) -> None:
    """Create a folder and its parents, and bring their names to disk.

    `os.makedirs` calls itself for each folder, and a path may have a thousand.
    """
    missing = []
    while not os.path.isdir(path) and path != os.path.dirname(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        try:
            os.mkdir(folder)
            sync_folder(os.path.dirname(folder))
        except FileExistsError:
            if not os.path.isdir(folder):
                raise


@contextlib.contextmanager
def _beside(path: str) -> Iterator[str]:
    _make_folders(os.path.dirname(path))
    temporary = temporary_name(path)
    try:
        yield temporary
        rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _sync(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())

"""Local folders and S3 buckets through one small set of functions.

Nothing else in the project knows about fsspec. A URI is either a local path (absolute or relative,
`file://` is understood too) or `s3://bucket/key`. Credentials and the endpoint of an S3 store come
from the usual AWS environment variables and profile files.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import secrets
import stat
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from pipelines.storage.listing import is_dir, s3_info
from pipelines.storage.uri import (
    TEMPORARY_PREFIX,
    FileInfo,
    StorageDenied,
    StorageError,
    StorageNotFound,
    StorageRefused,
    is_remote,
    join,
    key,
    local_path,
    parent,
    s3_filesystem,
    translated,
)

KEY_BYTES = 1024
"""The longest key of an S3 object."""

NAME_BYTES = 255
"""The longest name of a file, where the file system does not say."""

_S3_BLOCK = 4 << 20
_S3_BLOCKS_KEPT = 12


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    if not is_remote(uri):
        return os.path.exists(local_path(uri))
    with translated(uri):
        return bool(s3_filesystem().exists(key(uri)))


def size(uri: str) -> int:
    """Bytes in the file. Raises StorageNotFound if it is not there."""
    with translated(uri):
        if is_remote(uri):
            return int(s3_filesystem().info(key(uri), refresh=True)["size"])
        return os.stat(local_path(uri)).st_size


def stat_file(uri: str, path: str = "") -> FileInfo:
    """The FileInfo of one file outside any listing; `path` defaults to its base name."""
    with translated(uri):
        name = path or posixpath.basename(uri)
        if is_remote(uri):
            facts = s3_filesystem().info(key(uri), refresh=True)
            return s3_info(name, f"s3://{facts['name']}", facts["size"], str(facts.get("ETag", "")))
        local = os.stat(local_path(uri))
        return FileInfo(name, uri, local.st_size, str(local.st_mtime_ns))


def open_read(uri: str) -> BinaryIO:
    """The file, opened for reading at its start; seekable, ranged requests on S3.

    Raises StorageNotFound, StorageDenied or StorageError.
    """
    with translated(uri):
        if not is_remote(uri):
            path = local_path(uri)
            # A named pipe or a device would block or never end: refuse before opening.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise StorageRefused(f"not a regular file: {path}")
            return open(path, "rb")
        # Blocks in an LRU cache: a container that interleaves badly makes the reader jump between the
        # index, the picture and the sound, and a plain read-ahead would fetch everything again.
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
    """The file, open for the block; what reading trips over is one of the three errors too."""
    with translated(uri), open_read(uri) as file:
        yield file


def read_bytes(uri: str) -> bytes:
    """Whole content of a (small) file."""
    with reading(uri) as file:
        return file.read()


def makedirs(uri: str) -> None:
    """Makes a folder and its parents; nothing to do on S3."""
    if not is_remote(uri):
        with translated(uri):
            os.makedirs(local_path(uri), exist_ok=True)


def remove_empty(uri: str) -> None:
    """Removes a folder in which nothing is left; nothing to do on S3."""
    if not is_remote(uri):
        with contextlib.suppress(OSError):
            os.rmdir(local_path(uri))


def delete(uri: str, missing_ok: bool = True) -> None:
    """Removes one file. Raises StorageNotFound if it is not there and `missing_ok` is false."""
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
    """Writes a file so that a reader sees the old content or the new one, never a part of it."""
    with translated(uri):
        if is_remote(uri):
            s3_filesystem().pipe_file(key(uri), data)
            return
        with _beside(local_path(uri)) as temporary, open(temporary, "wb") as file:
            file.write(data)
            _sync(file)


def put_atomic(local_file: str, uri: str) -> None:
    """Brings a finished local file to `uri` as `write_atomic` does; the local file stays."""
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
    """Brings a file to another place beside it, as `write_atomic` does, without holding it in memory."""
    with translated(to):
        if is_remote(uri):
            s3_filesystem().copy(key(uri), key(to))
            return
    put_atomic(local_path(uri), to)


class Pending:
    """A local file to be written at `path`, which is at `uri` once `commit` was called: never in part.

    It lies beside a local `uri`, where `sweep_temporaries` finds what a kill leaves. A context manager.
    """

    def __init__(self, uri: str) -> None:
        self.uri, self.committed = uri, False
        if is_remote(uri):
            handle, self.path = tempfile.mkstemp(suffix=os.path.splitext(uri)[1])
            os.close(handle)
        else:
            makedirs(parent(uri))
            self.path = temporary_name(uri)

    def commit(self) -> None:
        """Raises StorageError."""
        if is_remote(self.uri):
            put_atomic(self.path, self.uri)
        else:
            with translated(self.uri), open(self.path, "rb+") as file:
                os.fsync(file.fileno())
                os.replace(self.path, local_path(self.uri))
                self.committed = True

    def __enter__(self) -> Pending:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.committed:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def temporary_name(uri: str) -> str:
    """A fresh local path beside `uri` (same folder, so that a rename is atomic), for `os.replace`."""
    folder, name = os.path.split(local_path(uri))
    # Short, so that it is legal wherever the name itself is; with the suffix, by which a muxer finds its format.
    # Not a byte of half a character, which some file systems refuse.
    stem = os.fsencode(os.path.splitext(name)[0])[:40].decode("utf-8", "ignore")
    suffix = os.path.splitext(name)[1]
    suffix = suffix if len(os.fsencode(suffix)) <= 16 else ""
    return os.path.join(folder, f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{stem}{suffix}")


def sweep_temporaries(root: str) -> int:
    """Removes files that a killed run left half written below a local `root`; returns how many."""
    if is_remote(root):  # one put is all or nothing: S3 never holds a half-written object
        return 0
    removed = 0
    for folder, _, names in os.walk(local_path(root)):
        for name in names:
            if name.startswith(TEMPORARY_PREFIX):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))
                    removed += 1
    return removed


def check_writable(root: str) -> None:
    """Raises StorageError, with the fix, unless files can be written below `root` (made if missing)."""
    # On S3 always the same: one that a killed run has left is removed by the next.
    mine = "probe" if is_remote(root) else f"{os.getpid()}-{secrets.token_hex(4)}"
    probe = join(root, f"{TEMPORARY_PREFIX}{mine}")
    try:
        if not is_remote(root) and os.path.exists(local_path(root)) and not is_dir(root):
            raise StorageError(f"{local_path(root)} is a file")
        makedirs(root)
        write_atomic(probe, b"v2a")
        delete(probe, missing_ok=True)
    except StorageError as error:
        raise StorageError(
            f"cannot write to {root}: {error} (make it writable or choose another output folder)"
        ) from error


def name_limit(folder: str) -> int:
    """Bytes that the name of a file in a folder may have; on S3 what the folder leaves of a key."""
    if is_remote(folder):
        return KEY_BYTES - len(f"{_key_in_bucket(folder).rstrip('/')}/".lstrip("/").encode())
    here = _existing(local_path(folder))
    try:
        return os.pathconf(here, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return NAME_BYTES


def check_name(uri: str) -> None:
    """Raises StorageRefused or StorageDenied, with the fix, if no file can be written at `uri`. Changes nothing."""
    if is_remote(uri):
        if (n := len(_key_in_bucket(uri).encode())) > KEY_BYTES:
            raise StorageRefused(
                f"cannot write {uri}: its key has {n} bytes, and S3 takes {KEY_BYTES}; rename the film, or choose an "
                "OUT with a shorter prefix"
            )
        return
    path = local_path(uri)
    if os.path.isdir(path) and not os.path.islink(path):
        raise StorageRefused(f"cannot write {path}: a folder has that name; move it away, or rename the film")
    here = _existing(os.path.dirname(path))
    if not os.path.isdir(here):
        raise StorageRefused(
            f"cannot write {path}: {here} is a file, and a folder is needed there; move it away, or rename the film's "
            "folder"
        )
    limit = name_limit(here)
    for name in os.path.relpath(path, here).split(os.sep):
        if (n := len(os.fsencode(name))) > limit:
            raise StorageRefused(
                f"cannot write {path}: the name {name} has {n} bytes, and {limit} are the most there; rename it"
            )
    if not os.access(here, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise StorageDenied(f"cannot write {path}: no permission in {here}; make that folder writable")


def _key_in_bucket(uri: str) -> str:
    return key(uri).partition("/")[2]


def _existing(path: str) -> str:
    """The path itself, or the nearest of the folders it lies in, that is there."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


@contextlib.contextmanager
def _beside(path: str) -> Iterator[str]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _sync(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())

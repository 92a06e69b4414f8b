"""Local folders and S3 buckets through one small set of functions.

Nothing else in the project knows about fsspec. A URI is either a local path (absolute or relative,
`file://` is understood too) or `s3://bucket/key`. Credentials and the endpoint of an S3 store come
from the usual AWS environment variables and profile files.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import posixpath
import secrets
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast
from urllib.parse import quote, unquote_to_bytes

TEMPORARY_PREFIX = ".v2a-tmp-"
"""Start of the name of every file that is still being written."""

PRIVATE_FOLDER = "_v2a"
"""Folder of the project's own records; never part of an archive."""

S3_PAGE = 1000
"""Keys asked for at a time; the most that S3 gives."""

_S3_BLOCK = 4 << 20
_S3_BLOCKS_KEPT = 12


class StorageError(Exception):
    """Storage could not be reached, read or written. Says nothing about what a file contains."""


class StorageNotFound(StorageError):
    """There is nothing at that place."""


class StorageDenied(StorageError):
    """The place exists but this user may not read or write it."""


@dataclass(frozen=True)
class FileInfo:
    """One entry of an archive.

    `path` is relative to the root with `/` between folders; `version` changes when the content does
    (etag on S3, modification time in nanoseconds locally). `problem` is empty for a readable regular
    file and says in words why the entry must not be opened otherwise.
    """

    path: str
    uri: str
    size: int
    version: str
    problem: str = ""


def is_remote(uri: str) -> bool:
    """Whether `uri` names an S3 object or prefix."""
    return uri.startswith(("s3://", "s3a://"))


def local_path(uri: str) -> str:
    """Absolute local path of a local URI. Raises StorageError for other schemes."""
    if uri.startswith("file://"):
        return os.fsdecode(unquote_to_bytes(uri[len("file://") :]))
    head, separator, _ = uri.partition("://")
    if separator and head.isalnum():
        raise StorageError(f"cannot read {uri!r}: only local paths and s3:// are supported")
    return os.path.abspath(os.path.expanduser(uri) if uri.startswith("~") else uri)


def join(root: str, *parts: str) -> str:
    """`root` with relative `parts` appended. Raises ValueError if a part would climb out of the root."""
    for part in parts:
        if part.startswith("/") or ".." in part.split("/"):
            raise ValueError(f"not a path below the root: {part!r}")
    if is_remote(root) or root.startswith("file://"):
        tail = "/".join(part.strip("/") for part in parts if part)
        if root.startswith("file://"):
            tail = quote(os.fsencode(tail))
        return f"{root.rstrip('/')}/{tail}" if tail else root.rstrip("/")
    return os.path.join(local_path(root), *[os.path.join(*p.split("/")) for p in parts if p])


def parent(uri: str) -> str:
    """The folder or prefix that holds `uri`."""
    if is_remote(uri):
        return uri.rstrip("/").rpartition("/")[0]
    return os.path.dirname(local_path(uri))


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    if not is_remote(uri):
        return os.path.exists(local_path(uri))
    with _translated(uri):
        return bool(s3_filesystem().exists(_key(uri)))


def is_dir(uri: str) -> bool:
    """Whether a folder (on S3: a prefix with something under it, or an existing bucket) is there."""
    if not is_remote(uri):
        return os.path.isdir(local_path(uri))
    bucket, _, prefix = _key(uri).rstrip("/").partition("/")
    # `S3FileSystem.isdir` lists the whole folder, and holds it, before it answers.
    try:
        with _translated(uri):
            page = _s3_page(bucket, f"{prefix}/" if prefix else "", 1)
    except StorageNotFound:
        return False
    return bool(page.get("Contents")) or not prefix


def size(uri: str) -> int:
    """Bytes in the file. Raises StorageNotFound if it is not there."""
    with _translated(uri):
        if is_remote(uri):
            return int(s3_filesystem().info(_key(uri), refresh=True)["size"])
        return os.stat(local_path(uri)).st_size


def stat_file(uri: str, path: str = "") -> FileInfo:
    """The FileInfo of one file outside any listing; `path` defaults to its base name."""
    with _translated(uri):
        name = path or posixpath.basename(uri)
        if is_remote(uri):
            facts = s3_filesystem().info(_key(uri), refresh=True)
            return _s3_info(name, f"s3://{facts['name']}", facts["size"], str(facts.get("ETag", "")))
        local = os.stat(local_path(uri))
        return FileInfo(name, uri, local.st_size, str(local.st_mtime_ns))


def open_read(uri: str) -> BinaryIO:
    """The file, opened for reading at its start; seekable, ranged requests on S3.

    Raises StorageNotFound, StorageDenied or StorageError.
    """
    with _translated(uri):
        if not is_remote(uri):
            path = local_path(uri)
            # A named pipe or a device would block or never end: refuse before opening.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise StorageError(f"not a regular file: {path}")
            return open(path, "rb")
        # Blocks in an LRU cache: a container that interleaves badly makes the reader jump between the
        # index, the picture and the sound, and a plain read-ahead would fetch everything again.
        return cast(
            BinaryIO,
            s3_filesystem().open(
                _key(uri),
                "rb",
                block_size=_S3_BLOCK,
                cache_type="blockcache",
                cache_options={"maxblocks": _S3_BLOCKS_KEPT},
            ),
        )


@contextlib.contextmanager
def reading(uri: str) -> Iterator[BinaryIO]:
    """The file, open for the block; what reading trips over is one of the three errors too."""
    with _translated(uri), open_read(uri) as file:
        yield file


def read_bytes(uri: str) -> bytes:
    """Whole content of a (small) file."""
    with reading(uri) as file:
        return file.read()


def makedirs(uri: str) -> None:
    """Makes a folder and its parents; nothing to do on S3."""
    if not is_remote(uri):
        with _translated(uri):
            os.makedirs(local_path(uri), exist_ok=True)


def delete(uri: str, missing_ok: bool = True) -> None:
    """Removes one file. Raises StorageNotFound if it is not there and `missing_ok` is false."""
    try:
        with _translated(uri):
            if is_remote(uri):
                if not missing_ok and not s3_filesystem().exists(_key(uri)):
                    raise StorageNotFound(f"nothing at {uri}")
                s3_filesystem().rm_file(_key(uri))
            else:
                os.unlink(local_path(uri))
    except StorageNotFound:
        if not missing_ok:
            raise


def write_atomic(uri: str, data: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new one, never a part of it."""
    with _translated(uri):
        if is_remote(uri):
            s3_filesystem().pipe_file(_key(uri), data)
            return
        with _beside(local_path(uri)) as temporary, open(temporary, "wb") as file:
            file.write(data)
            _sync(file)


def put_atomic(local_file: str, uri: str) -> None:
    """Brings a finished local file to `uri` as `write_atomic` does; the local file stays."""
    with _translated(uri):
        if is_remote(uri):
            s3_filesystem().put_file(local_file, _key(uri))
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
    with _translated(to):
        if is_remote(uri):
            s3_filesystem().copy(_key(uri), _key(to))
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
            with _translated(self.uri), open(self.path, "rb+") as file:
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
    # Names may be at most 255 bytes; keep the suffix, by which a muxer finds its format.
    stem = os.fsdecode(os.fsencode(os.path.splitext(name)[0])[:120])
    suffix = os.path.splitext(name)[1]
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


def is_within(root: str, other: str) -> bool:
    """Whether `other` is `root` or lies below it (symbolic links resolved on local paths)."""
    if is_remote(root) != is_remote(other):
        return False
    if is_remote(root):
        outer, inner = _key(root).rstrip("/") + "/", _key(other).rstrip("/") + "/"
    else:
        outer = os.path.join(os.path.realpath(local_path(root)), "")
        inner = os.path.join(os.path.realpath(local_path(other)), "")
    return inner.startswith(outer)


def check_readable(root: str) -> None:
    """Raises StorageError, with the fix, unless `root` is a folder that can be listed."""
    if not is_remote(root):
        path = local_path(root)
        if not os.path.lexists(path):
            raise StorageNotFound(f"no such folder: {path} (check the spelling, or mount the volume)")
        if not os.path.isdir(path):
            raise StorageError(f"not a folder: {path} (give the folder that holds the videos)")
        try:
            with os.scandir(path):
                return
        except OSError as error:
            raise StorageDenied(f"cannot list {path}: {error.strerror} (check its permissions)") from error
    if not is_dir(root):
        raise StorageNotFound(f"no such bucket or prefix: {root} (check the name, region and endpoint)")


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


def list_tree(root: str) -> Iterator[FileInfo]:
    """Every file below `root`, sorted by path (by its bytes).

    Streams: never more than one folder's names per level, or a thousand keys, are in memory. Links to files
    inside the root are followed; links that leave the root, links to folders, broken links, pipes, devices,
    folders that cannot be listed and keys that would climb out of a folder (`..`) are yielded with `problem`
    set and must not be opened. Folders named `_v2a` and temporary files of this project are left out.

    Raises StorageError if the root itself cannot be listed.
    """
    check_readable(root)
    if is_remote(root):
        yield from _list_s3(_key(root).rstrip("/"))
    else:
        top = local_path(root)
        yield from _list_local(os.path.realpath(top), top, "")


def _list_local(real_root: str, folder: str, prefix: str) -> Iterator[FileInfo]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=_place_in_folder)
    except OSError as error:
        yield _local_problem(folder, prefix.rstrip("/"), f"folder cannot be listed: {error.strerror}")
        return
    for entry in listed:
        path = prefix + entry.name
        if entry.name.startswith(TEMPORARY_PREFIX):
            continue
        try:
            if entry.is_symlink():
                yield _follow(real_root, entry.path, path)
            elif entry.is_dir():
                if entry.name != PRIVATE_FOLDER:
                    yield from _list_local(real_root, entry.path, path + "/")
            elif entry.is_file():
                yield _local_info(entry.path, path, entry.stat())
            else:
                yield _local_problem(entry.path, path, "not a regular file")
        except OSError as error:
            yield _local_problem(entry.path, path, error.strerror or str(error))


def _place_in_folder(entry: os.DirEntry[str]) -> bytes:
    """Sorts as whole paths do: `a.mp4` before `a/b.mp4`, as on S3."""
    return os.fsencode(entry.name) + (b"/" if entry.is_dir(follow_symlinks=False) else b"")


def _follow(real_root: str, place: str, path: str) -> FileInfo:
    target = os.path.realpath(place)
    if not is_within(real_root, target):
        return _local_problem(place, path, "symbolic link that leaves the archive: not followed")
    if os.path.isdir(target):
        return _local_problem(place, path, "symbolic link to a folder: not followed")
    if not os.path.isfile(target):
        return _local_problem(place, path, "broken symbolic link")
    return _local_info(place, path, os.stat(target))


def _local_info(place: str, path: str, facts: os.stat_result) -> FileInfo:
    return FileInfo(_printable(path), _local_uri(place), facts.st_size, str(facts.st_mtime_ns))


def _local_problem(place: str, path: str, problem: str) -> FileInfo:
    return FileInfo(_printable(path), _local_uri(place), 0, "", problem)


def _local_uri(place: str) -> str:
    # A name that is not UTF-8 cannot be kept in a table: percent-encode its bytes.
    return place if _printable(place) == place else "file://" + quote(os.fsencode(place))


def _printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _list_s3(root: str) -> Iterator[FileInfo]:
    bucket, _, prefix = root.partition("/")
    prefix = f"{prefix}/" if prefix else ""
    where: dict[str, str] | None = {}
    while where is not None:
        # Page by page: `S3FileSystem.ls` holds a whole folder, and loses keys with empty parts (`a//b`).
        with _translated(f"s3://{root}"):
            page = _s3_page(bucket, prefix, S3_PAGE, **where)
        where = {"ContinuationToken": page["NextContinuationToken"]} if page.get("IsTruncated") else None
        for entry in page.get("Contents", ()):
            path = str(entry["Key"])[len(prefix) :]
            *folders, name = path.split("/")
            if PRIVATE_FOLDER in folders:
                # May hold as much as all else: go on behind it.
                inside = "/".join(folders[: folders.index(PRIVATE_FOLDER) + 1])
                where = {"StartAfter": f"{prefix}{inside}/\U0010ffff"}
                break
            # A key that ends with a slash marks an empty folder.
            if name and not name.startswith(TEMPORARY_PREFIX):
                uri = f"s3://{bucket}/{entry['Key']}"
                yield _s3_info(path, uri, entry["Size"], str(entry.get("ETag", "")))


def _s3_info(path: str, uri: str, size: int, etag: str) -> FileInfo:
    odd = {"", ".", ".."} & set(path.split("/"))
    problem = "a key with an empty part, . or .. names no file that could lie in a folder" if odd else ""
    return FileInfo(path, uri, int(size), etag.strip('"'), problem)


def _key(uri: str) -> str:
    return uri.split("://", 1)[1]


def s3_filesystem() -> Any:
    """The S3 client of this process."""
    import s3fs  # loads botocore: only where S3 is used

    # One instance per process (fsspec caches it). Listings are not cached: archives change.
    return s3fs.S3FileSystem(use_listings_cache=False)


def _s3_page(bucket: str, prefix: str, n: int, **where: str) -> dict[str, Any]:
    """At most `n` keys of a bucket from `where` on, as S3 answers."""
    answer = _s3_lister(os.getpid()).call_s3(
        "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=n, **where
    )
    return cast(dict[str, Any], answer)


@functools.cache
def _s3_lister(process: int) -> Any:
    """A client of this process for listings alone. Nobody asks when an object was written, and to parse that is three
    quarters of the work."""
    import aiobotocore.session
    import s3fs

    session = aiobotocore.session.AioSession()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    # Not for `s3_filesystem`, which travels to other processes: a session does not.
    return s3fs.S3FileSystem(use_listings_cache=False, session=session)


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


@contextlib.contextmanager
def _translated(uri: str) -> Iterator[None]:
    """Turns what the file system or the S3 client raises into the three errors of this module."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise StorageNotFound(f"nothing at {uri}") from error
    except PermissionError as error:
        raise StorageDenied(f"no permission for {uri}: {error}") from error
    except OSError as error:
        raise StorageError(f"{uri}: {error.strerror or error}") from error
    except Exception as error:
        # botocore and aiohttp have error trees of their own that share no base class with OSError.
        if not is_remote(uri) or isinstance(error, (ValueError, TypeError, AttributeError)):
            raise
        raise StorageError(f"{uri}: {error}") from error

"""URIs of local files and S3 objects, the errors of storage, and the S3 client.

The rest of the project imports these from `pipelines.storage`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, unquote_to_bytes

TEMPORARY_PREFIX = ".v2a-tmp-"
"""Prefix of the name of every file that is still being written; a file of a user may begin like this, too."""

_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"(probe|\d+-.+)", re.DOTALL)

PRIVATE_FOLDER = "_v2a"
"""Folder for v2a's own records; never part of an archive, unless a user has one of that name."""

RECORDS = (
    *("config.json", "report.parquet", "report.html", "summary.json", "mlflow.db", "rows", "parts", "asked"),
    *("provenance", "scan.parquet", "index.parquet", "train.json", "tune.json", "compare.json", "synth.json"),
)
"""Files and folders of which each PRIVATE_FOLDER that v2a made has one or more."""


class StorageError(Exception):
    """Storage could not be reached, read or written, whatever the file contains."""


class StorageNotFound(StorageError):
    """There is nothing at that URI."""


class StorageDenied(StorageError):
    """The URI exists but this user may not read or write it."""


class StorageRefused(StorageError):
    """This one name cannot be a file, although others can: it is too long or not legal, a folder has it, or a file is
    where a folder is needed."""


class StorageFull(StorageError):
    """Nothing more can be written: the disk is full."""


class FileNotWritten(StorageError):
    """This one file could not be written, for a reason that may or may not concern others."""


class SourceLost(StorageError):
    """The file that is read can no longer be read; what is written is not concerned."""


_NAME_ERRORS = frozenset(
    {
        *(errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP),
        # Illegal names; a file larger than the file system allows.
        *(errno.EINVAL, errno.EILSEQ, errno.EFBIG),
    }
)


def kind_of(error: OSError) -> type[StorageError]:
    """The class of StorageError for an OSError while writing."""
    if error.errno in _NAME_ERRORS:
        return StorageRefused
    if error.errno == errno.ENOSPC:
        return StorageFull
    return StorageDenied if error.errno in (errno.EACCES, errno.EPERM) else StorageError


@dataclass(frozen=True)
class FileInfo:
    """One entry of an archive.

    path: relative to the root, with `/` between folders. version: changes with the content (ETag on S3, modification
    time in nanoseconds locally). problem: empty for a readable regular file; otherwise the reason why the entry must
    not be opened. lost: True if films may lie behind the problem, whatever the name is. own: True for what v2a itself
    has written. parts: paths of the files that follow each other in it, if it is several as one (`joined`).
    """

    path: str
    uri: str
    size: int
    version: str
    problem: str = ""
    lost: bool = False
    own: bool = False
    parts: tuple[str, ...] = ()


def is_temporary(name: str) -> bool:
    """True for the name of a file that v2a is writing, or was when it was killed."""
    return _TEMPORARY.fullmatch(name) is not None


def is_remote(uri: str) -> bool:
    """True for the URI of an S3 object or prefix."""
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
    """`root` with relative `parts` appended. Raises ValueError if a part would leave the root."""
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
    """Folder or prefix of `uri`."""
    if is_remote(uri):
        return uri.rstrip("/").rpartition("/")[0]
    return os.path.dirname(local_path(uri))


def is_within(root: str, other: str) -> bool:
    """True if `other` is `root` or lies below it; symbolic links in local paths are resolved."""
    if is_remote(root) != is_remote(other):
        return False
    if is_remote(root):
        outer, inner = key(root).rstrip("/") + "/", key(other).rstrip("/") + "/"
    else:
        outer = os.path.join(os.path.realpath(local_path(root)), "")
        inner = os.path.join(os.path.realpath(local_path(other)), "")
    return inner.startswith(outer)


def key(uri: str) -> str:
    return uri.split("://", 1)[1]


def s3_filesystem() -> Any:
    """The S3 client of this process."""
    import s3fs  # loads botocore: only where S3 is used

    # One instance per process (fsspec caches it). Listings are not cached: archives change.
    return s3fs.S3FileSystem(use_listings_cache=False)


def s3_page(bucket: str, prefix: str, n: int, **where: str) -> dict[str, Any]:
    """S3's answer with at most `n` keys of a bucket. where: `ContinuationToken` or `StartAfter`."""
    answer = _s3_lister(os.getpid()).call_s3(
        "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=n, **where
    )
    return cast(dict[str, Any], answer)


@functools.cache
def _s3_lister(process: int) -> Any:
    """S3 client of this process for listings only: it does not parse the times of objects, which nobody uses and which
    take three quarters of the work."""
    import aiobotocore.session
    import s3fs

    session = aiobotocore.session.AioSession()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    # `s3_filesystem` cannot do this: it is sent to other processes, and a session cannot be.
    return s3fs.S3FileSystem(use_listings_cache=False, session=session)


@contextlib.contextmanager
def reading_source() -> Iterator[None]:
    """Errors of storage in the block are SourceLost: it only reads a source."""
    try:
        yield
    except SourceLost:
        raise
    except StorageError as error:
        raise SourceLost(f"the source can no longer be read: {error}") from error


@contextlib.contextmanager
def writing_one_file() -> Iterator[None]:
    """Errors of storage in the block that say nothing about others are FileNotWritten: a volume that is mounted below
    OUT may be read-only or broken, and a store may refuse one key."""
    try:
        yield
    except StorageError as error:
        if type(error) is not StorageError:
            raise
        raise FileNotWritten(str(error)) from error


@contextlib.contextmanager
def translated(uri: str) -> Iterator[None]:
    """Convert errors of the file system and of the S3 client into StorageError."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise StorageNotFound(f"nothing at {uri}") from error
    except PermissionError as error:
        raise StorageDenied(f"no permission for {uri}: {error}") from error
    except OSError as error:
        raise kind_of(error)(f"{uri}: {error.strerror or error}") from error
    except Exception as error:
        # The errors of botocore and aiohttp share no base class with OSError.
        if not is_remote(uri) or isinstance(error, (ValueError, TypeError, AttributeError)):
            raise
        raise StorageError(f"{uri}: {error}") from error

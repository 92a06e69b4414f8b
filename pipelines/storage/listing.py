"""Listing of the files below a folder or an S3 prefix, one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

from pipelines.storage import uri as uris
from pipelines.storage.uri import (
    PRIVATE_FOLDER,
    TEMPORARY_PREFIX,
    FileInfo,
    StorageDenied,
    StorageNotFound,
    StorageRefused,
    is_remote,
    is_within,
    key,
    local_path,
    translated,
)

S3_PAGE = 1000
"""Keys per request; the most that S3 returns."""


def is_dir(uri: str) -> bool:
    """True if `uri` is a folder; on S3, a prefix with objects under it or an existing bucket."""
    if not is_remote(uri):
        return os.path.isdir(local_path(uri))
    bucket, _, prefix = key(uri).rstrip("/").partition("/")
    # `S3FileSystem.isdir` lists the whole folder and holds it in memory.
    try:
        with translated(uri):
            page = uris.s3_page(bucket, f"{prefix}/" if prefix else "", 1)
    except StorageNotFound:
        return False
    return bool(page.get("Contents")) or not prefix


def check_readable(root: str) -> None:
    """Check that `root` is a folder that can be listed. Raises StorageError with the fix."""
    if not is_remote(root):
        path = local_path(root)
        if not os.path.lexists(path):
            raise StorageNotFound(f"no such folder: {path} (check the spelling, or mount the volume)")
        if not os.path.isdir(path):
            raise StorageRefused(f"not a folder: {path} (give the folder that holds the videos)")
        try:
            with os.scandir(path):
                return
        except OSError as error:
            raise StorageDenied(f"cannot list {path}: {error.strerror} (check its permissions)") from error
    if not is_dir(root):
        raise StorageNotFound(f"no such bucket or prefix: {root} (check the name, region and endpoint)")


def list_tree(root: str) -> Iterator[FileInfo]:
    """Every file below `root`, sorted by the bytes of its path.

    Streams: at most one folder's names per level, or a thousand keys, are in memory. Links to files inside the root are
    followed. Links that leave the root, links to folders, broken links, pipes, devices, folders that cannot be listed
    and keys that leave their folder (`..`) are yielded with `problem` set and must not be opened. Folders named `_v2a`
    and v2a's temporary files are left out.

    Raises StorageError if the root itself cannot be listed.
    """
    check_readable(root)
    if is_remote(root):
        yield from _list_s3(key(root).rstrip("/"))
    else:
        top = local_path(root)
        yield from _list_local(os.path.realpath(top), top, "")


def _list_local(real_root: str, folder: str, prefix: str) -> Iterator[FileInfo]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=_sort_key)
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
                yield local_info(entry.path, path, entry.stat())
            else:
                yield _local_problem(entry.path, path, "not a regular file")
        except OSError as error:
            yield _local_problem(entry.path, path, error.strerror or str(error))


def _sort_key(entry: os.DirEntry[str]) -> bytes:
    """Sort key that puts `a.mp4` before `a/b.mp4`, like whole paths and S3."""
    return os.fsencode(entry.name) + (b"/" if entry.is_dir(follow_symlinks=False) else b"")


def _follow(real_root: str, place: str, path: str) -> FileInfo:
    target = os.path.realpath(place)
    if not is_within(real_root, target):
        return _local_problem(place, path, "symbolic link that leaves the archive: not followed")
    if os.path.isdir(target):
        return _local_problem(place, path, "symbolic link to a folder: not followed")
    if not os.path.isfile(target):
        return _local_problem(place, path, "broken symbolic link")
    return local_info(place, path, os.stat(target))


def local_info(place: str, path: str, facts: os.stat_result) -> FileInfo:
    return FileInfo(printable(path), local_uri(place), facts.st_size, str(facts.st_mtime_ns))


def _local_problem(place: str, path: str, problem: str) -> FileInfo:
    return FileInfo(printable(path), local_uri(place), 0, "", problem)


def local_uri(place: str) -> str:
    # A name that is not UTF-8 cannot be stored in a table: percent-encode its bytes.
    return place if printable(place) == place else "file://" + quote(os.fsencode(place))


def printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _list_s3(root: str) -> Iterator[FileInfo]:
    bucket, _, prefix = root.partition("/")
    prefix = f"{prefix}/" if prefix else ""
    where: dict[str, str] | None = {}
    while where is not None:
        # Page by page: `S3FileSystem.ls` holds a whole folder, and loses keys with empty parts (`a//b`).
        with translated(f"s3://{root}"):
            page = uris.s3_page(bucket, prefix, S3_PAGE, **where)
        where = {"ContinuationToken": page["NextContinuationToken"]} if page.get("IsTruncated") else None
        for entry in page.get("Contents", ()):
            path = str(entry["Key"])[len(prefix) :]
            *folders, name = path.split("/")
            if PRIVATE_FOLDER in folders:
                # It may hold as much as everything else: continue after it.
                inside = "/".join(folders[: folders.index(PRIVATE_FOLDER) + 1])
                where = {"StartAfter": f"{prefix}{inside}/\U0010ffff"}
                break
            # A key that ends in a slash marks an empty folder.
            if name and not name.startswith(TEMPORARY_PREFIX):
                uri = f"s3://{bucket}/{entry['Key']}"
                yield s3_info(path, uri, entry["Size"], str(entry.get("ETag", "")))


def s3_info(path: str, uri: str, size: int, etag: str) -> FileInfo:
    odd = {"", ".", ".."} & set(path.split("/"))
    problem = "a key with an empty part, . or .. names no file that could lie in a folder" if odd else ""
    return FileInfo(path, uri, int(size), etag.strip('"'), problem)

"""Listing of the files below a folder or an S3 prefix, one by one."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from urllib.parse import quote

from pipelines.storage import uri as uris
from pipelines.storage.uri import (
    PRIVATE_FOLDER,
    RECORDS,
    FileInfo,
    StorageDenied,
    StorageNotFound,
    StorageRefused,
    is_remote,
    is_temporary,
    is_within,
    join,
    key,
    local_path,
    translated,
)

S3_PAGE = 1000
"""Keys per request; the most that S3 returns."""

OWN_FOLDER = "records of an earlier run of v2a"
OWN_FILE = "a file that v2a had not finished writing"

_ESCAPED = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
_LIKE_ESCAPED = re.compile(rb"\\(?=x(5c|[89a-f][0-9a-f]))")


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


def list_tree(root: str, everything: bool = False, below: str = "") -> Iterator[FileInfo]:
    """Every file below `root`, sorted by the bytes of its path.

    below: list only this folder of the root (`FileInfo.path` is relative to the root all the same). It must be one that
    `look_up` names, which has checked the way to it.

    Streams: at most one folder's names per level, or a thousand keys, are in memory. Links to files inside the root are
    followed. Entries that must not be opened are yielded with `problem` set: links that leave the root, links to
    folders, broken links, pipes, devices, folders that cannot be listed and keys that name no file.

    What v2a wrote itself is left out: a folder `_v2a` with its records, and files that are half-written. everything:
    yield these too, the folder as one entry with a problem, and keys of folders that have content.

    `path` is the name itself, but for bytes that are not UTF-8, which are written `\\xff`. A backslash in a name that
    reads like this becomes `\\x5c`, so that no two files have one path; `uri_of` leads back.

    Raises StorageError if the root itself cannot be listed.
    """
    check_readable(root)
    if is_remote(root):
        found = _list_s3(key(root).rstrip("/"), below)
    else:
        top = local_path(root)
        found = _list_local(os.path.realpath(top), top, below)
    yield from found if everything else (info for info in found if not info.own)


def look_up(root: str, name: str) -> FileInfo | str | None:
    """The entry of an archive with the relative path `name`: a file as `list_tree` yields it, a folder as its own path
    to list `below`, or None if there is none. Raises StorageError if storage does not answer.

    name: the name itself, not the printable form in `FileInfo.path`. What lies behind a link to a folder, or in a
    folder of v2a's own, has a problem.
    """
    name = name.rstrip("/")
    if is_remote(root):
        bucket, _, prefix = key(root).rstrip("/").partition("/")
        return _look_up_s3(bucket, f"{prefix}/" if prefix else "", name)
    top = local_path(root)
    folders = name.split("/")[:-1]
    for depth in range(1, len(folders) + 1):
        place = os.path.join(top, *folders[:depth])
        if os.path.islink(place):
            return _local_problem(place, name, "behind a symbolic link to a folder: not followed")
        if _is_own(place):
            return _local_problem(place, name, OWN_FOLDER, own=True)
    place = os.path.join(top, name)
    try:
        facts = os.lstat(place)
        if stat.S_ISLNK(facts.st_mode):
            return _follow(os.path.realpath(top), place, name)
        if stat.S_ISDIR(facts.st_mode):
            return _local_problem(place, name, OWN_FOLDER, own=True) if _is_own(place) else name
        return _file_info(place, name, facts)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return _local_problem(place, name, error.strerror or str(error))


def _look_up_s3(bucket: str, prefix: str, name: str) -> FileInfo | str | None:
    with translated(f"s3://{bucket}/{prefix}{name}"):
        page = uris.s3_page(bucket, prefix + name, 1)
        found = page.get("Contents", ())
        if own := _own_folder(bucket, prefix, f"{name}/", set()):
            return FileInfo(printable(name), f"s3://{bucket}/{prefix}{own}", 0, "", OWN_FOLDER, own=True)
        if found and found[0]["Key"] == prefix + name:
            entry = found[0]
            return s3_info(name, f"s3://{bucket}/{entry['Key']}", entry["Size"], str(entry.get("ETag", "")))
        return name if uris.s3_page(bucket, f"{prefix}{name}/", 1).get("Contents") else None


def uri_of(root: str, path: str) -> str:
    """URI of the file that `list_tree(root)` calls `path`. Raises ValueError for a path that would leave the root."""
    uri = join(root, raw_name(path))
    return uri if is_remote(root) else local_uri(local_path(uri))


def raw_name(path: str) -> str:
    """The name that `list_tree` calls `path`, with bytes that are not UTF-8 as Python has them in names."""
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(path)))


def original_name(path: str) -> str:
    """The name that `list_tree` calls `path`, or `path` itself if the name is not UTF-8."""
    name = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(path))
    try:
        return name.decode()
    except UnicodeDecodeError:
        return path


def _list_local(real_root: str, top: str, below: str) -> Iterator[FileInfo]:
    # A stack instead of recursion: folders may be nested deeper than Python's calls. By level, the entries to come and
    # the path before their names.
    stack: list[tuple[Iterator[os.DirEntry[str]], str]] = []
    folder: str | None = os.path.join(top, below) if below else top
    prefix = f"{below}/" if below else ""
    while folder is not None or stack:
        if folder is not None:
            try:
                with os.scandir(folder) as entries:
                    stack.append((iter(sorted(entries, key=_sort_key)), prefix))
            except OSError as error:
                why = f"folder cannot be listed: {error.strerror}"
                yield _local_problem(folder, prefix.rstrip("/") or ".", why, lost=True)
            folder = None
            continue
        names, before = stack[-1]
        entry = next(names, None)
        if entry is None:
            stack.pop()
            continue
        path = before + entry.name
        try:
            if _is_folder(entry) and not _is_own(entry.path):
                folder, prefix = entry.path, path + "/"
            else:
                yield _examined(real_root, entry, path)
        except OSError as error:
            yield _local_problem(entry.path, path, error.strerror or str(error))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _is_own(folder: str) -> bool:
    return os.path.basename(folder) == PRIVATE_FOLDER and any(
        os.path.exists(os.path.join(folder, name)) for name in RECORDS
    )


def _examined(real_root: str, entry: os.DirEntry[str], path: str) -> FileInfo:
    """An entry that is not a folder to go into. Raises OSError."""
    if entry.is_symlink():
        return _follow(real_root, entry.path, path)
    if _is_folder(entry):
        return _local_problem(entry.path, path, OWN_FOLDER, own=True)
    return _file_info(entry.path, path, entry.stat())


def _file_info(place: str, path: str, facts: os.stat_result) -> FileInfo:
    """An entry that is neither a folder nor a link."""
    if not stat.S_ISREG(facts.st_mode):
        return _local_problem(place, path, "not a regular file")
    if is_temporary(os.path.basename(place)):
        return _local_problem(place, path, OWN_FILE, own=True)
    return local_info(place, path, facts)


def _sort_key(entry: os.DirEntry[str]) -> bytes:
    """Sort key that puts `a.mp4` before `a/b.mp4`, like whole paths and S3."""
    return os.fsencode(entry.name) + (b"/" if _is_folder(entry) else b"")


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


def _local_problem(place: str, path: str, problem: str, *, lost: bool = False, own: bool = False) -> FileInfo:
    return FileInfo(printable(path), local_uri(place), 0, "", problem, lost, own)


def local_uri(place: str) -> str:
    # A name that is not UTF-8 cannot be stored in a table: percent-encode its bytes.
    return place if printable(place) == place else "file://" + quote(os.fsencode(place))


def printable(path: str) -> str:
    """The path as text that no other path has (`list_tree`)."""
    return _LIKE_ESCAPED.sub(lambda _: rb"\x5c", os.fsencode(path)).decode("utf-8", "backslashreplace")


def _list_s3(root: str, below: str) -> Iterator[FileInfo]:
    bucket, _, prefix = root.partition("/")
    prefix = f"{prefix}/" if prefix else ""
    start = f"{prefix}{below}/" if below else prefix
    where: dict[str, str] | None = {}
    users: set[str] = set()
    """Folders named like v2a's own that are a user's."""
    while where is not None:
        # Page by page: `S3FileSystem.ls` holds a whole folder, and loses keys with empty parts (`a//b`).
        with translated(f"s3://{root}"):
            page = uris.s3_page(bucket, start, S3_PAGE, **where)
        where = {"ContinuationToken": page["NextContinuationToken"]} if page.get("IsTruncated") else None
        for entry in page.get("Contents", ()):
            path = str(entry["Key"])[len(prefix) :]
            if own := _own_folder(bucket, prefix, path, users):
                yield FileInfo(printable(own), f"s3://{bucket}/{prefix}{own}", 0, "", OWN_FOLDER, own=True)
                # It may hold as much as everything else: continue after it.
                where = {"StartAfter": f"{prefix}{own}/\U0010ffff"}
                break
            # An empty key that ends in a slash marks a folder.
            if path and not (path.endswith("/") and not entry["Size"]):
                uri = f"s3://{bucket}/{entry['Key']}"
                yield s3_info(path, uri, entry["Size"], str(entry.get("ETag", "")))


def _own_folder(bucket: str, prefix: str, path: str, users: set[str]) -> str:
    """The folder of v2a's records that a key lies in; empty if it lies in none. `users`: folders known to be none."""
    folders = path.split("/")[:-1]
    for depth, name in enumerate(folders, start=1):
        folder = "/".join(folders[:depth])
        if name == PRIVATE_FOLDER and folder not in users:
            with translated(f"s3://{bucket}/{prefix}{folder}"):
                page = uris.s3_page(bucket, f"{prefix}{folder}/", S3_PAGE, Delimiter="/")
            keys = [str(entry["Key"]) for entry in page.get("Contents", ())]
            keys += [str(entry["Prefix"]).rstrip("/") for entry in page.get("CommonPrefixes", ())]
            if not {each.rpartition("/")[2] for each in keys}.isdisjoint(RECORDS):
                return folder
            users.add(folder)
    return ""


def s3_info(path: str, uri: str, size: int, etag: str) -> FileInfo:
    own = is_temporary(path.rpartition("/")[2]) or path.endswith("/")
    problem = OWN_FILE if own else ""
    if path.endswith("/"):
        problem = "the key of a folder, which holds data: rename it"
    elif {"", ".", ".."} & set(path.split("/")):
        problem = "a key with an empty part, . or .. names no file that could lie in a folder"
    elif "?versionId=" in path:
        problem = "a key with ?versionId= cannot be told from a version of another object: rename it"
    lost = path.endswith("/") or "?versionId=" in path
    return FileInfo(printable(path), uri, int(size), etag.strip('"'), problem, lost, own)

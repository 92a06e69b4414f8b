"""List of files in a text: one path per line, as `find` and `v2a`'s own reports give them."""

from __future__ import annotations

import codecs
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipelines import storage
from pipelines.archive.picture_runs import Rates, look_up_sequence
from pipelines.storage import FileInfo

NOT_THERE = "listed, but not there: no such file"
OUTSIDE = "listed, but outside ARCHIVE: give the folder that holds it"

REQUESTS = 16
"""Files looked up at a time on S3, where each is a request."""


def parse_list(data: bytes) -> list[str]:
    """The paths in a list, each once: lines, or texts that end in a zero byte (`find -print0`).

    Bytes that are not UTF-8 are kept, as Python has them in names. Empty lines mean nothing.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # the `>` of PowerShell
        data = data.decode("utf-16", "replace").encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    parts = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return list(dict.fromkeys(os.fsdecode(part) for part in parts if part.strip()))


def resolve_list(root: str, lines: Sequence[str], rates: Rates | None = None) -> list[FileInfo | str]:
    """The listed entries of an archive, each once: files, and folders by their relative path.

    A line is a path from the root of the archive, else one from the current folder, else a path as reports print it
    (`\\xff` for a byte). A sequence of pictures is listed by the path of its row; rates: of films that state none. A
    file that is not there, or lies outside, is an entry with a problem. Raises StorageError if
    storage does not answer.
    """
    entries: dict[str, FileInfo | str] = {}
    with ThreadPoolExecutor(REQUESTS, thread_name_prefix="look-up") as pool:
        each = pool.map if storage.is_remote(root) else map
        for entry in each(functools.partial(_resolve, root, rates or Rates()), lines):
            entries.setdefault(entry if isinstance(entry, str) else storage.raw_name(entry.path), entry)
    folders = {entry for entry in entries.values() if isinstance(entry, str)}
    return [entry for path, entry in sorted(entries.items()) if not _lies_in(path, folders)]


def _lies_in(path: str, folders: set[str]) -> bool:
    names = path.split("/")
    return any("/".join(names[:depth]) in folders for depth in range(1, len(names)))


def _resolve(root: str, rates: Rates, line: str) -> FileInfo | str:
    outside = False
    for text in dict.fromkeys((line, line.strip(), line.strip().replace("\\", "/"), storage.raw_name(line))):
        for name in _names(root, text):
            if not name:
                outside = True
                continue
            entry = storage.look_up(root, name) or look_up_sequence(root, name, rates)
            if entry is not None:
                return entry
    problem = OUTSIDE if outside else NOT_THERE
    return FileInfo(storage.printable(line.strip()), "", 0, "", problem, lost=True)


def _names(root: str, text: str) -> Iterator[str]:
    """Paths from the root that a text may mean; empty for one that leads elsewhere."""
    if storage.is_remote(text) or storage.is_remote(root):
        prefix = root.rstrip("/") + "/"
        if not storage.is_remote(text):
            yield text.removeprefix("./")
        else:
            yield text[len(prefix) :] if text.startswith(prefix) else ""
        return
    top, real_top = storage.local_path(root), os.path.realpath(storage.local_path(root))
    text = storage.local_path(text) if text.startswith(("file://", "~")) else text
    places = [text] if os.path.isabs(text) else [os.path.join(top, text), os.path.abspath(text)]
    found_inside = False
    for place in map(os.path.normpath, places):
        # The links on the way are followed, but not the last one: a file may be a link itself.
        real = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))
        for inside, base in ((place, top), (real, real_top)):
            if inside.startswith(os.path.join(base, "")):
                found_inside = True
                yield inside[len(os.path.join(base, "")) :]
    if not found_inside:
        yield ""

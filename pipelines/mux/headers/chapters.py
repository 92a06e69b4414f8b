"""Chapters of Matroska as they are in the source, byte for byte: languages, several titles, chapters in chapters.

FFmpeg reads one title of each and no language. The muxer writes one chapter with a long title, whose place is then
used: what is left over becomes a void element behind it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, BinaryIO

from pipelines.mux.headers import matroska
from pipelines.mux.headers.matroska import HeaderDamaged

_CHAPTERS = 0x1043A770

_LARGEST_LIST = 1 << 20
"""Bytes of the largest list that is kept; others are written as FFmpeg reads them."""


def read_chapters(file: BinaryIO) -> bytes:
    """Content of the list of chapters of an untrusted file; empty without one that is whole."""
    try:
        _, start, stop = matroska.find(file, _CHAPTERS, behind_packets=True)
        file.seek(start)
        content = file.read(stop - start) if stop - start <= _LARGEST_LIST else b""
        # Must be elements to their end, or readers of the copy would lose their way.
        whole = len(content) == stop - start and list(matroska.elements(content))
    except HeaderDamaged:
        return b""
    return content if whole else b""


def placeholder(content: bytes) -> list[dict[str, Any]]:
    """Chapters to mux, which take more place than a list with this content."""
    title = "v2a chapters " + "." * len(content)
    return [{"id": 1, "start": 0, "end": 1, "time_base": Fraction(1, 1000), "metadata": {"title": title}}]


def write_chapters(file: BinaryIO, content: bytes) -> None:
    """Write a list of chapters over the placeholder in a finished file, open for reading and writing.

    The file keeps its size. Raises HeaderDamaged if there is no place for it.
    """
    at, _, stop = matroska.find(file, _CHAPTERS)
    # A void element takes at least two bytes.
    for wider in range(7):
        chapters = matroska.element(_CHAPTERS, content, wider)
        rest = stop - at - len(chapters)
        if rest == 0 or rest >= 2:
            break
    if rest < 0:
        raise HeaderDamaged("the header has no place for the chapters")
    file.seek(at)
    view = memoryview(chapters + (matroska.void(rest) if rest else b""))
    while view:
        view = view[file.write(view) :]

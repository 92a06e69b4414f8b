"""Page of an archive's captions with a search box: one file that holds its pictures and fetches nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.reports import pages
from pipelines.reports.pages import clock

FRAMES_KEPT = 3000
"""Contact frames in a page: a larger one would be slow to open. Films beyond have none."""
FRAME_WIDTH, FRAME_HEIGHT = 168, 94


def captions_html(
    rows: Sequence[Mapping[str, Any]], frames: Mapping[str, bytes], *, archive: str, model: str, summary: str
) -> str:
    """HTML of an archive's captions.

    rows: rows of `captioning.CAPTION_SCHEMA`, those of a film together; frames: WebP by path; summary: counts of files
    by result, in words.
    """
    films: dict[str, dict[str, Any]] = {}
    for row in rows:
        film = films.setdefault(
            row["path"],
            dict(path=row["path"], status=row["status"], error=row["error"], captions=[], frame=""),
        )
        if row["status"] == "captioned":
            film["captions"].append((clock(row["start_s"]), row["caption"]))
    for path in list(films)[:FRAMES_KEPT]:
        if path in frames:
            films[path]["frame"] = data_url(frames[path], "image/webp")
    return pages.render(
        "captions.html.j2", films=list(films.values()), archive=archive, model=model, summary=summary
    )


def contact_frame(picture: np.ndarray) -> bytes:
    """A small WebP of a picture, uint8 [height, width, 3]."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(sink, "WEBP", quality=70)
    return sink.getvalue()


def data_url(content: bytes, kind: str) -> str:
    """The content as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"

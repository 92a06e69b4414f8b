"""Page of captions: it holds every film, fetches nothing, and escapes names."""

from __future__ import annotations

import base64
import re

import numpy as np

from pipelines.reports import caption_pages


def row(
    path: str, start_s: float = 0.0, caption: str = "", status: str = "captioned", error: str = ""
) -> dict:
    return dict(path=path, start_s=start_s, duration_s=4.0, caption=caption, status=status, error=error)


def fetched(page: str) -> list[str]:
    """Addresses that a browser would ask for."""
    return [url for url in re.findall(r'(?:src|href)="([^"]+)"', page) if not url.startswith("data:")]


def test_captions_of_an_archive() -> None:
    evil = 'a/"><script>alert(1)</script>.mp4'
    rows = [
        row("a.mp4", 0.0, "a drum"),
        row("a.mp4", 64.0, "rain <b>"),
        row(evil, status="failed", error="cannot be read"),
    ]
    frame = caption_pages.contact_frame(np.zeros((94, 168, 3), np.uint8))
    assert frame[8:12] == b"WEBP"
    page = caption_pages.captions_html(
        rows, {"a.mp4": frame}, archive="films", model="vatt", summary="2 files"
    )
    assert page.count('<li class="box film') == 2
    assert "a drum" in page and "rain &lt;b&gt;" in page and "1:04" in page and "cannot be read" in page
    assert base64.b64encode(frame).decode() in page and page.count("no picture") == 1
    assert "<script>alert" not in page and not fetched(page)
    assert 'type="search"' in page

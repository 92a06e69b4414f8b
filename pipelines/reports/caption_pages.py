"""Pages about words: captions of an archive with a search box, and one clip under several prompts.

Each is one file with its pictures, players and scripts in it; nothing is fetched.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pipelines.reports.dub_page import clock

FRAMES_KEPT = 3000
"""Contact frames in a page: a larger one would be slow to open. Films beyond have none."""
FRAME_WIDTH, FRAME_HEIGHT = 168, 94

PLAYED = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
"""Films that browsers play, if they know the codec."""


@dataclass(frozen=True)
class Take:
    """One sound of a clip."""

    prompt: str
    video: bytes
    """The dubbed film."""
    suffix: str
    """Of the film: one of PLAYED."""
    picture: bytes = b""
    """WebP: film strip, waveform and spectrogram."""
    negative: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What is to be said of it."""


def steering_html(
    takes: Sequence[Take], *, clip: str, duration_s: float, model: str, seed: int, caption: str = ""
) -> str:
    """The page of one clip under several prompts. Raises ValueError for a film that browsers do not play."""
    rows = []
    for take in takes:
        if take.suffix.lower() not in PLAYED:
            raise ValueError(
                f"browsers do not play {take.suffix} films; take one of {', '.join(sorted(PLAYED))}"
            )
        rows.append(
            dict(
                prompt=take.prompt, negative=take.negative, facts=list(take.facts.items()),
                video=data_url(take.video, PLAYED[take.suffix.lower()]),
                picture=data_url(take.picture, "image/webp") if take.picture else "",
            )
        )  # fmt: skip
    given = dict(clip=clip, duration_s=duration_s, model=model, seed=seed, caption=caption)
    return _template("steering.html.j2").render(takes=rows, style=_style(), **given)


def captions_html(
    rows: Sequence[Mapping[str, Any]], frames: Mapping[str, bytes], *, archive: str, model: str, told: str
) -> str:
    """The page of an archive's captions.

    rows: of `captioning.CAPTION_SCHEMA`, a film's next to each other; frames: WebP by path; told: what became of the
    files, in words.
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
    page = _template("captions.html.j2")
    return page.render(films=list(films.values()), style=_style(), archive=archive, model=model, told=told)


def contact_frame(picture: np.ndarray) -> bytes:
    """A small WebP of a picture, uint8 [height, width, 3]."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(sink, "WEBP", quality=70)
    return sink.getvalue()


def data_url(content: bytes, kind: str) -> str:
    """The content as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@functools.cache
def _style() -> Markup:
    return Markup(
        resources.files("pipelines.reports").joinpath("templates", "page.css").read_text(encoding="utf-8")
    )


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(
        resources.files("pipelines.reports").joinpath("templates", name).read_text(encoding="utf-8")
    )

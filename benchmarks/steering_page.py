"""Page of one clip under several prompts: one file that holds its films and pictures and fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.reports import pages
from pipelines.reports.caption_pages import data_url

PLAYED = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
"""MIME types of the containers that browsers play, if they know the codec."""


@dataclass(frozen=True)
class Variant:
    """One sound track of a clip."""

    prompt: str
    video: bytes
    """Bytes of the dubbed film."""
    suffix: str
    """File name extension of the film: one of PLAYED."""
    picture: bytes = b""
    """WebP: film strip, waveform and spectrogram."""
    negative: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Names and values to print beside the player."""


TEMPLATE = Path(__file__).with_name("steering.html.j2")


def steering_html(
    takes: Sequence[Variant], *, clip: str, duration_s: float, model: str, seed: int, caption: str = ""
) -> str:
    """HTML of one clip under several prompts. Raises ValueError for a film that browsers do not play."""
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
    facts_of_page = dict(clip=clip, duration_s=duration_s, model=model, seed=seed, caption=caption)
    return pages.render(TEMPLATE, takes=rows, **facts_of_page)

"""Tags with any names in MXF, which keeps them as comments of users on its material."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_USER = "comment_"
"""FFmpeg's prefix for comments of users."""

SOUND_RATE = 48_000
"""Sample rate of all sound in MXF."""

PICTURES = frozenset(("mpeg2video", "dnxhd", "prores", "jpeg2000", "h264", "dvvideo", "ffv1"))
"""Codecs of pictures that FFmpeg's muxer takes, if their rate and profile are those of broadcasting."""


def tags_of(film: Any) -> dict[str, str]:
    """Tags of an open film by their own names, in MXF too."""
    tags = dict(film.metadata)
    if film.format.name != "mxf":
        return tags
    users = {name.removeprefix(_USER): text for name, text in tags.items() if name.startswith(_USER)}
    return {name: text for name, text in tags.items() if not name.startswith(_USER)} | users


def as_comments(tags: Mapping[str, str], source: Mapping[str, str]) -> dict[str, str]:
    """Tags for FFmpeg's MXF muxer: those that `source`, the film's own, has under the same name stay; the others become
    comments of users."""
    return {name if name in source else f"{_USER}{name}": text for name, text in tags.items()}

"""Cropping by the container: mp4's clean aperture (`clap`) and Matroska's `PixelCrop`.

A player shows only what they leave. FFmpeg's decoders apply the cropping that a coded stream asks for itself, and leave
that of the container to the player. Its demuxers pass it on to the muxers, and PyAV does not show it.
"""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple

from pipelines.media import boxes
from pipelines.media.pictures.fields import filtered


class Crop(NamedTuple):
    """Pixels that a player leaves out, of the picture as it is coded: before rotation and pixel aspect."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def shown_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of what is left of a picture; all of it if nothing would be."""
        left = width - self.left - self.right, height - self.top - self.bottom
        return left if min(left) > 0 else (width, height)


def read_crops(file: BinaryIO, container: Any) -> dict[int, Crop]:
    """The cropping of each stream that has any, by its index; the file keeps its position.

    file: what `container` was opened from.
    """
    at = file.tell()
    facts = boxes.read_headers(file, container.format.name, tracks_only=True)
    file.seek(at)
    by_index = "matroska" in container.format.name
    found = {}
    for stream in container.streams:
        sides = facts.tracks.get(stream.index if by_index else stream.id, {}).get("crop", "").split()
        if sides and (crop := Crop(*(max(0, round(float(side))) for side in sides))) != Crop():
            found[stream.index] = crop
    return found


def cropped(frame: Any, crop: Crop) -> Any:
    """The shown part of a decoded picture, without a copy; valid as long as the picture."""
    width, height = crop.shown_size(frame.width, frame.height)
    if (width, height) == (frame.width, frame.height):
        return frame
    return filtered(frame, "crop", f"{width}:{height}:{crop.left}:{crop.top}:exact=1")

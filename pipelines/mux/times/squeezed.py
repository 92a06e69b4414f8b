"""Detection of copies in which pictures would pile up, because the times of the source go back.

Muxers demand times that rise. A few packets with damaged times are moved; a film whose clock starts again, in a
container of which v2a knows no more than that, would be shown in one moment.
"""

from __future__ import annotations

from typing import Any

from pipelines.mux.track import MuxFailed

MOVED_S = 0.25
"""Seconds by which a picture has to be late to count."""

MOST_MOVED = 25
"""Pictures that may be late."""


class SqueezedPictures:
    """Count of the pictures that are written later than their own time. Raises MuxFailed (`ClockGoesBack`)."""

    def __init__(self) -> None:
        self._moved: dict[int, int] = {}

    def note(self, packet: Any, wanted: int | None) -> None:
        """Note a packet of pictures with its final times. wanted: the presentation time that it should have."""
        if wanted is None or not packet.size or packet.is_discard or packet.pts <= wanted:
            return
        moved_s = float((packet.pts - wanted) * packet.time_base)
        if moved_s <= MOVED_S:
            return
        number = self._moved[packet.stream_index] = self._moved.get(packet.stream_index, 0) + 1
        if number > MOST_MOVED:
            raise MuxFailed(
                "ClockGoesBack",
                f"the times of its pictures go back by {moved_s:.1f} s, so a copy would show them in one moment: "
                "correct its time stamps",
            )

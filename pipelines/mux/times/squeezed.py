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

MOST_SHARE = 0.2
"""Fraction of a film's pictures that may be late, if it is a short one."""


class SqueezedPictures:
    """Count of the pictures that are written later than their own time. Raises MuxFailed (`ClockGoesBack`)."""

    def __init__(self) -> None:
        self._moved: dict[int, int] = {}
        self._number: dict[int, int] = {}
        self._longest_s = 0.0

    def note(self, packet: Any, wanted: int | None) -> None:
        """Note a packet of pictures with its final times. wanted: the presentation time that it should have."""
        if wanted is None or not packet.size or packet.is_discard:
            return
        index = packet.stream_index
        self._number[index] = self._number.get(index, 0) + 1
        moved_s = float((packet.pts - wanted) * packet.time_base) if packet.pts > wanted else 0.0
        if moved_s <= MOVED_S:
            return
        self._longest_s = max(self._longest_s, moved_s)
        self._moved[index] = self._moved.get(index, 0) + 1
        if self._moved[index] > MOST_MOVED:
            raise self._failure()

    def finish(self) -> None:
        """Check the share of the pictures that are late, when all are noted."""
        if any(moved > max(2, MOST_SHARE * self._number[index]) for index, moved in self._moved.items()):
            raise self._failure()

    def _failure(self) -> MuxFailed:
        return MuxFailed(
            "ClockGoesBack",
            f"the times of its pictures go back by {self._longest_s:.1f} s, so a copy would show them in one moment: "
            "correct its time stamps",
        )

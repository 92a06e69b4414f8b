"""Packets that an edit list of mp4 hides, on their way into a container without edit lists.

They are decoded, because others need them, and not shown. A container that cannot say so would show them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipelines.mux.containers import Container
from pipelines.mux.track import MuxFailed

_PRIMING = 3
"""Packets that a sound coder needs before the first one that is heard, at most."""


class HiddenPackets:
    """Choice of the packets to leave out of a copy. Raises ContainerCannotHold if that would change others.

    streams: those that are copied, of a film that was opened with its edit lists.
    """

    def __init__(self, streams: Iterable[Any], kind: Container) -> None:
        self._last_shown: dict[int, int] = {}
        """Number of the last packet that is shown, by stream; for sound also that of the first one."""
        self._first_heard: dict[int, int] = {}
        self._number: dict[int, int] = {}
        if kind.muxer in ("mp4", "mov"):
            return
        for stream in streams:
            if stream.type in ("video", "audio") and "mov" in stream.container.format.name.split(","):
                self._look_at(stream, kind)

    def _look_at(self, stream: Any, kind: Container) -> None:
        shown = [not entry.is_discard for entry in stream.index_entries]
        if all(shown):
            return
        first = shown.index(True) if any(shown) else len(shown)
        last = len(shown) - 1 - shown[::-1].index(True) if any(shown) else -1
        if stream.type == "video" and not all(shown[: last + 1]):
            raise MuxFailed(
                "ContainerCannotHold",
                f"its edit list hides pictures that later ones need: {kind.muxer} has no edit lists, mp4 and mov have",
            )
        self._last_shown[stream.index], self._first_heard[stream.index] = last, first

    def leaves_out(self, packet: Any) -> bool:
        """True if the packet has no place in the copy. Call it for every packet, in order."""
        index = packet.stream_index
        if not packet.is_discard and index not in self._last_shown:
            return False
        number = self._number.get(index, 0)
        self._number[index] = number + 1
        if index not in self._last_shown or not packet.is_discard:
            return False
        is_priming = self._first_heard[index] - _PRIMING <= number < self._first_heard[index]
        return number > self._last_shown[index] or not is_priming

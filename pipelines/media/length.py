"""Length of a film, from the time stamps of its packets and not from what its header claims.

A picture lasts until the next one, and the last one as long as its packet says. A few hundred bytes can claim days in
this way, and everything after the probe costs in proportion to the length: so time in which nothing arrives counts only
as far as the rest of the film explains it.
"""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np

from pipelines.media.errors import DecodeFailed

MAX_DURATION_S = 14 * 86_400.0
"""Longest plausible footage in one file; beyond it the timestamps are broken or hostile."""

LONGEST_STILL_S = 2 * 3600.0
"""Longest time that one picture may stand, whatever the rest of the film is like."""


class PictureTimes:
    """Times of a film's pictures, packet by packet in the order of the file.

    nominal_s: seconds per picture where neither packets nor time stamps say it. by_decoding: for AVI, which has
    decoding times only: FFmpeg guesses the others, and takes a picture to last one tick of a clock that may be finer.
    """

    def __init__(self, nominal_s: float, by_decoding: bool = False) -> None:
        self._nominal_s, self._by_decoding = nominal_s, by_decoding
        self._times = array("d")
        self._stamped = False
        self._next_s = -math.inf
        """Time of the next packet, if it has none of its own."""
        self._last = (-math.inf, 0.0)
        """Time and length of the last picture."""

    def __len__(self) -> int:
        return len(self._times)

    def add(self, packet: Any) -> None:
        stamps = (packet.dts, packet.pts) if self._by_decoding else (packet.pts, packet.dts)
        stamp = stamps[0] if stamps[0] is not None else stamps[1]
        self._stamped = self._stamped or (packet.pts is not None and not self._by_decoding)
        time_s = float(stamp * packet.time_base) if stamp is not None else max(self._next_s, 0.0)
        claimed = packet.duration is not None and packet.duration > 0
        lasts_s = float(packet.duration * packet.time_base) if claimed else self._nominal_s
        self._times.append(time_s)
        self._next_s = max(self._next_s, time_s + lasts_s)
        self._last = max(self._last, (time_s, lasts_s))

    def number_from(self, start_s: float) -> int:
        """Number of pictures from the first decoded one on, whose time is `start_s`.

        A recording that starts inside a group of pictures has others before it, which nobody can decode.
        """
        times = np.array(self._times, np.float64)
        return int((times >= start_s - 0.001).sum()) if self._stamped else len(times)

    def duration_s(self, start_s: float, sound_s: float = 0.0) -> float:
        """Length of a film whose first decoded picture has the time `start_s`.

        sound_s: seconds of sound that can be decoded, which explain a picture that stands as long. Raises DecodeFailed
        (`ZeroDuration`, or `BadTimestamps` if `check_stills` does or the film is longer than MAX_DURATION_S).
        """
        times = np.sort(np.array(self._times, np.float64))
        last_s, lasts_s = self._last
        if self._by_decoding and len(times) > 1:
            # The median of numpy imports a module that the sandbox has not got.
            steps = np.sort(np.diff(times))
            lasts_s = max(lasts_s, float(steps[len(steps) // 2]))
        end_s = last_s + lasts_s
        # Containers with decode times only (AVI) begin and end a few pictures before the displayed time.
        begin_s = start_s if self._stamped or not len(times) else float(times[0])
        duration_s = end_s - begin_s
        if not math.isfinite(duration_s) or duration_s > MAX_DURATION_S:
            raise DecodeFailed(
                "BadTimestamps",
                f"pictures span {duration_s / 3600:.0f} h; the most is {MAX_DURATION_S / 3600:.0f} h",
                "probe",
            )
        if duration_s <= 0:
            raise DecodeFailed("ZeroDuration", "the video has no duration", "probe")
        check_stills(np.diff(np.append(np.maximum(times, begin_s), end_s)), duration_s, sound_s)
        return duration_s


def check_stills(lasts_s: np.ndarray, duration_s: float, sound_s: float) -> None:
    """Check that the time stamps of a film do not leap: pictures that stand for more than LONGEST_STILL_S must fill at
    most half of it, or its sound at least half.

    lasts_s: seconds for which each picture stands. Raises DecodeFailed (`BadTimestamps`).
    """
    long_s = float(lasts_s[lasts_s > LONGEST_STILL_S].sum())
    if long_s <= duration_s / 2 or sound_s >= duration_s / 2:
        return
    n = len(lasts_s)
    raise DecodeFailed(
        "BadTimestamps",
        f"{n} {'picture claims' if n == 1 else 'pictures claim'} to last {duration_s / 3600:.1f} h, of which "
        f"{long_s / 3600:.1f} h without a new picture; one may stand for {LONGEST_STILL_S / 3600:g} h (longer if that "
        "is at most half of the film, or its sound lasts as long): correct its time stamps",
        "probe",
    )

"""Stretches of a film's new sound that somebody should check: clipping and near-silence.

One sample at full scale is not an error: a sound may just reach it. Several in a row are a clipped peak; three is the
default of the "over" lights of digital recorders and of Audacity's Find Clipping. Near-silence is -60 dB for two
seconds, the default of FFmpeg's `silencedetect`, but of the RMS, so that a single click does not hide it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.soundtrack.mixing import Seconds
from v2a_models import pcm

CLIPPING, SILENCE = "clipping", "near silence"

CLIPPED_SAMPLES = 3
"""Successive samples of one channel at full scale that count as clipping."""

CLIPPED_AT = pcm.SYMMETRIC_SCALE
"""Magnitude of a sample at full scale."""

JOIN_S = 1.0
"""Clipped peaks less than this apart are one stretch."""

SILENT_DBFS = -60.0
"""Near-silence: RMS over all channels below this."""

SILENT_S = 2.0

HOP_S = 0.1
"""Length of the stretches over which the RMS is taken."""

MOST_LISTED = 20


class FlagDetector:
    """Detects clipping and near-silence in a stream of int16 blocks [channels, n].

    The result does not depend on the division into blocks, and memory does not grow with the film.
    """

    def __init__(
        self,
        rate: int,
        audible: Sequence[Seconds] | None = None,
        intended_silence: Callable[[], Iterable[Seconds]] = tuple,
    ) -> None:
        """audible: stretches with generated sound, None for the whole film; nothing else is checked.

        wanted_silence: returns the stretches that are silent on purpose; called at the end of each silent stretch, and
        need not know anything after it.
        """
        self.rate = rate
        spans = None if audible is None else sorted(span for span in audible if span[0] < span[1])
        self._audible = None if spans is None else np.array(spans, np.float64).reshape(-1, 2)
        self._intended_silence = intended_silence
        self._longest: dict[str, list[tuple[float, float, float]]] = {CLIPPING: [], SILENCE: []}
        """Heap of at most `MOST_LISTED` stretches by kind: (length, minus the start, end)."""
        self.n_detected = 0
        self._position = 0
        """Number of samples so far."""
        self._before: np.ndarray | None = None
        """True for the last samples that are at full scale, bool [channels, CLIPPED_SAMPLES - 1]."""
        self._clipped: tuple[int, int] | None = None
        """First sample, and one past the last, of the clipped stretch that may continue."""
        self._hop = max(1, round(HOP_S * rate))
        self._rest = np.zeros(0, np.int64)
        """Energy of the samples since the last whole hop."""
        self._rest_channels = 1
        self._silent_from: int | None = None
        self._closed = False

    def add(self, block: np.ndarray) -> None:
        """Check the next samples of the film."""
        if not block.shape[1]:
            return
        values = block.astype(np.int32)
        self._detect_clipping(np.abs(values) >= CLIPPED_AT)
        self._detect_silence(np.square(values, dtype=np.int64).sum(axis=0), len(block))
        self._position += block.shape[1]

    def close(self) -> None:
        """Finish the stretches that are open at the end of the film."""
        if self._closed:
            return
        self._closed = True
        self._end_clipping()
        if len(self._rest):
            self._hops(self._rest[None], self._position - len(self._rest), self._rest_channels)
        self._end_silence(self._position)

    def listed(self) -> list[dict[str, Any]]:
        """At most `MOST_LISTED` stretches, in the order of the film: the longest, if possible half of each kind.

        `n_detected` is the total number.
        """
        self.close()
        kinds = [
            [(kind, -start, end) for _, start, end in sorted(heap, reverse=True)]
            for kind, heap in self._longest.items()
        ]
        half = MOST_LISTED // 2
        first = [flag for kind in kinds for flag in kind[:half]]
        rest = [flag for kind in kinds for flag in kind[half:]]
        return _rows(first + rest[: MOST_LISTED - len(first)])

    def columns(self) -> dict[str, Any]:
        """Columns of the report: `flags` and `n_flags`."""
        return {"flags": self.listed(), "n_flags": self.n_detected}

    # clipping

    def _detect_clipping(self, full: np.ndarray) -> None:
        """full: bool [channels, n], true for samples at full scale."""
        reach = CLIPPED_SAMPLES - 1
        if self._before is None:
            self._before = np.zeros((len(full), reach), bool)
        if not full.any():
            self._before = np.concatenate([self._before, full[:, -reach:]], axis=1)[:, -reach:]
            return
        full = np.concatenate([self._before, full], axis=1)
        self._before = full[:, -reach:]
        n = full.shape[1] - reach
        runs = np.logical_and.reduce([full[:, k : k + n] for k in range(CLIPPED_SAMPLES)])
        # A run belongs to the sample that completes it.
        ends = self._position + np.flatnonzero(runs.any(axis=0))
        ends = ends[self._is_audible(ends / self.rate)]
        if not len(ends):
            return
        for group in np.split(ends, np.flatnonzero(np.diff(ends) > JOIN_S * self.rate) + 1):
            first, stop = int(group[0]) - reach, int(group[-1]) + 1
            if self._clipped is not None and int(group[0]) + 1 - self._clipped[1] <= JOIN_S * self.rate:
                self._clipped = (self._clipped[0], stop)
            else:
                self._end_clipping()
                self._clipped = (first, stop)

    def _end_clipping(self) -> None:
        if self._clipped is not None:
            self._keep(CLIPPING, self._clipped[0] / self.rate, self._clipped[1] / self.rate)
        self._clipped = None

    def _is_audible(self, times_s: np.ndarray) -> np.ndarray:
        """True for times with generated sound, bool like `times_s`."""
        if self._audible is None:
            return np.ones(len(times_s), bool)
        at = np.searchsorted(self._audible[:, 0], times_s, side="right") - 1
        inside = at >= 0
        inside[inside] = times_s[inside] < self._audible[at[inside], 1]
        return inside

    # near-silence

    def _detect_silence(self, energy: np.ndarray, channels: int) -> None:
        """energy: int64 [n], sum of squares over the channels; exact, so independent of the blocks."""
        first = self._position - len(self._rest)
        energy = np.concatenate([self._rest, energy]) if len(self._rest) else energy
        n = len(energy) // self._hop * self._hop
        self._rest, self._rest_channels = energy[n:], channels
        self._hops(energy[:n].reshape(-1, self._hop), first, channels)

    def _hops(self, energy: np.ndarray, first: int, channels: int) -> None:
        """energy: int64 [hops, samples], of the film from sample `first` on."""
        bound = (10 ** (SILENT_DBFS / 20) * CLIPPED_AT) ** 2 * energy.shape[1] * channels
        silent = energy.sum(axis=1) < bound
        changes = np.flatnonzero(np.diff(silent, prepend=self._silent_from is not None))
        for k in changes:
            at = first + int(k) * self._hop
            if silent[k]:
                self._silent_from = at
            else:
                self._end_silence(at)

    def _end_silence(self, stop: int) -> None:
        if self._silent_from is None:
            return
        silent = [(self._silent_from / self.rate, stop / self.rate)]
        self._silent_from = None
        if silent[0][1] - silent[0][0] < SILENT_S:
            return
        if self._audible is not None:
            silent = [
                (max(first, float(a)), min(last, float(b)))
                for first, last in silent
                for a, b in self._audible
                if max(first, a) < min(last, b)
            ]
        for first, last in without(silent, self._intended_silence()):
            if last - first >= SILENT_S:
                self._keep(SILENCE, first, last)

    def _keep(self, kind: str, start_s: float, end_s: float) -> None:
        self.n_detected += 1
        heap = self._longest[kind]
        heapq.heappush(heap, (end_s - start_s, -start_s, end_s))
        if len(heap) > MOST_LISTED:
            heapq.heappop(heap)


def with_new_part(row: Mapping[str, Any], part: Seconds, fresh: FlagDetector) -> dict[str, Any]:
    """Report columns of a film with a new part: the old flags outside the part, and those of `fresh` inside.

    row: the film's report row so far. fresh: detector that has checked the part only.
    """
    old = row.get("flags") or []
    kept = [
        (flag["what"], start, end)
        for flag in old
        for start, end in without([(flag["start_s"], flag["end_s"])], [part])
        if flag["what"] == CLIPPING or end - start >= SILENT_S
    ]
    new = [(flag["what"], flag["start_s"], flag["end_s"]) for flag in fresh.listed()]
    unlisted = max(0, (row.get("n_flags") or 0) - len(old))
    return {"flags": _rows([*new, *kept][:MOST_LISTED]), "n_flags": len(kept) + unlisted + fresh.n_detected}


def _rows(flags: list[tuple[str, float, float]]) -> list[dict[str, Any]]:
    """Flags as in the report, in the order of the film."""
    ordered = sorted(flags, key=lambda flag: flag[1:])
    return [{"start_s": start, "end_s": end, "what": kind} for kind, start, end in ordered]


def without(spans: Iterable[Seconds], others: Iterable[Seconds]) -> list[Seconds]:
    """Difference of two lists of stretches: `spans` without `others`, in order."""
    left = sorted(spans)
    for first, last in sorted(others):
        left = [
            piece
            for start, end in left
            for piece in ((start, min(end, first)), (max(start, last), end))
            if piece[0] < piece[1]
        ]
    return left

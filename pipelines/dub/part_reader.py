"""Read the parts of a film once, in order, and collect what the report needs of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.dub.job import DubJob, DubTask, file_segments, part_shapes
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.dub.state import State
from pipelines.media.errors import damage_within
from pipelines.mux import subtitles
from pipelines.reports import contact_sheet
from pipelines.reports.film_card import CARD_S, THUMBS
from pipelines.soundtrack.mixing import Seconds
from v2a_models import grid

MOST_LISTED = 20
"""Damaged or still stretches that the report lists one by one."""
MOST_SEAMS = 5
"""Seams that the report lists for a film."""


class PartReader:
    """Reads the parts of a film in order, once, and adds up their facts."""

    def __init__(self, task: DubTask, job: DubJob) -> None:
        self.task, self.job = task, job
        self.duration_s = float(task.video["duration_s"])
        self.facts = SegmentFacts()
        """Sum over the segments read so far."""
        self.unseen: list[int] = []
        """Indices of segments of which no frame can be decoded."""
        self.thumbs: list[tuple[float, np.ndarray]] = []
        """Time in seconds and frame, for the first `CARD_S` seconds and one beyond."""
        self.sheet = contact_sheet.Picker(self.duration_s)
        self.opening: list[np.ndarray] = []
        """int16 [channels, n] blocks of the first `CARD_S` seconds, as they are written to the output."""

    def sounds(self) -> Iterator[np.ndarray]:
        """int16 [channels, n] of each part. Raises StorageNotFound or BrokenState for a missing or damaged part."""
        state = State(self.job.out)
        for index, sound in enumerate(part_shapes(self.job, self.duration_s)):
            part = state.read_part(self.task.video_id, index, sound)
            self.facts += part.facts
            if part.facts.unseen:
                self.unseen.append(index)
            for thumb in zip(part.thumb_times.tolist(), part.thumbs, strict=True):
                if not self.thumbs or self.thumbs[-1][0] < CARD_S:
                    self.thumbs.append(thumb)
                self.sheet.add([thumb])
            yield part.sound

    def read_facts(self) -> None:
        """Read all parts for their facts alone. Raises as `sounds` does."""
        for _ in self.sounds():
            pass

    def keep_opening(self, blocks: Iterable[np.ndarray], channels: int, rate: int) -> Iterator[np.ndarray]:
        """Pass the blocks on and keep the first `CARD_S` seconds of the first track for the film's card."""
        room = grid.samples(CARD_S, rate)
        for block in blocks:
            if room > 0:
                self.opening.append(block[:channels, :room])
                room -= self.opening[-1].shape[1]
            yield block

    def unseen_spans(self) -> list[Seconds]:
        """Segments of which no frame can be decoded, in seconds."""
        if not self.unseen:
            return []
        whole, rate = file_segments(self.job, self.duration_s), self.job.rate
        return [(whole[k].start / rate, whole[k].stop / rate) for k in self.unseen]

    def may_be_silent(self) -> list[Seconds]:
        """Stretches read so far that silence is expected in: unseen ones, and still ones, whose ambience is faint."""
        return [*self.facts.still, *self.unseen_spans()]

    def cues(self) -> list[subtitles.Cue]:
        """Captions read so far, in order and cut to the film."""
        return subtitles.cues(self.facts.captions, self.duration_s)

    def strip(self, duration_s: float) -> np.ndarray:
        """The frames nearest to `THUMBS` equally spaced times: uint8 [frames, h, w, 3]."""
        times = np.array([time_s for time_s, _ in self.thumbs])
        targets = (np.arange(THUMBS) + 0.5) * duration_s / THUMBS
        nearest = np.abs(times[None] - targets[:, None]).argmin(axis=1)
        return np.stack([self.thumbs[k][1] for k in nearest])

    def columns(self) -> dict[str, Any]:
        """The facts as columns of the report, captions apart."""
        facts = self.facts
        still = damage_within(facts.still, 0.0, self.duration_s)
        worst = sorted(facts.seams, key=lambda seam: -seam[1])[:MOST_SEAMS]
        return {
            "reason": self._damage(),
            "n_windows": facts.windows,
            "scenes": facts.scenes,
            "static_s": sum(last - first for first, last in still),
            "static": f"{self.job.static}: {self._listed(still)}" if still else "",
            "seams": [{"at_s": at_s, "jump": jump} for at_s, jump in worst],
            "gpu_seconds": facts.gpu_s,
        }

    def _damage(self) -> str:
        """Damaged stretches and their sound; empty for an undamaged film. The report's filter finds "damaged, "."""
        clauses = []
        if unseen := self.unseen_spans():
            clauses.append(
                f"damaged, no decodable frame, so silent: {self._listed(unseen)} ({self.facts.unseen})"
            )
        if self.facts.damage:
            clauses.append(f"damaged, last good frame held: {self._listed(self.facts.damage)}")
        return "; ".join(clauses)

    def _listed(self, spans: Sequence[Seconds]) -> str:
        joined = damage_within(spans, 0.0, self.duration_s)
        more = f" and {len(joined) - MOST_LISTED} more" if len(joined) > MOST_LISTED else ""
        return ", ".join(f"{first:.1f} to {last:.1f} s" for first, last in joined[:MOST_LISTED]) + more


def caption_columns(cues: Sequence[subtitles.Cue], subtitles_at: str) -> dict[str, Any]:
    """Captions as columns of the report; `subtitles_at`: the file of the subtitles, "track", or empty for none."""
    texts = [text for _, _, text in cues]
    changes = [text for at, text in enumerate(texts) if text not in texts[at - 1 : at]]
    return {
        "caption": "; ".join(changes),
        "captions": [dict(start_s=start_s, end_s=end_s, text=text) for start_s, end_s, text in cues],
        "subtitles": subtitles_at,
    }

"""Reads the parts of a film, once and in order, and says what the report needs of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pipelines.dub.job import DubJob, DubTask, file_segments
from pipelines.dub.state import State
from pipelines.media.video import damage_within
from pipelines.mux import subtitles
from pipelines.reports import contact_sheet
from pipelines.reports.film_card import CARD_S, THUMBS
from v2a_models import grid

MOST_LISTED = 20
"""Damaged or still stretches that the report names, one by one."""
MOST_SEAMS = 5


class Reader:
    """Reads the parts of a film in order, once, and keeps what the report needs of them."""

    def __init__(self, state: State, task: DubTask) -> None:
        self.state, self.task = state, task
        self.cost_s = self.gpu_s = 0.0
        self.thumbs: list[tuple[float, np.ndarray]] = []
        """Seconds and frame, of the first `CARD_S` seconds and the next one."""
        self.sheet = contact_sheet.Picker(float(task.video["duration_s"]))
        self.told: list[subtitles.Cue] = []
        """Captions, and which stretches of the film they are about."""
        self.still: list[tuple[float, float]] = []
        """Stretches, in seconds, in which nothing moves."""
        self.scenes = self.windows = 0
        self.seams: list[tuple[float, float]] = []
        """The worst joins of each segment: where, and how many times the usual jump."""
        self.unseen: list[tuple[int, str]] = []
        """Segments that cannot be seen, and why."""
        self.damage: list[tuple[float, float]] = []
        """Stretches, in seconds, in which older pictures stand in for damaged ones."""
        self.opening: list[np.ndarray] = []
        """int16 [channels, n] blocks of the first `CARD_S` seconds, as they go into the file."""

    def sounds(self) -> Iterator[np.ndarray]:
        """int16 [channels, n] of each part."""
        for index in range(self.task.n_segments):
            part = self.state.read_part(self.task.video_id, index)
            self.cost_s += part.cost_s
            self.gpu_s += part.gpu_s
            if part.unseen:
                self.unseen.append((index, part.unseen))
            self.damage += part.damage
            self.told += part.captions
            self.still += part.still
            self.scenes += part.scenes
            self.windows += part.windows
            self.seams = sorted([*self.seams, *part.seams], key=lambda seam: -seam[1])[:MOST_SEAMS]
            for thumb in zip(part.thumb_times.tolist(), part.thumbs, strict=True):
                if not self.thumbs or self.thumbs[-1][0] < CARD_S:
                    self.thumbs.append(thumb)
                self.sheet.take([thumb])
            yield part.sound

    def may_be_silent(self, job: DubJob) -> list[tuple[float, float]]:
        """Stretches, in seconds, of what was read so far: what cannot be seen, and what does not move, the ambience of
        which is faint. Three hours of a fan that turns now and then were flagged a thousand times."""
        return [*self.still, *unseen_of(self, job)]

    def cues(self) -> list[subtitles.Cue]:
        """Captions of what was read so far, with their times."""
        return subtitles.cues(self.told, float(self.task.video["duration_s"]))

    def keep_opening(self, blocks: Iterable[np.ndarray], channels: int, rate: int) -> Iterator[np.ndarray]:
        """Pass the blocks on and keep the first of them for the picture in the report."""
        room = grid.samples(CARD_S, rate)
        for block in blocks:
            if room > 0:
                self.opening.append(block[:channels, :room])
                room -= self.opening[-1].shape[1]
            yield block

    def strip(self, duration_s: float) -> np.ndarray:
        """The frames nearest to equally spaced times: uint8 [frames, h, w, 3]."""
        times = np.array([time_s for time_s, _ in self.thumbs])
        wanted = (np.arange(THUMBS) + 0.5) * duration_s / THUMBS
        nearest = np.abs(times[None] - wanted[:, None]).argmin(axis=1)
        return np.stack([self.thumbs[k][1] for k in nearest])


def told(found: list[subtitles.Cue], shown: list[subtitles.Cue], where: str) -> dict[str, Any]:
    """Captions as columns of the report; where: those that are `shown` as subtitles."""
    texts = [text for _, _, text in found]
    changes = [text for at, text in enumerate(texts) if text not in texts[at - 1 : at]]
    return {
        "caption": "; ".join(changes),
        "captions": [dict(start_s=start_s, end_s=end_s, text=text) for start_s, end_s, text in found],
        "subtitles": where if shown else "",
    }


def shape(reader: Reader, job: DubJob, duration_s: float) -> dict[str, Any]:
    """Cuts, still stretches and seams as columns of the report."""
    still = damage_within(reader.still, 0.0, duration_s)
    return {
        "scenes": reader.scenes,
        "static_s": sum(last - first for first, last in still),
        "static": f"{job.static}: {_times(still, duration_s)}" if still else "",
        "seams": [{"at_s": at_s, "jump": jump} for at_s, jump in reader.seams],
    }


def damaged(reader: Reader, job: DubJob, duration_s: float) -> str:
    """Where the pictures are damaged, and what became of the sound there, in words; empty if they are not."""
    said = []
    if unseen := unseen_of(reader, job):
        said.append(f"damaged, so silent: {_times(unseen, duration_s)} ({reader.unseen[0][1]})")
    if reader.damage:
        said.append(f"damaged, older pictures stand in: {_times(reader.damage, duration_s)}")
    return "; ".join(said)


def unseen_of(reader: Reader, job: DubJob) -> list[tuple[float, float]]:
    """Segments that cannot be seen, in seconds."""
    if not reader.unseen:
        return []
    cuts = file_segments(job, float(reader.task.video["duration_s"]))
    return [(cuts[k].start / job.rate, cuts[k].stop / job.rate) for k, _ in reader.unseen]


def _times(found: list[tuple[float, float]], duration_s: float) -> str:
    joined = damage_within(found, 0.0, duration_s)
    more = f" and {len(joined) - MOST_LISTED} more" if len(joined) > MOST_LISTED else ""
    return ", ".join(f"{first:.1f} to {last:.1f} s" for first, last in joined[:MOST_LISTED]) + more

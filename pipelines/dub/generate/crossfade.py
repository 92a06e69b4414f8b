"""Windows that know nothing of each other and are crossfaded, for models that do not in-paint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.dub import segments
from pipelines.dub.generate.batches import add_captions, batch_of, batches, billed
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.media.errors import Failure
from pipelines.soundtrack.mixing import Seconds
from v2a_models import grid

if TYPE_CHECKING:
    from v2a_models.generator import Generator


@dataclass(frozen=True)
class NumberedWindow:
    """A window to generate: number `k` of an item's segment."""

    item: Item
    k: int


class CrossfadeGenerator:
    """Generates independent windows of items, in batches of exactly `job.batch_size`, filled with repeats."""

    def __init__(self, job: DubJob, generator: Generator, device: str) -> None:
        self.job, self.generator, self.device = job, generator, device

    def generate(self, items: Sequence[Item]) -> None:
        """Set the sound of every item, or its failure."""
        job = self.job
        todo = [NumberedWindow(item, k) for item in items for k in range(item.task.segment.n_windows)]
        sounds: dict[int, list[np.ndarray]] = {id(item): [] for item in items}
        for windows in batches(todo, job):
            with billed([window.item for window in windows], self.device):
                for window, sound in zip(windows, self._batch(windows), strict=True):
                    sounds[id(window.item)].append(sound)
        for item in items:
            if item.failure is None:
                try:
                    track = segments.overlap_add(sounds[id(item)], item.task.segment, job.window, job.overlap)
                    item.arrays["sound"] = track
                    item.facts += SegmentFacts(windows=item.task.segment.n_windows)
                except ValueError as error:
                    item.failure = Failure("generate", type(error).__name__, str(error))

    def _batch(self, windows: list[NumberedWindow]) -> np.ndarray:
        """Sound of a batch of windows: float32 [windows, channels, samples]."""
        import torch

        from v2a_models.seeds import window_seed  # loads torch: not in workers that only decode or mux

        job = self.job
        hop = job.window - job.overlap
        filled = windows + [windows[-1]] * (job.batch_size - len(windows))
        starts = [(w.item, w.item.task.segment.start + w.k * hop) for w in filled]
        frames = batch_of(starts, job, job.window, self.device)
        seeds = [
            window_seed(w.item.task.seed(job), w.item.task.video_id, w.item.task.segment.first_window + w.k)
            for w in filled
        ]
        options = job.options(windows[0].item.task.overrides)
        with torch.inference_mode():
            if job.captions:
                batch = self.generator.features(frames)
                spans = [
                    caption_span(w.item, w.k, job) if job.subtitles or w.k == 0 else None for w in windows
                ]
                add_captions(self.generator, batch, [w.item for w in windows], spans)
                sound = self.generator.generate(batch, seeds=seeds, **options)
            else:
                sound = self.generator.generate_from_frames(frames, seeds, **options)
        sounds: np.ndarray = sound[: len(windows)].float().cpu().numpy()
        if sounds.shape[1] != job.made_channels:
            raise ValueError(f"the generator gave {sounds.shape[1]} channels, not {job.made_channels}")
        return sounds


def caption_span(item: Item, k: int, job: DubJob) -> Seconds:
    """Stretch that window `k` of an item dominates, in seconds: from the middle of one overlap to that of the next."""
    segment = item.task.segment
    start = segment.start + k * (job.window - job.overlap)
    first = start + job.overlap // 2 if start else 0
    last = segment.is_last and k == segment.n_windows - 1
    stop = segment.stop if last else start + job.window - job.overlap // 2
    return grid.seconds(first, job.rate), grid.seconds(stop, job.rate)

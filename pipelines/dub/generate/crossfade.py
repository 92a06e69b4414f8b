"""Generate stage for windows that are crossfaded; models that in-paint use `two_wave` instead."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines import memory
from pipelines.dub import segments
from pipelines.dub.generate import two_wave
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.media.errors import Failure
from v2a_models import grid
from v2a_models.grid import window_frames

if TYPE_CHECKING:
    from v2a_models.generator import Generator


def load_for(job: DubJob, device: str) -> Generator:
    """The job's generator on `device`, with one thread (`pipeline.dubbers_for`)."""
    import torch

    from v2a_models.object_reference import load_model

    torch.set_num_threads(1)
    generator = load_model(job.model, device)
    generator.precision = job.precision
    return generator


def batch_of(starts: Sequence[tuple[Item, int]], job: DubJob, length: int, device: str) -> dict[str, Any]:
    """Frames of `length` samples from the start sample of each item: uint8 [B, T, H, W, 3] by view.

    Raises ValueError if some were not decoded.
    """
    import torch

    frames = {name: np.stack([_frames(*start, job, name, length) for start in starts]) for name in job.views}
    return {name: torch.from_numpy(stack).to(device) for name, stack in frames.items()}


def _frames(item: Item, start: int, job: DubJob, name: str, length: int) -> np.ndarray:
    span = window_frames(start, length, item.decoded_from_s, job.views[name].fps, job.rate)
    frames = item.arrays[name][span]
    missing = span.stop - span.start - len(frames)
    if missing:
        raise ValueError(
            f"the decoder gave {missing} frames too few at {grid.seconds(start, job.rate):.2f} s"
        )
    return frames


class Dubber:
    """Actor with a generator: frames to sound. Writes nothing.

    Windows of all items of a call are generated in batches of exactly `job.batch_size`, the last one filled with
    repeats: the sound of a window depends on its own frames and seed only.
    """

    def __init__(self, job: DubJob, device: str = "cpu") -> None:
        self.job, self.device = job, device
        self.generator = load_for(job, device)
        self.two_wave: two_wave.TwoWaveGenerator | None = None
        if job.layout is not None:
            self.two_wave = two_wave.TwoWaveGenerator(job, self.generator, device)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for item in self.generate(Item.from_table(batch)):
            yield item.to_table()
        memory.give_back()

    def generate(self, items: list[Item]) -> list[Item]:
        """Set the sound of every item, or its failure; drop the frames."""
        todo = [item for item in items if not (item.failure or item.task.have_part or item.task.needless)]
        if self.two_wave is not None:
            self.two_wave.generate(todo)
        else:
            self._crossfade(todo)
        for item in items:
            if item.task.needless and not item.task.have_part:
                segment = item.task.segment
                item.arrays["sound"] = np.zeros(
                    (self.job.made_channels, segment.stop - segment.start), np.int16
                )
                item.arrays["thumbs"] = np.zeros((0, 1, 1, 3), np.uint8)
            item.arrays = {name: item.arrays[name] for name in ("thumbs", "sound") if name in item.arrays}
            if item.failure is not None:
                item.arrays.pop("sound", None)
        return items

    def _crossfade(self, items: Sequence[Item]) -> None:
        """Set the sound of items as independent windows that overlap."""
        job = self.job
        todo = [(item, k) for item in items for k in range(item.task.segment.n_windows)]
        sounds: dict[int, list[np.ndarray]] = {id(item): [] for item in items}
        for chunk in two_wave.batches(todo, job):
            started = time.perf_counter()
            try:
                windows = self._batch(chunk)
            except Exception as error:  # a failed row, retried by the next run; the others go on
                for item, _ in chunk:
                    item.failure = Failure("generate", type(error).__name__, str(error))
                continue
            cost = (time.perf_counter() - started) / len(chunk)
            for (item, _), sound in zip(chunk, windows, strict=True):
                sounds[id(item)].append(sound)
                item.spend(cost, self.device)
        for item in items:
            if item.failure is None:
                try:
                    track = segments.overlap_add(sounds[id(item)], item.task.segment, job.window, job.overlap)
                    item.arrays["sound"] = track
                    item.facts += SegmentFacts(windows=item.task.segment.n_windows)
                except ValueError as error:
                    item.failure = Failure("generate", type(error).__name__, str(error))

    def _batch(self, chunk: list[tuple[Item, int]]) -> np.ndarray:
        """Sound of a batch of windows: float32 [windows, channels, samples]."""
        import torch

        from v2a_models.seeds import window_seed  # loads torch: not in workers that only decode or mux

        job = self.job
        hop = job.window - job.overlap
        filled = chunk + [chunk[-1]] * (job.batch_size - len(chunk))
        starts = [(item, item.task.segment.start + k * hop) for item, k in filled]
        frames = batch_of(starts, job, job.window, self.device)
        seeds = [
            window_seed(item.task.seed(job), item.task.video_id, item.task.segment.first_window + k)
            for item, k in filled
        ]
        options = job.options(chunk[0][0].task.overrides)
        with torch.inference_mode():
            if job.captions:
                batch = self.generator.features(frames)
                spans = [
                    _caption_span(item, k, job) if job.subtitles or k == 0 else None for item, k in chunk
                ]
                two_wave.add_captions(self.generator, batch, [item for item, _ in chunk], spans)
                sound = self.generator.generate(batch, seeds=seeds, **options)
            else:
                sound = self.generator.generate_from_frames(frames, seeds, **options)
        windows = sound[: len(chunk)].float().cpu().numpy()
        if windows.shape[1] != job.made_channels:
            raise ValueError(f"the generator gave {windows.shape[1]} channels, not {job.made_channels}")
        return windows


def _caption_span(item: Item, k: int, job: DubJob) -> tuple[float, float]:
    """Stretch that window `k` of an item dominates, in seconds: from the middle of one overlap to that of the next."""
    segment = item.task.segment
    start = segment.start + k * (job.window - job.overlap)
    first = start + job.overlap // 2 if start else 0
    last = segment.is_last and k == segment.n_windows - 1
    stop = segment.stop if last else start + job.window - job.overlap // 2
    return grid.seconds(first, job.rate), grid.seconds(stop, job.rate)

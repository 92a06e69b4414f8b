"""Batches of windows for a generator: windows in groups, their frames, captions and costs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from pipelines.dub.item import Item
from pipelines.dub.job import DubJob
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.media.errors import Failure
from pipelines.soundtrack.mixing import Seconds
from v2a_models import grid
from v2a_models.grid import window_frames

if TYPE_CHECKING:
    from v2a_models.generator import Generator


class HasItem(Protocol):
    """A window to generate."""

    @property
    def item(self) -> Item:
        """The segment that it belongs to."""


W = TypeVar("W", bound=HasItem)


def batches(
    todo: Sequence[W], job: DubJob, length: Callable[[W], int] = lambda window: 0
) -> Iterator[list[W]]:
    """Batches of windows of equal `length` and texts, at most `job.batch_size` each."""
    alike: dict[tuple[str, int], list[W]] = {}
    for window in todo:
        texts = json.dumps(job.texts(window.item.task.overrides))
        alike.setdefault((texts, length(window)), []).append(window)
    size = job.batch_size
    for group in alike.values():
        yield from (group[first : first + size] for first in range(0, len(group), size))


@contextlib.contextmanager
def billed(items: Sequence[Item], device: str) -> Iterator[None]:
    """Add the cost of some work to its items; an error fails these items only, and the next run tries them again."""
    started = time.perf_counter()
    try:
        yield
    except Exception as error:
        for item in items:
            item.failure = Failure("generate", type(error).__name__, str(error))
    for item in items:
        item.spend((time.perf_counter() - started) / len(items), device)


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


def add_captions(
    generator: Generator, batch: Any, items: Sequence[Item], spans: Sequence[Seconds | None]
) -> None:
    """Caption the rows of a batch that have a span (seconds)."""
    if any(spans):
        for item, span, text in zip(items, spans, generator.captions(batch), strict=False):
            if span is not None:
                item.facts += SegmentFacts(captions=((*span, text),))

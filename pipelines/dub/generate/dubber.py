"""Actor of the generate stage: frames to sound, by crossfades or two waves; models that stream have `streaming`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines import memory
from pipelines.dub.generate.crossfade import CrossfadeGenerator
from pipelines.dub.generate.two_wave import TwoWaveGenerator
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob

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


class Dubber:
    """Actor with a generator: frames to sound. Writes nothing.

    Windows of all items of a call are generated in batches of exactly `job.batch_size`, the last one filled with
    repeats: the sound of a window depends on its own frames and seed only.
    """

    def __init__(self, job: DubJob, device: str = "cpu") -> None:
        self.job, generator = job, load_for(job, device)
        self.windows: CrossfadeGenerator | TwoWaveGenerator = (
            CrossfadeGenerator(job, generator, device)
            if job.layout is None
            else TwoWaveGenerator(job, generator, device)
        )

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for item in self.generate(Item.from_table(batch)):
            yield item.to_table()
        memory.give_back()

    def generate(self, items: list[Item]) -> list[Item]:
        """Set the sound of every item, or its failure; drop the frames."""
        self.windows.generate(
            [item for item in items if not (item.failure or item.task.have_part or item.task.needless)]
        )
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

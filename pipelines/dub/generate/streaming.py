"""Generate stage for models that continue from their own past: segment after segment of a film, without seams.

A segment is one call of the model. Its input is the pictures of the segment and of the context before it, and the sound
of the context, in 16 bits as it was kept. Nothing else passes from one segment to the next, so that an interrupted film
resumes with exactly the same numbers, and memory is constant.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from pipelines import memory, storage
from pipelines.dub import decode
from pipelines.dub.generate.batches import batch_of
from pipelines.dub.generate.dubber import load_for
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob, DubTask, call_length, first_missing, turn
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.dub.state import State
from pipelines.media.errors import Failure
from pipelines.sandbox.decoder import Sandbox, shared_sandbox
from v2a_models import pcm

Film = list[DubTask]
"""Segments of one film to generate, in order."""


def film_groups(tasks: Sequence[DubTask], batch_size: int, actors: int) -> list[list[Film]]:
    """Films in groups of at most `batch_size`, each group for one actor at a time; turn by turn, the
    longest of a `turn` first.

    Films of a group are about equally long, and every actor gets a group if there are enough films.
    """
    films = [list(film) for _, film in itertools.groupby(tasks, lambda task: task.video_id)]
    films.sort(key=lambda film: (turn(film[0].video), -len(film)))
    size = max(1, min(batch_size, -(-len(films) // actors)))
    return [films[at : at + size] for at in range(0, len(films), size)]


def to_json(films: Sequence[Film]) -> str:
    """JSON of a group of films."""
    return json.dumps([[task.to_json() for task in film] for film in films])


def from_json(text: str) -> list[Film]:
    """Inverse of `to_json`."""
    return [[DubTask.from_json(task) for task in film] for film in json.loads(text)]


def kept_tail(state: State, video_id: str, segment: int, n: int, channels: int) -> np.ndarray:
    """The last `n` samples before a segment, from the parts before it: int16 [channels, n].

    Raises StorageNotFound or BrokenState if those are missing or damaged.
    """
    tail = np.zeros((channels, 0), np.int16)
    while tail.shape[1] < n:
        segment -= 1
        part = state.read_part(video_id, segment).sound
        tail = np.concatenate([part[:, max(0, part.shape[1] - n + tail.shape[1]) :], tail], axis=1)
    return tail


class FilmStream:
    """One film in progress: the sound that its next segment continues from, or the failure that ended it."""

    def __init__(self, job: DubJob, first: DubTask) -> None:
        self.job = job
        self.failure: Failure | None = None
        self.n_done = first.segment.index
        """Number of segments that have a part already."""
        self.past = np.zeros((job.channels, 0), np.int16)
        """int16 [channels, n]: the context of the next segment."""
        try:
            self._catch_up(first)
        except (storage.StorageError, ValueError) as error:  # BrokenState among them: the film is begun again
            self.failure = Failure("storage", type(error).__name__, str(error))

    def _catch_up(self, first: DubTask) -> None:
        """Set `n_done` and `past` from the state folder."""
        state, video_id = State(self.job.out), first.video_id
        # A lost actor may have made more segments than the plan knows of. Its replacement gives as many items as it
        # would have, since Ray counts them.
        row = state.read_row(video_id)
        if first.have_part or (row is not None and row.get("run_id") == self.job.run_id):
            self.n_done = first.n_segments
            return
        done = state.segments_done(video_id)
        n_done = first_missing({index for index, is_failure in done.items() if not is_failure})
        self.n_done = max(self.n_done, n_done)
        if self.n_done < first.n_segments:
            n = min(self.job.context, self.n_done * self.job.window)
            self.past = kept_tail(state, video_id, self.n_done, n, self.job.channels)

    def begin(self, task: DubTask, sandbox: Sandbox) -> Item:
        """The item of the next segment with its frames, or with the failure that ended the film."""
        if task.segment.index < self.n_done:
            return Item(replace(task, have_part=True))
        if self.failure is not None:
            return Item(task, self.failure, notices=storage.take_notices())
        item = decode.decode_item(Item(task), self.job, sandbox)
        self.failure = item.failure
        return item

    def end(self, item: Item, sound: np.ndarray) -> None:
        """Set the item's sound, float [channels, n], and keep the next context. Raises ValueError for NaN."""
        segment = item.task.segment
        kept = pcm.quantise(sound[:, : segment.stop - segment.start])
        item.arrays = {"thumbs": item.arrays["thumbs"], "sound": kept}
        item.facts += SegmentFacts(windows=segment.n_windows)
        sound_so_far = np.concatenate([self.past, kept], axis=1)
        self.past = sound_so_far[:, max(0, sound_so_far.shape[1] - self.job.context) :]


class Streamer:
    """Actor with a streaming generator: films to sound, segment after segment. Writes nothing.

    The films of a call advance together, in batches of exactly `job.batch_size` rows, filled with repeats: the sound of
    a film depends on its own frames and seeds only.
    """

    def __init__(self, job: DubJob, device: str = "cpu", sandbox: Sandbox | None = None) -> None:
        self.job, self.device = job, device
        self.generator = load_for(job, device)
        self.sandbox = sandbox or shared_sandbox()

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for text in batch["films"].to_pylist():
            for item in self.stream(from_json(text)):
                yield item.to_table()
                memory.give_back()

    def stream(self, films: Sequence[Film]) -> Iterator[Item]:
        """One item for every task, as soon as it is made: the first of every film, then the second, and so on."""
        streams = [FilmStream(self.job, film[0]) for film in films]
        for tasks in itertools.zip_longest(*films):
            begun = [
                (stream, stream.begin(task, self.sandbox))
                for stream, task in zip(streams, tasks, strict=True)
                if task is not None
            ]
            alike: dict[tuple[int, int], list[tuple[FilmStream, Item]]] = {}
            for stream, item in begun:
                if item.arrays:
                    shape = stream.past.shape[1], call_length(self.job, item.task.segment)
                    alike.setdefault(shape, []).append((stream, item))
            for (past, length), group in alike.items():
                self._make(group, past, length)
            yield from (item for _, item in begun)

    def _make(self, group: list[tuple[FilmStream, Item]], past: int, length: int) -> None:
        """Set the sound, or a failure, of items of equal shape."""
        started = time.perf_counter()
        try:
            sounds = self._call(group, past, length)
        except Exception as error:  # a failed row, retried by the next run
            if len(group) > 1:  # one film must not take the others with it
                for one in group:
                    self._make([one], past, length)
                return
            self._fail(*group[0], error)
            return
        cost_s = (time.perf_counter() - started) / len(group)
        for (stream, item), sound in zip(group, sounds, strict=True):
            item.spend(cost_s, self.device)
            try:
                stream.end(item, sound)
            except ValueError as error:
                self._fail(stream, item, error)

    def _fail(self, stream: FilmStream, item: Item, error: Exception) -> None:
        stream.failure = item.failure = Failure("generate", type(error).__name__, str(error))
        item.arrays = {}

    def _call(self, group: list[tuple[FilmStream, Item]], past: int, length: int) -> np.ndarray:
        """Sound of one call of the generator: float32 [films, channels, length]."""
        import torch

        from v2a_models.seeds import window_seed

        job = self.job
        filled = group + [group[-1]] * (job.batch_size - len(group))
        starts = [(item, item.task.segment.start - past) for _, item in filled]
        frames = batch_of(starts, job, past + length, self.device)
        context = np.stack([film.past for film, _ in filled]).astype(np.float32) / pcm.SYMMETRIC_SCALE
        seeds = [
            window_seed(item.task.seed(job), item.task.video_id, item.task.segment.index)
            for _, item in filled
        ]
        with torch.inference_mode():
            sound = self.generator.generate_from_frames(
                frames, seeds, past=torch.from_numpy(context).to(self.device)
            )
        sounds = sound[: len(group)].float().cpu().numpy()
        if sounds.shape[1:] != (job.channels, length):
            raise ValueError(
                f"the generator gave {list(sounds.shape[1:])}, not {[job.channels, length]} samples"
            )
        return sounds

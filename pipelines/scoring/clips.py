"""Sounds of a feature store's clips: generated with several models, and the reference sounds.

    OUT/clips/SYSTEM/CLIP.wav       mono, 44.1 kHz, exactly the window's length
    OUT/clips/SYSTEM/CLIP.txt       caption by a model that writes captions

A model with the store's recipe takes the stored features as input; any other one takes pictures decoded from the
archive. Existing sounds are kept, so an interrupted comparison resumes. Seeds depend on the clip only, so all models
draw from the same noise, and another batch size or cluster gives the same sounds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipelines import memory, storage
from pipelines.media.errors import DecodeFailed, DecoderNotStarted, first_line
from pipelines.sandbox.decoder import shared_sandbox
from pipelines.scoring import sound_folder
from pipelines.scoring.job import ClipJob
from pipelines.store.small_columns import small_columns
from pipelines.store.store import Store, StoreError
from v2a_models import grid, pcm
from v2a_models.batch import Batch
from v2a_models.grid import decode_start
from v2a_models.recipe import View
from v2a_models.seeds import window_seed


@dataclass(frozen=True)
class Row:
    """One clip of the store, and the location of its features."""

    clip_id: str
    path: str
    """Path of its film, relative to the archive."""
    start_s: float
    duration_s: float
    label: str
    text: str
    file: str
    """Path of a file of the store; `at` is the number of the row in it."""
    at: int


def sound_uri(place: str, system: str, clip_id: str) -> str:
    """Address of the sound of a clip."""
    return storage.join(place, system, f"{clip_id}.wav")


def caption_uri(place: str, system: str, clip_id: str) -> str:
    """Address of the caption of a clip."""
    return storage.join(place, system, f"{clip_id}.txt")


def captions_of(place: str, system: str) -> dict[str, str]:
    """Captions that a model wrote, by clip; empty for a model without text."""
    folder = storage.join(place, system)
    if not storage.is_dir(folder):
        return {}
    texts = [info for info in storage.list_tree(folder) if info.path.endswith(".txt")]
    return {info.path.removesuffix(".txt"): storage.read_bytes(info.uri).decode() for info in texts}


def rows_of(store: Store, split: str) -> list[Row]:
    """Clips of a split, sorted by id. Raises StoreError for rows that are damaged, or of somebody else."""
    rows = []
    names = ["clip_id", "path", "start_s", "duration_s", "label", "text"]
    for info in store.files():
        if not info.path.startswith(f"split={split}/"):
            continue
        for at, row in enumerate(small_columns(info, names).to_pylist()):
            if "/" in row["clip_id"] or ".." in row["path"].split("/"):
                raise StoreError(
                    f"{info.uri} has a clip {row['clip_id']!r} of {row['path']!r}: no rows of v2a extract"
                )
            texts = {name: row[name] or "" for name in ("label", "text")}
            rows.append(Row(**{**row, **texts}, file=info.path, at=at))
    return sorted(rows, key=lambda row: row.clip_id)


def spread(rows: Sequence[Row], n: int | None) -> list[Row]:
    """Subset of at most n rows, evenly over all films, always the same."""
    if n is None or n >= len(rows):
        return list(rows)
    return [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, n).round().astype(int))]


class ClipMaker:
    """Ray Data actor that takes rows of the store, writes the sounds of one model and yields rows of
    `RESULT_SCHEMA`."""

    def __init__(self, job: ClipJob, system: str, model: str, from_archive: bool = False) -> None:
        """from_archive: decode the pictures from the archive, for a model whose recipe is not the store's."""
        from v2a_models.checkpoint import load_generator

        if job.device == "cpu":
            torch.set_num_threads(1)
        self.job, self.system, self.from_archive = job, system, from_archive
        self.generator = load_generator(model, job.device, job.precision)
        self.warm = False

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        rows = [Row(**row) for row in batch.to_pylist()]
        for at in range(0, len(rows), self.job.batch_size):
            yield pa.Table.from_pylist(self.make(rows[at : at + self.job.batch_size]), schema=RESULT_SCHEMA)

    def make(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Generate the sounds of up to `batch_size` clips; rows of `RESULT_SCHEMA`, failed clips included."""
        answers: list[dict[str, Any]] = []
        able: list[Row] = []
        inputs: list[dict[str, np.ndarray]] = []
        for row in rows:
            try:
                inputs.append(self._input(row))
                able.append(row)
            except (DecodeFailed, storage.StorageError) as error:  # this reads films and the store
                answers.append(result_row(row, self.system, problem=str(error)))
            except DecoderNotStarted:
                raise
            except Exception as error:
                answers.append(result_row(row, self.system, problem=_reason(error)))
        if not able:
            return answers
        try:
            waves, captions, seconds = self._generate(able, inputs)
        except Exception as error:  # an error of the model fails these clips alone
            return answers + [result_row(row, self.system, problem=_reason(error)) for row in able]
        held = memory.peak_mib(self.job.device)
        for k, (row, wave) in enumerate(zip(able, waves, strict=False)):
            sound = sound_folder.sound_of(wave, self.generator.recipe.sample_rate).fitted(self.job.window)[0]
            problem = "" if np.isfinite(sound).all() else "the model gave NaN or infinite samples"
            if not problem:
                if captions:  # before the sound, whose existence marks the clip as done
                    storage.write_atomic(
                        caption_uri(self.job.place, self.system, row.clip_id), captions[k].encode()
                    )
                storage.write_atomic(
                    sound_uri(self.job.place, self.system, row.clip_id), sound_folder.wav_bytes(sound)
                )
            answers.append(result_row(row, self.system, seconds, held, problem))
        return answers

    def _input(self, row: Row) -> dict[str, np.ndarray]:
        """Input of the model for one clip: columns of the store, or frames by view."""
        if self.from_archive:
            return decoded_views(row, self.job, self.generator.recipe.views)
        return stored(row, self.job, [name for name in INPUT_COLUMNS if name in self.generator.columns])

    @torch.inference_mode()
    def _generate(
        self, rows: Sequence[Row], inputs: Sequence[Mapping[str, np.ndarray]]
    ) -> tuple[np.ndarray, list[str], float]:
        """Waveforms float32 [batch_size, channels, n] at the model's rate, captions (empty if the model writes none),
        and seconds per clip."""
        fill = [k % len(rows) for k in range(self.job.batch_size)]
        tensors: dict[str, Any] = {
            name: torch.from_numpy(np.stack([inputs[k][name] for k in fill])).to(self.job.device)
            for name in inputs[0]
        }
        if self.from_archive:
            batch = self.generator.features(tensors)
        else:
            batch = Batch(**{name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
        captions = self.generator.captions(batch) if self.generator.writes_captions else []
        seeds = [window_seed(self.job.seed, rows[k].clip_id, 0) for k in fill]
        # The first call allocates and compiles, so it is not timed. For a streaming model that cost is negligible.
        if not self.warm and not self.generator.streams:
            self.generator.generate(batch, seeds=seeds)
        self.warm = True
        memory.reset_peak(self.job.device)
        started = time.perf_counter()
        waves = self.generator.generate(batch, seeds=seeds).float().cpu().numpy()
        return waves, captions, (time.perf_counter() - started) / len(rows)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


INPUT_COLUMNS = ("semantic", "sync", "frames")
"""Columns of a store that may be input of a model."""

RESULT_SCHEMA = pa.schema(
    [
        ("clip", pa.string()),
        ("system", pa.string()),
        ("seconds", pa.float64()),
        ("memory_mib", pa.float64()),
        ("problem", pa.string()),
    ]
)


def result_row(
    row: Row, system: str, seconds: float = 0.0, memory_mib: float = 0.0, problem: str = ""
) -> dict[str, Any]:
    """Row of `RESULT_SCHEMA`: time, memory and problem of one sound."""
    return dict(clip=row.clip_id, system=system, seconds=seconds, memory_mib=memory_mib, problem=problem)


def stored(row: Row, job: ClipJob, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of one row of the store, by column."""
    with storage.reading(Store(job.store).uri(*row.file.split("/"))) as file:
        return _row(pq.ParquetFile(file, pre_buffer=False), row.at, names)


def decoded_views(row: Row, job: ClipJob, views: Mapping[str, View]) -> dict[str, np.ndarray]:
    """Frames of a clip decoded from its film, uint8 [T, H, W, 3] by view, as a store with these views would hold them.

    Raises DecodeFailed, StorageError.
    """
    uri, rates = storage.uri_of(job.archive, row.path), [view.fps for view in views.values()]
    clip_s = grid.seconds(job.window, grid.SAMPLE_RATE)
    from_s = decode_start(row.start_s, rates)
    decoded = shared_sandbox().decode_views(uri, list(views.values()), from_s, row.start_s + clip_s)
    frames_by_view = {}
    for name, fps, frames in zip(views, rates, decoded, strict=True):
        first = grid.frame_index(row.start_s - from_s, fps)
        frames_by_view[name] = frames[first : first + grid.frame_count(clip_s, fps)]
    return frames_by_view


def _row(file: pq.ParquetFile, at: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of one row, reading its row group only."""
    for group in range(file.num_row_groups):
        n = file.metadata.row_group(group).num_rows
        if at < n:
            table = file.read_row_group(group, columns=list(names), use_threads=False).slice(at, 1)
            return {name: table[name].combine_chunks().to_numpy_ndarray()[0] for name in names}
        at -= n
    raise IndexError("the store has changed since it was listed")


def fetch(batch: pa.Table, job: ClipJob, codec: str) -> pa.Table:
    """Write the true sounds of some clips, decoded from the archive, or taken from the store if there is no archive."""
    answers = []
    for row in (Row(**row) for row in batch.to_pylist()):
        problem = ""
        try:
            sound = _true_sound(row, job) if job.archive else _stored_sound(row, job, codec)
        except (DecodeFailed, storage.StorageError) as error:
            problem = str(error)
        except DecoderNotStarted:
            raise
        except Exception as error:  # one clip never ends a comparison
            problem = _reason(error)
        else:
            storage.write_atomic(
                sound_uri(job.place, "reference", row.clip_id), sound_folder.wav_bytes(sound)
            )
        answers.append(result_row(row, "reference", problem=problem))
    return pa.Table.from_pylist(answers, schema=RESULT_SCHEMA)


def _true_sound(row: Row, job: ClipJob) -> np.ndarray:
    uri = storage.uri_of(job.archive, row.path)
    end_s = row.start_s + grid.seconds(job.window, grid.SAMPLE_RATE)
    sound = shared_sandbox().decode_sound(uri, row.start_s, end_s, channels=1)[0]
    return np.pad(sound[: job.window], (0, max(0, job.window - len(sound))))


def _stored_sound(row: Row, job: ClipJob, codec: str) -> np.ndarray:
    if job.stored_rate:
        wave = stored(row, job, ["waveform"])["waveform"] / pcm.SYMMETRIC_SCALE
        return sound_folder.sound_of(wave, job.stored_rate).fitted(job.window)[0]
    codes = stored(row, job, ["codes"])["codes"]
    wave = _codec(codec).decode(torch.from_numpy(codes.astype(np.int64))[None], job.window)
    return wave[0, 0].numpy()


_codecs: dict[str, Any] = {}


def _codec(model: str) -> Any:
    if model not in _codecs:
        from v2a_models.checkpoint import load_generator

        _codecs[model] = load_generator(model).codec
    return _codecs[model]


def missing(rows: Sequence[Row], place: str, system: str) -> list[Row]:
    """Rows whose sound does not exist yet."""
    there = (
        sound_folder.list_sounds(storage.join(place, system))
        if storage.is_dir(storage.join(place, system))
        else {}
    )
    return [row for row in rows if row.clip_id not in there]

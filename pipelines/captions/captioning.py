"""Actors of Ray Data that write instruction rows for a feature store and captions for an archive.

Every film is answered with a row, damaged ones included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import retry, storage
from pipelines.captions import instructions
from pipelines.media.errors import DecodeFailed, DecoderNotStarted
from pipelines.reports.caption_pages import FRAME_HEIGHT, FRAME_WIDTH, contact_frame
from pipelines.sandbox.decoder import shared_sandbox
from pipelines.store.store import Store
from v2a_models import grid
from v2a_models.grid import decode_start
from v2a_models.recipe import View

if TYPE_CHECKING:
    from v2a_models.generator import Generator

CAPTION_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("path", pa.string()),
        ("start_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("caption", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)
"""A row per captioned window, or per file without captions; `status` is `captioned`, `skipped` or `failed`."""

FRAME_SCHEMA = CAPTION_SCHEMA.append(pa.field("frame", pa.binary()))
"""`CAPTION_SCHEMA` with a small picture (WebP) in the first row of a film, for the page."""

FACTS = ("clip_id", "video_id", "path", "start_s", "duration_s", "label", "text")


@dataclass(frozen=True)
class InstructJob:
    """Settings of the workers of `v2a instruct`."""

    store: str
    captions: int
    seed: int
    events: Mapping[str, Sequence[float]] | None = None
    """Onsets in seconds by path of the film."""
    model: str = ""
    """Name of a captioning model; empty for none."""


class Instructor:
    """Actor of Ray Data that turns files of a store into rows of `instructions.ROW_SCHEMA`."""

    def __init__(self, job: InstructJob) -> None:
        self.job = job
        self.model = captioner(job.model) if job.model else None

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for path in batch["file"].to_pylist():
            yield pa.Table.from_pylist(self.rows(path), schema=instructions.ROW_SCHEMA)

    def rows(self, path: str) -> list[dict[str, str]]:
        """Rows of all clips of one file of the store. Raises storage.StorageError."""
        split = path.split("/", 1)[0].removeprefix("split=")
        names = [*FACTS, *(["semantic"] if self.model is not None else [])]
        with storage.reading(Store(self.job.store).uri(*path.split("/"))) as file:
            table = pq.ParquetFile(file, pre_buffer=False).read(columns=names, use_threads=False)
        written = self._written(table)
        rows = []
        for at, clip in enumerate(table.select(list(FACTS)).to_pylist()):
            onsets = None
            if self.job.events is not None and clip["path"] in self.job.events:
                start_s, end_s = clip["start_s"], clip["start_s"] + clip["duration_s"]
                onsets = [t - start_s for t in self.job.events[clip["path"]] if start_s <= t < end_s]
            captions = {self.model.name: written[at]} if self.model is not None else None
            rows += instructions.clip_rows(
                clip | {"split": split}, onsets, self.job.captions, self.job.seed, captions
            )
        return rows

    def _written(self, table: pa.Table, size: int = 16) -> list[str]:
        if self.model is None:
            return []
        import torch

        from v2a_models.batch import Batch

        features = table["semantic"].combine_chunks().to_numpy_ndarray().astype(np.float32)
        parts = [torch.from_numpy(features[at : at + size].copy()) for at in range(0, len(features), size)]
        return [text for part in parts for text in self.model.captions(Batch(semantic=part))]


def captioner(model: str) -> Generator:
    """Captioning model, loaded in this process. Raises ValueError for a model that writes no captions."""
    import torch

    from v2a_models.checkpoint import load_generator

    torch.set_num_threads(1)
    generator = load_generator(model)
    if not generator.writes_captions:
        raise ValueError(f"the model {model!r} writes no captions; use a vatt or a vatt-converter")
    return generator


class Captioner:
    """Actor of Ray Data that turns films (scan rows) into rows of FRAME_SCHEMA."""

    def __init__(self, model: str, windows: int, beams: int) -> None:
        self.model, self.windows, self.beams = captioner(model), windows, beams

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for film in batch.to_pylist():
            yield pa.Table.from_pylist(self.film(film), schema=FRAME_SCHEMA)

    def film(self, film: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Rows of up to `windows` windows, evenly over the film; one row with the reason if it cannot be captioned."""
        if film["status"] != "ok":
            status = "skipped" if film["status"] in ("not_video", "audio_only") else "failed"
            return [caption_row(film, status=status, error=str(film["error"] or film["status"]))]
        try:
            for attempt in retry.storage_attempts(retry.SCAN):
                with attempt:
                    captions, picture = self._captions(film)
            rows = [
                caption_row(
                    film, start_s, min(self.model.recipe.window_s, film["duration_s"] - start_s), text
                )
                for start_s, text in captions
            ]
            return [rows[0] | {"frame": contact_frame(picture)}, *rows[1:]]
        except (
            DecodeFailed,
            storage.StorageError,
        ) as error:  # only films are read here, and nothing is written
            return [caption_row(film, status="failed", error=str(error))]
        except DecoderNotStarted:  # no fault of the film
            raise
        except Exception as error:  # an error of the model fails this film alone
            return [caption_row(film, status="failed", error=f"{type(error).__name__}: {error}")]

    def _captions(self, film: Mapping[str, Any]) -> tuple[list[tuple[float, str]], np.ndarray]:
        """Start and caption of each window, and a picture from the middle of the first: uint8 [height, width, 3]."""
        import torch

        recipe = self.model.recipe
        views = recipe.views
        rates = [view.fps for view in views.values()]
        contact = View(2 / recipe.window_s, FRAME_WIDTH, FRAME_HEIGHT, "crop")
        captions: list[tuple[float, str]] = []
        picture = np.zeros((FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8)
        for start_s in starts(film["duration_s"], recipe.window_s, self.windows):
            from_s = decode_start(start_s, rates)
            views_to_decode = [*views.values(), *([contact] if not captions else [])]
            decoded = shared_sandbox().decode_views(
                film["uri"], views_to_decode, from_s, start_s + recipe.window_s
            )
            if not captions:
                *decoded, pictures = decoded
                picture = pictures[len(pictures) // 2].copy()
            frames = {}
            for (name, view), stack in zip(views.items(), decoded, strict=True):
                first = grid.frame_index(start_s - from_s, view.fps)
                n = grid.frame_count(recipe.window_s, view.fps)
                frames[name] = torch.from_numpy(stack[first : first + n][None].copy())
            [text] = self.model.captions(self.model.features(frames), beams=self.beams)
            captions.append((start_s, text))
        return captions, picture


def starts(duration_s: float, window_s: float, n: int) -> list[float]:
    """Starts of at most `n` windows in seconds, evenly over a film, without overlap; a lone one lies in its middle."""
    room = max(1, int(duration_s // window_s))
    n = min(n, room)
    if n == 1:
        return [max(0.0, (duration_s - window_s) / 2)]
    return [float(start) for start in np.linspace(0.0, duration_s - window_s, n)]


def caption_row(
    film: Mapping[str, Any],
    start_s: float = 0.0,
    duration_s: float = 0.0,
    caption: str = "",
    status: str = "captioned",
    error: str = "",
) -> dict[str, Any]:
    """Row of CAPTION_SCHEMA."""
    facts = dict(video_id=film["video_id"], path=film["path"])
    return facts | dict(start_s=start_s, duration_s=duration_s, caption=caption, status=status, error=error)


def run(items: Sequence[Mapping[str, Any]], worker: Any, settings: Mapping[str, Any], cpus: int) -> list[Any]:
    """Rows of an actor over items, with the running Ray unless there are few (starting actors takes longer)."""
    if len(items) <= FEW:
        tables = worker(**settings)(pa.Table.from_pylist([dict(item) for item in items]))
        return [row for table in tables for row in table.to_pylist()]
    import ray.data

    source = ray.data.from_items([dict(item) for item in items], override_num_blocks=min(len(items), 200))
    planned: Any = source.map_batches(
        worker, fn_constructor_kwargs=dict(settings), batch_size=1, batch_format="pyarrow", num_cpus=0.8,
        compute=ray.data.ActorPoolStrategy(size=max(1, cpus)),
    )  # fmt: skip
    batches = planned.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return [row for batch in batches for row in batch.to_pylist()]


FEW = 4
"""Maximum number of items handled in this process."""


def write(uri: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write a Parquet file in one atomic step."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), sink, compression="zstd")
    storage.write_atomic(uri, sink.getvalue().to_pybytes())

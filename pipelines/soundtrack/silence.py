"""Silent parts of a film's own sound, which can be dubbed alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.media.errors import DecodeFailed
from pipelines.sandbox.decoder import Sandbox
from pipelines.soundtrack.mixing import AudioFormat, Seconds
from v2a_models import grid

MIN_S = 1.0
"""Shortest silent part; less is a pause in the film's own sound."""

SILENCE_HOP_S = 0.01
"""Grid of the silent parts: a hop with an audible sample belongs to none."""

HIGHEST_RATE = 96_000
LOWEST_RATE = 8_000


@dataclass(frozen=True)
class Silence:
    """Silent parts of one film."""

    parts: tuple[Seconds, ...] = ()
    """Silent stretches of at least a second, in seconds, in order."""
    error_class: str = ""
    error: str = ""
    """Reason why the parts are unknown."""

    @property
    def seconds(self) -> float:
        return sum(end - start for start, end in self.parts)


def silent_parts(
    blocks: Iterable[np.ndarray], rate: int, loudest_dbfs: float, min_s: float = MIN_S
) -> Iterator[Seconds]:
    """Stretches of at least `min_s` in which no sample exceeds `loudest_dbfs`, in seconds.

    blocks: float [channels, n], of any lengths. The rest at the end of the film, less than a hop, counts as a hop.
    """
    hop = max(1, round(SILENCE_HOP_S * rate))
    bound = 10 ** (loudest_dbfs / 20)
    start, position = 0, 0
    rest = np.zeros(0, np.float32)

    def ended(stop: int) -> Iterator[Seconds]:
        if stop - start >= min_s * rate:
            yield start / rate, stop / rate

    for block in blocks:
        peaks = np.concatenate([rest, np.abs(block).max(axis=0)])
        n = len(peaks) // hop
        rest = peaks[n * hop :]
        for k in np.flatnonzero(peaks[: n * hop].reshape(n, hop).max(axis=1) > bound):
            yield from ended(position + int(k) * hop)
            start = position + (int(k) + 1) * hop
        position += n * hop
    end = position + len(rest)
    if len(rest) and rest.max() > bound:
        yield from ended(position)
    else:
        yield from ended(end)


def format_of(sandbox: Sandbox, uri: str, duration_s: float, track: int | None = None) -> AudioFormat:
    """Format in which to read a film's own sound by `Sandbox.iter_sound`: its own rate, one or two channels."""
    rate, channels = sandbox.track_facts(uri, track)
    rate = rate if LOWEST_RATE <= rate <= HIGHEST_RATE else grid.SAMPLE_RATE
    return AudioFormat(rate, min(2, max(1, channels)), grid.samples(duration_s, rate))


def find(video: dict[str, Any], loudest_dbfs: float, sandbox: Sandbox) -> Silence:
    """Silent parts of one scanned film. Raises StorageError."""
    try:
        own = format_of(sandbox, video["uri"], float(video["duration_s"]))
        blocks = sandbox.iter_sound(
            video["uri"], own.n_samples, own.rate, own.channels, float(video["video_start_s"])
        )
        return Silence(tuple(silent_parts(blocks, own.rate, loudest_dbfs)))
    except DecodeFailed as error:
        return Silence((), error.error_class, error.message)


def find_all(videos: Sequence[dict[str, Any]], loudest_dbfs: float, cpus: int) -> dict[str, Silence]:
    """Silent parts of many films by video_id, in parallel tasks of the running Ray."""
    if not videos:
        return {}
    import ray.data

    names = ("video_id", "uri", "duration_s", "video_start_s")
    items = [{name: video[name] for name in names} for video in videos]
    listed = ray.data.from_items(items, override_num_blocks=min(len(items), 64 * cpus))
    task: Any = _find
    silences = {}
    for row in listed.map_batches(
        task, fn_kwargs={"loudest_dbfs": loudest_dbfs}, batch_size=1, batch_format="pyarrow",
        num_cpus=0.5, concurrency=max(1, cpus),
    ).iter_rows():  # fmt: skip
        parts = tuple((float(a), float(b)) for a, b in row["parts"])
        silences[row["video_id"]] = Silence(parts, row["error_class"], row["error"])
    return silences


def _find(batch: Any, loudest_dbfs: float) -> Iterator[Any]:
    import pyarrow as pa

    from pipelines.media.errors import DecoderNotStarted
    from pipelines.sandbox.decoder import shared_sandbox

    for video in batch.to_pylist():
        try:
            silence = find(video, loudest_dbfs, shared_sandbox())
        except DecoderNotStarted:
            raise
        except Exception as error:  # one film never stops a run, whatever is wrong with its sound
            silence = Silence((), type(error).__name__, str(error))
        yield pa.table(
            {
                "video_id": [video["video_id"]],
                "parts": pa.array([[list(part) for part in silence.parts]], pa.list_(pa.list_(pa.float64()))),
                "error_class": [silence.error_class],
                "error": [silence.error],
            }
        )

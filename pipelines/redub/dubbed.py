"""A film that an earlier run dubbed, as its report row and sidecar describe it.

A redubbed film's new row, sidecar and samples are staged in OUT/_v2a/redub before the film gets its name; `commit` puts
them in place afterwards. If a kill comes in between, the next redub of that film commits or discards them.

    OUT/_v2a/redub/<video_id>.json    the new report row and sidecar
    OUT/_v2a/redub/<video_id>.c2pa    the new signed manifest
    OUT/_v2a/redub/<video_id>.flac    the new samples of a lossy track
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipelines import storage
from pipelines.dub.job import DubJob
from pipelines.dub.state import State
from pipelines.mux import containers
from pipelines.mux.packet_hashes import Digests
from pipelines.reports import dub_rows
from pipelines.soundtrack.mixing import AudioFormat, Gains, Seconds
from pipelines.storage import hashing

UNREADABLE = (ValueError, KeyError, TypeError, RecursionError)
"""Errors of JSON that is not what it should be."""


class RedubError(Exception):
    """The part cannot be redubbed; the message tells the fix."""


@dataclass(frozen=True)
class Dubbed:
    """A dubbed film: its report row and its sidecar."""

    row: dict[str, Any]
    sidecar: dict[str, Any]

    @property
    def video_id(self) -> str:
        return str(self.row["video_id"])

    @property
    def output(self) -> str:
        """Path of the film or sound file, relative to OUT."""
        return str(self.row["output"])

    @property
    def policy(self) -> dict[str, Any]:
        """Mix policy recorded in the sidecar: fields of `MixPolicy`, the format as `made`, and `gains`."""
        return dict(self.sidecar["track"]["treatment"])

    @property
    def fmt(self) -> AudioFormat:
        """Format of the generated track."""
        return AudioFormat(**self.policy["made"])

    @property
    def gains(self) -> list[Gains]:
        """Gain of every track."""
        return [Gains(**gain) for gain in self.policy["gains"]]

    @property
    def digests(self) -> Digests:
        return Digests.from_json(self.sidecar["packets"])

    @property
    def is_lossless(self) -> bool:
        """True if the samples can be read back from the output."""
        if self.policy["sidecar"] != "none":
            return True
        codec = containers.container_of(self.output).coded(self.policy["audio_codec"]).codec
        return codec in containers.LOSSLESS


def find(out: str, name: str, rows: Iterable[dict[str, Any]]) -> Dubbed:
    """Find a film by its path in OUT, in the archive, or on this machine.

    rows: the report's. Raises RedubError.
    """
    names = {name}
    if storage.is_remote(out) == storage.is_remote(name):
        root, full = (
            place if storage.is_remote(place) else storage.local_path(place) for place in (out, name)
        )
        root = root.rstrip("/") + "/"
        names |= {full.removeprefix(root)} if full.startswith(root) else set()
    matches = [row for row in rows if {row["output"], row["path"]} & names and row["status"] == "dubbed"]
    if len(matches) != 1:
        raise RedubError(
            f"{name} is not a dubbed file of {out}; give its path as in the report, such as sub/reel.mp4"
        )
    state = State(out)
    resume(state, matches[0]["video_id"])
    row = state.read_row(matches[0]["video_id"]) or matches[0]
    try:
        sidecar = json.loads(storage.read_bytes(state.uri("provenance", f"{row['video_id']}.json")))
        track = dict(sidecar["track"])
    except (storage.StorageNotFound, storage.StorageRefused, *UNREADABLE) as error:
        raise RedubError(
            f"the sidecar of {name}, which records its settings, is missing or damaged ({error}): dub it again "
            "with v2a dub --restart"
        ) from error
    if "samplesSha256" not in track:
        raise RedubError(
            f"{name} was dubbed before v2a kept what redubbing needs: dub it again with v2a dub --restart"
        )
    return Dubbed(row, sidecar)


def check(film: Dubbed, job: DubJob, span: Seconds, spans: Iterable[Seconds] | None) -> None:
    """Raises RedubError if the model is another one, or `span` is outside of the film or of its generated `spans`."""
    model = film.sidecar["generator"]
    for what, before, now in (
        ("weights (sha256)", model["sha256"], job.model_sha256),
        ("recipe", model["recipe"], job.recipe),
        ("level", model.get("level", ""), job.level),
    ):
        if before != now:
            raise RedubError(
                f"the film was dubbed by the model {model['model']!r} with {what} {before}, and {job.model_name!r} "
                f"has {now}: give that model with --model, or dub the film again with v2a dub --restart"
            )
    if job.streams:
        raise RedubError(f"{job.model_name!r} is autoregressive: a single part cannot be regenerated")
    duration_s = float(film.row["duration_s"])
    if not 0 <= span[0] < span[1] <= duration_s + 0.05:
        raise RedubError(
            f"--start ({span[0]:g}) must be before --end ({span[1]:g}), and both within the film "
            f"({duration_s:.3f} s)"
        )
    if spans is not None and not any(a < span[1] and b > span[0] for a, b in spans):
        raise RedubError(
            "that part has no generated sound: it holds the film's own sound, or silence, by request"
        )


def staged_uri(state: State, video_id: str, suffix: str) -> str:
    """Place of what belongs to a redubbed film until that has its name."""
    return state.uri("redub", f"{video_id}.{suffix}")


def stage(state: State, row: dict[str, Any], record: dict[str, Any], manifest: bytes) -> None:
    """Write down the new row, sidecar and signed manifest (empty for none) of a redubbed film."""
    video_id = str(row["video_id"])
    if manifest:
        storage.write_atomic(staged_uri(state, video_id, "c2pa"), manifest)
    staged = {"row": row, "record": record}
    storage.write_atomic(staged_uri(state, video_id, "json"), json.dumps(staged).encode())


def resume(state: State, video_id: str) -> None:
    """Commit what a killed redub of this film has staged if the new film is there; discard it otherwise."""
    staged = state.read_json(staged_uri(state, video_id, "json"), _checked)
    if staged is None:
        discard(state, video_id)
        return
    with storage.reading(storage.join(state.out, staged["row"]["output"])) as file:
        sha256 = hashing.sha256(file)
    if sha256 == staged["row"]["output_sha256"]:
        commit(state, video_id)
    else:
        discard(state, video_id)


def _checked(staged: dict[str, Any]) -> dict[str, Any]:
    """The staged record itself. Raises ValueError if it is incomplete."""
    row, record = staged.get("row"), staged.get("record")
    if (
        not isinstance(row, dict)
        or not isinstance(record, dict)
        or not isinstance(row.get("output_sha256"), str)
    ):
        raise ValueError("not a redubbed film")
    dub_rows.check_row(row)
    return staged


def commit(state: State, video_id: str) -> dict[str, Any]:
    """Put everything staged in its place; the new row. Safe to repeat, also after half of it."""
    staged = json.loads(storage.read_bytes(staged_uri(state, video_id, "json")))
    samples, manifest = staged_uri(state, video_id, "flac"), staged_uri(state, video_id, "c2pa")
    if storage.exists(samples):
        storage.copy(samples, state.sound_uri(video_id))
    if storage.exists(manifest):
        state.write_manifest(video_id, storage.read_bytes(manifest))
    state.write_provenance(video_id, staged["record"])
    state.write_row(staged["row"])
    discard(state, video_id)
    return dict(staged["row"])


def discard(state: State, video_id: str) -> None:
    """Remove everything staged for a film."""
    # The JSON goes last: until then `commit` can be repeated.
    for suffix in ("flac", "c2pa", "json"):
        storage.delete(staged_uri(state, video_id, suffix), missing_ok=True)

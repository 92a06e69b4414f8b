"""The state of a dub job in OUT/_v2a: generated parts, and one row per finished file.

    OUT/_v2a/config.json                        settings that decide the sound of this output
    OUT/_v2a/parts/<video_id>/<segment>.npz     sound of a segment
    OUT/_v2a/parts/<video_id>/<segment>.json    failure of a segment
    OUT/_v2a/provenance/<video_id>.json         sidecar of a dubbed file
    OUT/_v2a/provenance/<video_id>.c2pa         its signed manifest, in case the file loses its own
    OUT/_v2a/asked/<video_id>.json              settings of one film only, and the stretches that get sound
    OUT/_v2a/sound/<video_id>.flac              samples of a lossy track, for `v2a redub`
    OUT/_v2a/rows/<video_id>.json               report row of a finished file, written last

Every write is atomic and every name is a function of the input: repeating a step is harmless, and a kill leaves
nothing half-written.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipelines import storage
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.media.errors import Failure


@dataclass
class Part:
    """Generated sound of one segment, a few frames for the report, and the facts about it."""

    sound: np.ndarray
    """int16 [channels, n]."""
    thumbs: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    """uint8 [frames, height, width, 3]."""
    thumb_times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """float64 [frames], seconds from the film's start."""
    facts: SegmentFacts = SegmentFacts()

    def to_bytes(self) -> bytes:
        """An uncompressed npz; the facts are JSON."""
        stream = io.BytesIO()
        facts = np.str_(json.dumps(self.facts.to_json()))
        np.savez(stream, sound=self.sound, thumbs=self.thumbs, thumb_times=self.thumb_times, facts=facts)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Part:
        """Inverse of `to_bytes`. Raises ValueError if `data` is not a part."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                if "facts" in arrays:
                    facts = SegmentFacts.from_json(json.loads(str(arrays["facts"])))
                else:
                    facts = _facts_from_arrays(arrays)
                return cls(arrays["sound"], arrays["thumbs"], arrays["thumb_times"], facts)
        except (KeyError, TypeError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"not a part: {error}") from error


def _facts_from_arrays(arrays: Mapping[str, np.ndarray]) -> SegmentFacts:
    """Facts of a part that v2a wrote before they were JSON: one array each."""
    scenes, windows = arrays["counts"].tolist()
    captions = zip(arrays["caption_times"].tolist(), arrays["captions"].tolist(), strict=True)
    values = {
        name: arrays[name].tolist() for name in ("cost_s", "gpu_s", "unseen", "damage", "still", "seams")
    }
    values |= {"captions": [(*times, text) for times, text in captions]}
    return SegmentFacts.from_json(values | {"scenes": scenes, "windows": windows})


class State:
    """Reads and writes the state of one output folder. Small and picklable: it holds only the address."""

    def __init__(self, out: str) -> None:
        self.out = out

    def uri(self, *parts: str) -> str:
        """Address of something in the state folder."""
        return storage.join(self.out, storage.PRIVATE_FOLDER, *parts)

    # parts

    def part_uri(self, video_id: str, segment: int, suffix: str = "npz") -> str:
        return self.uri("parts", video_id, f"{segment:05d}.{suffix}")

    def segments_done(self, video_id: str) -> dict[int, bool]:
        """Segments with a part or a failure: index -> True for a failure. One listing per film."""
        folder = self.uri("parts", video_id)
        done: dict[int, bool] = {}
        if storage.exists(folder):
            for info in storage.list_tree(folder):
                stem, _, suffix = info.path.partition(".")
                if stem.isdigit() and suffix in ("npz", "json"):
                    done[int(stem)] = done.get(int(stem), False) or suffix == "json"
        return done

    def write_part(self, video_id: str, segment: int, part: Part) -> None:
        storage.write_atomic(self.part_uri(video_id, segment), part.to_bytes())

    def read_part(self, video_id: str, segment: int) -> Part:
        """Raises storage.StorageNotFound if it is gone, ValueError if it is damaged."""
        return Part.from_bytes(storage.read_bytes(self.part_uri(video_id, segment)))

    def unseen(self, video_id: str, n_segments: int) -> Failure | None:
        """Failure of a film of which no segment can be decoded; None if one can."""
        reason = ""
        for index in range(n_segments):
            reason = self.read_part(video_id, index).facts.unseen
            if not reason:
                return None
        return Failure("decode", "InvalidData", f"no frame can be decoded: {reason}")

    def write_failure(self, video_id: str, segment: int, failure: Failure) -> None:
        storage.write_atomic(self.part_uri(video_id, segment, "json"), _json(asdict(failure)))

    def read_failure(self, video_id: str, segment: int) -> Failure:
        """Raises storage.StorageNotFound if it is gone."""
        return Failure(**json.loads(storage.read_bytes(self.part_uri(video_id, segment, "json"))))

    def drop_parts(self, video_id: str, *, failures_only: bool = False) -> None:
        """Remove the parts and failures of a film, if there are any."""
        for segment, failed in self.segments_done(video_id).items():
            if failed:
                storage.delete(self.part_uri(video_id, segment, "json"), missing_ok=True)
            if not failures_only:
                storage.delete(self.part_uri(video_id, segment), missing_ok=True)
        storage.remove_empty(self.uri("parts", video_id))

    # rows

    def row_uri(self, video_id: str) -> str:
        return self.uri("rows", f"{video_id}.json")

    def write_provenance(self, video_id: str, facts: dict[str, Any]) -> None:
        storage.write_atomic(self.uri("provenance", f"{video_id}.json"), _json(facts))

    def write_manifest(self, video_id: str, manifest: bytes) -> None:
        storage.write_atomic(self.uri("provenance", f"{video_id}.c2pa"), manifest)

    def read_row(self, video_id: str) -> dict[str, Any] | None:
        """The report row of a finished file, or None."""
        try:
            row = json.loads(storage.read_bytes(self.row_uri(video_id)))
        except (storage.StorageNotFound, ValueError):
            return None
        return row if isinstance(row, dict) else None

    def write_row(self, row: dict[str, Any]) -> None:
        storage.write_atomic(self.row_uri(row["video_id"]), _json(row))

    def drop_row(self, video_id: str) -> None:
        storage.delete(self.row_uri(video_id), missing_ok=True)

    # settings of one film

    def read_request(self, video_id: str) -> dict[str, Any]:
        """Settings of one film when it was begun; empty if it has none of its own."""
        try:
            request = json.loads(storage.read_bytes(self.uri("asked", f"{video_id}.json")))
        except (storage.StorageNotFound, ValueError):
            return {}
        return request if isinstance(request, dict) else {}

    def write_request(self, video_id: str, request: dict[str, Any]) -> None:
        uri = self.uri("asked", f"{video_id}.json")
        if request:
            storage.write_atomic(uri, _json(request))
        else:
            storage.delete(uri, missing_ok=True)

    def sound_uri(self, video_id: str) -> str:
        """FLAC file with the samples of a film's lossy track."""
        return self.uri("sound", f"{video_id}.flac")

    # the whole output

    def writable(self) -> bool:
        """True if files can be written in OUT now, and in the folders of its state."""
        try:
            for place in (self.out, *(self.uri(name) for name in ("parts", "rows", "provenance"))):
                storage.check_writable(place)
        except storage.StorageError:
            return False
        return True

    def read_config(self) -> dict[str, Any] | None:
        """Settings that the sound in this folder was made with; None for a new folder."""
        try:
            config: dict[str, Any] = json.loads(storage.read_bytes(self.uri("config.json")))
            return config
        except (storage.StorageNotFound, ValueError):
            return None

    def write_config(self, config: dict[str, Any]) -> None:
        storage.write_atomic(self.uri("config.json"), _json(config))

    def clear(self) -> None:
        """Remove rows, parts and settings. Dubbed files stay until they are written again."""
        self._empty("rows")
        self._empty("asked")
        self._empty("sound")
        self.clear_parts()
        storage.delete(self.uri("config.json"), missing_ok=True)

    def clear_parts(self) -> None:
        """Remove the parts of all films."""
        self._empty("parts")

    def _empty(self, name: str) -> None:
        folder = self.uri(name)
        if storage.exists(folder):
            for info in list(storage.list_tree(folder)):
                storage.delete(info.uri, missing_ok=True)


def concerns_one_film(error: storage.StorageError) -> bool:
    """True for an error that may concern the files of one film alone, while OUT as a whole can be written."""
    return isinstance(error, (storage.StorageRefused, storage.StorageDenied, storage.StorageNotFound))


def _json(values: dict[str, Any]) -> bytes:
    # A path that is not UTF-8 has characters that cannot be written; escaped, they are JSON all the same.
    text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")

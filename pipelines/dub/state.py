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
nothing half-written. What cannot be read all the same (a damaged disk, a foreign tool) is set aside as `*.broken`
(`storage.set_aside`) and made again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa

from pipelines import storage
from pipelines.arrow_rows import read_parquet
from pipelines.dub.segment_facts import LARGEST_PART, Part, check_part
from pipelines.media.errors import Failure
from pipelines.reports import dub_rows

FOLDERS = ("rows", "provenance", "asked", "sound", "cards", "redub")
FILES = ("config.json", "summary.json", "report.parquet", "report.html", "mlflow.db")
"""Names in OUT/_v2a."""

SQLITE = b"SQLite format 3\0"
"""First bytes of a database."""

CONFIG_TYPES = {
    **dict.fromkeys(("model", "model_sha256", "recipe", "precision"), str),
    **dict.fromkeys(("seed", "batch_size"), int),
}
"""Settings without which config.json is not ours."""

_PART_NAME = re.compile(r"([0-9]{5,})\.(npz|json)")


class BrokenState(ValueError):
    """A part, or the record of a failure, could not be read and is set aside: the segment has to be made again."""


class State(storage.Records):
    """Reads and writes the state of one output folder. Small and picklable: it holds only the address."""

    def __init__(self, out: str, mends: bool = True) -> None:
        super().__init__(storage.join(out, storage.PRIVATE_FOLDER), mends)
        self.out = out

    # parts

    def part_uri(self, video_id: str, segment: int, suffix: str = "npz") -> str:
        return self.uri("parts", video_id, f"{segment:05d}.{suffix}")

    def segments_done(self, video_id: str) -> dict[int, bool]:
        """Segments with a part or a failure: index -> True for a failure. One listing per film."""
        folder = self.uri("parts", video_id)
        done: dict[int, bool] = {}
        if not storage.is_dir(folder):
            if self.mends and storage.exists(folder):
                storage.clear_way(self.root, storage.join(folder, "any"))
            return done
        for info in storage.list_tree(folder):
            if match := _PART_NAME.fullmatch(info.path):
                index = int(match[1])
                done[index] = done.get(index, False) or match[2] == "json"
        return done

    def write_part(self, video_id: str, segment: int, part: Part) -> None:
        self.write(self.part_uri(video_id, segment), part.to_bytes())

    def has_part(self, video_id: str, segment: int, sound: tuple[int, int]) -> bool:
        """True for a part whose headers are those of `sound` (channels and samples); another is set aside."""

        def check() -> bool:
            with storage.reading(self.part_uri(video_id, segment)) as file:
                check_part(file, sound)
            return True

        return bool(self.read(self.part_uri(video_id, segment), check))

    def read_part(self, video_id: str, segment: int, sound: tuple[int, int] | None = None) -> Part:
        """Raises storage.StorageNotFound if it is gone, BrokenState if it is none with `sound` (channels, samples)."""
        uri = self.part_uri(video_id, segment)

        def load() -> Part:
            if (size := storage.size(uri)) > LARGEST_PART:
                raise ValueError(f"{size} bytes are more than any part has")
            return Part.from_bytes(storage.read_bytes(uri), sound)

        part = self.read(uri, load, missing_ok=False)
        if part is None:
            raise BrokenState(f"part {segment} of the film could not be read and is set aside")
        return part

    def unseen(self, video_id: str, n_segments: int) -> Failure | None:
        """Failure of a film of which no segment can be decoded; None if one can."""
        reason = ""
        for index in range(n_segments):
            reason = self.read_part(video_id, index).facts.unseen
            if not reason:
                return None
        return Failure("decode", "InvalidData", f"no frame can be decoded: {reason}")

    def write_failure(self, video_id: str, segment: int, failure: Failure) -> None:
        self.write(self.part_uri(video_id, segment, "json"), _json(asdict(failure)))

    def read_failure(self, video_id: str, segment: int) -> Failure:
        """Raises storage.StorageNotFound if it is gone, BrokenState if it is none."""

        def parse(values: dict[str, Any]) -> Failure:
            if values.keys() != {f.name for f in fields(Failure)} or not _all(str, values.values()):
                raise ValueError(f"not a failure: {', '.join(values)}")
            return Failure(**values)

        failure = self.read_json(self.part_uri(video_id, segment, "json"), parse, missing_ok=False)
        if failure is None:
            raise BrokenState(f"the failure of part {segment} of the film could not be read")
        return failure

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
        self.write(self.uri("provenance", f"{video_id}.json"), _json(facts))

    def write_manifest(self, video_id: str, manifest: bytes) -> None:
        self.write(self.uri("provenance", f"{video_id}.c2pa"), manifest)

    def read_row(self, video_id: str) -> dict[str, Any] | None:
        """The report row of a finished file, or None."""

        def parse(row: dict[str, Any]) -> dict[str, Any]:
            dub_rows.check_row(row)
            if row["video_id"] != video_id:
                raise ValueError(f"the row of another film, {row['video_id']}")
            return row

        return self.read_json(self.row_uri(video_id), parse)

    def write_row(self, row: dict[str, Any]) -> None:
        self.write(self.row_uri(row["video_id"]), _json(row))

    def drop_row(self, video_id: str) -> None:
        storage.delete(self.row_uri(video_id), missing_ok=True)

    def rows_of_others(self, video_ids: Collection[str], paths: Collection[str]) -> list[dict[str, Any]]:
        """Report rows of the files that a run does not take: of the latest report, and of films that were dubbed since.

        video_ids, paths: those of the files that it takes.
        """
        rows, folder = dict[str, dict[str, Any]](), self.uri("rows")
        names = storage.list_tree(folder) if storage.is_dir(folder) else ()
        done = {info.path.removesuffix(".json") for info in names if info.path.endswith(".json")}
        reported = self.read(self.uri("report.parquet"), self._read_report) or []
        for row in reported:
            if row["status"] != "dubbed" or row["video_id"] in done:
                rows.setdefault(row["path"], row)
        for video_id in sorted(done.difference(video_ids, (row["video_id"] for row in reported))):
            if (found := self.read_row(video_id)) is not None:
                rows[found["path"]] = found
        return [row for path, row in sorted(rows.items()) if path not in paths]

    def _read_report(self) -> list[dict[str, Any]]:
        data = storage.read_bytes(self.uri("report.parquet"))
        try:
            rows = read_parquet(data, dub_rows.REPORT_SCHEMA).to_pylist()
        except (pa.ArrowException, OSError, KeyError) as error:
            raise ValueError(f"not a report: {error}") from error
        for row in rows:
            if not row["path"] or not row["video_id"] or row["status"] not in dub_rows.STATUSES:
                raise ValueError("a row without a film or a status")
        return rows

    # settings of one film

    def read_request(self, video_id: str) -> dict[str, Any]:
        """Settings of one film when it was begun; empty if it has none of its own."""
        return self.read_json(self.uri("asked", f"{video_id}.json"), _checked_request) or {}

    def write_request(self, video_id: str, request: dict[str, Any]) -> None:
        uri = self.uri("asked", f"{video_id}.json")
        if request:
            self.write(uri, _json(request))
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

    def begun(self) -> bool:
        """True if OUT holds records of v2a, even if its settings are lost."""
        if any(storage.exists(self.uri(name)) for name in ("summary.json", f"config.json{storage.BROKEN}")):
            return True
        folders = [self.uri(name) for name in ("rows", "parts")]
        return any(any(True for _ in storage.list_tree(place)) for place in folders if storage.is_dir(place))

    def make_way(self) -> None:
        """Set aside what has the wrong kind in OUT/_v2a: folders with the names of files, the reverse, and an
        mlflow.db that is no database."""
        storage.set_aside_strangers(self.root, FOLDERS, FILES, ("parts",))
        database = self.uri("mlflow.db")

        def check() -> None:
            with storage.reading(database) as file:
                if (head := file.read(len(SQLITE))) and head != SQLITE:
                    raise ValueError("not a database of SQLite")

        if not storage.is_remote(database):
            self.read(database, check)

    def read_config(self) -> dict[str, Any] | None:
        """Settings that the sound in this folder was made with; None for a new folder, and if they are lost."""

        def parse(config: dict[str, Any]) -> dict[str, Any]:
            for name, kind in CONFIG_TYPES.items():
                if not _all(kind, [config.get(name)]):
                    raise ValueError(f"{name} is {config.get(name)!r}")
            return config

        return self.read_json(self.uri("config.json"), parse)

    def read_summary(self) -> dict[str, Any]:
        """Figures and settings of the latest run that ended; empty if there are none."""
        return self.read_json(self.uri("summary.json"), dict) or {}

    def write_config(self, config: dict[str, Any]) -> None:
        self.write(self.uri("config.json"), _json(config))

    def clear(self) -> None:
        """Remove rows, parts and settings. Dubbed files stay until they are written again."""
        self._empty("rows")
        self._empty("asked")
        self._empty("sound")
        self.clear_parts()
        for name in ("summary.json", "config.json"):
            storage.delete(self.uri(name), missing_ok=True)

    def clear_parts(self) -> None:
        """Remove the parts of all films."""
        self._empty("parts")

    def _empty(self, name: str) -> None:
        folder = self.uri(name)
        if storage.exists(folder):
            for info in list(storage.list_tree(folder)):
                storage.delete(info.uri, missing_ok=True)


def concerns_one_film(error: storage.StorageError) -> bool:
    """True for an error that may concern the files of one film alone, while OUT as a whole can be written
    (`State.writable`)."""
    kinds = storage.StorageRefused, storage.StorageDenied, storage.StorageNotFound, storage.SourceLost
    return isinstance(error, (*kinds, storage.FileNotWritten))


def _json(values: dict[str, Any]) -> bytes:
    # A path that is not UTF-8 has characters that cannot be written; escaped, they are JSON all the same.
    text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


def _checked_request(request: dict[str, Any]) -> dict[str, Any]:
    """A film's own settings. Raises ValueError if they are none."""
    spans = request.get("spans", [])
    ours = (
        request.keys() <= {"prompt", "negative", "seed", "spans"}
        and _all(str, [request[name] for name in ("prompt", "negative") if name in request])
        and _all(int, [request.get("seed", 0)])
        and isinstance(spans, list)
        and all(isinstance(span, list) and len(span) == 2 and _all((int, float), span) for span in spans)
    )
    if not ours:
        raise ValueError("not the settings of a film")
    return request


def _all(kind: type | tuple[type, ...], values: Any) -> bool:
    """True if every value is of that kind; a bool counts as no number."""
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)

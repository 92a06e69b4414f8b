"""One film through a whole dub, in this process: scan, decide, plan, decode, generate, finish, report, with the real
child processes. Whatever the film is, it must end as one row, and leave nothing behind."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from jobs.dub.console import write_report
from pipelines import storage
from pipelines.archive import scan
from pipelines.dub import decode, finish
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.job import DubJob, DubTask
from pipelines.dub.manifest import ManifestRow
from pipelines.dub.plan import make_plan, wants_silence
from pipelines.dub.state import State
from pipelines.media.errors import DecodeFailed
from pipelines.provenance import signing
from pipelines.reports.dub_rows import STATUSES
from pipelines.sandbox.decoder import Sandbox, shared_sandbox
from pipelines.soundtrack import silence
from pipelines.soundtrack.mixing import MixPolicy
from pipelines.storage import hashing
from pipelines.storage.uri import is_temporary
from tests.support.dub_stages import make_job

LONGEST_S = 30.0
"""Films that claim to be longer are not dubbed: they would cost the time of thousands of others."""

BUGS = frozenset(
    (
        *("AssertionError", "AttributeError", "IndexError", "KeyError", "NameError", "NotImplementedError"),
        *(
            "OverflowError",
            "RecursionError",
            "RuntimeError",
            "StopIteration",
            "TypeError",
            "UnboundLocalError",
        ),
        *("UnicodeDecodeError", "UnicodeEncodeError", "ValueError", "ZeroDivisionError"),
    )
)
"""Error classes that say nothing about a film: they stand for something that nobody thought of."""

WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"sign": True},
    {"treatment": MixPolicy(existing="mix", loudness=-23.0)},
    {"treatment": MixPolicy(existing="replace-silent-parts")},
    {"treatment": MixPolicy(sidecar="flac"), "sign": True},
    {"treatment": MixPolicy(audio_codec="flac", channels=2), "windows_per_segment": 1},
)
"""Options of the job: each input goes one of these ways."""


class Violation(Exception):
    """A film that did not end as it must."""


@dataclass(frozen=True)
class End:
    """The end of a film: its status, and the class of its error."""

    status: str
    error_class: str

    def __str__(self) -> str:
        return f"{self.status} {self.error_class}".rstrip()


class Line:
    """The stages, ready for one film after another. `folder` is theirs alone."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.archive, self.out, self.scratch = folder / "archive", folder / "out", folder / "scratch"
        self.sandbox = sandbox
        self.scratch.mkdir()
        self.signer = signing.make_test_certificate(folder / "certificate")
        self._before = {child.pid for child in psutil.Process().children(recursive=True)}
        self._dubber = functools.cache(lambda way: Dubber(self.job(way)))

    def job(self, way: int) -> DubJob:
        options = dict(WAYS[way])
        if options.pop("sign", False):
            options |= {"sign_key": self.signer.key, "sign_cert": self.signer.certificate}
        return make_job(self.out, max_hours=LONGEST_S / 3600, **options)

    def dub(self, name: str, data: bytes, way: int) -> End:
        """The end of one film. Raises Violation, and whatever comes out of the stages."""
        for folder in (self.archive, self.out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        path = self.archive / name
        path.write_bytes(data)
        temporary, tempfile.tempdir = tempfile.tempdir, str(self.scratch)
        try:
            row = self._row(self.job(way), way)
        finally:
            tempfile.tempdir = temporary
        if path.read_bytes() != data or len(list(self.archive.iterdir())) != 1:
            raise Violation("the archive has changed")
        self._check_row(row)
        self._check_left()
        return End(row["status"], row["error_class"] or ("" if row["status"] == "dubbed" else "-"))

    def _row(self, job: DubJob, way: int) -> dict[str, Any]:
        rows = [
            scan.scan_file(info, self.sandbox)
            for info in storage.list_tree(str(self.archive), everything=True)
        ]
        scanned = scan.to_table(rows).to_pylist()
        silences = {
            video["video_id"]: silence.find(video, job.treatment.silence_dbfs, self.sandbox)
            for video in scanned
            if wants_silence(video, job.treatment.existing, ManifestRow(), job.max_hours)
        }
        plan = make_plan(job, scanned, "all", silences=silences)
        for task in plan.tasks:
            self._stages(task, job, way, plan.rows)
        table = [plan.rows[video_id] for video_id in plan.order]
        if len(table) != 1:
            raise Violation(f"{len(table)} rows")
        write_report(job.out, table, {"out": job.out})
        return table[0]

    def _stages(self, task: DubTask, job: DubJob, way: int, rows: dict[str, Any]) -> None:
        """The stages as Ray Data calls them, from table to table."""
        decoded = decode.decode_task(DubTask.from_json(task.to_json()), job, self.sandbox).to_table()
        for made in self._dubber(way)(decoded):
            for done in pa.concat_tables(finish.finish(made, job)).to_pylist():
                if done["fatal"]:
                    raise Violation(f"one film ended the job: {done['fatal']}")
                if done["row"]:
                    rows[task.video_id] = json.loads(done["row"])

    def _check_row(self, row: dict[str, Any]) -> None:
        if row["status"] not in STATUSES:
            raise Violation(f"the status {row['status']!r}")
        if row["status"] != "dubbed":
            if not row["reason"] or (row["status"] == "failed" and not (row["error_class"] and row["stage"])):
                raise Violation(f"{row['status']} without a reason: {row['stage']} {row['error_class']}")
            if row["error_class"] in BUGS:
                raise Violation(f"{row['stage']} failed by {row['error_class']}: {row['message']}")
            return
        output = self.out / row["output"]
        with output.open("rb") as file:
            if hashing.sha256(file) != row["output_sha256"]:
                raise Violation("the output is not the one of the report")
        record = Path(State(str(self.out)).uri("provenance", f"{row['video_id']}.json"))
        if json.loads(record.read_text())["outputSha256"] != row["output_sha256"]:
            raise Violation("the sidecar is of another output")
        if not row["card"] or not (self.out / row["card"]).exists():
            raise Violation("no picture for the report")
        try:
            if output.suffix != ".flac" and self.sandbox.probe(str(output)).n_audio_tracks < 1:
                raise Violation("the output has no sound")
        except DecodeFailed as error:
            raise Violation(f"the output cannot be read: {error}") from error

    def _check_left(self) -> None:
        left = [path for path in self.out.rglob("*") if is_temporary(path.name)]
        left += [*self.scratch.iterdir(), *(self.out / "_v2a" / "parts").glob("*/*.npz")]
        if left:
            raise Violation(f"left behind: {', '.join(str(path) for path in left)}")
        own = {self.sandbox.pid, shared_sandbox().pid, shared_sandbox(2).pid}
        children = {child.pid for child in psutil.Process().children(recursive=True)}
        if strays := children - own - self._before:
            raise Violation(f"children are left: {strays}")

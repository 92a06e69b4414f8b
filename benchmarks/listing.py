"""An archive of very many names: when does work start, and what does the driver hold?

A server of its own plays S3: it answers ListObjectsV2 for as many keys as are asked for, a thousand a page,
`--page-ms` late. Each line is a fresh process. `list` goes through `storage.list_tree` alone; `scan` is `v2a scan` with
its tasks on Ray and its table, in which only the look into each film is replaced by made-up facts; `dub` is what
`v2a dub` makes and keeps of the rows until its report is written, with an empty row of the report for each film;
`extract` is the plan of `v2a extract --recipe mini`, eight windows for each film.
Printed: seconds until the first name was handed on (for `scan`: until the first row was back from a worker, Ray's start
included), seconds in all, and the driver's peak memory, also beyond what it takes for a thousand names.

    python -m benchmarks.listing [--names 10000 100000 1000000] [--what list scan dub extract] [--page-ms 20]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

ROOT = "s3://archive/films"
WHAT = ("list", "scan", "dub", "extract")
LEAST = 1000
AT_MOST = {"dub": 100_000, "extract": 125_000}
"""More names than these are not given to a command whose memory grows with them: the slope is known by then."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--names", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--what", choices=WHAT, nargs="+", default=list(WHAT))
    parser.add_argument("--page-ms", type=float, default=20.0, help="how late the server answers")
    parser.add_argument("--measure", choices=WHAT, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return 0
    heads = f"{'what':7} {'names':>9} {'first, s':>9} {'all, s':>8} {'peak, MiB':>10} {'more, MiB':>10}"
    print(f"{heads} {'bytes/name':>11}")
    for what in args.what:
        least = fresh(what, LEAST, args.page_ms)["peak"]
        for names in args.names:
            if names > AT_MOST.get(what, names):
                continue
            facts = fresh(what, names, args.page_ms)
            assert facts["names"] == names, facts
            more = facts["peak"] - least
            print(
                f"{what:7} {names:9,} {facts['first_s']:9.2f} {facts['all_s']:8.1f} {facts['peak'] / 2**20:10.0f} "
                f"{more / 2**20:10.1f} {more / max(1, names - LEAST):11.0f}",
                flush=True,
            )
    return 0


def fresh(what: str, names: int, page_ms: float) -> dict[str, float]:
    """One measurement in a process of its own, with a server beside it."""
    with Bucket(names, page_ms / 1000) as bucket:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.listing", "--measure", what],
            env={**os.environ, **bucket.environment()}, stdout=subprocess.PIPE, check=True, text=True,
            cwd=Path(__file__).resolve().parents[1],
        )  # fmt: skip
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return facts


def measure(what: str) -> dict[str, float]:
    """One measurement, in this process."""
    started = time.perf_counter()
    first, names = MEASURES[what](lambda: time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"names": names, "first_s": first, "all_s": time.perf_counter() - started, "peak": peak}


def _list(clock: Callable[[], float]) -> tuple[float, int]:
    from pipelines import storage

    first, names = 0.0, 0
    for _ in storage.list_tree(ROOT):
        first = first or clock()
        names += 1
    return first, names


def _scan(clock: Callable[[], float]) -> tuple[float, int]:
    import pyarrow.parquet as pq

    from jobs import scan

    first = 0.0

    def on_rows(rows: Any) -> None:
        nonlocal first
        first = first or clock()

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "table.parquet"
        config = scan.ScanConfig(ROOT, out=str(out), show=0, num_workers=2)
        scan.run(config, examine=synthetic_row, on_rows=on_rows)
        return first, int(pq.read_metadata(out).num_rows)


def _dub(clock: Callable[[], float]) -> tuple[float, int]:
    from jobs import dub
    from jobs.dub import preflight
    from pipelines import storage
    from pipelines.dub.plan import make_plan
    from pipelines.reports import dub_rows
    from tests.support.toy_generators import NOISE

    with tempfile.TemporaryDirectory() as out:
        config = dub.DubConfig(ROOT, out, model=NOISE)
        job = preflight.make_job(config, {})
        rows = [synthetic_row(info, None) for info in storage.list_tree(ROOT)]
        first = clock()
        plan = make_plan(job, rows, "silent")
        tasks = [{"task": task.to_json()} for task in plan.tasks]
        for video_id, video in plan.to_dub.items():
            # As it comes back from a worker.
            plan.rows[video_id] = json.loads(json.dumps(dub_rows.report_row(video, "dubbed")))
        return first, len(tasks)


def _extract(clock: Callable[[], float]) -> tuple[float, int]:
    from jobs.common.models import model_info
    from pipelines import storage
    from pipelines.extract import windows

    recipe = replace(model_info("mini").recipe, overlap_s=0.0)  # as `v2a extract` has it
    rows = [synthetic_row(info, None) for info in storage.list_tree(ROOT)]
    first = clock()
    clips = windows.plan(rows, recipe, None, (0.8, 0.1, 0.1))
    segments = windows.segments_of(clips, windows.windows_per_segment(recipe))
    assert sum(map(len, segments)) == 8 * len(rows)
    return first, len(rows)


MEASURES = {"list": _list, "scan": _scan, "dub": _dub, "extract": _extract}


def synthetic_row(info: Any, sandbox: Any) -> dict[str, Any]:
    """A row about a film of half a minute that nobody has looked at."""
    from pipelines.archive import scan as archive_scan

    row = dict.fromkeys(archive_scan.SCAN_SCHEMA.names) | {
        "video_id": archive_scan.video_id(info.path, info.size, info.version), "path": info.path, "uri": info.uri,
        "size": info.size, "version": info.version, "duration_s": 30.0, "fps": 25.0, "width": 640, "height": 360,
        "rotation": 0, "video_codec": "h264", "container": "mp4", "audio_state": "none", "video_start_s": 0.0,
        "n_audio_tracks": 0, "status": "ok", "error_class": "", "error": "",
    }  # fmt: skip
    # A string of its own for every film, as there is in an archive.
    row["sha256"] = f"{row['video_id']}" * 4
    return row


class Bucket(ThreadingHTTPServer):
    """Enough of S3 for a listing: `films/reel 0000000.mp4` and so on, in the bucket `archive`."""

    daemon_threads = True

    def __init__(self, names: int, late_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.names, self.late_s = names, late_s

    def environment(self) -> dict[str, str]:
        """Environment variables of a process that uses this server."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nobody", "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
            ),
        }  # fmt: skip

    def __enter__(self) -> Bucket:
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def page(self, query: dict[str, list[str]]) -> str:
        """The answer to ListObjectsV2."""
        start = int(query.get("continuation-token", ["0"])[0])
        stop = min(self.names, start + int(query.get("max-keys", ["1000"])[0]))
        more = stop < self.names
        return "".join(
            (
                "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>archive</Name><Prefix>films/</Prefix>",
                f"<KeyCount>{stop - start}</KeyCount><IsTruncated>{'true' if more else 'false'}</IsTruncated>",
                f"<NextContinuationToken>{stop}</NextContinuationToken>" if more else "",
                *(_entry(k) for k in range(start, stop)),
                "</ListBucketResult>",
            )
        )


def _entry(number: int) -> str:
    return (
        f"<Contents><Key>films/reel {number:07d}.mp4</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{10_000_000 + number}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" not in query:
            self.send_error(404)
            return
        time.sleep(self.server.late_s)
        body = self.server.page(query).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    sys.exit(main())

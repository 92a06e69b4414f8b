"""Rows of a dub's report."""

from __future__ import annotations

import pyarrow as pa

from pipelines.media.errors import Failure
from pipelines.reports.dub_rows import REPORT_SCHEMA, failed_row, report_row

VIDEO = {"video_id": "0f", "path": "a/b.mp4", "duration_s": 2.5, "fps": 25.0, "width": 640, "height": 360,
         "video_codec": "h264", "container": "mp4", "audio_state": "none", "sha256": "ab", "status": "ok"}  # fmt: skip


def test_a_row_has_every_column_with_a_value_of_its_type() -> None:
    row = report_row(VIDEO, "dubbed", n_windows=3)
    assert list(row) == REPORT_SCHEMA.names
    assert pa.Table.from_pylist([row], schema=REPORT_SCHEMA).to_pylist() == [row]
    assert (row["path"], row["width"], row["source_sha256"], row["n_windows"]) == ("a/b.mp4", 640, "ab", 3)
    assert (row["status"], row["audio_state"], row["peak_dbfs"]) == ("dubbed", "none", None)


def test_counts_begin_at_0_and_measures_are_null_until_known() -> None:
    row = report_row({}, "skipped", "not a video")
    assert (row["tracks"], row["core_seconds"], row["flags"], row["caption"]) == (0, 0.0, [], "")
    assert (row["seed"], row["sound_lufs"], row["duration_s"], row["path"]) == (None, None, None, None)
    assert isinstance(row["gpu_seconds"], float) and isinstance(row["scenes"], int)
    assert report_row({}, "skipped")["flags"] is not row["flags"]


def test_a_failure_is_the_reason() -> None:
    row = failed_row(VIDEO, Failure("decode", "InvalidData", "no pictures"))
    assert (row["status"], row["stage"], row["error_class"]) == ("failed", "decode", "InvalidData")
    assert row["reason"] == row["message"] == "no pictures"

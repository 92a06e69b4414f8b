"""Rows of a dub's report and their schema."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipelines import storage
from pipelines.media.errors import Failure


def report_row(video: dict[str, Any], status: str, reason: str = "", **known: Any) -> dict[str, Any]:
    """A row of the report from a row of the scan."""
    row: dict[str, Any] = {"status": status, "reason": reason, "output": "", "card": "", "model": ""}
    row |= {"stage": "", "error_class": "", "message": "", "n_windows": 0, "seed": None}
    row |= {"sound_peak_dbfs": None, "sound_rms_dbfs": None, "core_seconds": 0.0, "x_realtime": None}
    row |= {"prompt": "", "negative": "", "caption": "", "captions": [], "subtitles": ""}
    row |= {"treatment": "", "sound_lufs": None, "sound_true_peak_dbtp": None, "heard_s": None, "tracks": 0}
    row |= {
        "gpu_seconds": 0.0,
        "scenes": 0,
        "static_s": 0.0,
        "static": "",
        "seams": [],
        "flags": [],
        "n_flags": 0,
    }
    row |= {"contact_sheet": ""}
    copied = ("video_id", "path", "duration_s", "fps", "width", "height", "video_codec", "container")
    row |= {name: video.get(name) for name in (*copied, "audio_state", "peak_dbfs")}
    row |= {
        "source_sha256": video.get("sha256") or "",
        "source_sha256_after": "",
        "output_sha256": "",
        "signer": "",
    }
    return row | known


def failed_row(video: dict[str, Any], failure: Failure) -> dict[str, Any]:
    """The report row of a file that got no sound because of `failure`."""
    return report_row(video, "failed", failure.message, **asdict(failure))


def unwritable_row(video: dict[str, Any], error: storage.StorageError) -> dict[str, Any]:
    """The report row of a film of which something cannot be read or written."""
    return failed_row(video, Failure("storage", type(error).__name__, str(error)))

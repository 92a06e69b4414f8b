"""Every stream that a copy does not hold is named: in the result, the row, the sidecar and the report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from pipelines.archive import scan
from pipelines.dub import plan as dub_plan
from pipelines.dub.state import State
from pipelines.mux import child, remux
from pipelines.mux.streams import left_out
from pipelines.mux.track import Track
from pipelines.sandbox.decoder import Sandbox
from tests.support.dub_stages import make_job, plan, run_stages
from tests.support.muxing import RATE
from tests.support.odd_streams import payloads, write_film

SILENCE = np.zeros((1, RATE), np.int16)


def copied(source: Path, name: str, **more: Any) -> tuple[Path, remux.MuxResult]:
    out = source.parent / "out" / name
    out.parent.mkdir(exist_ok=True)
    return out, child.mux_in_child(str(source), [SILENCE], out, Track(RATE, 0.0, **more))


def test_streams_of_a_broadcast_are_named(tmp_path: Path) -> None:
    source = write_film(tmp_path / "a.ts", ["klv", "timed_id3", "dvb_teletext"])
    _, result = copied(source, "a.ts.mkv")
    klv, id3, teletext = result.dropped
    assert klv.startswith("data stream 1 (klv): matroska") and id3.startswith("data stream 2 (timed_id3)")
    assert teletext == "subtitle stream 3: a codec that FFmpeg does not know"


@pytest.mark.parametrize("codec", ["ttml", "dvb_teletext"])
def test_subtitles_without_a_decoder_are_named(tmp_path: Path, codec: str) -> None:
    source = write_film(tmp_path / ("a.mp4" if codec == "ttml" else "a.ts"), [codec])
    _, result = copied(source, "a.mp4")
    assert len(result.dropped) == 1 and result.dropped[0].startswith("subtitle stream 1")


def test_telemetry_stays_where_the_muxer_takes_it(tmp_path: Path) -> None:
    source = write_film(tmp_path / "a.mp4", ["bin_data"])
    copy, result = copied(source, "a.mp4", strict=True)
    assert result.dropped == () and payloads(copy, "data") == payloads(source, "data") != []
    with av.open(str(copy)) as film:
        assert [s.type for s in film.streams] == ["video", "data", "audio"]
    _, elsewhere = copied(source, "a.mkv")
    [told] = elsewhere.dropped
    assert "data stream 1 (bin_data, GoPro MET)" in told


def test_strict_fails_with_every_name(tmp_path: Path) -> None:
    source = write_film(tmp_path / "a.ts", ["klv", "timed_id3"])
    with pytest.raises(remux.MuxFailed, match=r"stream 1 .klv.*stream 2 .timed_id3") as failed:
        copied(source, "a.mkv", strict=True)
    assert failed.value.error_class == "StreamLeftOut"
    assert list((tmp_path / "out").iterdir()) == []


def test_names_of_any_length_and_bytes_are_cut() -> None:
    metadata = {"title": "\udcff" + "x" * 500, "language": "ger"}
    stream = SimpleNamespace(type="data", index=7, codec_context=None, metadata=metadata)
    told = left_out.title(stream)
    assert len(told) <= 200 and told.startswith("data stream 7 (?xxx") and told.isascii()


def test_row_and_sidecar_name_what_is_left_out(tmp_path: Path, sandbox: Sandbox) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    write_film(folder / "a.ts", ["klv"], fps=10)
    [video] = scan.scan(str(folder), sandbox)
    job = make_job(tmp_path / "out")
    [task] = plan(job, video)
    task = dataclasses.replace(task, output="a.ts.mkv", fallback="a.ts.mkv")
    [row] = run_stages([task], job, sandbox)
    assert row["status"] == "dubbed" and len(row["left_out"]) == 1 and "klv" in row["left_out"][0]
    side = json.loads(Path(State(job.out).uri("provenance", f"{video['video_id']}.json")).read_text())
    assert side["leftOut"] == row["left_out"]
    strict = make_job(tmp_path / "strict", strict=True)
    [row] = run_stages([task], strict, sandbox)
    assert (row["status"], row["error_class"]) == ("failed", "StreamLeftOut") and "klv" in row["message"]


def test_a_film_that_was_dubbed_without_a_stream_is_not_done_when_asked_strictly(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    write_film(folder / "a.ts", ["klv"], fps=10)
    rows = list(scan.scan(str(folder), sandbox))
    job = make_job(tmp_path / "out")
    first = dub_plan.make_plan(job, rows, "silent")
    run_stages(first.tasks, job, sandbox)
    assert dub_plan.make_plan(job, rows, "silent").kept == 1
    strict = dataclasses.replace(job, strict=True, run_id="run2")
    again = dub_plan.make_plan(strict, rows, "silent")
    assert again.kept == 0 and len(again.tasks) == 1

"""The demo's archive holds everything that a report can show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs import demo, dub
from pipelines.archive import scan


def test_the_archive_shows_every_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "CLIPS", 1)
    monkeypatch.setattr(demo, "CLIP_S", 1.0)
    demo.build(tmp_path)
    rows = {row["path"]: row for row in scan.scan(str(tmp_path))}
    status = {path: row["status"] for path, row in rows.items()}
    assert status["unusable/notes.txt"] == "not_video"
    assert status["unusable/damaged.mp4"] == "failed"
    rendered = [row for path, row in rows.items() if path.startswith("rendered/")]
    assert [(row["status"], row["audio_state"]) for row in rendered] == [("ok", "none")]
    real = [clip.name for clip in demo.real_footage()]
    if real:
        assert sorted(real) == sorted(demo.REAL)
        assert (
            rows["real/bikes.mp4"]["audio_state"]
            == rows["real/carphone_pristine.mp4"]["audio_state"]
            == "none"
        )
        assert rows["real/bigbuckbunny.mp4"]["audio_state"] == "audible"
    # Built once: what is there stays.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("r*/*")}
    demo.build(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("r*/*")} == before


@pytest.mark.parametrize("earlier_report", [False, True])
@pytest.mark.parametrize("writes", [False, True])
def test_only_a_dub_that_ended_counts_as_done(
    writes: bool, earlier_report: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "dubbed" / "_v2a" / "report.html"
    page.parent.mkdir(parents=True)
    if earlier_report:
        page.touch()
        os.utime(page, ns=(1, 1))

    def dub_some(config: object) -> int:
        if writes:
            page.write_text("report")
        return 1

    monkeypatch.setattr(dub, "run", dub_some)
    monkeypatch.setattr(demo, "build", lambda archive: None)
    assert demo.run(demo.DemoConfig(out=str(tmp_path))) == (0 if writes else 1)

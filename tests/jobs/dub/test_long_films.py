"""Films that are long, or say so: which are dubbed, which are a row with a reason, and who waits for whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.common.verb import WrongUsage
from jobs.dub import preflight
from jobs.extract import ExtractConfig
from jobs.extract import preflight as extract_preflight
from pipelines.archive import scan
from pipelines.dub.manifest import ManifestRow
from pipelines.dub.plan import DubPlan, make_plan, wants_silence
from pipelines.sandbox.decoder import Sandbox
from pipelines.store.store import Store
from tests.support import extraction
from tests.support.dubbing import parse, quickly
from tests.support.media_files import write_video, y4m

HOUR = 3600.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("long")
    y4m(root / "a day at a picture a minute.y4m", 60, 1440)
    y4m(root / "b more than a day.y4m", 60, 1441)
    y4m(root / "c days in 813 bytes.y4m", 1_200_000)
    write_video(root / "d leaps.mkv", times_s=[0.0, 13 * 86_400.0])
    write_video(root / "e an hour-long still.mkv", times_s=[0.0, 0.04, HOUR, HOUR + 0.04])
    write_video(root / "f ten hours.mkv", fps=1, times_s=[10.0 * k for k in range(3600)], size=(32, 16))
    write_video(root / "g short.mkv", duration_s=0.5)
    return root


@pytest.fixture(scope="module")
def rows(archive: Path) -> list[dict[str, Any]]:
    with Sandbox(threads=1) as sandbox:
        return list(scan.scan(str(archive), sandbox))


def planned(rows: list[dict[str, Any]], archive: Path, out: Path, *options: str) -> DubPlan:
    config = parse(archive, out, *options)
    preflight.preflight(config)
    return make_plan(preflight.make_job(config), rows, "silent")


def reasons(plan: DubPlan) -> dict[str, str]:
    """Reasons of the failed films by the first letter of their names."""
    assert {row["status"] for row in plan.rows.values()} <= {"failed"}
    return {row["path"][0]: f"{row['error_class']} {row['reason']}" for row in plan.rows.values()}


def test_length_is_bounded_and_long_films_wait(
    rows: list[dict[str, Any]], archive: Path, tmp_path: Path
) -> None:
    plan = planned(rows, archive, tmp_path / "out")
    why = reasons(plan)
    assert sorted(why) == ["b", "c", "d"]
    assert why["b"].startswith("TooLong it lasts 24.02 h, and --max-hours-per-file allows 24;")
    assert why["c"].startswith("BadTimestamps 1 picture claims to last 333.3 h")
    assert why["d"].startswith("BadTimestamps 2 pictures claim to last 312.0 h")
    # One film after the other: nobody waits for a longer one.
    in_order = list(dict.fromkeys(task.video["path"][0] for task in plan.tasks))
    assert in_order == ["g", "e", "f", "a"]
    films = [[t.segment.index for t in plan.tasks if t.video["path"][0] == film] for film in in_order]
    assert [index for film in films for index in film] == [task.segment.index for task in plan.tasks]
    assert [len(film) for film in films] == pytest.approx([1, 61, 607, 1450], abs=15)
    assert plan.footage_s == pytest.approx(0.5 + HOUR + 10 * HOUR + 24 * HOUR, abs=60)


def test_the_bound_is_an_option(rows: list[dict[str, Any]], archive: Path, tmp_path: Path) -> None:
    assert sorted(reasons(planned(rows, archive, tmp_path / "a", "--max-hours-per-file", "0"))) == ["c", "d"]
    few = reasons(planned(rows, archive, tmp_path / "b", "--max-hours-per-file", "0.5"))
    assert sorted(few) == ["a", "b", "c", "d", "e", "f"]
    assert "--max-hours-per-file allows 0.5" in few["e"]
    for wrong in ("-1", "nan", "inf"):
        with pytest.raises(WrongUsage, match="--max-hours-per-file must be at least 0"):
            planned(rows, archive, tmp_path / "c", "--max-hours-per-file", wrong)


def test_a_time_lapse_is_dubbed_and_stays_so(tmp_path: Path) -> None:
    """A film that is longer than a later run allows keeps the sound that it has."""
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    y4m(archive / "a.y4m", 10, 2)
    first = quickly(archive, out)["a.y4m"]
    assert first["status"] == "dubbed" and first["duration_s"] == 20
    again = quickly(archive, out, "--max-hours-per-file", "0.001")["a.y4m"]
    assert again == first
    other = quickly(archive, tmp_path / "other", "--max-hours-per-file", "0.001")["a.y4m"]
    assert (other["status"], other["stage"], other["error_class"]) == ("failed", "plan", "TooLong")


def test_the_sound_of_a_film_that_is_too_long_is_not_searched(tmp_path: Path) -> None:
    """The search for gaps in it would come before everything else."""
    film = {
        "video_id": "v", "path": "a.mkv", "status": "ok", "audio_state": "audible", "duration_s": 25 * HOUR,
        "peak_dbfs": -3.0, "container": "matroska", "video_codec": "h264", "error_class": "", "error": "",
    }  # fmt: skip
    assert wants_silence(film, "replace-silent-parts", ManifestRow(), 0)
    assert not wants_silence(film, "replace-silent-parts", ManifestRow(), 24)
    config = parse(tmp_path, tmp_path / "out", "--existing", "replace-silent-parts")
    plan = make_plan(preflight.make_job(config), [film], "silent")
    assert plan.rows["v"]["error_class"] == "TooLong" and not plan.tasks


def test_an_extraction_is_bounded_too(tmp_path: Path) -> None:
    archive = extraction.footage(tmp_path / "archive", ["short"], seconds=0.5)
    extraction.footage(archive, ["long"], seconds=1.5)
    recipe, store = tmp_path / "small.yaml", Store(str(tmp_path / "store"))
    recipe.write_text(extraction.RECIPE)
    with Sandbox(threads=1) as sandbox:
        store.write_scan(scan.to_table(scan.scan(str(archive), sandbox)))

    def work(**options: float) -> Any:
        config = ExtractConfig(str(archive), store.root, recipe=str(recipe), **options)
        return extract_preflight.find_work(extract_preflight.prepare(config), config, no_ray, Console())

    bounded, free = work(max_hours_per_file=1 / 3600), work()
    assert {clip.path for clip in bounded.todo} == {"film short.mp4"}
    [failure] = bounded.scan_failures
    assert (failure["path"], failure["error_class"]) == ("film long.mp4", "TooLong")
    assert "--max-hours-per-file allows 0.000277778" in failure["error"]
    assert {clip.path for clip in free.todo} == {"film short.mp4", "film long.mp4"}
    assert not free.scan_failures


def no_ray() -> Any:
    raise AssertionError("nothing is left to scan")

"""No file in OUT/_v2a, and no source that goes away, can end a job for ever."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.dub.segment_facts import Part
from pipelines.dub.state import State
from tests.support.dubbing import quickly, report, v2a_dub
from tests.support.toy_generators import write_video

FILMS = ("a.mp4", "b.mp4", "c.mp4")


def write_films(folder: Path) -> Path:
    for k, name in enumerate(FILMS):
        write_video(folder / name, 2.5 + 0.1 * k)
    return folder


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_torn_state_is_set_aside_told_and_made_again(
    ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, out = write_films(tmp_path / "archive"), tmp_path / "out"
    words = (archive, out, "--segment-s", "1.5")
    first, records = quickly(*words), out / "_v2a"
    digests = {name: row["output_sha256"] for name, row in first.items()}
    ids = {name: row["video_id"] for name, row in first.items()}
    kept = (out / "a.mp4").stat().st_mtime_ns

    # The first film is finished. The row of the second is torn. The third is begun, and everything about it is odd.
    torn(records / "rows" / f"{ids['b.mp4']}.json")
    (records / "rows" / f"{ids['c.mp4']}.json").unlink()
    (records / "rows" / f"{ids['c.mp4']}.json").mkdir()
    state = State(str(out))
    state.write_part(ids["c.mp4"], 0, Part(np.zeros((1, 7), np.int16)))
    Path(state.part_uri(ids["c.mp4"], 1)).mkdir()
    shutil.rmtree(records / "cards")
    (records / "cards").write_text("a file")
    (records / "report.html").unlink()
    (records / "report.html").mkdir()
    (records / "asked").write_text("a file")
    (records / "mlflow.db").write_text("no database")
    (records / "provenance" / f"{ids['b.mp4']}.json").unlink()
    (records / "provenance" / f"{ids['b.mp4']}.json").mkdir()
    capsys.readouterr()

    assert v2a_dub(*words) == 0
    told = capsys.readouterr().out
    now = report(out)
    assert {name: row["status"] for name, row in now.items()} == dict.fromkeys(FILMS, "dubbed")
    assert {name: row["output_sha256"] for name, row in now.items()} == digests, "another sound than before"
    assert (out / "a.mp4").stat().st_mtime_ns == kept, "a finished film was dubbed again"
    aside = {path.relative_to(records).as_posix() for path in records.rglob("*.broken")}
    parts = f"parts/{ids['c.mp4']}"
    assert aside == {
        *(f"rows/{ids[name]}.json.broken" for name in ("b.mp4", "c.mp4")),
        *(
            "cards.broken",
            "mlflow.db.broken",
            "report.html.broken",
            "asked.broken",
            f"provenance/{ids['b.mp4']}.json.broken",
        ),
        *(f"{parts}/00000.npz.broken", f"{parts}/00001.npz.broken"),
    }
    notices = json.loads((records / "summary.json").read_text())["set_aside"]
    for name in aside:
        assert f"{records / name.removesuffix('.broken')} " in told
        assert any(f"set aside as {Path(name).name}" in notice for notice in notices)
    assert (records / "report.html").is_file() and (out / now["c.mp4"]["card"]).is_file()


@pytest.mark.parametrize("config", ["", '{"model": "no', "[]", "{}", "a folder", "missing"])
def test_settings_that_are_lost_are_written_again(
    ray_session: Any, finished: Callable[[], Path], config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = finished()
    place = out / "_v2a" / "config.json"
    good = place.read_text()
    begun = State(str(out))
    begun.write_part("begun", 0, Part(np.zeros((1, 7), np.int16)))
    facts = {name: json.loads(good)[name] for name in ("model", "model_sha256", "seed")}
    (out / "_v2a" / "summary.json").write_text(json.dumps(facts))
    place.unlink()
    if config == "a folder":
        place.mkdir()
    elif config != "missing":
        place.write_text(config)
    archive = out.parent / "archive"
    # Somebody else's settings are still noticed where the last report names them.
    assert v2a_dub(archive, out, "--seed", "5") == 2
    assert "seed: 0 there, 5 now" in capsys.readouterr().err
    kept = (out / "a.mp4").stat().st_mtime_ns
    assert v2a_dub(archive, out) == 0
    assert "its finished films stay" in capsys.readouterr().out
    assert place.read_text() == good and (out / "a.mp4").stat().st_mtime_ns == kept
    assert not begun.segments_done("begun"), "segments of unknown settings were kept"


@pytest.fixture(scope="module")
def finished(ray_session: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Gives a finished output, with its archive beside it; always the same, so it costs one run."""
    folder = tmp_path_factory.mktemp("finished")
    write_video(folder / "archive" / "a.mp4", 1.0)
    quickly(folder / "archive", folder / "out")
    shutil.copytree(folder / "out", folder / "copy")

    def copied() -> Path:
        shutil.rmtree(folder / "out")
        shutil.copytree(folder / "copy", folder / "out")
        return folder / "out"

    return copied


def test_a_dry_run_sets_nothing_aside(
    ray_session: Any, finished: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = finished()
    for path in (out / "_v2a").rglob("*.json"):
        torn(path)
    before = sorted(out.rglob("*"))
    assert v2a_dub(out.parent / "archive", out, "--dry-run") == 0
    assert sorted(out.rglob("*")) == before
    assert "will be set aside" in capsys.readouterr().out

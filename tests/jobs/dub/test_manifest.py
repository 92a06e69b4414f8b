"""`v2a dub --manifest`: what is asked for single films, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.common.verb import WrongUsage
from pipelines.dub.manifest import ManifestRow, read
from pipelines.mux import remux
from tests.support.dubbing import RATE, film, only_track, quickly, report, track, v2a_dub

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in ("a.mkv", "sub/b.mkv", "c.mkv", "d.mkv", "e.mkv"):
        film(tmp_path / "archive" / name, None, 3.0)
    return tmp_path / "archive"


def manifest(tmp_path: Path, text: str) -> Path:
    (tmp_path / "films.csv").write_text(text)
    return tmp_path / "films.csv"


def test_seed_times_skip_and_what_is_not_there(ray_session: Any, archive: Path, tmp_path: Path) -> None:
    table = manifest(
        tmp_path,
        "path,seed,start_s,end_s,skip\n"
        "a.mkv,8,,,\nsub/b.mkv,,1.2,2.4,no\nc.mkv,,,,yes\nd.mkv,,1,3.5,\nlost/f.mkv,,,,\n",
    )
    out = tmp_path / "out"
    assert v2a_dub(archive, out, "--manifest", table, "--segment-s", "1") == 1
    rows = report(out)
    assert (rows["c.mkv"]["status"], rows["c.mkv"]["reason"]) == ("skipped", "the manifest says skip")
    for path, error_class, words in (
        ("d.mkv", "BeyondTheEnd", "the film lasts 3.000 s"),
        ("lost/f.mkv", "UnknownPath", "not in the archive"),
    ):
        assert rows[path]["status"] == "failed" and rows[path]["stage"] == "manifest"
        assert rows[path]["error_class"] == error_class and words in rows[path]["message"]
    assert [rows[path]["seed"] for path in ("a.mkv", "sub/b.mkv", "e.mkv")] == [8, 0, 0]

    plain = tmp_path / "plain"
    quickly(archive, plain, "--segment-s", "1")
    sound = {name: track(out / name, remux.TITLE)[0] for name in ("a.mkv", "sub/b.mkv", "e.mkv")}
    whole = {name: track(plain / name, remux.TITLE)[0] for name in sound}
    assert np.array_equal(sound["e.mkv"], whole["e.mkv"])
    assert not np.array_equal(sound["a.mkv"], whole["a.mkv"])
    quickly(archive, tmp_path / "seed", "--seed", "8", "--segment-s", "1")
    assert np.array_equal(sound["a.mkv"], track(tmp_path / "seed" / "a.mkv", remux.TITLE)[0])
    # Between in and out time the same sound, but for the ramps; silence outside.
    first, last, ramp = round(1.2 * RATE), round(2.4 * RATE), round(0.06 * RATE)
    part = sound["sub/b.mkv"]
    assert not part[:first].any() and not part[last:].any() and len(part) == 3 * RATE
    assert np.array_equal(part[first + ramp : last - ramp], whole["sub/b.mkv"][first + ramp : last - ramp])
    assert rows["sub/b.mkv"]["heard_s"] == pytest.approx(1.2)
    side = json.loads((out / "_v2a" / "provenance" / f"{rows['a.mkv']['video_id']}.json").read_text())
    assert side["generator"]["seed"] == 8


def test_another_manifest_makes_only_those_films_again(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quickly(archive, out, "--manifest", manifest(tmp_path, "path,seed\na.mkv,8\nc.mkv,9\n"))
    written = {path.name: path.stat().st_mtime_ns for path in out.rglob("*.mkv")}
    sound = track(out / "a.mkv", remux.TITLE)
    quickly(archive, out, "--manifest", manifest(tmp_path, "path,seed\na.mkv,9\nc.mkv,9\n"))
    again = {path.name: path.stat().st_mtime_ns for path in out.rglob("*.mkv")}
    assert [name for name in written if written[name] != again[name]] == ["a.mkv"]
    assert not np.array_equal(track(out / "a.mkv", remux.TITLE), sound)
    quickly(archive, out)  # without one: what was asked for is no longer wanted
    assert report(out)["a.mkv"]["seed"] == report(out)["c.mkv"]["seed"] == 0


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    rows = {
        "path": ["a.mkv", "./sub\\b.mkv"], "seed": [8, None], "start_s": [None, 1.5], "end_s": [2.0, None],
        "skip": [False, True], "prompt": ["rain, \"heavy\"", None],
    }  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "films.parquet")
    text = 'path,seed,start_s,end_s,skip,prompt\na.mkv,8,,2,,"rain, ""heavy"""\n./sub\\b.mkv,,1.5,,true,\n'
    found = read(str(tmp_path / "films.parquet"))
    assert found == read(str(manifest(tmp_path, "\ufeff" + text)))
    assert found == {
        "a.mkv": ManifestRow('rain, "heavy"', None, 8, None, 2.0),
        "sub/b.mkv": ManifestRow(None, None, None, 1.5, None, True),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,sed\na.mkv,8\n", "unknown columns: sed; known are path, prompt, negative, seed"),
        ("file,seed\na.mkv,8\n", "unknown columns: file"),
        ("seed\n8\n", "no column 'path'"),
        (
            "path,seed\na.mkv,8.5\n",
            "row 2: seed must be a whole number from 0 to 9223372036854775807, not '8.5'",
        ),
        ("path,seed\na.mkv,eight\n", "row 2: seed must be"),
        ("path,start_s\na.mkv,1:30\n", "row 2: start_s must be seconds from the film's start"),
        ("path,end_s\na.mkv,-2\n", "row 2: end_s must be seconds"),
        ("path,start_s\na.mkv,nan\n", "row 2: start_s must be seconds"),
        ("path,start_s,end_s\nb.mkv,,\na.mkv,3,2\n", "row 3: end_s (2) must be later than start_s (3)"),
        ("path,skip\na.mkv,perhaps\n", "row 2: skip must be yes or no, not 'perhaps'"),
        ("path,seed\na.mkv,1\na.mkv,2\n", "row 3: 'a.mkv' occurs twice"),
        ("path,seed\n,1\n", "row 2: no path"),
        ("path,prompt\na.mkv,rain, no music\n", "put texts with commas in quotes"),
        ("", "no column 'path'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "archive").mkdir()
    with pytest.raises(WrongUsage) as refused:
        quickly(tmp_path / "archive", tmp_path / "out", "--manifest", manifest(tmp_path, text))
    assert words in str(refused.value)
    assert not list((tmp_path / "out").rglob("*"))


def test_a_text_that_the_model_cannot_follow(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = manifest(tmp_path, "path,negative\na.mkv,\nc.mkv,music\n")
    assert v2a_dub(archive, tmp_path / "out", "--manifest", table) == 2
    assert "takes no text prompts: drop the prompt and negative of 'c.mkv'" in capsys.readouterr().err
    for name, words in (("films.txt", "a .csv or .parquet file"), ("none.csv", "none.csv")):
        (tmp_path / "films.txt").touch()
        assert v2a_dub(archive, tmp_path / "out", "--manifest", tmp_path / name) == 2
        assert words in capsys.readouterr().err
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    assert v2a_dub(archive, tmp_path / "out", "--manifest", tmp_path / "torn.parquet") == 2
    assert "is not a Parquet file" in capsys.readouterr().err


def test_the_best_candidates_become_tracks_or_files(tmp_path: Path) -> None:
    from tests.support.toy_generators import toy_checkpoint

    film(tmp_path / "archive" / "a.mkv", None, 0.7)
    model = toy_checkpoint(tmp_path / "toy")
    options = ["--model", model, "--candidates", "3", "--precision", "float32"]
    made = {}
    for name, more in (
        ("best", []),
        ("all", ["--keep-top", "3"]),
        ("files", ["--keep-top", "2", "--sidecar", "flac"]),
    ):
        rows = quickly(tmp_path / "archive", tmp_path / name, *options, *more)
        assert rows["a.mkv"]["status"] == "dubbed", rows
        made[name] = rows["a.mkv"]["tracks"]
    assert made == {"best": 1, "all": 3, "files": 2}
    names = [remux.TITLE, "v2a (generated, alternative 2)", "v2a (generated, alternative 3)"]
    best = track(tmp_path / "best" / "a.mkv", remux.TITLE)
    tracks = [track(tmp_path / "all" / "a.mkv", name) for name in names]
    assert np.array_equal(tracks[0], best)
    assert not any(np.array_equal(tracks[a], tracks[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    for k, name in enumerate(("a.mkv.flac", "a.mkv.2.flac")):
        assert np.array_equal(only_track(tmp_path / "files" / name), tracks[k])

    from jobs import verify

    for place in ("all/a.mkv", "files/a.mkv.flac", "files/a.mkv.2.flac"):
        config = verify.VerifyConfig((str(tmp_path / place),))
        found = verify.check(config.files[0], config).verdict
        assert found.passed and found.states["film"] == "unchanged"

    # One track again: the alternatives stay, packet for packet.
    from jobs import cli, redub

    words = [str(tmp_path / "all"), "a.mkv", "--start", "0.2", "--end", "0.5", "--seed", "5"]
    assert redub.run(cli.parse(redub.RedubConfig, words, "v2a redub")) == 0
    again = [track(tmp_path / "all" / "a.mkv", name) for name in names]
    assert np.array_equal(again[1], tracks[1]) and np.array_equal(again[2], tracks[2])
    assert not np.array_equal(again[0], tracks[0])
    config = verify.VerifyConfig((str(tmp_path / "all/a.mkv"),))
    assert verify.check(config.files[0], config).verdict.passed

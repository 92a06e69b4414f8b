"""`v2a store` as people call it: what it prints, its exit code, and its page."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import cli
from pipelines import storage
from pipelines.archive import scan
from pipelines.reports import store_page
from pipelines.sandbox.decoder import Sandbox
from pipelines.store import summary, tables
from pipelines.store.store import Store
from tests.support.toy_generators import write_video
from v2a_models.recipe import Encoder, Recipe, View

RECIPE = Recipe(
    "tiny",
    window_s=1.0,
    overlap_s=0.0,
    semantic=View(8, 32, 32),
    sync=View(25, 32, 32),
    encoders=(
        Encoder("codec", "mini", "ab" * 32),
        Encoder("semantic", "mini", ""),
        Encoder("sync", "mini", ""),
    ),
)
SHAPES = {"semantic": (8, 6), "sync": (25, 200), "codes": (2, 86)}
NASTY = "<script>alert('x')</script> & \"[red]\"\x1b[31m"
IDENTITY = {
    "recipe": RECIPE.to_dict(),
    "digest": RECIPE.digest,
    "precision": "float32",
    "batch_size": 1,
    "silence_dbfs": -50.0,
}


def row(video_id: str, k: int, label: str | None, path: str = "", **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(k)
    return {
        "clip_id": f"{video_id}-{k:06d}",
        "video_id": video_id,
        "path": path or f"{video_id}.mp4",
        "start_s": float(k),
        "duration_s": 1.0,
        "label": label,
        "text": "a bell" if label == "bell" else None,
        "mask": np.ones(86, np.uint8),
        "semantic": rng.normal(size=SHAPES["semantic"]).astype(np.float16),
        "sync": rng.normal(size=SHAPES["sync"]).astype(np.float16),
        "codes": rng.integers(0, 1024, SHAPES["codes"]).astype(np.uint16),
        **changes,
    }


def write(store: Store, split: str, *rows: dict[str, Any], recipe: Recipe = RECIPE) -> str:
    return store.write_rows(tables.table(rows, tables.schema(recipe, SHAPES)), split)


def make(root: Path) -> Store:
    """Five rows of three videos: two classes and one row without, two splits."""
    store = Store(str(root))
    store.write_identity(json.loads(json.dumps(IDENTITY)))
    write(store, "train", row("a", 0, "bell"), row("a", 1, "bell"), row("b", 0, NASTY))
    write(store, "train", row("b", 1, None))
    write(store, "val", row("c", 0, "bell", duration_s=0.5))
    store.write_left_out({"x-0": "silent", "x-1": "silent", "x-2": "static"})
    failure = {"clip_id": "", "video_id": "v", "start_s": 0.0, "stage": "scan", "error": "no moov atom"}
    store.write_failures(
        [{**failure, "path": f"bad{k}.mp4", "error_class": "CorruptContainer"} for k in range(5)]
    )
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make(tmp_path / "store")


def call(*arguments: str) -> int:
    return cli.main(["store", *arguments])


def test_the_printout_of_the_real_command(store: Store) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "jobs.cli", "store", store.root],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"\| +(torch|ray|mlflow|av)$", done.stderr, re.M), "needed for the page only"
    words = " ".join(done.stdout.split())
    for part in (
        f"recipe tiny ({RECIPE.digest})",
        "window 1 s, no overlap",
        "sync view 25 fps, 32x32, squeeze",
        "codec encoder mini (sha256 abababababab)",
        "precision float32, batches of 1",
        "left out below -50 dBFS",
        "5 rows in 3 files",
        "4 with a class, 3 with text; 0.00 h (0 min 4 s) of footage",
        "train 4 2 0.00 h (0 min 4 s)",
        "bell 3",
        "codes uint16 [2, 86]",
        "sync float16 [25, 200]",
        "left out on purpose: 3 windows silent 2 static 1",
        "CorruptContainer 5 bad0.mp4, bad1.mp4, bad2.mp4 (no moov atom)",
        "No problems",
    ):
        assert part in words, f"{part!r} is not in:\n{done.stdout}"
    assert "\x1b" not in done.stdout, "a label reached the terminal as it is"


def test_lists_are_cut_where_asked(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(store.root, "--show", "1") == 0
    printed = capsys.readouterr().out
    assert "... and 1 more classes" in printed
    assert "... and 1 more reasons" in printed


def test_figures(store: Store) -> None:
    facts = summary.gather(store, n_samples=3)
    assert facts is not None
    assert facts.n_bytes == sum(file.stat().st_size for file in Path(store.root).glob("split=*/*"))
    assert facts.bytes_per_hour == pytest.approx(facts.n_bytes / 4.5 * 3600)
    assert {name: (part.rows, part.videos) for name, part in facts.splits.items()} == {
        "train": (4, 2),
        "val": (1, 1),
    }
    assert [sample.label for sample in facts.samples] == ["bell", NASTY, ""], "one of each class first"


def test_one_video_fills_the_page_and_many_take_turns(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store.write_identity(IDENTITY)
    write(store, "train", *(row("film", k, None) for k in range(6)), row("other", 0, None))
    facts = summary.gather(store, n_samples=4)
    assert facts is not None
    chosen = [sample.clip_id for sample in facts.samples]
    assert chosen == ["film-000000", "other-000000", "film-000001", "film-000002"]


def truncate(store: Store) -> str:
    file = next(Path(store.root).glob("split=val/*"))
    file.write_bytes(file.read_bytes()[:-20])
    return r"split=val/part-\w+.parquet: damaged or not readable"


def add_twice(store: Store) -> str:
    write(store, "train", row("a", 0, "bell"))
    return r"1 clip is found more than once \(a-000000\)"


def add_another_recipe(store: Store) -> str:
    other = Recipe(**{**vars(RECIPE), "window_s": 2.0, "name": "other"})
    write(store, "train", row("d", 0, "bell"), recipe=other)
    return r"made with another recipe \(differs in name, window_s\)"


def add_to_another_split(store: Store) -> str:
    write(store, "test", row("a", 2, "bell"))
    return r"1 video has windows in both train and test \(a\)"


def strip_metadata(store: Store) -> str:
    file = next(Path(store.root).glob("split=val/*"))
    pq.write_table(pq.read_table(file).replace_schema_metadata({}), file)
    return "no recipe in its metadata"


def add_foreign_columns(store: Store) -> str:
    rows = pq.read_table(next(Path(store.root).glob("split=val/*"))).select(["clip_id", "path"])
    pq.write_table(rows, Path(store.root) / "split=val" / f"part-{'0' * 16}.parquet")
    return "it lacks video_id"


def damage_what_was_left_out(store: Store) -> str:
    next(Path(store.root).glob("_v2a/left_out/*")).write_bytes(b"PAR1 no more")
    return "_v2a/left_out: a damaged file"


@pytest.mark.parametrize(
    "harm",
    [
        truncate,
        add_twice,
        add_another_recipe,
        add_to_another_split,
        strip_metadata,
        add_foreign_columns,
        damage_what_was_left_out,
    ],
)
def test_what_is_wrong_is_told_and_left_alone(
    harm: Any, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = harm(store)
    before = {file: file.read_bytes() for file in Path(store.root).rglob("*") if file.is_file()}
    assert call(store.root) == 1
    assert re.search(expected, capsys.readouterr().out)
    assert before == {file: file.read_bytes() for file in Path(store.root).rglob("*") if file.is_file()}


def test_wrong_usage(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for arguments, message in (
        ([str(tmp_path / "nowhere")], "no such folder"),
        ([str(tmp_path / "folder")], "v2a extract ARCHIVE"),
        ([str(tmp_path / "file")], "is a file"),
        ([store.root, "--clips", "-1"], "--clips must be at least 0"),
        ([store.root, "--html", str(tmp_path / "page.txt")], "must name an .html file"),
        ([store.root, "--html", f"{store.root}/page.html"], "outside the store"),
    ):
        assert call(*arguments) == 2
        assert message in capsys.readouterr().err


def test_a_damaged_recipe(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for text, message in (("{", "is damaged"), ('{"recipe": {"hops": 3}}', "no recipe of this version")):
        (Path(store.root) / "_recipe.json").write_text(text)
        assert call(store.root) == 1
        assert message in capsys.readouterr().err


def test_no_rows_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(str(tmp_path / "empty")).write_identity(IDENTITY)
    page = tmp_path / "page.html"
    assert call(str(tmp_path / "empty"), "--html", str(page)) == 0
    assert "No rows yet: v2a extract ARCHIVE" in capsys.readouterr().out
    assert "Nothing has been extracted yet" in page.read_text()


def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "films"
    write_video(root / "there.mp4", 1.5, sound=0.5)
    write_video(root / "mute.mp4", 1.0)
    write_video(root / "changed.mp4", 1.0, sound=0.5)
    with Sandbox(threads=1) as sandbox:
        found = [scan.scan_file(info, sandbox) for info in storage.list_tree(str(root))]
    ids = {video["path"]: video["video_id"] for video in found}
    store = Store(str(tmp_path / "store"))
    store.write_identity(IDENTITY)
    rows = [
        row(ids["there.mp4"], 0, NASTY, "there.mp4"),
        row(ids["there.mp4"], 1, "short", "there.mp4", duration_s=0.5),
        row(ids["mute.mp4"], 0, "mute", "mute.mp4"),
        row(ids["changed.mp4"], 0, "changed", "changed.mp4"),
        row("f" * 16, 0, "gone", "gone <i>.mp4", sync=np.full(SHAPES["sync"], np.nan, np.float16)),
    ]
    write(store, "train", *rows)
    store.write_scan(scan.to_table(found))
    write_video(root / "changed.mp4", 1.2, sound=0.5)
    assert call(store.root, "--html", str(tmp_path / "page.html")) == 0
    capsys.readouterr()
    page = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in page
    assert "gone &lt;i&gt;.mp4" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page), "the page loads something"
    clips = {text.split("<")[0].strip(): text for text in page.split('<p class="label name">')[1:]}
    nasty = next(text for name, text in clips.items() if name.startswith("&lt;script"))
    assert nasty.count("data:image/webp") == 1
    assert nasty.count("data:image/png") == 3
    [sound] = re.findall(r"data:audio/mp4;base64,([^\"]+)", nasty)
    (tmp_path / "sound.mp4").write_bytes(base64.b64decode(sound))
    with av.open(str(tmp_path / "sound.mp4")) as container:
        tone = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert tone.shape[1] == pytest.approx(44100, abs=2048)
    assert 0.4 < np.abs(tone[:, 10_000:30_000]).max() < 0.6
    assert "0.5 s of a window of 1 s" in clips["short"]
    assert "data:audio/mp4" not in clips["mute"]
    assert "the sound cannot be read" in clips["mute"]
    assert "has changed since" in clips["changed"]
    assert "did not find this file" in clips["gone"]
    assert "5,000 of 5,000 values are not finite" in clips["gone"]
    assert clips["gone"].count("data:image/png") == 3, "what is stored is shown all the same"


def test_arrays_come_back_as_they_were_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.store.store.ROW_GROUP_BYTES", 1)
    rows = [row("m", k, "bell") for k in range(3)]
    path = write(store, "train", *rows)
    picked = [
        summary.Row(path, store.uri(*path.split("/")), k, "train", f"m-{k:06d}", "m", "", 0.0, 1.0, "", "")
        for k in (2, 0)
    ]
    found = store_page.read_arrays(picked)
    for k in (0, 2):
        held = found[f"m-{k:06d}"]
        assert isinstance(held, dict)
        for name in SHAPES:
            np.testing.assert_array_equal(held[name], rows[k][name])


def test_an_archive_out_of_reach_is_not_asked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path / "store")
    asked = []

    def refuse(uri: str, path: str = "") -> Any:
        asked.append(uri)
        raise storage.StorageError("the network is down")

    scanned = [{"video_id": v, "uri": f"s3://films/{v}", "width": 4, "height": 3} for v in "abc"]
    monkeypatch.setattr(Store, "scan", lambda self: scanned)
    facts = summary.gather(store, 5)
    assert facts is not None
    monkeypatch.setattr(storage, "stat_file", refuse)
    shown = store_page.clips(store, facts)
    assert len(shown) >= 3
    assert len(asked) == store_page.LOST_AFTER
    assert all("the network is down" in clip["why"] and clip["arrays"] for clip in shown)


def test_a_store_of_pixels_and_samples(tmp_path: Path) -> None:
    recipe = Recipe(
        "raw",
        window_s=1.0,
        overlap_s=0.0,
        semantic=None,
        sync=None,
        frames=View(5, 16, 12),
        sample_rate=8000,
        channels=2,
        waveform=True,
    )
    store = Store(str(tmp_path / "store"))
    store.write_identity({"recipe": recipe.to_dict(), "digest": recipe.digest})
    shapes = {"frames": (5, 12, 16, 3), "waveform": (2, 8000)}
    one = {name: row("a", 0, None)[name] for name in summary.SMALL}
    one |= {"mask": np.ones(5, np.uint8), "frames": np.zeros(shapes["frames"], np.uint8)}
    one |= {"waveform": np.zeros(shapes["waveform"], np.int16)}
    store.write_rows(tables.table([one], tables.schema(recipe, shapes)), "train")
    facts = summary.gather(store, 1)
    assert facts is not None and not facts.problems
    [clip] = store_page.clips(store, facts)
    assert {look["name"]: look["warn"] for look in clip["arrays"]} == {
        "frames": "every picture is the same",
        "waveform": "nothing but silence",
    }
    assert "every picture is the same" in store_page.render_store(facts, [clip])


def test_arrays_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    facts = summary.gather(store, 5)
    assert facts is not None
    shutil.rmtree(Path(store.root) / "split=train")
    shown = store_page.clips(store, facts)
    assert {clip["split"] for clip in shown if "fault" in clip} == {"train"}
    assert "The stored arrays cannot be read" in store_page.render_store(facts, shown)


def test_sizes() -> None:
    sizes = {
        0: "0 B",
        999: "999 B",
        1234: "1.2 kB",
        999_700: "1.0 MB",
        123_456_789: "123 MB",
        5e15: "5,000.0 TB",
    }
    assert {n: summary.size_text(n) for n in sizes} == sizes

"""`v2a instruct` on a store and `v2a caption` on an archive, by their own commands."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from jobs import cli
from pipelines import storage
from pipelines.archive import scan
from pipelines.captions import captioning
from pipelines.captions.captioning import starts
from pipelines.reports.caption_pages import FRAME_HEIGHT, FRAME_WIDTH
from pipelines.sandbox.decoder import Sandbox
from pipelines.store import tables
from pipelines.store.store import Store
from tests.support.language_model import SMALL, TEXTS
from tests.support.toy_generators import write_video
from tests.support.train_store import SHAPES, recipe, row
from v2a_models.build import new_generator
from v2a_models.checkpoint import save_generator
from v2a_models.vatt.language import train_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "told"
    sizes = {name: value for name, value in SMALL.items() if name != "num_key_value_heads"}
    torch.manual_seed(0)
    save_generator(
        new_generator("vatt-converter", recipe(), tokenizer=train_tokenizer(TEXTS, 200), **sizes), folder
    )
    return str(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "store"))
    made.write_identity({"recipe": recipe().to_dict()})
    for split, numbers in (("train", range(0, 6)), ("test", range(6, 8))):
        rows = [row(k) | {"label": "drum", "text": TEXTS[k % 2] if k % 3 else ""} for k in numbers]
        made.write_rows(tables.table(rows, tables.schema(recipe(), SHAPES)), split)
    return made


def test_a_table_of_rows_that_can_be_made_again(
    store: Store, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = tmp_path / "events.parquet"
    pq.write_table(pa.table({"clip": ["0.mp4", "0.mp4"], "onset_s": [0.5, 1.0]}), events)
    out = tmp_path / "rows.parquet"
    command = ["instruct", store.root, "--out", str(out), "--events", str(events), "--model", model]
    assert cli.main(command) == 0
    table = pq.read_table(out).to_pylist()
    assert {row["clip_id"] for row in table} == {f"clip-{k:04d}" for k in range(8)}
    assert {row["split"] for row in table if row["clip_id"] in ("clip-0006", "clip-0007")} == {"test"}
    assert {row["source"] for row in table} >= {"text", "label", "events", "told"}
    assert [row["caption"] for row in table if row["source"] == "events"] == ["a drum, 2 times, slow"]
    assert "8 clips" in capsys.readouterr().out
    before = out.read_bytes()
    assert cli.main(command) == 0 and out.read_bytes() == before


def test_what_cannot_be_is_told(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, message in (
        (["--out", str(tmp_path / "a.csv")], ".parquet"),
        (["--out", str(tmp_path / "a.parquet"), "--model", "mini"], "writes no captions"),
        (
            ["--out", str(tmp_path / "a.parquet"), "--events", str(tmp_path / "no.parquet")],
            "cannot use --events: nothing at",
        ),
    ):
        assert cli.main(["instruct", store.root, *more]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.parquet"))


def test_windows_lie_evenly_within_the_film() -> None:
    assert starts(3.0, 4.0, 5) == [0.0] and starts(20.0, 4.0, 1) == [8.0]
    assert starts(20.0, 4.0, 3) == [0.0, 8.0, 16.0] and len(starts(9.0, 4.0, 9)) == 2


def test_every_film_is_answered(
    model: str, tmp_path: Path, ray_session: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "archive", tmp_path / "out.parquet"
    write_video(root / "short.mp4", 0.5)
    (root / "notes.txt").write_text("no video")
    (root / "broken.mp4").write_bytes(b"nothing that a decoder knows" * 40)
    assert cli.main(["caption", str(root), "--out", str(out), "--model", model, "--windows", "2"]) == 1
    assert "3 files: 1 captioned, 1 skipped, 1 failed" in capsys.readouterr().out
    rows = {row["path"]: row for row in pq.read_table(out).to_pylist()}
    states = {path: row["status"] for path, row in rows.items()}
    assert states == {"short.mp4": "captioned", "notes.txt": "skipped", "broken.mp4": "failed"}
    assert rows["short.mp4"]["caption"] and rows["broken.mp4"]["error"]
    assert "frame" not in rows["short.mp4"]
    page = (tmp_path / "out.html").read_text()
    assert all(path in page for path in rows) and page.count("data:image/webp") == 1
    assert rows["short.mp4"]["caption"] in page and rows["broken.mp4"]["error"] in page


def test_the_contact_frame_is_of_the_film(model: str, tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", 1.0, size=(128, 72))
    with Sandbox() as sandbox:
        [film] = scan.scan(str(tmp_path), sandbox)
    [row] = captioning.Captioner(model, 1, 1).film(film)
    picture = np.asarray(Image.open(io.BytesIO(row["frame"])))
    assert picture.shape == (FRAME_HEIGHT, FRAME_WIDTH, 3)
    # Half a second in (picture 6): grey, with a stripe at the left.
    assert picture[40, 150].max() < 190 and picture[40, 10, 0] > picture[40, 10, 1] + 60


def test_no_model_is_taken_for_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    films = tmp_path / "films"
    films.mkdir()
    command = ["caption", str(films), "--out", str(tmp_path / "a.parquet"), "--model"]
    assert cli.main([*command, "mini"]) == 2
    assert "the model 'mini' writes no captions" in capsys.readouterr().err
    assert cli.main([*command, "no-such"]) == 2
    assert "no model 'no-such': choose one of" in capsys.readouterr().err


@pytest.mark.parametrize("error", [storage.StorageNotFound, storage.StorageDenied, storage.StorageError])
def test_a_film_that_storage_withholds_fails_alone(
    error: type[Exception], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def withheld(*_: Any, **__: Any) -> None:
        raise error("the film is gone")

    monkeypatch.setattr(Sandbox, "decode_views", withheld)
    monkeypatch.setattr(captioning.retry, "SCAN", captioning.retry.RetryPolicy(2, 0.0))
    film = {"video_id": "1", "path": "a.mp4", "uri": "/nowhere/a.mp4", "status": "ok", "duration_s": 4.0}
    [answer] = captioning.Captioner(model, 1, 1).film(film)
    assert (answer["status"], answer["error"]) == ("failed", "the film is gone")


@pytest.mark.parametrize("taken", ["t.parquet", "t.html"])
def test_a_place_that_is_taken_is_told_before_the_work(
    taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "film.mp4").touch()
    (tmp_path / taken).mkdir()
    assert cli.main(["caption", str(tmp_path / "films"), "--out", str(tmp_path / "t.parquet")]) == 2
    assert "a folder has that name" in capsys.readouterr().err

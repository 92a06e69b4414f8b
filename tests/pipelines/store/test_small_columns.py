"""Small columns of files that somebody else wrote, or that are damaged."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from pipelines.scoring import clips
from pipelines.store.small_columns import small_columns
from pipelines.store.store import Store, StoreError
from pipelines.store.tables import SMALL_SCHEMA
from tests.support.media_files import damaged_page, texts_of_no_encoding
from tests.support.train_store import make_store


def altered(folder: Path, column: str, values: pa.Array | None) -> Store:
    """A store with other values, or none, in a column of its first file."""
    store = make_store(folder / "store", {"train": [2], "val": [2]})
    file = store.files()[0].uri
    table = pq.read_table(file)
    at, metadata = table.schema.get_field_index(column), table.schema.metadata
    table = table.remove_column(at) if values is None else table.set_column(at, column, values)
    pq.write_table(table.replace_schema_metadata(metadata), file)
    return store


ODD = {
    "missing": ("video_id", None),
    "null": ("clip_id", pa.array([None, None], pa.string())),
    "lists": ("path", pa.array([["a"], ["b"]])),
    "texts for numbers": ("duration_s", pa.array(["long", "short"])),
    "no number": ("start_s", pa.array([float("nan"), 0.0])),
    "not UTF-8": ("text", texts_of_no_encoding(b"\xff", b"a")),
}


@pytest.mark.parametrize("case", ODD)
def test_columns_that_no_store_has_are_told(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = altered(tmp_path, *ODD[case])
    with pytest.raises(StoreError, match=r"part-.*cannot be used"):
        small_columns(store.files()[0], SMALL_SCHEMA.names)
    assert cli.main(["store", store.root, "--html", str(tmp_path / "page.html")]) == cli.SOME_FAILED
    assert cli.main(["instruct", store.root, "--out", str(tmp_path / "out.parquet")]) == cli.WRONG_USAGE
    assert "part-" in capsys.readouterr().err


@pytest.mark.parametrize(("column", "value"), [("clip_id", "../../x"), ("path", "../secret.mp4")])
def test_names_that_would_leave_their_folders_are_refused(column: str, value: str, tmp_path: Path) -> None:
    store = altered(tmp_path, column, pa.array([value, "b"]))
    with pytest.raises(StoreError, match="no rows of v2a extract"):
        clips.rows_of(store, "train")


def test_texts_of_other_programs_are_read(tmp_path: Path) -> None:
    store = altered(tmp_path, "clip_id", pa.array(["a", "b"], pa.large_string()))
    assert small_columns(store.files()[0], ["clip_id"])["clip_id"].to_pylist() == ["a", "b"]


def test_damaged_files_are_told(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", {"train": [2]})
    file = Path(store.files()[0].uri)
    file.write_bytes(damaged_page(file.read_bytes()))
    with pytest.raises(StoreError, match="cannot be used"):
        small_columns(store.files()[0], SMALL_SCHEMA.names)


@pytest.mark.parametrize("recipe", ["{}", '{"name": "mini", "window_s": "long"}', '{"views": 3}'])
def test_a_recipe_of_other_values_is_told(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "store", {"train": [2]})
    Path(store.uri("_recipe.json")).write_text(f'{{"recipe": {recipe}}}')
    for command in (["store", store.root], ["instruct", store.root, "--out", str(tmp_path / "t.parquet")]):
        assert cli.main(command) in (cli.SOME_FAILED, cli.WRONG_USAGE)
        assert "_recipe.json holds no recipe" in capsys.readouterr().err

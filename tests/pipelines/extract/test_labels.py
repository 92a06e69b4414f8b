"""Labels: every form of table says the same about the same file, and never guesses."""

from __future__ import annotations

import csv
import dataclasses
import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.extract import labels
from pipelines.extract.labels import Label, LabelsError
from pipelines.store.store import SPLITS
from pipelines.synthfoley import mp4
from tests.support import media_files

VGGSOUND = """\
0B4dYTMsgHA,130,"dog barking, howling",train
-1pRmoJIGQc,10,playing piano,test
a_b_c_d_e_f,0,"train horning",train
a_b_c_d_e_f,30,people whistling,test
"""

IDS = st.text("ABCxyz019-_", min_size=11, max_size=11)
SHARES = st.tuples(*[st.integers(0, 100)] * 3).filter(any).map(lambda t: tuple(n / sum(t) for n in t))


def table(folder: Path, content: str | bytes, name: str = "labels.csv") -> labels.Labels:
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return labels.read(str(folder / name))


def parquet(folder: Path, columns: dict[str, object]) -> labels.Labels:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return table(folder, sink.getvalue(), "labels.parquet")


def refused(folder: Path, content: str | bytes, *words: str, name: str = "labels.csv") -> None:
    with pytest.raises(LabelsError) as caught:
        table(folder, content, name)
    for word in (*words, name):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("0B4dYTMsgHA_000130.mp4", "dog barking, howling"),
        ("deep/er/0B4dYTMsgHA_000130.MKV", "dog barking, howling"),
        ("0B4dYTMsgHA_130.webm", "dog barking, howling"),
        ("0B4dYTMsgHA_130000_140000.mp4", "dog barking, howling"),
        ("0B4dYTMsgHA.mp4", "dog barking, howling"),
        ("0B4dYTMsgHA_000131.mp4", None),
        ("0b4dytmsgha_000130.mp4", None),
        ("0B4dYTMsgHA_000130.json", None),
        ("0B4dYTMsgHA_000130.mp4/other.mp4", None),
        ("video/-1pRmoJIGQc_10000_20000.mp4", "playing piano"),
        ("a_b_c_d_e_f_000000.mp4", "train horning"),
        ("a_b_c_d_e_f_0_10000.mp4", "train horning"),
        ("a_b_c_d_e_f_30.mp4", "people whistling"),
        ("a_b_c_d_e_f.mp4", None),
    ],
)
def test_vggsound_clips_are_found_by_name(tmp_path: Path, path: str, label: str | None) -> None:
    found = table(tmp_path, VGGSOUND).of(path)
    assert (found.label if found else None) == label


def test_vggsound_table_as_a_whole(tmp_path: Path) -> None:
    read = table(tmp_path, VGGSOUND)
    assert read.of("0B4dYTMsgHA_000130.mp4") == Label("dog barking, howling", "", "train")
    assert (read.size, read.splits, read.conflicts) == (4, {"train": 2, "test": 2}, 0)
    assert read.classes == ("dog barking, howling", "people whistling", "playing piano", "train horning")
    assert read.unmatched([]) == 4
    assert read.unmatched(["x/-1pRmoJIGQc_10.mp4", "-1pRmoJIGQc.mp4", "strange.mp4"]) == 3


def test_vggsound_starts_need_not_be_whole_seconds(tmp_path: Path) -> None:
    read = table(tmp_path, "abcdefghijk,30.000,a,train\nABCDEFGHIJK,2.5,b,test\n")
    assert read.of("abcdefghijk_000030.mp4") == Label("a", "", "train")
    assert read.of("ABCDEFGHIJK_2500_12500.mp4") == read.of("ABCDEFGHIJK_2.5.mp4") == Label("b", "", "test")


@given(rows=st.dictionaries(st.tuples(IDS, st.integers(0, 40_000)), st.text("ab, ;", min_size=1), min_size=1))
def test_vggsound_rows_of_any_ids_are_found_under_every_name(tmp_path_factory, rows) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for (video, start), label in rows.items():
        writer.writerow([video, start, label, "train"])
    read = table(tmp_path_factory.mktemp("ids"), text.getvalue())
    videos = [video for video, _ in rows]
    for (video, start), label in rows.items():
        expected = Label(label.strip(), "", "train")
        for stem in (f"{start:06d}", str(start), f"{start * 1000}_{(start + 10) * 1000}"):
            assert read.of(f"some/folder/{video}_{stem}.mp4") == expected
        alone = videos.count(video) == 1
        assert read.of(f"{video}.mp4") == (expected if alone else None)
    names = [f"{video}_{start}.mp4" for video, start in rows]
    assert read.size == len(rows)
    assert read.unmatched(names) == 0
    assert read.unmatched(names[1:]) == 1


@pytest.mark.parametrize("path", ["Path", "clip", "FILE", "filename", "video"])
@pytest.mark.parametrize("label", ["label", "Class", "category"])
@pytest.mark.parametrize("text", ["text", "caption", "Description"])
@pytest.mark.parametrize("split", ["split", "subset", "set"])
def test_columns_by_any_name_in_any_order(tmp_path: Path, path, label, text, split) -> None:
    read = table(tmp_path, f'{split},extra,{text},{path}, {label} \ntrain,9,"a dog, barking",d/1.mp4,dog\n')
    assert read.of("d/1.mp4") == Label("dog", "a dog, barking", "train")


def test_what_the_table_lacks_is_empty(tmp_path: Path) -> None:
    read = table(tmp_path, "path,caption\na.mp4,rain\nb.mp4,\n")
    assert read.of("a.mp4") == Label("", "rain", "")
    assert read.of("b.mp4") == Label()
    assert read.of("c.mp4") is None
    assert (read.splits, read.classes) == ({}, ())


def test_paths_are_matched_whole_then_without_suffix_then_by_unique_base_name(tmp_path: Path) -> None:
    read = table(tmp_path, "path,label\n./x/1.mp4,a\ny/1.mp4,b\nz/2.wav,c\nw/3,d\nv\\4.mp4,e\nq/take 1.2,f\n")
    for path, label in {
        "x/1.mp4": "a",
        "y/1.mp4": "b",
        "y/1.mkv": "b",
        "other/1.mp4": None,
        "1.mp4": None,
        "z/2.mp4": "c",
        "2.wav": "c",
        "2.mov": "c",
        "w/3.mp4": "d",
        "3.mp4": "d",
        "v/4.mp4": "e",
        "q/take 1.2.mp4": "f",
        "q/take 1.mp4": None,
        "q/take 1.3": None,
    }.items():
        found = read.of(path)
        assert (found.label if found else None) == label, path


def test_an_exact_path_wins_and_an_ambiguous_one_finds_nothing(tmp_path: Path) -> None:
    read = table(tmp_path, "path,label\na/b.mp4,1\na/b.wav,2\nc/b.mkv,3\n")
    assert [read.of(f"a/b{end}").label for end in (".mp4", ".wav")] == ["1", "2"]
    assert read.of("a/b.mkv") is None  # not c/b.mkv: two others are nearer
    assert read.unmatched(["a/b.mp4", "a/b.mkv"]) == 2


@pytest.mark.parametrize("name", [*media_files.ODD_NAMES, "caf\\xe9.mp4", " edge .mp4 "])
def test_odd_names(tmp_path: Path, name: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["path", "label"], [f"folder/{name}", "yes"]])
    assert table(tmp_path, text.getvalue()).of(f"folder/{name}") == Label("yes")


def test_accents_match_in_either_form(tmp_path: Path) -> None:
    assert table(tmp_path, "path,label\ncafe\u0301.mp4,yes\n").of("caf\u00e9.mp4") == Label("yes")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["t.csv", "t.TSV"])
def test_dialects(tmp_path: Path, separator: str, ending: str, bom: str, name: str) -> None:
    lines = ["", "path,label,split", "", "a.mp4,'x; y, z',train", ",,", "b.mp4,w,test", ""]
    text = bom + ending.join(lines).replace(",", separator).replace("'", '"')
    read = table(tmp_path, text, name)
    assert read.of("a.mp4") == Label(f"x; y{separator} z" if separator != "," else "x; y, z", "", "train")
    assert read.of("b.mp4") == Label("w", "", "test")
    rows = "0B4dYTMsgHA,130,'x; y, z',train\n\n-1pRmoJIGQc,10,w,test"
    read = table(tmp_path, bom + rows.replace("\n", ending).replace(",", separator).replace("'", '"'), name)
    assert read.size == 2
    assert read.of("-1pRmoJIGQc_10.mp4") == Label("w", "", "test")


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("train", "Training", " TRAIN "), "train"),
        (("val", "valid", "Validation", "dev"), "val"),
        (("test", "testing", "Eval"), "test"),
    ],
)
def test_split_names_are_normalised(tmp_path: Path, names: tuple[str, ...], split: str) -> None:
    rows = "".join(f"{number}.mp4,{name}\n" for number, name in enumerate(names))
    assert table(tmp_path, "path,split\n" + rows).splits == {split: len(names)}


def test_repeated_rows_are_one_entry_and_fill_each_other(tmp_path: Path) -> None:
    read = table(tmp_path, "path,label,split\na.mp4,,train\na.mp4,dog,\n./a.mp4,cat,train\nb.mp4,cat,val\n")
    assert (read.size, read.conflicts) == (2, 1)
    assert read.of("a.mp4") == Label("dog", "", "train")
    assert read.unmatched(["a.mp4"]) == 1


@pytest.mark.parametrize(
    "head", ["path,label,split\n{0}.mp4,a,train\n{0}.mp4,a,test", "{0},1,a,train\n{0},1,a,test"]
)
def test_rows_that_disagree_in_the_split_are_refused(tmp_path: Path, head: str) -> None:
    refused(tmp_path, head.format("abcdefghijk"), "abcdefghijk", "train", "test", "same split")


def test_synthfoley_events(tmp_path: Path) -> None:
    rows = [
        {
            "clip": f"{split}/{label}/{label}_{n:05d}.mp4",
            "class": label,
            "caption": f"{label}!",
            "split": split,
        }
        for n, (label, split) in enumerate([("wood", "train"), ("wood", "train"), ("rain", "test")])
        for _ in range(3)
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=mp4.EVENTS_SCHEMA), sink)
    read = table(tmp_path, sink.getvalue(), "events.parquet")
    assert (read.size, read.conflicts, read.splits) == (3, 0, {"train": 2, "test": 1})
    assert read.of("test/rain/rain_00002.mp4") == Label("rain", "rain!", "test")


def test_parquet_with_nulls_numbers_and_dictionaries(tmp_path: Path) -> None:
    read = parquet(
        tmp_path,
        {
            "Path": pa.array(["a.mp4", "b.mp4"], pa.large_string()),
            "vector": [[1.0], [2.0]],
            "class": [1, 2],
            "text": [None, "b"],
            "split": pa.array(["train", "dev"]).dictionary_encode(),
        },
    )
    assert read.of("a.mp4") == Label("1", "", "train")
    assert read.of("b.mp4") == Label("2", "b", "val")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("empty",)),
        ("\ufeff\r\n\r\n", ("empty",)),
        ("path,label\n", ("empty",)),
        ("name,label\na.mp4,b\n", ("'name'", "path", "filename", "VGGSound")),
        ("name;title\na.mp4;b\n", ("'name', 'title'",)),
        ("path,colour\na.mp4,red\n", ("'colour'", "caption")),
        ("path,split\na.mp4,train\nb.mp4,night\nc.mp4,Day\n", ("'Day', 'night'", "validation")),
        ("path,label\na.mp4,red,green\n", ("line 2", "quotes")),
        ("path,label\na.mp4,b\nc.mp4\n", ("line 3",)),
        ('path,label\na.mp4,"b\nc.mp4,d\n', ("line 3", "closed")),
        ('"path,label\n', ("closed",)),
        ("path,label\n,b\n", ("file name",)),
        ("path,label\nfolder/,b\n", ("file name", "folder/")),
        ("abcdefghijk,10,a, b,train\n", ("abcdefghijk",)),
        ("abcdefghijk,10,a,train\nABCDEFGHIJK,10,a, b,train\n", ("line 2", "quotes")),
        ("abcdefghijk,10,a,train\nABCDEFGHIJK,-1,a,train\n", ("line 2",)),
        ("abcdefghijk,10,a,train\nABCDEFGHIJK,nan,a,train\n", ("line 2",)),
        ("abcdefghijk,10,a,train\nABCDEFGHIJK,20,a,maybe\n", ("'maybe'",)),
        ("path,label\ncaf\u00e9.mp4,a\n".encode("latin-1"), ("UTF-8", "14")),
        ("path,label\na.mp4,b\n".encode("utf-16"), ("UTF-8",)),
        ("path,label\na.mp4,b\n".encode("utf-16-le"), ("path",)),
    ],
)
def test_what_is_not_understood_is_refused_with_a_reason(tmp_path: Path, content, words) -> None:
    refused(tmp_path, content, *words)


def test_a_column_of_free_text_for_the_split_gives_a_short_message(tmp_path: Path) -> None:
    text = "path,set\n" + "".join(f"{n}.mp4,sentence {n}\n" for n in range(5000))
    with pytest.raises(LabelsError, match="unknown splits") as caught:
        table(tmp_path, text)
    assert len(str(caught.value)) < 1000


def test_broken_parquet_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, b"PAR1 nothing of the kind", "parquet", name="x.parquet")
    refused(tmp_path, b"", "parquet", name="x.parquet")
    refused(tmp_path, b"{}", ".csv", ".tsv", ".parquet", name="x.json")
    with pytest.raises(LabelsError, match="texts"):
        parquet(tmp_path, {"path": ["a.mp4"], "caption": [["one", "two"]]})
    with pytest.raises(LabelsError, match="'name'"):
        parquet(tmp_path, {"name": ["a.mp4"], "caption": ["one"]})
    with pytest.raises(LabelsError, match="empty"):
        parquet(tmp_path, {"path": pa.array([], pa.string()), "caption": pa.array([], pa.string())})


def test_labels_travel_to_other_processes_and_do_not_change(tmp_path: Path) -> None:
    read = table(tmp_path, VGGSOUND)
    copy = pickle.loads(pickle.dumps(read))
    assert copy.of("-1pRmoJIGQc.mp4") == read.of("-1pRmoJIGQc.mp4") is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        read.conflicts = 3  # type: ignore[misc]
    assert len(repr(read)) < 500


@settings(max_examples=20)
@given(shares=SHARES, seed=st.integers(0, 2**32))
def test_shares_are_respected(shares: tuple[float, float, float], seed: int) -> None:
    found = [labels.split_of(f"folder/{n}.mp4", shares, seed) for n in range(5000)]
    for split, share in zip(SPLITS, shares, strict=True):
        assert abs(np.mean([name == split for name in found]) - share) < 0.04
        assert share or split not in found


@given(few=st.sets(st.text()), more=st.sets(st.text()), shares=SHARES, seed=st.integers())
def test_adding_files_never_moves_another(few, more, shares, seed) -> None:
    before = {path: labels.split_of(path, shares, seed) for path in sorted(few)}
    after = {path: labels.split_of(path, shares, seed) for path in sorted(few | more, reverse=True)}
    assert before.items() <= after.items()
    assert set(after.values()) <= set(SPLITS)


@given(path=st.text(), train=st.floats(0, 0.5), more=st.floats(0, 0.5))
def test_a_larger_train_share_only_moves_files_into_train(path: str, train: float, more: float) -> None:
    small = labels.split_of(path, (train, 1 - train, 0))
    large = labels.split_of(path, (train + more, 1 - train - more, 0))
    assert small == large or large == "train"


def test_splits_stay_the_same_for_ever_and_depend_on_the_seed() -> None:
    def splits(seed: int) -> list[str]:
        return [labels.split_of(f"{n}.mp4", (0.6, 0.2, 0.2), seed) for n in range(8)]

    assert splits(0) == ["val", "val", "train", "val", "test", "train", "train", "train"]
    assert splits(1) != splits(0)


@pytest.mark.parametrize(
    "shares", [(0.5, 0.2, 0.2), (1.2, -0.1, -0.1), (float("nan"), 0, 1), (80, 10, 10), (0, 0, 0)]
)
def test_shares_that_are_none_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        labels.split_of("a.mp4", shares)


def test_texts_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    columns = {"path": media_files.texts_of_no_encoding(b"\xff.mp4"), "label": ["dog"]}
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    with pytest.raises(LabelsError, match="not a parquet table of texts"):
        labels.read(str(tmp_path / "labels.parquet"))

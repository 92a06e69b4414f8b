"""Runs of numbered pictures are one entry of an archive, and photos stay photos."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import storage
from pipelines.archive import picture_runs
from pipelines.archive.picture_headers import PictureFacts
from pipelines.archive.picture_runs import Rates
from pipelines.archive.selection import Selection
from pipelines.storage import FileInfo
from tests.support import picture_files

AT_24 = Rates(Fraction(24))


def paths(root: Path, *include: str, rates: Rates = AT_24, lines: list[str] | None = None) -> list[str]:
    return [info.path for info in Selection(str(root), include, lines=lines, rates=rates)]


def test_a_run_is_one_entry_with_all_bytes_and_others_stay(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path / "reel1", range(100, 140))
    (tmp_path / "reel1" / "scan_0000101.xml").write_text("notes")
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "z.mp4").write_bytes(b"x")
    found = {info.path: info for info in Selection(str(tmp_path), rates=AT_24)}
    assert found.keys() == {"a.mp4", "reel1/scan_0000101.xml", "reel1/scan_{0000100-0000139}.dpx", "z.mp4"}
    entry = found["reel1/scan_{0000100-0000139}.dpx"]
    assert entry.size == sum(len(picture_files.coded("dpx", k % 64)) for k in range(100, 140))
    assert storage.rate_of(entry.uri) == 24 and storage.stat_file(entry.uri, entry.path) == entry


def test_the_version_is_that_of_every_picture(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, range(30))
    [before] = Selection(str(tmp_path), rates=AT_24)
    [at_18] = Selection(str(tmp_path), rates=Rates(Fraction(18)))
    (tmp_path / "scan_0000029.dpx").write_bytes(b"changed")
    [after] = Selection(str(tmp_path), rates=AT_24)
    assert len({before.version, at_18.version, after.version}) == 3


@given(st.integers(0, 10**6), st.integers(0, 8), st.data())
def test_any_numbering_and_any_gaps_make_one_run(start: int, width: int, data: st.DataObject) -> None:
    left_out = data.draw(st.sets(st.integers(1, 58), max_size=25))
    numbers = [start + k for k in range(60) if k not in left_out]
    names = sorted(f"r/f{number:0{width}d}.dpx" for number in numbers)
    infos = [FileInfo(name, f"/a/{name}", 5, "1") for name in names]
    others = [FileInfo(f"r/f{start:0{width}d}.txt", "", 1, "1"), FileInfo("s.mp4", "", 1, "1")]
    listing = sorted([*infos, *others], key=lambda info: info.path.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_runs, "_facts_of", lambda info: PictureFacts(b"dpx ", (4, 4)))
        found = list(picture_runs.folded(listing, AT_24))
    [run] = [info for info in found if storage.is_sequence(info.uri)]
    assert run.path == f"r/f{{{numbers[0]:0{width}d}-{numbers[-1]:0{width}d}}}.dpx"
    assert run.size == 5 * len(numbers) and [info for info in found if info is not run] == sorted(
        others, key=lambda info: info.path
    )


def test_a_listing_stays_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_runs, "_facts_of", lambda info: PictureFacts(b"dpx ", (4, 4)))
    read = 0

    def listing() -> Iterator[FileInfo]:
        nonlocal read
        for reel, number in itertools.product(range(3), range(2000)):
            read += 1
            yield FileInfo(f"reel{reel}/{number:06d}.dpx", f"/a/reel{reel}/{number:06d}.dpx", 1, "1")

    found = picture_runs.folded(listing(), AT_24)
    assert next(found).path == "reel0/{000000-001999}.dpx" and read == 2001


@pytest.mark.parametrize(
    ("n", "suffix", "rates", "is_film"),
    [
        (23, "dpx", AT_24, False),
        (24, "dpx", AT_24, True),
        (24, "dpx", Rates(), True),  # nobody takes photos in DPX
        (24, "png", AT_24, True),
        (239, "png", Rates(), False),
        (240, "png", Rates(), True),
    ],
)
def test_the_shortest_film(tmp_path: Path, n: int, suffix: str, rates: Rates, is_film: bool) -> None:
    picture_files.write_run(tmp_path, range(n), suffix)
    assert len(paths(tmp_path, rates=rates)) == (1 if is_film else n)


def test_photos_of_a_camera_stay_photos(tmp_path: Path) -> None:
    for number in range(300):
        data = picture_files.with_exif(picture_files.coded("jpg", number % 8))
        (tmp_path / f"IMG_{number:04d}.jpg").write_bytes(data)
    assert paths(tmp_path) == [f"IMG_{number:04d}.jpg" for number in range(300)]


def test_pictures_of_several_sizes_and_other_content_stay_photos(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path / "a", range(30), "png")
    (tmp_path / "a" / "scan_0000029.png").write_bytes(picture_files.coded("png", 1, (48, 64)))
    for number in range(30):
        (tmp_path / f"b{number}.png").write_bytes(picture_files.coded("jpg", 1))
    assert len(paths(tmp_path)) == 60


@pytest.mark.parametrize("broken", [0, 29])
def test_a_broken_picture_makes_no_photos_of_a_film(tmp_path: Path, broken: int) -> None:
    picture_files.write_run(tmp_path, range(30), "png")
    (tmp_path / f"scan_{broken:07d}.png").write_bytes(b"broken")
    assert paths(tmp_path) == ["scan_{0000000-0000029}.png"]


def test_the_rate_is_that_of_the_row_then_of_the_command_then_of_the_file(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, range(30))
    path = "scan_{0000000-0000029}.dpx"

    def rate(rates: Rates) -> Fraction | None:
        [info] = Selection(str(tmp_path), rates=rates)
        assert info.path == path and bool(info.problem) == (storage.rate_of(info.uri) is None)
        return storage.rate_of(info.uri)

    assert rate(Rates()) is None
    first = tmp_path / "scan_0000000.dpx"
    first.write_bytes(picture_files.with_dpx_rate(first.read_bytes(), 16))
    assert rate(Rates()) == 16
    assert rate(Rates(Fraction(18))) == 18
    assert rate(Rates(Fraction(18), {path: Fraction(20), "other": Fraction(9)})) == 20


def test_a_run_without_a_rate_names_the_option(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, range(30))
    [info] = Selection(str(tmp_path))
    assert info.lost and "--fps" in info.problem and "manifest" in info.problem


def test_a_run_is_chosen_by_its_folder_or_its_own_path(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path / "reel1", range(100, 130))
    picture_files.write_run(tmp_path / "reel2", range(30))
    one = "reel1/scan_{0000100-0000129}.dpx"
    for include in ("reel1", "reel1/*.dpx", one, "/" + one):
        assert paths(tmp_path, include) == [one]
    assert paths(tmp_path, lines=[one]) == paths(tmp_path, lines=[str(tmp_path / one)]) == [one]
    assert paths(tmp_path, lines=["reel1"]) == [one]
    [info] = Selection(str(tmp_path), [one], rates=AT_24)
    assert info in list(Selection(str(tmp_path), rates=AT_24))
    assert paths(tmp_path, "reel1/scan_{0000100-0000128}.dpx") == []


def test_a_single_picture_chooses_nothing_and_a_note_says_so(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path / "reel1", range(30))
    assert paths(tmp_path, "*_000000?.dpx") == []
    for arguments in ({"include": ["reel1/scan_0000003.dpx"]}, {"lines": ["reel1/scan_0000003.dpx"]}):
        selection = Selection(str(tmp_path), rates=AT_24, **arguments)  # type: ignore[arg-type]
        assert [info.path for info in selection] == ["reel1/scan_0000003.dpx"]
        assert "name its folder" in selection.notes()[0]


def test_the_order_of_files_in_a_folder_does_not_matter(tmp_path: Path) -> None:
    numbers = list(range(95, 125))  # 100 is listed before 95
    random.Random(0).shuffle(numbers)
    picture_files.write_run(tmp_path, numbers, width=0)
    [info] = Selection(str(tmp_path), rates=AT_24)
    assert info.path == "scan_{95-124}.dpx"
    assert storage.picture_run(info.uri).numbers == list(range(95, 125))

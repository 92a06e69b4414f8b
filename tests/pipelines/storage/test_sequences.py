"""Numbered pictures are read as one film: its name, its bytes, what is missing, and what changed."""

from __future__ import annotations

import itertools
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import storage
from pipelines.media.video import View
from pipelines.sandbox.decoder import Sandbox
from pipelines.storage import sequences
from tests.support import picture_files, servers

VIEW = View(24, 48, 32, "squeeze")


def uri_of(place: str, rate: Fraction = Fraction(24)) -> str:
    return storage.source_uri(place, str(rate))


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.integers(0, 10**11),
    st.integers(0, 12),
    st.sampled_from([".dpx", ".TIF", ".jpeg"]),
)
def test_names_of_pictures_and_of_their_film(prefix: str, number: int, width: int, suffix: str) -> None:
    prefix = prefix.rstrip("0123456789")
    name = storage.numbered_name(f"{prefix}{number:0{width}d}{suffix}")
    assert name == sequences.NumberedName(prefix, f"{number:0{width}d}", suffix)
    film = storage.run_name(name.before, name.digits, str(number + 5), suffix)
    assert storage.is_run_name(film) and storage.first_number(film) == number
    assert storage.numbered_name(film) is None and not storage.is_run_name(f"{prefix}{number}{suffix}")


@pytest.mark.parametrize(
    "name", ["scan.dpx", "scan_1.mov", "1234567890123.png", "scan_1.dpx.bak", "scan_\u0661.dpx"]
)
def test_other_names_are_no_numbered_pictures(name: str) -> None:
    assert storage.numbered_name(name) is None


def test_the_film_has_the_bytes_of_its_pictures_wherever_it_is_read(tmp_path: Path) -> None:
    parts = [np.random.default_rng(k).bytes(1000 + 37 * k) for k in range(12)]
    for number, data in enumerate(parts, start=8):  # 8, 9, 10: as numbers, not as texts
        (tmp_path / f"f{number}.png").write_bytes(data)
    with storage.open_read(uri_of(str(tmp_path / "f{8-19}.png"))) as file:
        whole = file.read()
        assert whole.endswith(b"".join(parts)) and file.seek(0, os.SEEK_END) == len(whole)
        for start, n in itertools.product((0, 10, 900, len(whole) - 2500, len(whole) - 3), (1, 40, 3000)):
            file.seek(start)
            assert file.read(n) == whole[start : start + n]


def test_pictures_are_opened_one_at_a_time(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, range(300))
    with storage.open_read(uri_of(str(tmp_path / "scan_{0000000-0000299}.dpx"))) as file:
        before = len(os.listdir("/proc/self/fd"))
        while file.read(1 << 16):
            assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_missing_pictures_are_held_and_named(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, [k for k in range(100, 130) if k not in (110, 111, 112, 120)])
    (tmp_path / "scan_0000105.dpx").write_bytes(b"")  # a picture without a byte is missing, too
    uri = uri_of(str(tmp_path / "scan_{0000100-0000129}.dpx"))
    assert storage.picture_run(uri).missing() == [(105, 105), (110, 112), (120, 120)]
    with Sandbox() as sandbox:
        facts = sandbox.probe(uri)
        [pictures] = sandbox.decode_views(uri, [VIEW], 0.0, 30 / 24)
    assert (facts.duration_s, facts.n_frames) == (30 / 24, 25)
    held = [{105: 104, 110: 109, 111: 109, 112: 109, 120: 119}.get(k, k) % 64 for k in range(100, 130)]
    assert picture_files.numbers_of(pictures) == held


def test_a_broken_picture_is_held_and_another_size_is_shown(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, range(40))
    (tmp_path / "scan_0000020.dpx").write_bytes(os.urandom(3000))
    (tmp_path / "scan_0000030.dpx").write_bytes(picture_files.coded("dpx", 30, (48, 32)))
    uri, damage = uri_of(str(tmp_path / "scan_{0000000-0000039}.dpx")), list[tuple[float, float]]()
    with Sandbox() as sandbox:
        [pictures] = sandbox.decode_views(uri, [VIEW], 0.0, 40 / 24, damage)
        [later] = sandbox.decode_views(uri, [VIEW], 35 / 24, 40 / 24)
    assert picture_files.numbers_of(pictures) == [19 if k == 20 else k for k in range(40)]
    assert picture_files.numbers_of(later) == list(range(35, 40))
    assert [(round(a * 24), round(b * 24)) for a, b in damage] == [(19, 21)]


def test_pictures_that_change_after_the_listing_are_refused(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, range(30))
    uri = uri_of(str(tmp_path / "scan_{0000000-0000029}.dpx"))
    before = storage.stat_file(uri, "x")
    (tmp_path / "scan_0000007.dpx").write_bytes(b"another")
    assert storage.stat_file(uri, "x").version != before.version
    with pytest.raises(storage.StorageRefused, match="changed after they were listed"):
        storage.open_read(uri)


def test_a_picture_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, range(30))
    with storage.open_read(uri_of(str(tmp_path / "scan_{0000000-0000029}.dpx"))) as file:
        (tmp_path / "scan_0000012.dpx").write_bytes(b"short")
        with pytest.raises(storage.StorageRefused, match=r"scan_0000012\.dpx is shorter"):
            file.read()


@pytest.mark.parametrize(
    ("numbers", "more", "says"),
    [
        ([*range(30), *range(9000, 9030)], "", "more pictures are missing between 0 and 9029"),
        (range(30), "scan_07.dpx", "two pictures have the number 7"),
    ],
)
def test_pictures_that_are_no_film_say_why(tmp_path: Path, numbers: Any, more: str, says: str) -> None:
    picture_files.write_run(tmp_path, numbers)
    if more:
        (tmp_path / more).write_bytes(picture_files.coded("dpx", 1))
    last = max(numbers)
    with pytest.raises(storage.StorageRefused, match=says):
        storage.source_uri(str(tmp_path / f"scan_{{0000000-{last:07d}}}.dpx"), "24")


def test_a_sequence_without_a_rate_is_not_opened(tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, range(30))
    with pytest.raises(storage.StorageRefused, match="give --fps"):
        storage.open_read(storage.source_uri(str(tmp_path / "scan_{0000000-0000029}.dpx"), ""))


def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff"))
    picture_files.write_run(folder, range(24, 48), prefix="")
    uri = "file://" + str(tmp_path) + "/r%FF/{0000024-0000047}.dpx"
    with storage.open_read(uri_of(uri)) as file:
        assert file.read().endswith(picture_files.coded("dpx", 47))


def test_the_same_film_on_s3(s3_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    picture_files.write_run(tmp_path, range(30), suffix="png")
    with storage.open_read(uri_of(str(tmp_path / "scan_{0000000-0000029}.png"))) as file:
        here = file.read()
    for name, value in servers.environment(s3_port).items():
        monkeypatch.setenv(name, value)
    client = servers.client(s3_port)
    client.create_bucket(Bucket="scans")
    for path in tmp_path.iterdir():
        client.put_object(Bucket="scans", Key=f"reel/{path.name}", Body=path.read_bytes())
        client.put_object(Bucket="scans", Key=f"reel/scan_0/{path.name}", Body=b"in another folder")
    uri = uri_of("s3://scans/reel/scan_{0000000-0000029}.png")
    with Sandbox() as sandbox:
        [pictures] = sandbox.decode_views(uri, [VIEW], 0.0, 30 / 24)
    with storage.open_read(uri) as file:
        assert file.read() == here
    assert picture_files.numbers_of(pictures) == list(range(30))

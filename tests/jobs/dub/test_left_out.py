"""`v2a dub --left-out keep`: streams that a copy cannot hold lie beside it, named and found by `v2a verify`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from jobs import cli, verify
from tests.support.dubbing import quickly
from tests.support.odd_streams import payloads, write_film

pytestmark = pytest.mark.timeout(600)


def verified(*names: Path) -> int:
    return verify.run(cli.parse(verify.VerifyConfig, [str(name) for name in names], "v2a verify"))


def archive_of(folder: Path) -> Path:
    folder.mkdir()
    write_film(folder / "a.ts", ["klv", "timed_id3"], fps=10)
    write_film(folder / "b.mp4", ["bin_data"], fps=10)
    return folder


def test_the_command_keeps_names_and_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, out = archive_of(tmp_path / "archive"), tmp_path / "out"
    rows = quickly(archive, out, "--left-out", "keep", "--strict")
    beside = out / "a.ts.mkv.left_out.ts"
    assert payloads(beside, "data") == payloads(archive / "a.ts", "data") != []
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == ["a.ts.mkv", beside.name, "b.mp4"]
    assert [row["status"] for row in rows.values()] == ["dubbed", "dubbed"] and rows["b.mp4"][
        "left_out"
    ] == []
    told = rows["a.ts"]["left_out"]
    digest = hashlib.sha256(beside.read_bytes()).hexdigest()
    assert len(told) == 2 and all(f"kept in {beside.name}, sha256 {digest}" in text for text in told)
    capsys.readouterr()
    assert verified(beside) == cli.DONE
    assert "the streams that" in capsys.readouterr().out
    beside.write_bytes(beside.read_bytes()[:-188])
    assert verified(beside) == cli.SOME_FAILED
    beside.rename(out / "c.mkv.left_out.ts")
    assert verified(out / "c.mkv.left_out.ts") == cli.SOME_FAILED
    assert "streams without their film" in capsys.readouterr().out


def test_files_beside_films_get_names_of_their_own(tmp_path: Path) -> None:
    archive, out = archive_of(tmp_path / "archive"), tmp_path / "out"
    write_film(archive / "a.ts.mkv.left_out.ts", ["klv"], fps=10)
    rows = quickly(archive, out, "--left-out", "keep")
    assert len({row["output"] for row in rows.values()}) == 3
    names = [text.split("kept in ")[1].split(",")[0] for row in rows.values() for text in row["left_out"]]
    assert len(set(names)) == 2 and all((out / name).is_file() for name in names)


def test_by_default_they_are_only_named(tmp_path: Path) -> None:
    archive, out = archive_of(tmp_path / "archive"), tmp_path / "out"
    rows = quickly(archive, out)
    assert [len(row["left_out"]) for row in rows.values()] == [2, 0]
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == ["a.ts.mkv", "b.mp4"]

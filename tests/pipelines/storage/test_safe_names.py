"""Names that a file system refuses are made legal; those that it takes stay as they are."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.storage import SafeNames, safe_names

REFUSED = re.compile(r'[\x00-\x1f<>:"|?*\\]')
DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}

FileSystem = Callable[[str], str]
"""The name that a file gets when it is created under another. Raises OSError."""


def exfat(name: str) -> str:
    if REFUSED.search(name) or len(name.encode("utf-16-le", "surrogatepass")) > 2 * 255:
        raise OSError(errno.EINVAL, "Invalid argument")
    return name


def smb(name: str) -> str:
    """A server that also refuses devices, says that nothing is there, and drops dots and spaces at the end."""
    if REFUSED.search(name) or name.split(".")[0].rstrip().lower() in DEVICES:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    return name.rstrip(" .") or "_"


def latin(name: str) -> str:
    """A volume mounted with a character set of one byte."""
    try:
        return name.encode("latin-1").decode("latin-1")
    except UnicodeEncodeError as error:
        raise OSError(errno.EILSEQ, "Invalid or incomplete multibyte or wide character") from error


def hfs(name: str) -> str:
    return unicodedata.normalize("NFD", name)


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> Callable[[FileSystem], list[str]]:
    """Replaces the file system; gives the names that are tried from then on."""

    def mount(system: FileSystem) -> list[str]:
        tried: list[str] = []

        def create(path: str) -> None:
            folder, name = os.path.split(path)
            tried.append(name)
            Path(folder, system(name)).touch()

        monkeypatch.setattr(safe_names, "create", create)
        return tried

    return mount


def test_usual_names_cost_nothing_and_legal_ones_stay(
    tmp_path: Path, mounted: Callable[..., list[str]]
) -> None:
    tried = mounted(lambda name: name)
    names = SafeNames(str(tmp_path))
    for path in ("a.mp4", "sub/reel 7 (final)_v2.mov", "x" * 255, "1925/#1 50% & more.mkv"):
        assert names.path(path) == path
    assert tried == []
    for path in ("a:b?.mp4", "b:b.mp4", "con.mp4", "a.mp4.", "\u6620\u753b.mp4", "\u753b\u6620 2.mp4"):
        assert names.path(path) == path
    assert tried == ["a:b?.mp4", "con.mp4", "a.mp4.", "\u6620\u753b.mp4"]  # each character once
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("system", "path", "safe"),
    [
        (exfat, "Who? What: *.mp4", "Who_ What_ _.mp4"),
        (exfat, 'a/"b"|<c>\\d/e.mp4', "a/_b___c__d/e.mp4"),
        (exfat, "line\nbreak.mp4", "line_break.mp4"),
        (smb, "reel 1 ./a.mp4", "reel 1__/a.mp4"),
        (smb, "aux.mp4", "_aux.mp4"),
        (smb, "NUL/Com1.tar.mkv", "_NUL/_Com1.tar.mkv"),
        (smb, "12:30.mp4.", "12_30.mp4_"),
        (latin, "caf\u00e9 \u6620\u753b.mp4", "caf_ __.mp4"),
        (latin, "caf\u00e9.mp4", "caf\u00e9.mp4"),
        (hfs, "caf\u00e9.mp4", "caf\u00e9.mp4"),
    ],
)
def test_names_that_are_refused_are_made_legal(
    tmp_path: Path, mounted: Callable[..., list[str]], system: FileSystem, path: str, safe: str
) -> None:
    mounted(system)
    names = SafeNames(str(tmp_path))
    assert names.path(path) == names.path(path) == safe
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("system", [exfat, smb, latin])
@given(
    name=st.text(min_size=1, max_size=280).filter(lambda name: "/" not in name and name not in (".", ".."))
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_every_name_becomes_legal(
    tmp_path: Path, mounted: Callable[..., list[str]], system: FileSystem, name: str
) -> None:
    mounted(system)
    safe = SafeNames(str(tmp_path)).path(f"{name}.mp4")
    if len(os.fsencode(name)) < 200:
        assert safe_names._composed(system(safe)) == safe_names._composed(safe)
        assert "/" not in safe


def test_nothing_is_tried_without_leave_or_in_a_store(
    tmp_path: Path, mounted: Callable[..., list[str]]
) -> None:
    tried = mounted(exfat)
    for names in (SafeNames(str(tmp_path), tries=False), SafeNames("s3://bucket/out")):
        assert names.path("a:b?.mp4") == "a:b?.mp4"
    assert SafeNames(str(tmp_path / "not there")).path("a:b?.mp4") == "a:b?.mp4"  # nothing can be tried
    assert tried == []

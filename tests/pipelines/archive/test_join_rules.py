"""Rules for which files are one film, on listings without files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import storage
from pipelines.archive import join_rules
from pipelines.storage import FileInfo


def listing(*paths: str) -> list[FileInfo]:
    return [FileInfo(path, f"/archive/{path}", 10, "1") for path in sorted(paths)]


def films(infos: list[FileInfo], joins: join_rules.Joins) -> dict[str, tuple[str, ...]]:
    """Path of each film -> paths of its parts."""
    return {info.path: info.parts for info in join_rules.joined(infos, joins)}


def test_groups_name_the_film_and_names_the_order() -> None:
    infos = listing(
        "cam1_10.ts", "cam1_9.ts", "cam2_1.ts", "Cam1_11.TS", "cam1_9.txt", "other.ts", "b/cam1_1.ts"
    )
    assert films(infos, join_rules.by_rule(r"(cam\d+)_.*")) == {
        "cam1_9.ts": ("cam1_9.ts", "cam1_10.ts", "Cam1_11.TS"),
        "cam1_9.txt": (),
        "cam2_1.ts": (),
        "other.ts": (),
        "b/cam1_1.ts": (),
    }


def test_a_folder_between_the_parts_does_not_separate_them() -> None:
    infos = listing("a/c0.ts", "a/c00/x.ts", "a/c00/y.ts", "a/c1.ts", "a/d/e/f.ts", "z.ts", "z/1.ts")
    infos.sort(key=lambda info: info.path)
    assert films(infos, join_rules.by_rule("folder")) == {
        "a/c0.ts": ("a/c0.ts", "a/c1.ts"),
        "a/c00/x.ts": ("a/c00/x.ts", "a/c00/y.ts"),
        "a/d/e/f.ts": (),
        "z.ts": (),
        "z/1.ts": (),
    }


@pytest.mark.parametrize(
    ("rule", "paths", "n"),
    [
        ("avchd", ["00000.MTS", "00001.MTS", "00002.MTS", "index.MTS"], 2),
        ("dvd", ["VTS_01_0.VOB", "VTS_01_1.VOB", "VTS_01_2.VOB", "VTS_02_1.VOB", "VIDEO_TS.VOB"], 4),
        (
            "gopro",
            ["GH010123.MP4", "GH020123.MP4", "GX010123.MP4", "GOPR0007.MP4", "GP010007.MP4", "GH010123.LRV"],
            4,
        ),
        ("folder", ["a.ts", "b.ts", "c.mpg", "d.jpg"], 3),
    ],
)
def test_presets(rule: str, paths: list[str], n: int) -> None:
    found = films(listing(*paths), join_rules.by_rule(rule))
    assert len(found) == n
    assert sum(len(parts) or 1 for parts in found.values()) == len(paths)


def test_a_list_joins_over_folders_in_its_own_order() -> None:
    infos = listing("a/1.ts", "b/2.ts", "c.ts")
    joins = join_rules.by_list({"b/2.ts": ("reel", 0), "a/1.ts": ("reel", 1)})
    assert films(infos, joins) == {"b/2.ts": ("b/2.ts", "a/1.ts"), "c.ts": ()}


@pytest.mark.parametrize("rule", ["(cam", "avcdh", "[", "cam"])
def test_a_rule_that_is_none_is_refused_with_the_choices(rule: str) -> None:
    with pytest.raises(ValueError, match="avchd, dvd, gopro, folder"):
        join_rules.by_rule(rule)


def test_an_entry_with_a_problem_is_no_part() -> None:
    broken = FileInfo("cam_2.ts", "/archive/cam_2.ts", 0, "", "broken symbolic link")
    infos = [*listing("cam_1.ts"), broken, *listing("cam_3.ts")]
    assert films(infos, join_rules.by_rule("folder")) == {
        "cam_1.ts": ("cam_1.ts", "cam_3.ts"),
        "cam_2.ts": (),
    }


NAMES = st.from_regex(r"([ab]/){0,2}(cam\d_\d{1,2}|x)\.(ts|txt)", fullmatch=True)


@given(paths=st.sets(NAMES, max_size=20))
def test_every_file_is_in_one_film(paths: set[str]) -> None:
    infos = listing(*paths)
    found = list(join_rules.joined(infos, join_rules.by_rule(r"(cam\d)_.*")))
    parts = [path for info in found for path in info.parts or (info.path,)]
    assert sorted(parts) == sorted(paths)
    assert all(len({path.rpartition("/")[0] for path in info.parts or (info.path,)}) == 1 for info in found)
    assert sum(info.size for info in found) == 10 * len(paths)
    uris = [uri for info in found for uri in storage.parts_of(info.uri)]
    assert sorted(uris) == sorted(info.uri for info in infos)

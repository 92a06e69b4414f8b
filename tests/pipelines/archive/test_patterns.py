"""Patterns match the paths that a .gitignore file would match."""

from __future__ import annotations

import pytest

from pipelines.archive.patterns import Patterns, exact, is_pattern, listed_patterns, split_glob

PATHS = ("a.mp4", "b.MP4", "x/a.mp4", "x/y/a.mp4", "x/y/b.mov", "rushes/1.mp4", "x/rushes/2.mp4", "xy/a.mp4")


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("a.mp4", {"a.mp4", "x/a.mp4", "x/y/a.mp4", "xy/a.mp4"}),
        ("/a.mp4", {"a.mp4"}),
        ("*.mp4", {"a.mp4", "x/a.mp4", "x/y/a.mp4", "rushes/1.mp4", "x/rushes/2.mp4", "xy/a.mp4"}),
        ("/*.mp4", {"a.mp4"}),
        ("x/*.mp4", {"x/a.mp4"}),
        ("x/**/a.mp4", {"x/a.mp4", "x/y/a.mp4"}),
        ("x/**", {"x/a.mp4", "x/y/a.mp4", "x/y/b.mov", "x/rushes/2.mp4"}),
        ("**/y/*", {"x/y/a.mp4", "x/y/b.mov"}),
        ("rushes", {"rushes/1.mp4", "x/rushes/2.mp4"}),
        ("rushes/", {"rushes/1.mp4", "x/rushes/2.mp4"}),
        ("/rushes/", {"rushes/1.mp4"}),
        ("a.mp4/", set()),
        ("x/y", {"x/y/a.mp4", "x/y/b.mov"}),
        ("x?", {"xy/a.mp4"}),
        ("[ab].*", {"a.mp4", "b.MP4", "x/a.mp4", "x/y/a.mp4", "x/y/b.mov", "xy/a.mp4"}),
        ("[!ab].*", {"rushes/1.mp4", "x/rushes/2.mp4"}),
        ("?.MP4", {"b.MP4"}),
    ],
)
def test_a_pattern_matches_names_folders_and_paths(pattern: str, wanted: set[str]) -> None:
    assert {path for path in PATHS if Patterns([pattern]).match(path)} == wanted


@pytest.mark.parametrize(
    "name",
    ["a.mp4", "b[1].mp4", "what?.mp4", "*.mp4", "[.mp4", "a\\b.mp4", "line\n.mp4", "x/]y[.mp4", "!a.mp4"],
)
def test_an_exact_pattern_matches_its_path_only(name: str) -> None:
    pattern = Patterns([exact(name)])
    assert pattern.match(name) and pattern.match(f"{name}/below.mp4")
    assert not any(pattern.match(other) for other in ("x/" + name, name + "x", "b1.mp4", "whatx.mp4"))
    assert pattern.starts() == [name]


def test_a_name_with_a_bracket_that_is_not_closed_is_that_name() -> None:
    assert Patterns(["[x*"]).match("[xyz") and not Patterns(["[x*"]).match("xyz")


def test_patterns_that_match_nothing_are_known() -> None:
    patterns = Patterns(["*.mp4", "*.mov", "/none.mp4", "/a.mp4"])
    assert patterns.match("a.mp4") and not patterns.match("a.txt")
    assert patterns.idle == {"*.mov", "/none.mp4"}


def test_many_exact_patterns_cost_no_more_than_one() -> None:
    patterns = Patterns([exact(f"sub/{k}.mp4") for k in range(20_000)])
    assert all(patterns.match(f"sub/{k}.mp4") for k in range(20_000)) and not patterns.idle


def test_only_folders_that_can_match_are_walked() -> None:
    assert Patterns(["/1925/*.mp4", "1925/sub/x.mp4", "a/b"]).starts() == ["1925", "a/b"]
    assert Patterns(["/1925/*.mp4", "*.mov"]).starts() == [""]
    assert Patterns(["x/**"]).starts() == ["x"]


@pytest.mark.parametrize("pattern", ["", "/", "//", "[z-a]"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a pattern"):
        Patterns([pattern])


def test_a_glob_is_a_folder_and_a_pattern() -> None:
    assert split_glob("films/19*/*.mp4") == ("films", "/19*/*.mp4")
    assert split_glob("*.mp4") == (".", "/*.mp4")
    assert split_glob("/a/b?") == ("/a", "/b?") and split_glob("/*") == ("/", "/*")
    assert split_glob("s3://bucket/films/*.mp4") == ("s3://bucket/films", "/*.mp4")
    assert is_pattern("a[1]") and not is_pattern("a-1")


def test_long_lists_of_patterns_are_cut() -> None:
    assert listed_patterns(["a", "b"]) == "'a' 'b'"
    assert listed_patterns("abcdefg", most=2) == "'a' 'b' and 5 more"

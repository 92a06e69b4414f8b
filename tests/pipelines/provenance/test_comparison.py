"""Differences between two descriptions, in words; the table of tampering has them on real films."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pipelines.provenance.comparison import differences, lost_names

FILM: dict[str, Any] = {
    "by": "62.1.1",
    "format": "mov",
    "start": "0.000000",
    "tags": {"title": "t", "comment": "c", "v2a": "v"},
    "chapters": ["0.000 One", "0.500 Two"],
    "video": [
        {"codec": "h264", "config": "k", "content": "p", "packets": "25", "start": "0.000000", "end": "1.000",
         "size": "96x64", "times": {"1/25": "x", "ms": "y"}, "flags": "default", "announced": "96x64"}
    ],
    "sound": [
        {"codec": "aac", "config": "a", "content": "s1", "packets": "45", "start": "-0.023220", "end": "1.000",
         "times": {"256/11025": "x", "ms": "y"}, "name": "Original", "language": "deu", "flags": "default",
         "unseen": "0 (1)"},
        {"codec": "aac", "config": "a", "content": "s2", "packets": "45", "start": "-0.023220", "end": "1.000",
         "times": {"256/11025": "x", "ms": "y"}, "name": "Other", "language": "zxx", "unseen": "0 (1)"},
    ],
}  # fmt: skip


def changed(**values: Any) -> dict[str, Any]:
    """The film with other facts: `sound__1__name="x"`, `tags__title=None` to remove."""
    film = copy.deepcopy(FILM)
    for path, value in values.items():
        *parts, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        place: Any = film
        for part in parts:
            place = place[part]
        if value is None:
            place.pop(last)
        else:
            place[last] = value
    return film


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"by": "63.0.0", "start": "0.023000", "format": "matroska"},
        {"sound__0__start": "-0.023000", "sound__0__end": "1.021", "sound__0__unseen": None},
        {"video__0__flags": None, "sound__0__flags": None},
        {"tags__v2a": None},
        {"video__0__announced": None, "video__0__aspect": "1000/1001"},
        {"sound__0__times": {"256/11025": "x", "ms": "other"}},
        {"chapters": ["0.001 One", "0.523 Two"]},
    ],
)
def test_what_containers_cannot_keep_is_no_change(values: dict[str, Any]) -> None:
    assert differences(FILM, changed(**values)) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"start": "0.500000"}, "start of the film: 0.000000 s signed, 0.500000 s now"),
        ({"video__0__content": "q", "video__0__packets": "24"}, "picture: content (25 pictures signed, 24 now)"),
        ({"video__0__times": {"1/25": "z", "ms": "y"}}, "picture: times of the packets: order, speed, or single times"),
        ({"video__0__size": "48x64"}, "picture: size of the picture: 96x64 signed, 48x64 now"),
        ({"video__0__aspect": "4/3"}, "picture: shape of the pixels: 1 signed, 4/3 now"),
        ({"video__0__colour": "2 9 16 9"}, "picture: colour (range, primaries, transfer, matrix)"),
        ({"video__0__fields": "2"}, "picture: order of fields: none signed, 2 now"),
        ({"video__0__light": "1000 400"}, "picture: light levels: none signed, 1000 400 now"),
        ({"video__0__unseen": "0 1 (2)"}, "picture: packets that are not shown: none signed, 0 1 (2) now"),
        ({"sound__1__unseen": "0 1 2 3 (4)"}, "sound track 'Other': packets that are not shown: 0 (1) signed, "
         "0 1 2 3 (4) now"),
        ({"sound__1__start": "0.000000"}, "sound track 'Other': start: -0.023220 s signed, 0.000000 s now"),
        ({"sound__1__name": "Third"}, "sound track 'Other': name: Other signed, Third now"),
        ({"sound__1__otherNames": "Third"}, "sound track 'Other': further names: Third"),
        ({"sound__1__language": "fra"}, "sound track 'Other': language: zxx signed, fra now"),
        ({"sound__1__flags": "comment"}, "sound track 'Other': flags: none signed, comment now"),
        ({"sound__1__flags": "default"}, "default sound track: 'Original' signed, 'Original', 'Other' now"),
        ({"sound__1__gaps": "x"}, "sound track 'Other': gaps in the sound: none signed, x now"),
        ({"sound": FILM["sound"][::-1]}, "order of the sound tracks"),
        ({"sound": FILM["sound"][:1]}, "sound track 'Other': removed"),
        ({"data": [{"codec": "x"}]}, "data tracks: 0 signed, 1 now"),
        ({"tags__title": "other"}, "tag of the film: title"),
        ({"tags__title": None}, "tag of the film: title"),
        ({"tags__copyright": "new"}, "tag of the film: copyright"),
        ({"sound__1__tags": {"gain": "x"}}, "tag of the track: gain"),
        ({"chapters": ["0.000 One", "0.500 Three"]}, "chapter 2: 'Two' signed, 'Three' now"),
        ({"chapters": ["0.000 One", "0.900 Two"]}, "chapter 2: at 0.500 s signed, 0.900 s now"),
        ({"chapters": ["0.000 One"]}, "chapters: 2 signed, 1 now"),
        ({"odd": ["ordered chapters"]}, "unusual: ordered chapters"),
        ({"tracks": "900"}, "number of tracks"),
    ],
)  # fmt: skip
def test_changes_are_named(values: dict[str, Any], words: str) -> None:
    found = differences(FILM, changed(**values))
    assert any(words in text for text in found), found


def test_names_that_are_lost_altogether_are_no_change() -> None:
    bare = changed(sound__0__name=None, sound__1__name=None)
    assert differences(FILM, bare) == [] and lost_names(FILM, bare) == ["names"]
    assert differences(FILM, changed(sound__1__name=None)) != []


@pytest.mark.parametrize(
    "wrong",
    [
        None, 5, [], {}, {"start": 5}, {"start": "0", "tags": 7}, changed(start="nan"), changed(start="1e9"),
        changed(video=7), changed(video=[7]), changed(video=[{"times": 7}]), changed(video__0__size=7),
        changed(video__0__aspect="1/0"), changed(video=[{}] * 1000), changed(odd=[7]), changed(by=7),
        changed(chapters=["soon One", "0.5 Two"]),
    ],
)  # fmt: skip
def test_what_is_no_description_is_a_value_error(wrong: Any) -> None:
    with pytest.raises(ValueError):
        differences(wrong, FILM)
    with pytest.raises(ValueError):
        differences(FILM, wrong)

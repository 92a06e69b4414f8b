"""Differences between what was signed and what a file presents now, in words.

Both are descriptions of `pipelines.mux.presented`. A copy in another container may differ in what containers cannot
keep: rounded times, names of tracks that muxers make up, tags that they drop.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from pipelines.mux.presented import TRACK_KINDS, check
from pipelines.mux.stream_facts import PLAIN_STYLE

Track = Mapping[str, Any]

_WORDS = {
    "video": "picture",
    "sound": "sound track",
    "subtitles": "subtitle track",
    "cover": "cover picture",
    "attachment": "attachment",
    "data": "data track",
}

_START_S, _TRACK_START_S, _END_S, _CHAPTER_S = 0.15, 0.0025, 0.15, 0.15
"""Largest differences in seconds: of the first picture's time (another muxer puts the coder's delay first), of a
track's start against it, of a track's end, of a chapter."""

_EXACT = {
    "codec": "codec",
    "config": "the decoder's configuration (such as cropping or prediction)",
    "size": "size of the picture",
    "crop": "cropping by the container",
    "matrix": "rotation or mirroring",
    "fields": "order of fields",
    "pixels": "format of pixels",
    "stereo3d": "stereo",
    "spherical": "projection",
    "icc": "colour profile",
    "light": "light levels",
    "rate": "sample rate",
    "layout": "channels",
    "volume": "volume of the track",
    "balance": "balance of the track",
    "layer": "layer of the track",
    "blend": "how the picture covers others",
    "disabled": "switched off",
    "language": "language",
    "gaps": "gaps in the sound",
    "durations": "length of the subtitles",
}
"""Facts that must be equal, with the words for their change."""

_LONG = 32
"""Digits from which on a value is a digest, which tells a reader nothing."""


def differences(signed: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Changes, in words; empty if a copy presents the same. Raises ValueError if one is no description."""
    check(signed)
    check(now)
    signed = _without(signed, lost_names(signed, now))
    found = list(_tracks_differ(signed, now))
    if abs(_seconds(signed["start"]) - _seconds(now["start"])) > _START_S:
        found.append(f"start of the film: {signed['start']} s signed, {now['start']} s now")
    found += _tags_differ("film", signed["tags"], now["tags"])
    found += _chapters_differ(signed, now)
    if odd := set(now.get("odd", ())) - set(signed.get("odd", ())):
        found.append(f"unusual: {', '.join(sorted(odd))}")
    if now.get("tracks") != signed.get("tracks"):
        found.append("number of tracks")
    return [text[:300] for text in found[:100]]


_NAMES = {"names": ("name", "otherNames"), "languages": ("language",)}


def lost_names(signed: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The words `names` and `languages`, as far as a copy has none for any track: it says nothing false about them."""

    def has(film: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
        return any(track.get(key) for kind in TRACK_KINDS for track in film.get(kind, []) for key in keys)

    return [word for word, keys in _NAMES.items() if has(signed, keys) and not has(now, keys)]


def _without(film: Mapping[str, Any], lost: Sequence[str]) -> dict[str, Any]:
    """A description without the names or languages that a copy has lost."""
    keys = {key for word in lost for key in _NAMES[word]}
    bare = {
        kind: [{k: v for k, v in t.items() if k not in keys} for t in film[kind]]
        for kind in TRACK_KINDS
        if kind in film
    }
    return {**film, **bare}


def _seconds(text: str) -> float:
    if not re.fullmatch(r"-?\d{1,12}(\.\d{1,6})?", text):
        raise ValueError(f"{text[:20]!r} is not a time in seconds")
    return float(text)


def _tracks_differ(signed: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for kind in TRACK_KINDS:
        before, after = signed.get(kind, []), now.get(kind, [])
        word = _WORDS[kind]
        missing, more = _unmatched(before, after), _unmatched(after, before)
        if len(before) != len(after):
            yield f"{word}s: {len(before)} signed, {len(after)} now"
            yield from (f"{word} {_called(track)}: removed" for track in missing[: len(before) - len(after)])
            yield from (f"{word} {_called(track)}: added" for track in more[: len(after) - len(before)])
        elif not missing and [_identity(t) for t in before] != [_identity(t) for t in after]:
            yield f"order of the {word}s"
        for one, other in _pairs(before, after):
            if not other.get("language") and signed.get("format") != now.get("format"):
                one = {
                    key: text for key, text in one.items() if key != "language"
                }  # QuickTime knows few of them
            name = word if len(before) == 1 else f"{word} {_called(one)}"
            yield from (f"{name}: {text}" for text in _track_differs(kind, one, other))
        yield from _defaults_differ(kind, before, after)


def _identity(track: Track) -> tuple[str, ...]:
    return tuple(str(track.get(name, "")) for name in ("content", "name"))


def _content(track: Track) -> str:
    return str(track.get("content", ""))


def _unmatched(tracks: Sequence[Track], others: Sequence[Track]) -> list[Track]:
    """Tracks whose content is not among the others."""
    left = Counter(map(_content, others))
    left.subtract(Counter(map(_content, tracks)))
    found = []
    for track in reversed(tracks):
        if left[_content(track)] < 0:
            left[_content(track)] += 1
            found.append(track)
    return found[::-1]


def _pairs(before: Sequence[Track], after: Sequence[Track]) -> Iterator[tuple[Track, Track]]:
    """Tracks of the same content, then the others in their order."""
    rest, unpaired = list(after), []
    for track in before:
        exact = [other for other in rest if _identity(other) == _identity(track)]
        same = exact or [other for other in rest if _content(other) == _content(track)]
        if same:
            rest.remove(same[0])
            yield track, same[0]
        else:
            unpaired.append(track)
    if len(unpaired) == len(rest):
        yield from zip(unpaired, rest, strict=True)


def _called(track: Track) -> str:
    return repr(track.get("name") or track.get("language") or track.get("codec") or "")


def _track_differs(kind: str, one: Track, other: Track) -> Iterator[str]:
    if _content(one) != _content(other):
        numbers = [track.get("packets", "?") for track in (one, other)]
        unit = {"video": "pictures", "subtitles": "subtitles"}.get(kind, "packets")
        more = f" ({numbers[0]} {unit} signed, {numbers[1]} now)" if numbers[0] != numbers[1] else ""
        yield f"content{more}"
    exact = dict(_EXACT)
    if kind == "subtitles" and one.get("codec") != other.get("codec"):
        # mp4 and Matroska have different text subtitles: their texts and times are compared, and no style may appear.
        if not {str(one.get("codec")), str(other.get("codec"))} <= {"mov_text", "subrip", "text"}:
            yield _told("codec", one.get("codec"), other.get("codec"))
        del exact["codec"]
        one = {**one, "style": ""} if other.get("codec") != "mov_text" else {**one, "style": PLAIN_STYLE}
    for name, words in exact.items():
        if one.get(name, "") != other.get(name, ""):
            yield _told(words, one.get(name), other.get(name))
    if one.get("style", "") != other.get("style", ""):
        yield "style of the subtitles"
    yield from _times_differ(one, other)
    yield from _picture_differs(one, other)
    yield from _names_differ(one, other)
    yield from _flags_differ(one, other)
    yield from _tags_differ("track", one.get("tags", {}), other.get("tags", {}))
    if one.get("unseen", "") != other.get("unseen", "") and not _is_priming(kind, one, other):
        yield _told("packets that are not shown", one.get("unseen"), other.get("unseen"))


def _told(words: str, before: Any, after: Any) -> str:
    texts = [str(value or "none") for value in (before, after)]
    if any(len(text) >= _LONG for text in texts):
        return words
    return f"{words}: {texts[0]} signed, {texts[1]} now"


def _times_differ(one: Track, other: Track) -> Iterator[str]:
    before, after = one.get("times", {}), other.get("times", {})
    steps = [name for name in before if name != "ms"] or ["ms"]
    if before and not any(name in before and before[name] == after.get(name) for name in steps):
        yield "times of the packets: order, speed, or single times"
    for name, words, allowed in (("start", "start", _TRACK_START_S), ("end", "end", _END_S)):
        if name in one and name in other and abs(_seconds(one[name]) - _seconds(other[name])) > allowed:
            yield f"{words}: {one[name]} s signed, {other[name]} s now"
    if ("start" in one) != ("start" in other):
        yield "number of packets"


def _picture_differs(one: Track, other: Track) -> Iterator[str]:
    ratios = [_ratio(track.get("aspect", "1")) for track in (one, other)]
    if abs(ratios[0] / ratios[1] - 1) > 0.002:  # Matroska holds it as a width in whole pixels
        yield _told("shape of the pixels", one.get("aspect", "1"), other.get("aspect", "1"))
    colours = [str(track.get("colour", "0 0 0 0")).split() for track in (one, other)]
    if colours[0] != colours[1]:
        names = ("range", "primaries", "transfer", "matrix")
        changed = [n for n, a, b in zip(names, *colours, strict=False) if a != b]
        yield f"colour ({', '.join(changed) or 'all'})"
    if "announced" in one and "announced" in other and one["announced"] != other["announced"]:
        yield _told("size that the container announces", one["announced"], other["announced"])


def _ratio(text: str) -> float:
    if not re.fullmatch(r"[1-9]\d{0,9}(/[1-9]\d{0,9})?", text):
        raise ValueError(f"{text[:20]!r} is not a ratio")
    return float(Fraction(text))


def _names_differ(one: Track, other: Track) -> Iterator[str]:
    if one.get("name", "") != other.get("name", ""):
        yield _told("name", one.get("name"), other.get("name"))
    known = {str(one.get("name", "")), *str(one.get("otherNames", "")).split(" / ")}
    if more := set(str(other.get("otherNames", "")).split(" / ")) - known - {""}:
        yield f"further names: {', '.join(sorted(more))}"


def _flags(track: Track) -> set[str]:
    return set(str(track.get("flags", "")).split())


def _flags_differ(one: Track, other: Track) -> Iterator[str]:
    before, after = _flags(one) - {"default"}, _flags(other) - {"default"}
    if before != after:
        yield _told("flags", " ".join(sorted(before)), " ".join(sorted(after)))


def _defaults_differ(kind: str, before: Sequence[Track], after: Sequence[Track]) -> Iterator[str]:
    """Changes of the tracks that are marked as default.

    mp4 marks the first track of a kind if none is, because a track without the mark is off. Players take the first
    picture and the first sound if none is marked, but show no subtitles.
    """
    marks = [
        [i for i, track in enumerate(tracks) if "default" in _flags(track)] for tracks in (before, after)
    ]
    if len(before) != len(after) or marks[0] == marks[1] or (not marks[0] and marks[1] == [0]):
        return
    if kind in ("video", "sound") and not marks[1] and marks[0] == [0]:
        return
    names = [
        ", ".join(_called(tracks[i]) for i in mark) or "none"
        for tracks, mark in zip((before, after), marks, strict=True)
    ]
    yield f"default {_WORDS[kind]}: {names[0]} signed, {names[1]} now"


def _is_priming(kind: str, one: Track, other: Track) -> bool:
    """True if sound differs only in whether the coder's delay is heard, of which Matroska tells nothing."""
    usual = ("", "0 (1)", "0 1 (2)", "0 1 2 (3)")
    return kind == "sound" and all(track.get("unseen", "") in usual for track in (one, other))


def _tags_differ(of: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Tags that were changed or added. Containers drop tags: only a missing title or comment is a change."""
    changed = [name for name, value in after.items() if value != before.get(name)]
    gone = [name for name in ("title", "comment") if name in before and name not in after]
    return [f"tag of the {of}: {name}" for name in sorted({*changed, *gone})]


def _chapters_differ(signed: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = signed.get("chapters", []), now.get("chapters", [])
    if len(before) != len(after) or signed.get("moreChapters") != now.get("moreChapters"):
        yield f"chapters: {len(before)} signed, {len(after)} now"
        return
    for number, (one, other) in enumerate(zip(before, after, strict=True), 1):
        (start, _, title), (start_now, _, title_now) = one.partition(" "), other.partition(" ")
        if title != title_now:
            yield f"chapter {number}: {title!r} signed, {title_now!r} now"
        if abs(_seconds(start) - _seconds(start_now)) > _CHAPTER_S:
            yield f"chapter {number}: at {start} s signed, {start_now} s now"

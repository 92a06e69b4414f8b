"""Patterns that choose files by their paths, written as in a .gitignore file.

    *.mp4            files of that name in any folder
    rushes           files and folders of that name, and with a folder all that lies in it
    1925/reel ?.mov  a path from the root of the archive, as it contains a slash; so does /reel.mov
    1925/**/*.mov    `**` stands for any folders, also none; `*` and `?` stay within one name
    tapes/           folders only

Upper and lower case differ. `[abc]`, `[a-z]` and `[!abc]` stand for one character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MAGIC = re.compile(r"[*?[]")


def is_pattern(text: str) -> bool:
    """True if the text has a character with a meaning in patterns."""
    return _MAGIC.search(text) is not None


def exact(path: str) -> str:
    """Pattern of one file or folder, by its path from the root of the archive."""
    return "/" + re.sub(_MAGIC, r"[\g<0>]", path)


def split_glob(place: str) -> tuple[str, str]:
    """Folder and pattern of a glob such as `films/19*/*.mp4`: the names before the first one with a wildcard, and
    `/19*/*.mp4`."""
    names = place.split("/")
    first = next(number for number, name in enumerate(names) if is_pattern(name))
    folder = "/".join(names[:first]) or ("/" if first else ".")
    return folder, "/" + "/".join(names[first:])


class Patterns:
    """Patterns of which a path must match one. Raises ValueError for a text that is no pattern.

    idle: patterns that no path has matched so far.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.texts = tuple(dict.fromkeys(patterns))
        self.idle = set(self.texts)
        self._exact: dict[str, str] = {}
        self._others: dict[str, re.Pattern[str]] = {}
        for text in self.texts:
            if (path := _path(text)) is not None:
                self._exact[path] = text
            else:
                self._others[text] = _compiled(text)

    def __bool__(self) -> bool:
        return bool(self.texts)

    def match(self, path: str) -> bool:
        """True if a pattern matches the path or a folder above it."""
        found = [text for place in (path, *_parents(path)) if (text := self._exact.get(place)) is not None]
        if not self.idle:
            return bool(found) or any(pattern.fullmatch(path) for pattern in self._others.values())
        found += [text for text, pattern in self._others.items() if pattern.fullmatch(path)]
        self.idle.difference_update(found)
        return bool(found)

    def starts(self) -> list[str]:
        """Paths of the files and folders in which everything lies that can match, none of them below another; `""` is
        the whole archive."""
        fixed = {_fixed_start(text) for text in self.texts}
        return sorted(
            start for start in fixed if fixed.isdisjoint(_parents(start)) and not ("" in fixed and start)
        )


def listed_patterns(patterns: Sequence[str], most: int = 5) -> str:
    """Patterns as text, the first few of them."""
    more = [f"and {len(patterns) - most} more"] if len(patterns) > most else []
    return " ".join([*(repr(text) for text in patterns[:most]), *more])


def _parents(path: str) -> list[str]:
    names = path.split("/")[:-1]
    return ["/".join(names[:depth]) for depth in range(1, len(names) + 1)]


def _anchored(text: str) -> bool:
    return "/" in text.rstrip("/")


def _path(text: str) -> str | None:
    """The path that an `exact` pattern stands for; None for every other."""
    plain = re.sub(r"\[([*?[])\]", "", text)
    if is_pattern(plain) or not _anchored(text) or text.endswith("/"):
        return None
    return re.sub(r"\[([*?[])\]", r"\1", text).strip("/")


def _fixed_start(text: str) -> str:
    """The leading names of a pattern without a wildcard."""
    if not _anchored(text):
        return ""
    names: list[str] = []
    for name in text.strip("/").split("/"):
        if (plain := _path("/" + name)) is None:
            break
        names.append(plain)
    return "/".join(names)


def _compiled(text: str) -> re.Pattern[str]:
    if not text.strip("/"):
        raise ValueError(f"not a pattern: {text!r}")
    try:
        return re.compile(_expression(text), re.DOTALL)
    except re.error as error:
        raise ValueError(f"not a pattern: {text!r} ({error.msg})") from error


def _expression(text: str) -> str:
    """Regular expression for the paths that a pattern matches."""
    below = "/.*" if text.endswith("/") else "(?:/.*)?"
    names = text.strip("/").split("/")
    parts = [] if _anchored(text) else ["(?:.*/)?"]
    for number, name in enumerate(names):
        last = number == len(names) - 1
        if name == "**":
            parts.append(".*" if last else "(?:.*/)?")
        else:
            parts.append(_one_name(name) + ("" if last else "/"))
    return "".join(parts) + below


def _one_name(name: str) -> str:
    """Regular expression for a file or folder name with wildcards."""
    parts, at = [], 0
    while at < len(name):
        end = name.find("]", at + (3 if name[at + 1 : at + 2] == "!" else 2)) if name[at] == "[" else -1
        if end > 0:
            inside = name[at + 1 : end]
            negated = inside.startswith("!")
            inside = re.sub(r"([\\\]\[^&~|])", r"\\\1", inside.removeprefix("!"))
            parts.append(f"(?!/)[{'^' if negated else ''}{inside}]")
            at = end + 1
            continue
        parts.append({"*": "[^/]*", "?": "[^/]"}.get(name[at], re.escape(name[at])))
        at += 1
    return re.sub(r"(?:\[\^/\]\*)+", "[^/]*", "".join(parts))

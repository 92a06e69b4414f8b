"""Preference between two systems: counted votes of a blind A/B page, with the interval of Wilson (1927)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from v2a_models.metrics.estimate import LEVEL, Estimate

VOTES = ("a", "b", "tie")


class VotesError(ValueError):
    """Malformed votes, or votes of another page; the message says which."""


@dataclass(frozen=True)
class Preference:
    """Vote counts between two systems."""

    first: str
    second: str
    wins: int
    """Votes for the first."""
    losses: int
    """Votes for the second."""
    ties: int
    unvoted: int
    """Pairs of the page without a vote."""
    preferred_first: Estimate
    """Fraction of votes for the first; a tie counts half a vote for each."""

    def result(self) -> dict[str, Any]:
        """Entry for the summary of a comparison; unknown values are None."""
        value, low, high = (
            None if math.isnan(x) else x
            for x in (self.preferred_first.value, self.preferred_first.low, self.preferred_first.high)
        )
        named = {"first": self.first, "second": self.second}
        return named | {
            "preferred_first": value,
            "n": self.preferred_first.n,
            "low": low,
            "high": high,
            "note": self.preferred_first.note,
        }


def wilson(successes: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a fraction of `n` votes (Wilson 1927), within [0, 1].

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = successes / n and z the normal quantile of the
    level. Half successes (ties) are taken as they are, which makes the interval a little too wide.

    Raises ValueError for n below 1, successes outside [0, n] or a level outside (0, 1).
    """
    if n < 1 or not 0 <= successes <= n or not 0 < level < 1:
        raise ValueError(f"no interval for {successes} of {n} at level {level}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def preferences(votes: Any, key: Any, level: float = LEVEL) -> list[Preference]:
    """Preferences of one listener, one for each two systems compared.

    votes: file saved by the listening page, {"page", "seed", "votes": [{"pair": "0001", "vote": "a" | "b" | "tie"}]}.
    key: file kept with the page's plan, {"page", "seed", "files": {"0001-a.wav": system}}.

    Raises VotesError for malformed input, votes of another page or seed, unknown pairs, and two votes on one pair.
    """
    pairs = _judged_pairs(key)
    votes_by_pair = _votes_by_pair(votes)
    for name in ("page", "seed"):
        if votes.get(name) != key.get(name):
            raise VotesError(
                f"the votes are of another page: {name} {_short(votes.get(name))} "
                f"where the key has {_short(key.get(name))}"
            )
    counts: dict[tuple[str, str], dict[str, int]] = {}
    order = _first(key)
    for pair, (a, b) in pairs.items():
        first, second = (a, b) if order.get(a, 0) < order.get(b, 0) else (b, a)
        count = counts.setdefault((first, second), dict.fromkeys(("wins", "losses", "ties", "unvoted"), 0))
        vote = votes_by_pair.pop(pair, "")
        chosen = {"a": a, "b": b}.get(vote)
        count[
            "unvoted" if not vote else "ties" if not chosen else "wins" if chosen == first else "losses"
        ] += 1
    if votes_by_pair:
        raise VotesError(f"the page has no pair {_short(next(iter(votes_by_pair)))}")
    return [_preference(first, second, count, level) for (first, second), count in counts.items()]


def _preference(first: str, second: str, count: Mapping[str, int], level: float) -> Preference:
    n = count["wins"] + count["losses"] + count["ties"]
    notes = [f"{count['unvoted']} of {n + count['unvoted']} pairs without a vote"] if count["unvoted"] else []
    if not n:
        return Preference(first, second, **count, preferred_first=Estimate.missing(notes[0]))
    if count["ties"]:
        notes.append(f"{count['ties']} of {n} votes ties, counted half for each")
    score = count["wins"] + count["ties"] / 2
    low, high = wilson(score, n, level)
    return Preference(
        first, second, **count, preferred_first=Estimate(score / n, low, high, n, "; ".join(notes))
    )


def _first(key: Mapping[str, Any]) -> dict[str, int]:
    """Rank of each system: its order in the key, else in its files."""
    named = [key[name] for name in ("first", "second") if isinstance(key.get(name), str)]
    return {name: at for at, name in enumerate(dict.fromkeys([*named, *key["files"].values()]))}


def _judged_pairs(key: Any) -> dict[str, tuple[str, str]]:
    """Systems a and b of every pair."""
    files = key.get("files") if isinstance(key, Mapping) else None
    if not isinstance(files, Mapping) or not files or not key.get("page"):
        raise VotesError('not a key; expected {"page", "seed", "files": {file: system}}')
    pairs: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys(str(file).rpartition("-")[0] for file in files):
        a, b = files.get(f"{name}-a.wav"), files.get(f"{name}-b.wav")
        if not (isinstance(a, str) and isinstance(b, str)) or a == b:
            raise VotesError(f"the key does not name two systems for pair {_short(name)}")
        pairs[name] = (a, b)
    return pairs


def _votes_by_pair(votes: Any) -> dict[str, str]:
    """Votes by pair."""
    rows = votes.get("votes") if isinstance(votes, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise VotesError('not votes; expected {"page", "seed", "votes": [{"pair", "vote"}]}')
    votes_by_pair: dict[str, str] = {}
    for row in rows:
        pair, vote = row.get("pair"), row.get("vote")
        if not isinstance(pair, str) or vote not in VOTES:
            raise VotesError(f"not a vote: {_short(vote)} on pair {_short(pair)}; expected a, b or tie")
        if pair in votes_by_pair:
            raise VotesError(f"two votes on pair {_short(pair)}")
        votes_by_pair[pair] = vote
    return votes_by_pair


def _short(value: Any) -> str:
    """Shortened value of an untrusted file, for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"

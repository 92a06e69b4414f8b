"""Votes: counted for the system that was heard, with the interval of Wilson, or refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.metrics.preference import VotesError, preferences, wilson

FILES = {
    "0001-a.wav": "mini", "0001-b.wav": "large", "0002-a.wav": "large", "0002-b.wav": "mini",
    "0003-a.wav": "mini", "0003-b.wav": "large", "0004-a.wav": "large", "0004-b.wav": "mini",
}  # fmt: skip


def key(**more: Any) -> dict[str, Any]:
    return {"page": "f00d", "seed": 3, "first": "large", "second": "mini", "files": FILES} | more


def votes(*given: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"page": "f00d", "seed": 3, "votes": [{"pair": p, "vote": v} for p, v in given]} | more


def test_wilson_as_published() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
                                    (1, 29, 0.0061, 0.1718)):  # fmt: skip
        assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_holds_the_share_and_mirrors(n: int, share: float) -> None:
    low, high = wilson(share * n, n)
    assert 0 <= low <= share + 1e-9 and share - 1e-9 <= high <= 1
    assert wilson(n - share * n, n) == pytest.approx((1 - high, 1 - low))
    assert high - low > wilson(share * n, n, level=0.5)[1] - wilson(share * n, n, level=0.5)[0]


@pytest.mark.parametrize(
    ("successes", "n", "level"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)]
)
def test_wilson_of_nothing(successes: float, n: int, level: float) -> None:
    with pytest.raises(ValueError, match="no interval"):
        wilson(successes, n, level)


def test_a_vote_counts_for_the_system_that_was_on_that_side() -> None:
    [found] = preferences(votes(("0001", "b"), ("0002", "a"), ("0003", "a"), ("0004", "tie")), key())
    assert (found.first, found.second) == ("large", "mini")
    assert (found.wins, found.losses, found.ties, found.unvoted) == (2, 1, 1, 0)
    assert found.preferred_first.value == 2.5 / 4 and found.preferred_first.n == 4
    assert (found.preferred_first.low, found.preferred_first.high) == wilson(2.5, 4)
    assert found.preferred_first.note == "1 of 4 votes ties, counted half for each"
    [turned] = preferences(votes(("0001", "b")), key(first="mini", second="large"))
    assert (turned.first, turned.wins, turned.losses, turned.unvoted) == ("mini", 0, 1, 3)
    assert turned.preferred_first.note == "3 of 4 pairs without a vote"


def test_no_vote_is_no_figure() -> None:
    [found] = preferences(votes(), key())
    assert math.isnan(found.preferred_first.value) and found.unvoted == 4
    assert found.result() == {"first": "large", "second": "mini", "preferred_first": None, "n": 0, "low": None,
                              "high": None, "note": "4 of 4 pairs without a vote"}  # fmt: skip


def test_a_page_of_several_systems_has_a_result_for_each_two() -> None:
    files = FILES | {"0005-a.wav": "large", "0005-b.wav": "reference"}
    found = preferences(votes(("0001", "a"), ("0005", "b")), key(files=files))
    assert [(p.first, p.second, p.wins, p.losses) for p in found] == [
        ("large", "mini", 0, 1), ("large", "reference", 0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "against", "match"),
    [
        (votes(("0001", "a"), page="beef"), key(), "another page: page 'beef' where the key has 'f00d'"),
        (votes(("0001", "a"), seed=4), key(), "another page: seed 4 where the key has 3"),
        (votes(("0009", "a")), key(), "no pair '0009'"),
        (votes(("0001", "c")), key(), "not a vote: 'c' on pair '0001'"),
        (votes(("0001", "a"), ("0001", "a")), key(), "two votes on pair '0001'"),
        ({"page": "f00d", "seed": 3, "votes": [{"pair": ["0001"], "vote": {}}]}, key(), "not a vote"),
        ({"page": "f00d", "seed": 3, "votes": ["0001"]}, key(), "not votes"),
        ([], key(), "not votes"),
        (None, key(), "not votes"),
        (votes(), [], "not a key"),
        (votes(page=None), key(page=None), "not a key"),
        (votes(), key(files={}), "not a key"),
        (votes(), key(files={"0001-a.wav": "mini"}), "does not name two systems for pair '0001'"),
        (votes(), key(files={"0001-a.wav": "mini", "0001-b.wav": "mini"}), "does not name two systems"),
        (votes(("x" * 5000, "a")), key(), r"no pair 'x{58}…$"),
    ],
)
def test_what_is_no_vote_of_this_page_is_refused(given: Any, against: Any, match: str) -> None:
    with pytest.raises(VotesError, match=match):
        preferences(given, against)

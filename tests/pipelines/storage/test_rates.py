"""Rates in URIs: nothing of the URI is lost, and rounded numbers stand for the rates that they mean."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import storage

RATES = st.fractions(min_value=Fraction(1, 100), max_value=500, max_denominator=1001)
URIS = st.sampled_from(
    ["/films/a:b.h264", "s3://bucket/25:2:/a", "file:///a%20b", "sequence://ab12:/a/{1-9}.dpx"]
)


@given(URIS, RATES, RATES)
def test_a_rate_travels_in_the_uri(uri: str, rate: Fraction, other: Fraction) -> None:
    rated = storage.rated(uri, rate)
    assert (storage.unrated(rated), storage.rate_of(rated)) == (uri, rate)
    assert storage.rated(rated, other) == storage.rated(uri, other)
    assert storage.rate_of(uri) is None and storage.unrated(uri) == uri


@given(RATES)
def test_a_version_has_its_rate(rate: Fraction) -> None:
    assert storage.unrated_version(storage.rated_version("123", rate)) == "123"
    assert storage.rated_version("123", rate) != storage.rated_version("123", rate + 1)
    assert storage.rated_version("123", None) == "123"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24", Fraction(24)),
        (" 12.5 ", Fraction(25, 2)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("24000/1001", Fraction(24000, 1001)),
        ("16 2/3".replace(" ", "."), None),
        ("0", None),
        ("-25", None),
        ("nan", None),
        ("1e9", None),
        ("25 fps", None),
        ("1/0", None),
        ("", None),
    ],
)
def test_rates_as_people_write_them(text: str, rate: Fraction | None) -> None:
    if rate is not None:
        assert storage.parse_rate(text) == rate
        return
    with pytest.raises(ValueError, match="24000/1001"):
        storage.parse_rate(text)


@given(RATES)
def test_a_rate_survives_being_a_float(rate: Fraction) -> None:
    found = storage.nearest_rate(float(rate))
    assert found is not None and abs(found - rate) < Fraction(2, 100)


@pytest.mark.parametrize("whole", [24, 30, 48, 60, 120])
def test_whole_rates_stay_whole(whole: int) -> None:
    assert storage.nearest_rate(float(whole)) == whole

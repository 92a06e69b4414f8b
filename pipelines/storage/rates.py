"""Rates in the URIs of films: pictures per second that the user states, for a film that states none itself.

    rated://25:2:/archive/reel.h264

A rate is part of what a film is: it travels in the URI, wherever the film is opened, and in its version, so that
nothing made at one rate is taken for another. Functions of `pipelines.storage` that open a film take such URIs.
"""

from __future__ import annotations

import math
from fractions import Fraction

_SCHEME = "rated://"

SLOWEST, FASTEST = Fraction(1, 3600), Fraction(1000)
"""Bounds of rates, in pictures per second: a time lapse of a picture an hour, and a camera for slow motion."""


def parse_rate(text: str) -> Fraction:
    """Pictures per second: `24`, `12.5`, `24000/1001`, or `23.976`, which is read as `24000/1001`.

    Raises ValueError, with the fix.
    """
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if "/" not in text:
        rate = nearest_rate(float(rate)) or Fraction(0)
    rate = rate.limit_denominator(100_000)
    if not SLOWEST <= rate <= FASTEST:
        raise ValueError(
            f"a rate is a number of pictures per second, such as 24, 23.976 or 24000/1001, not {text!r}"
        )
    return rate


def nearest_rate(value: float) -> Fraction | None:
    """The rate that a rounded number stands for: 29.97 is 30000/1001. None for a number that is no rate."""
    if not math.isfinite(value) or not SLOWEST <= value <= FASTEST:
        return None
    whole = round(value * 1001 / 1000)
    # Numbers are rounded to two or three digits.
    if whole >= 24 and abs(value - whole) > 0.01 and abs(value - whole * 1000 / 1001) < 0.006:
        return Fraction(whole * 1000, 1001)
    return Fraction(value).limit_denominator(1001)


def rated(uri: str, rate: Fraction) -> str:
    """The URI of a film at a rate, instead of any rate that it has."""
    return f"{_SCHEME}{rate.numerator}:{rate.denominator}:{unrated(uri)}"


def unrated(uri: str) -> str:
    """The URI without its rate."""
    return uri.removeprefix(_SCHEME).split(":", 2)[2] if uri.startswith(_SCHEME) else uri


def rate_of(uri: str) -> Fraction | None:
    """The rate in a URI; None if it has none."""
    if not uri.startswith(_SCHEME):
        return None
    numerator, denominator, _ = uri.removeprefix(_SCHEME).split(":", 2)
    return Fraction(int(numerator), int(denominator))


def rated_version(version: str, rate: Fraction | None) -> str:
    """The version of a file that is read at a rate."""
    return version if rate is None else f"{version}@{rate}"


def unrated_version(version: str) -> str:
    """The version of the file itself."""
    return version.partition("@")[0]

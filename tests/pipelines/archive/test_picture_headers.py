"""Headers of pictures state what was written into them, and damaged ones nothing."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.archive.picture_headers import PictureFacts, picture_facts
from pipelines.storage import FORMATS
from tests.support import picture_files


def facts_of(data: bytes) -> PictureFacts:
    return picture_facts(io.BytesIO(data))


@pytest.mark.parametrize("suffix", picture_files.CODECS)
def test_coding_and_size(suffix: str) -> None:
    facts = facts_of(picture_files.coded(suffix, 5, (80, 48)))
    assert (facts.coding, facts.size, facts.camera) == (FORMATS[f".{suffix}"], (80, 48), False)


@pytest.mark.parametrize("suffix", picture_files.CODECS)
@given(data=st.data())
def test_damage_is_never_an_error(suffix: str, data: st.DataObject) -> None:
    whole = bytearray(picture_files.coded(suffix, 5))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, min(len(whole), 2100) - 1))] = data.draw(st.integers(0, 255))
    facts_of(bytes(whole))
    facts_of(bytes(whole[: data.draw(st.integers(0, 2100))]))


@pytest.mark.parametrize(
    ("stated", "rate"),
    [(18.0, Fraction(18)), (23.976, Fraction(24000, 1001)), (0.0, None), (float("nan"), None)],
)
def test_rate_of_dpx(stated: float, rate: Fraction | None) -> None:
    assert facts_of(picture_files.with_dpx_rate(picture_files.coded("dpx", 1), stated)).rate == rate


def test_rate_of_exr() -> None:
    whole = picture_files.coded("exr", 1)
    attribute = b"framesPerSecond\0rational\0" + struct.pack("<iiI", 8, 24000, 1001)
    assert facts_of(whole[:8] + attribute + whole[8:]).rate == Fraction(24000, 1001)


def test_photos_have_the_exif_data_of_a_camera() -> None:
    assert facts_of(picture_files.with_exif(picture_files.coded("jpg", 1))).camera
    assert facts_of(picture_files.with_exif(picture_files.coded("jpg", 1))).size == (96, 64)


@pytest.mark.parametrize("data", [b"", b"SDPX", b"\xff\xd8\xff", b"II*\0", b"text", b"v/1\x01aaa"])
def test_what_is_no_picture_states_nothing(data: bytes) -> None:
    assert facts_of(data).size is None and facts_of(data).rate is None

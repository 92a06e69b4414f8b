"""Frames are picked and scaled as the original does."""

import json
import zlib
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.mmaudio_reference import difference, drawn_picture, kept, part
from v2a_models import grid
from v2a_models.mmaudio import pictures
from v2a_models.mmaudio.config import CLIP_FPS, SOUND_16K, SYNC_FPS, Lengths

PICKS = kept("frame_picks")
ENTRIES = json.loads(str(PICKS["json"]))


def frame_times(case: str, rate: str, n: int) -> list[float]:
    if case.startswith("uneven"):
        return ENTRIES["uneven_times"]
    first = 0.5 if "starts_at_0.5" in case else 0.0
    return [first + k * Fraction(rate).denominator / Fraction(rate).numerator for k in range(n)]


def test_the_same_frames_are_picked() -> None:
    rows = [row for row in ENTRIES["entries"] if f"{row[0]}/clip_all" in PICKS]
    assert len(rows) > 15
    for case, rate, n, asked, left, _, _, n_clip, n_sync, *_ in rows:
        times = frame_times(case, rate, n)
        clip, sync = (pictures.picked(times, asked, fps) for fps in (CLIP_FPS, SYNC_FPS))
        assert clip == PICKS[f"{case}/clip_all"].tolist(), case
        assert sync == PICKS[f"{case}/sync_all"].tolist(), case
        duration = pictures.shortened(len(clip), len(sync), asked)
        assert duration == pytest.approx(left) and int(CLIP_FPS * duration) == n_clip
        assert Lengths.of(duration, SOUND_16K).sync_frames == n_sync


@given(st.sampled_from([12, 15, 24, 25, 30, 50]), st.sampled_from([CLIP_FPS, SYNC_FPS]))
def test_the_pipeline_s_frames_are_at_most_one_earlier(rate: int, fps: int) -> None:
    """`v2a dub` takes the newest frame at or before a time, the original the first at or after it."""
    theirs = pictures.picked([k / rate for k in range(10 * rate)], 8.0, fps)
    ours = [grid.frame_index(time, rate) for time in grid.frame_times(0.0, 8.0, fps)]
    gaps = {b - a for a, b in zip(ours, theirs, strict=False)}
    assert gaps <= {0, 1}


@pytest.mark.parametrize("size", ["360x640", "480x270"])
def test_the_same_pixels_are_seen(size: str) -> None:
    outputs = part("resized")
    for key, patch in kept("resized").items():
        if key.startswith(size):
            assert difference(outputs(key), patch) < 1e-6, key
    picture = drawn_picture(3, 4, *map(int, size.split("x")))[0]
    found = {
        branch: (int(scaled.long().sum()), zlib.crc32(scaled.contiguous().numpy().tobytes()))
        for branch, scaled in (
            ("clip", pictures.clip_pictures(picture)), ("sync", pictures.sync_pictures(picture))
        )
    }  # fmt: skip
    for row in json.loads(str(kept("resized")["json"]))["entries"]:
        if row[0] == size and row[1] in found:
            assert found[row[1]] == (row[3], row[4]), row[1]


def test_pictures_that_are_not_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        pictures.clip_pictures(torch.zeros(3, 20, 20))

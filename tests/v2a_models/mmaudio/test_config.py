"""Lengths of all sequences, and settings on their way through config.json."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.mmaudio_reference import kept
from v2a_models.mmaudio.config import (
    SIZES,
    SOUND_16K,
    SOUND_44K,
    FlowConfig,
    Lengths,
    MMAudioConfig,
    tiny,
)


def test_lengths_are_the_original_s() -> None:
    rows = json.loads(str(kept("lengths")["json"]))["entries"]
    assert len(rows) > 20
    for seconds, latents16, samples16, latents44, samples44, clip, sync, *_ in rows:
        small, large = Lengths.of(seconds, SOUND_16K), Lengths.of(seconds, SOUND_44K)
        assert (small.latents, small.samples, small.clip, small.sync) == (latents16, samples16, clip, sync)
        assert (large.latents, large.samples, large.clip, large.sync) == (latents44, samples44, clip, sync)


@given(st.floats(0.64, 60), st.sampled_from([SOUND_16K, SOUND_44K]))
def test_sound_covers_the_clip_and_segments_fit_its_pictures(seconds: float, sound) -> None:
    lengths = Lengths.of(seconds, sound)
    assert lengths.samples >= int(seconds * sound.sample_rate)
    assert lengths.samples - seconds * sound.sample_rate < 2 * sound.hop + 1
    assert lengths.sync % 8 == 0 and lengths.sync + 8 <= lengths.sync_frames < lengths.sync + 16


def test_a_clip_too_short_for_a_segment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 0\.64 seconds"):
        Lengths.of(0.63, SOUND_16K)


@pytest.mark.parametrize("config", [*SIZES.values(), tiny(), tiny(SOUND_44K)])
def test_settings_survive_json(config: MMAudioConfig) -> None:
    assert MMAudioConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        MMAudioConfig(SIZES["small_16k"].flow, SOUND_44K)
    with pytest.raises(ValueError, match="do not fit"):
        MMAudioConfig(SIZES["small_16k"].flow, replace(SOUND_16K, hop=512))
    with pytest.raises(ValueError, match="steps"):
        replace(SIZES["small_16k"], steps=0)
    with pytest.raises(ValueError, match="heads"):
        FlowConfig(20, 448, 5, 4, 8)
    with pytest.raises(ValueError, match="version"):
        FlowConfig(20, 448, 7, 4, 8, version=3)

"""Mel spectrograms are the original's."""

import pytest
import torch

from tests.support.mmaudio_reference import RATES, difference, kept, part, tolerance
from v2a_models.mmaudio.sound import mel_spectrogram


@pytest.mark.parametrize("rate", RATES)
def test_the_mel_of_a_tone_in_noise_is_the_original_s(rate: str) -> None:
    key = f"{rate}/mel"
    assert difference(part("mel")(key), kept("mel")[key]) <= tolerance(f"mel/{key}")


@pytest.mark.parametrize("rate", RATES)
def test_silence_is_at_the_floor_and_samples_are_clamped(rate: str) -> None:
    config = RATES[rate]
    mel = mel_spectrogram(torch.zeros(2, 8 * config.hop), config)
    assert mel.shape == (2, config.bands, 8) and float(mel.max()) < -4
    loud = torch.randn(1, 8 * config.hop) * 5
    assert torch.equal(mel_spectrogram(loud, config), mel_spectrogram(loud.clamp(-1, 1), config))

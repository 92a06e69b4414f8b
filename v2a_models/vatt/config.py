"""Settings of a VATT: its parts, and how it is trained and sampled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from v2a_models.maskvat.sampling import SamplingConfig
from v2a_models.vatt.audio import AudioConfig
from v2a_models.vatt.converter import ConverterConfig
from v2a_models.vatt.masking import Masking
from v2a_models.vatt.sampling import PAPER


@dataclass(frozen=True)
class VATTConfig:
    """Settings of a VATT besides its recipe: parts, training and sampling."""

    audio: AudioConfig
    converter: ConverterConfig | None = None
    """Language model; None for VATT-V, which is conditioned on projected visual features and no text."""
    stage: int = 2
    """Training stage: 1 uses instructions without captions, 2 the captions of the store, if any."""
    masking: Masking = Masking()
    masking_steps: int = 20_000
    """Training passes over which the mean of `moving` masking moves."""
    sampling: SamplingConfig = PAPER
    own_caption: bool = False
    """True to use the model's own caption if there is no prompt. Ours; the paper uses an instruction that names no
    sound."""


def settings_from(values: Mapping[str, Any]) -> VATTConfig:
    """Rebuild the settings from `dataclasses.asdict`."""
    converter = values["converter"]
    return VATTConfig(
        **{
            **values,
            "audio": AudioConfig(**values["audio"]),
            "converter": None if converter is None else converter_config(converter),
            "masking": Masking(**values["masking"]),
            "sampling": SamplingConfig(**values["sampling"]),
        }
    )


def converter_config(values: Mapping[str, Any]) -> ConverterConfig:
    """Rebuild a converter's settings from `dataclasses.asdict`."""
    return ConverterConfig(**{**values, "targets": tuple(values["targets"])})


CHANGEABLE = (
    "stage",
    "masking",
    "masking_mean",
    "masking_steps",
    "steps",
    "guidance",
    "guided",
    "choice_temperature",
    "top_k",
    "own_caption",
)
"""Options that can be changed without training anew."""


def changed(settings: VATTConfig, options: Mapping[str, Any]) -> VATTConfig:
    """Settings with some of CHANGEABLE changed. Raises ValueError for other names and invalid values."""
    if unknown := sorted(set(options) - set(CHANGEABLE)):
        raise ValueError(f"{unknown} cannot be changed, only {list(CHANGEABLE)}")
    left = dict(options)
    stage = int(left.pop("stage", settings.stage))
    if stage not in (1, 2):
        raise ValueError(f"unknown stage {stage}: choose 1 (instructions) or 2 (captions)")
    masking = dataclasses.replace(
        settings.masking,
        distribution=str(left.pop("masking", settings.masking.distribution)),
        mean=float(left.pop("masking_mean", settings.masking.mean)),
    )
    steps = int(left.pop("masking_steps", settings.masking_steps))
    own = left.pop("own_caption", settings.own_caption)
    if not isinstance(own, bool):
        raise ValueError(f"own_caption must be true or false, not {own!r}")
    sampling = dataclasses.replace(settings.sampling, **left)
    return dataclasses.replace(
        settings, stage=stage, masking=masking, masking_steps=steps, sampling=sampling, own_caption=own
    )

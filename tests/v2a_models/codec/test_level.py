"""Level of decoded sound: a gain, and a soft knee where samples would clip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.common.models import model_info
from tests.support.toy_generators import toy_generator
from v2a_models.checkpoint import CheckpointError, load_generator, save_generator
from v2a_models.codec.level import OutputLevel

db = st.floats(-60, 0, allow_nan=False)


def dbfs(x: torch.Tensor) -> float:
    return float(20 * x.abs().max().log10())


@given(db, db, db, st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20))
def test_samples_keep_their_order_and_sign_and_stay_below_the_ceiling(
    gain: float, one: float, other: float, samples: list[float]
) -> None:
    level = OutputLevel(gain, *sorted((one, other)))
    sound = torch.tensor(samples)
    out = level.applied(sound)
    assert (out.abs() <= 10 ** (level.ceiling_dbfs / 20) * 1.0001).all()
    assert (out.sign() == sound.sign()).all() or (sound[out.sign() != sound.sign()].abs() < 1e-30).all()
    order = sound.argsort()
    assert (out[order].diff() >= -1e-6).all()
    torch.testing.assert_close(level.applied(-sound), -out)


def test_sound_below_the_knee_gets_the_gain_alone() -> None:
    sound = torch.linspace(-0.4, 0.4, 9)
    out = OutputLevel(-6.0, -12.0, -6.0).applied(sound)
    torch.testing.assert_close(out, sound * 10 ** (-6 / 20))


def test_full_scale_comes_out_between_knee_and_ceiling_without_a_corner() -> None:
    level = OutputLevel(-6.0, -12.0, -6.0)
    assert -12 < dbfs(level.applied(torch.ones(1))) < -6
    # The slope goes on at the knee: half a thousandth on either side gives the same step.
    knee = 10 ** (-12 / 20) / 10 ** (-6 / 20)
    below, above = level.applied(torch.tensor([knee - 5e-4, knee, knee + 5e-4])).diff()
    assert float(above / below) == pytest.approx(1.0, abs=0.01)


def test_default_clips_at_full_scale() -> None:
    torch.testing.assert_close(
        OutputLevel().applied(torch.tensor([-1.5, -0.9, 0.3, 1.2])), torch.tensor([-1.0, -0.9, 0.3, 1.0])
    )


@pytest.mark.parametrize(
    "values",
    [
        {"gain_db": 3.0}, {"gain_db": float("nan")}, {"gain_db": "6"}, {"gain_db": True}, {"knee_dbfs": -1000.0},
        {"knee_dbfs": -3.0, "ceiling_dbfs": -6.0}, {"loudness": -23.0},
    ],
)  # fmt: skip
def test_figures_that_no_model_has_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        OutputLevel.from_dict(values)


def test_a_checkpoint_keeps_its_level(tmp_path: Path) -> None:
    generator = toy_generator()
    codes = torch.randint(0, 512, (1, 6, 40), generator=torch.Generator().manual_seed(0))
    plain = generator.decode(codes)
    save_generator(generator, tmp_path / "plain")
    generator.level = OutputLevel(-3.0, -56.0, -50.0)
    save_generator(generator, tmp_path / "quiet")
    quiet = load_generator(str(tmp_path / "quiet"))
    assert quiet.level == generator.level and load_generator(str(tmp_path / "plain")).level == OutputLevel()
    assert dbfs(quiet.decode(codes)) <= -50.0 < dbfs(plain)
    # Jobs tell by it whether they may go on with what an earlier run made.
    assert model_info(str(tmp_path / "quiet")).level == "-3 dB, knee -56, ceiling -50 dBFS"
    assert model_info(str(tmp_path / "plain")).level == ""


@pytest.mark.parametrize("level", [{"gain_db": 40}, {"gain": 1}, [1], "loud", None])
def test_a_bad_level_in_a_checkpoint_is_named(tmp_path: Path, level: object) -> None:
    save_generator(toy_generator(), tmp_path / "toy")
    file = tmp_path / "toy" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"level": level}))
    for read in (load_generator, model_info):
        with pytest.raises(CheckpointError, match="no usable level"):
            read(str(tmp_path / "toy"))

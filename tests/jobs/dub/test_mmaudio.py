"""`v2a dub` with an MMAudio of random weights: windows, prompts, and the whole command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.common.models import model_info
from jobs.common.verb import WrongUsage
from tests.support.dubbing import only_track, quickly, report, v2a_dub
from tests.support.filled_weights import filled
from tests.support.toy_generators import write_video
from v2a_models.checkpoint import save_generator
from v2a_models.mmaudio.config import SOUND_16K, SOUND_44K, SoundConfig, tiny
from v2a_models.mmaudio.generator import MMAudioGenerator, recipe_for

pytestmark = pytest.mark.timeout(600)


def checkpoint(folder: Path, sound: SoundConfig) -> str:
    settings = tiny(sound)
    network: Any = filled(MMAudioGenerator(recipe_for(settings, window_s=2.2), settings))
    save_generator(network, folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return checkpoint(tmp_path_factory.mktemp("mmaudio") / "small", SOUND_16K)


def sound(out: Path) -> np.ndarray:
    return only_track(out / "film.mp4")


def test_prompts_and_negative_prompts_are_heard_in_every_window(model: str, tmp_path: Path) -> None:
    write_video(tmp_path / "archive" / "film.mp4", 3.0)
    wishes: dict[str, tuple[str, ...]] = dict(plain=(), rain=("--prompt", "rain"), dry=("--negative", "rain"))
    sounds = {}
    for name, options in wishes.items():
        rows = quickly(tmp_path / "archive", tmp_path / name, "--model", model, *options)
        row = rows["film.mp4"]
        assert row["status"] == "dubbed", row
        assert row["prompt"] == ("rain" if name == "rain" else "") and not row.get("caption")
        sounds[name] = sound(tmp_path / name).astype(float)
    rate = 44_100
    for name in ("rain", "dry"):
        for second in range(3):
            span = slice(second * rate, (second + 1) * rate)
            gap = np.abs(sounds[name][:, span] - sounds["plain"][:, span]).max()
            assert gap > 30, (name, second)


def test_what_the_model_does_not_do_is_said_before_the_job(model: str, tmp_path: Path) -> None:
    write_video(tmp_path / "archive" / "film.mp4", 1.0)
    info = model_info(model)
    assert info.follows_text and not info.writes_captions and not info.inpaints
    for options, message in (
        (("--captions",), "writes no captions"),
        (("--prompt", "rain " * 90), "90 tokens, MMAudio reads 75: shorten it"),
        (("--candidates", "3"), "no SCAV"),
    ):
        with pytest.raises(WrongUsage, match=message):
            quickly(tmp_path / "archive", tmp_path / "out", "--model", model, *options)


@pytest.mark.usefixtures("ray_session")
def test_the_command_line_dubs_a_film(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", SOUND_44K)
    write_video(tmp_path / "archive" / "film.mp4", 3.5)
    out = tmp_path / "out"
    assert v2a_dub(tmp_path / "archive", out, "--model", model, "--prompt", "rain") == 0
    [row] = report(out).values()
    assert row["status"] == "dubbed" and row["prompt"] == "rain"
    track = sound(out)
    assert abs(track.shape[1] - 3.5 * 44_100) < 2_100 and track.std() > 100

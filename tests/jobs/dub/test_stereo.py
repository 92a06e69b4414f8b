"""`v2a dub` with a model whose recipe has two channels: the sound lies where something moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs import cli, redub
from pipelines.mux import remux
from tests.support.dubbing import quickly, track
from tests.support.stereo import in_stereo, thing_film
from tests.support.toy_generators import toy_checkpoint
from v2a_models import grid
from v2a_models.checkpoint_files import BUNDLED

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toy_checkpoint(tmp_path_factory.mktemp("mono") / "toy")


@pytest.fixture(scope="module")
def model(mono: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return in_stereo(mono, tmp_path_factory.mktemp("stereo") / "toy")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    thing_film(folder / "left.mkv", lambda t: -0.7)
    thing_film(folder / "right.mkv", lambda t: 0.7)
    thing_film(folder / "still.mkv", lambda t: float("nan"))
    return folder


def levels(sound: np.ndarray) -> tuple[float, float]:
    """RMS of left and right."""
    left, right = np.sqrt((sound.astype(float) ** 2).mean(1))
    return float(left), float(right)


def generated(out: Path, name: str) -> np.ndarray:
    return track(out / name, remux.TITLE)


def test_the_bundled_model_with_two_channels_is_louder_where_something_moves(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    thing_film(archive / "left.mp4", lambda t: -0.7)
    thing_film(archive / "right.mp4", lambda t: 0.7)
    model = in_stereo(BUNDLED / "mini", tmp_path / "mini")
    rows = quickly(archive, out, "--model", model)
    assert {row["status"] for row in rows.values()} == {"dubbed"}
    for name, near in (("left.mp4", 0), ("right.mp4", 1)):
        sound = generated(out, name)
        assert sound.shape[0] == 2 and sound.shape[1] >= grid.samples(3.0)
        assert levels(sound)[near] > 1.8 * levels(sound)[1 - near] > 0


@pytest.mark.parametrize("joins", ["two-wave", "crossfade"])
def test_the_mono_sound_lies_between_left_and_right(
    joins: str, mono: str, model: str, archive: Path, tmp_path: Path
) -> None:
    options = ["--joins", joins, "--segment-s", "1"]
    quickly(archive, tmp_path / "mono", "--model", mono, *options)
    rows = quickly(archive, tmp_path / "stereo", "--model", model, *options)
    assert {row["status"] for row in rows.values()} == {"dubbed"}
    for name, louder in (("left.mkv", 0), ("right.mkv", 1), ("still.mkv", None)):
        middle, both = (generated(tmp_path / kind, name).astype(float) for kind in ("mono", "stereo"))
        assert (len(middle), len(both)) == (1, 2) and middle.any()
        assert np.abs(both.mean(0) - middle[0]).max() <= 2  # 16 bits of each, and of each window
        if louder is None:
            assert np.array_equal(both[0], both[1])
        else:
            assert levels(both)[louder] > 1.8 * levels(both)[1 - louder]


def test_alternatives_are_stereo_and_mono_can_be_asked_for(
    mono: str, model: str, archive: Path, tmp_path: Path
) -> None:
    options = ["--candidates", "2", "--keep-top", "2"]
    quickly(archive, tmp_path / "stereo", "--model", model, *options)
    quickly(archive, tmp_path / "one", "--model", model, "--channels", "mono", *options)
    quickly(archive, tmp_path / "mono", "--model", mono, *options)
    for title in (remux.TITLE, "v2a (generated, alternative 2)"):
        both, one, middle = (track(tmp_path / kind / "left.mkv", title) for kind in ("stereo", "one", "mono"))
        assert levels(both)[0] > 1.8 * levels(both)[1]
        assert one.shape == middle.shape and np.abs(one.astype(int) - middle).max() <= 1


def test_a_part_of_a_stereo_film_is_made_again(model: str, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quickly(archive, out, "--model", model, "--segment-s", "1")
    before = generated(out, "left.mkv")
    words = [out, "left.mkv", "--start", "1.2", "--end", "1.8", "--model", model, "--seed"]
    for seed in ("8", "0"):
        config = cli.parse(redub.RedubConfig, [str(word) for word in (*words, seed)], "v2a redub")
        assert redub.run(config) == 0
        after = generated(out, "left.mkv")
        inside = slice(grid.samples(1.3), grid.samples(1.7))  # between the ramps, which mix old and new
        assert np.array_equal(before[:, inside], after[:, inside]) == (seed == "0")
        assert levels(after[:, inside])[0] > 1.8 * levels(after[:, inside])[1] > 0
        for outside in (slice(grid.samples(1.2)), slice(grid.samples(1.8), None)):
            assert np.array_equal(before[:, outside], after[:, outside])

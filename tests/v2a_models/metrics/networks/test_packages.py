"""Published networks: what they hear is what their packages' own classes make of it.

Tests of a package of the extra `metrics` are skipped where it is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import REPOSITORY
from tests.support.onsets import close, needs, noise, refusal, stirred
from v2a_models.metrics.networks.load import load, load_bertscore
from v2a_models.metrics.networks.sources import NETWORKS

pytestmark = pytest.mark.usefixtures("weights")


def test_vggish(tmp_path: Path) -> None:
    package = pytest.importorskip("torchvggish")
    net, sounds = stirred(package.torchvggish._vgg(postprocess=False)), noise(2, 34_000)
    torch.save(net.state_dict(), tmp_path / "x.pth")
    network = load("vggish", {"vggish": str(tmp_path / "x.pth")})
    with torch.no_grad():
        rows = [net(package.waveform_to_examples(row, 16_000)) for row in sounds.double().numpy()]
    assert network.rate == 16_000 and rows[0].shape == (2, network.dims)
    close(network.embed_audio(sounds), torch.stack(rows))
    assert network.embed_audio(noise(1, 100))[0].embedding.shape == (1, 128)
    assert network.embed_audio(torch.zeros(1, network.shortest))[0].embedding.shape == (1, 128)  # type: ignore[attr-defined]


def test_panns(weights: Path, tmp_path: Path) -> None:
    needs("panns_inference")
    from v2a_models.metrics.networks.audio_network import part_of

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
    close(network.embed_audio(sounds), torch.from_numpy(embedding), torch.from_numpy(clipwise).logit())
    assert network.embed_audio(noise(1, 10))[0].embedding.shape == (2048,)
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
    close(network.embed_audio(sounds), both[:, 527:], both[:, :527])
    assert network.embed_audio(noise(1, 10))[0].embedding.shape == (768,)


def test_passt_hears_all_of_a_long_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    passt = pytest.importorskip("hear21passt.models.passt")
    net = stirred(passt.PaSST(img_size=(128, 998), stride=(10, 10), depth=1, distilled=True))
    torch.save(net.state_dict(), tmp_path / "x.pt")
    network, sound = load("passt", {"passt": str(tmp_path / "x.pt")}), noise(1, 40_000)
    wrapper = network.net  # type: ignore[attr-defined]
    assert (wrapper.max_model_window, wrapper.scene_hop) == (320_000, 80_000)
    wrapper.max_model_window, wrapper.scene_hop = 16_000, 4_000  # half a second stands for ten
    before = network.embed_audio(sound)[0]
    sound[0, -3000:] = 0.5
    after = network.embed_audio(sound)[0]
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
        close(network.embed_audio(sounds), torch.cat([own(row[None]) for row in sounds]))
    assert (network.rate, network.dims) == (16_000, 512)
    assert np.isfinite(network.embed_audio(torch.zeros(1, 9))[0].embedding).all()


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
    close(network.embed_audio(sounds), expected.audio_embeds)
    text = network.embed_text(captions)  # type: ignore[attr-defined]
    assert text.dtype == np.float32 and np.allclose(text, expected.text_embeds, atol=1e-5)
    assert not np.allclose(text[0], text[1], atol=1e-3)
    assert network.embed_text(["long " * 100]).shape == (1, 16)  # type: ignore[attr-defined]


def test_clap_hears_all_of_a_long_sound_the_same_each_time(clap: Path) -> None:
    network, sound = load("clap"), noise(1, 700_000)
    whole, again = network.embed_audio(sound)[0].embedding, network.embed_audio(sound)[0].embedding
    pieces = [network.embed_audio(part)[0].embedding for part in (sound[:, :480_000], sound[:, 220_000:])]
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
        close(found.embed_audio(sound), torch.from_numpy(expected.embed_audio(sound)[0].embedding)[None])
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
    text = (REPOSITORY / "pyproject.toml").read_text()
    for source in NETWORKS.values():
        assert f'"{source.package.replace("bert_score", "bert-score")}==' in text or not source.package

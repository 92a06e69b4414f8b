"""BEATs: the features of SpeechBrain's class, laid over the window, from files that are read safely."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor, nn

from tests.support import beats_file
from tests.support.beats_file import FILE, NAME, PUBLISHED
from v2a_models.encoders import beats, published
from v2a_models.encoders.beats import BeatsEncoder
from v2a_models.encoders.encoders import Encoders, load_encoders
from v2a_models.encoders.published import WeightsError
from v2a_models.encoders.shapes import beats_steps, feature_shapes
from v2a_models.recipe import Encoder, Recipe, View


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return beats_file.save(tmp_path_factory.mktemp("beats") / FILE)


def noise(*shape: int) -> Tensor:
    sound = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1
    return sound * torch.linspace(0.1, 1, shape[-1])  # so that no two moments are alike


def test_the_features_are_those_of_speechbrains_own_class(file: Path) -> None:
    from speechbrain.lobes.models.beats import BEATs

    encoder, sound, n_steps = published.load_audio(NAME, file), noise(2, 45_000), 7
    assert any(key.endswith("weight_g") for key in torch.load(file, weights_only=True)["model"])
    original = BEATs(ckp_path=str(file))  # reads weights only; names it does not know would stop it
    at_16khz = AF.resample(sound, 44_100, 16_000)
    # 7 patches of 16 frames of 10 ms, the outer frames of 25 ms reaching 7.5 ms beyond: 120 samples.
    whole = F.pad(at_16khz, (120, 7 * 2560 + 120 - at_16khz.shape[1]))
    hidden = original.extract_features(whole, torch.ones(2))[0]
    assert hidden.shape == (2, n_steps * 8, 768)
    with torch.no_grad():
        features = encoder(sound)
    assert not encoder.training and features.shape == (2, n_steps, 768) == (
        2,
        encoder.steps(45_000),
        encoder.dim,
    )
    expected = hidden.view(2, n_steps, 8, 768).mean(2)
    assert torch.allclose(features, expected, rtol=1e-3, atol=1e-4)
    # What this must be able to tell apart: rows, moments, and the other order of patches.
    for wrong in (expected.flip(0), expected.flip(1), hidden.view(2, 8, n_steps, 768).mean(1)):
        assert not torch.allclose(features, wrong, rtol=1e-1, atol=1e-2)


class Through(nn.Module):
    """Stand-in for the transformer, which would let every feature depend on all of the sound."""

    def forward(self, patches: Tensor) -> tuple[Tensor]:
        return (patches,)


@pytest.fixture(scope="module")
def local() -> BeatsEncoder:
    torch.manual_seed(0)
    encoder = BeatsEncoder(PUBLISHED | {"encoder_layers": 1, "conv_pos": 16}).eval()
    encoder.encoder = Through()
    return encoder


@pytest.mark.parametrize("cell", [0, 3, 24])
def test_a_feature_hears_its_own_sixth_of_a_second(local: BeatsEncoder, cell: int) -> None:
    silence, click = torch.zeros(1, 4 * 44_100), torch.zeros(1, 4 * 44_100)
    click[0, round((0.16 * cell + 0.08) * 44_100)] = 1
    with torch.no_grad():
        changed = (local(click) - local(silence)).abs().amax(-1)[0]
    assert changed.shape == (25,) and changed.nonzero().flatten().tolist() == [cell]


@pytest.mark.parametrize("rate", [44_100, 16_000])
def test_steps_are_known_beforehand(rate: int) -> None:
    encoder = BeatsEncoder(PUBLISHED | {"encoder_layers": 1, "conv_pos": 16}, rate)
    encoder.encoder = Through()
    with torch.no_grad():
        for seconds, n_steps in ((0.1, 1), (0.16, 1), (0.17, 2), (1.0, 7), (4.0, 25)):
            recipe = Recipe("x", window_s=seconds, overlap_s=0, sample_rate=rate,
                            encoders=(Encoder("audio", NAME, ""),))  # fmt: skip
            assert feature_shapes(recipe)["audio"] == (n_steps, 768)
            assert encoder(torch.zeros(1, recipe.window)).shape == (1, n_steps, 768)
    assert [beats_steps(seconds) for seconds in (8, 10)] == [50, 63]


@pytest.mark.parametrize("sound", [torch.zeros(1, 1, 999), torch.zeros(2, 0), torch.zeros(1, 999).short()])
def test_other_sound_is_refused(local: BeatsEncoder, sound: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected float sound \(B, N\)"):
        local(sound)


def test_the_filter_bank_is_never_rounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    whole = beats.filter_bank
    monkeypatch.setattr(beats, "filter_bank", lambda sound: seen.append(whole(sound)) or seen[-1])
    encoder, sound = published.load_audio(NAME, file), noise(1, 44_100)
    with torch.no_grad():
        exact = encoder(sound)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = encoder(sound)
    assert torch.equal(seen[0], seen[1]) and seen[1].dtype == torch.float32
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_speechbrain_changes_nothing_for_others(encoders: Encoders) -> None:
    """Left to itself it allows TF32 in the whole process, and the codec's tokens would flip on a GPU."""
    from speechbrain.utils import quirks
    from speechbrain.utils.importutils import LazyModule

    assert set(quirks.KNOWN_QUIRKS) == quirks.excluded_quirks and not quirks.applied_quirks
    # What looks at every module, as `inspect` and hypothesis do, meets none that fails.
    assert not [name for name, module in sys.modules.items() if isinstance(module, LazyModule)]
    assert not torch.backends.cuda.matmul.allow_tf32 and "SB_DISABLE_QUIRKS" not in os.environ


# As one of a recipe's encoders.


@pytest.fixture(scope="module")
def encoders(file: Path) -> Encoders:
    recipe = Recipe("x", window_s=1.0, overlap_s=0, semantic=None, sync=None, frames=View(4, 8, 8), channels=2,
                    waveform=True, encoders=(Encoder("audio", NAME, ""),))  # fmt: skip
    return load_encoders(recipe, {"audio": str(file)})


def test_the_column_is_of_both_channels_and_of_nothing_else_in_the_batch(
    file: Path, encoders: Encoders
) -> None:
    sound = (noise(3, 2, 44_100) * 32768).short()
    frames = {"frames": torch.zeros(2, 4, 8, 8, 3, dtype=torch.uint8)}
    columns, other = (encoders(frames, sound[rows]) for rows in ([0, 1], [0, 2]))
    assert {name: column.shape[1:] for name, column in columns.items()} == encoders.shapes
    assert columns["audio"].dtype == np.float16 and columns["audio"].shape == (2, 7, 768)
    assert np.array_equal(columns["audio"][0], other["audio"][0])
    assert not np.array_equal(columns["audio"][1], other["audio"][1])
    with torch.no_grad():
        expected = published.load_audio(NAME, file)(sound[:2].float().mean(1) / 32768)
    assert np.allclose(columns["audio"], expected.numpy(), rtol=2e-3, atol=2e-3)


# Files.


def test_a_pickle_of_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "exploded",)

    torch.save(beats_file.content() | {"label_dict": Bomb()}, tmp_path / FILE)
    with pytest.raises(WeightsError, match=f"{FILE} is refused.*use {FILE} of https://"):
        published.load_audio(NAME, tmp_path / FILE)
    assert not (tmp_path / "exploded").exists()
    torch.load(tmp_path / FILE, weights_only=False)
    assert (tmp_path / "exploded").exists(), "the bomb was a dud"


def test_a_fine_tuned_one_gives_the_same_features_without_its_classes(file: Path, tmp_path: Path) -> None:
    content = beats_file.content(finetuned_model=True)
    content["model"] |= {"predictor.weight": torch.ones(527, 768), "predictor.bias": torch.ones(527)}
    torch.save(content | {"label_dict": {0: "/m/09x0r"}}, tmp_path / "tuned.pt")
    tuned, sound = published.load_audio(NAME, tmp_path / "tuned.pt"), noise(1, 20_000)
    with torch.no_grad():
        assert torch.equal(tuned(sound), published.load_audio(NAME, file)(sound))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"conv.weight": torch.ones(1)}}, "missing: .* more; unexpected: conv.weight"),
        ({"cfg": None}, "it has no `cfg`"),
        ({"cfg": {"encoder_embed_dim": 512}}, "features of 512 and patches of 16; needed: 768 and 16"),
        ({"cfg": beats_file.SMALL | {"encoder_layers": "many"}}, "does not build a BEATs"),
        ({"cfg": beats_file.SMALL | {"encoder_attention_heads": 5}}, "does not build a BEATs"),
        ({"cfg": beats_file.SMALL | {"conv_pos_groups": 7}}, "does not build a BEATs"),
        ({"cfg": beats_file.SMALL | {"encoder_layers": 0}}, "does not build a BEATs"),
        ({"cfg": beats_file.SMALL | {"encoder_layers": 1}}, "unexpected: encoder.layers.1"),
    ],
)
def test_a_file_of_something_else_is_named(
    changes: dict[str, Any], message: str, file: Path, tmp_path: Path
) -> None:
    torch.save(torch.load(file, weights_only=True) | changes, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=f"x.pt does not hold '{NAME}': .*{message}"):
        published.load_audio(NAME, tmp_path / "x.pt")

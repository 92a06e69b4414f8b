"""Weights files: what is read, what is refused, and keys under their new names."""

import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from v2a_models.codec.dac import FULL
from v2a_models.encoders import state_dicts
from v2a_models.encoders.published import WeightsError

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": {f"module.{key}": value for key, value in STATE.items()}, "optimizer": {"state": {}}},
        {"model": {"state_dict": dict(STATE, size=224)}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_state_is_unwrapped(content: dict, zipped: bool, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    assert same(state_dicts.read_state(tmp_path / "x.pt")[0], STATE)


def test_metadata_of_both_formats(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "metadata": {"kwargs": {"n": 3}}}, tmp_path / "x.pth")
    assert state_dicts.read_state(str(tmp_path / "x.pth"))[1] == {"kwargs": {"n": 3}}
    save_file(STATE, tmp_path / "renamed.bin", metadata={"format": "pt"})
    torch.save({"cfg": {"n": 3}, "model": STATE}, tmp_path / "beats.pt")
    assert state_dicts.read_state(tmp_path / "beats.pt")[1] == {"cfg": {"n": 3}}
    state, metadata = state_dicts.read_state(tmp_path / "renamed.bin")
    assert same(state, STATE) and metadata == {"format": "pt"}


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple:
        return self.call, self.args


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["touch", "system", "eval"])
def test_a_pickle_of_code_is_refused_and_not_run(kind: str, zipped: bool, tmp_path: Path) -> None:
    exploded = tmp_path / "exploded"
    bomb = {
        "touch": Bomb(Path.touch, exploded),
        "system": Bomb(os.system, f"touch {exploded}"),
        "eval": Bomb(eval, f"open({str(exploded)!r}, 'w')"),
    }[kind]
    torch.save({"state_dict": STATE, "x": bomb}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(bomb))
    for name in ("x.pt", "plain.pt"):
        with pytest.raises(WeightsError, match=rf"{name} .*use model.safetensors"):
            state_dicts.read_state(tmp_path / name, instead="model.safetensors")
    assert not exploded.exists()
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert exploded.exists(), "the bomb was a dud"


def test_a_configuration_beside_the_weights_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SparseSync's checkpoints hold their omegaconf configuration; that package is not needed here."""
    module = types.ModuleType("omegaconf.dictconfig")
    config_type = type("DictConfig", (), {"__module__": module.__name__})
    module.DictConfig = config_type  # type: ignore[attr-defined]
    config = config_type()
    config.__dict__.update(_content={"lr": 1}, kind=Any)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        patch.setitem(sys.modules, module.__name__, module)
        scores = {"accuracy_1": torch.tensor(0.4).numpy()[()]}
        torch.save({"args": config, "metrics": scores, "model": STATE}, tmp_path / "x.pt")
    assert same(state_dicts.read_state(tmp_path / "x.pt")[0], STATE)


def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "ViT-B-32.pt"))
    with pytest.raises(WeightsError, match="TorchScript program, not plain weights: use open_clip_model"):
        state_dicts.read_state(tmp_path / "ViT-B-32.pt", instead="open_clip_model.safetensors")


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "old.pt"])
def test_truncated_files_are_named(name: str, tmp_path: Path) -> None:
    if name == "x.safetensors":
        save_file(STATE, tmp_path / name)
    else:
        torch.save(STATE, tmp_path / name, _use_new_zipfile_serialization=name == "x.pt")
    whole = (tmp_path / name).read_bytes()
    for length in [*range(0, len(whole), 37), len(whole) - 1]:
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=name):
            state_dicts.read_state(tmp_path / name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 10_000),
    byte=st.integers(0, 255),
    kind=st.sampled_from(["zip", "legacy", "safe", "bare"]),
)
def test_damage_gives_no_other_error(at: int, byte: int, kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"{kind}.bin"
    if kind == "safe":
        save_file(STATE, file)
    elif kind == "bare":
        file.write_bytes(bytes([byte]) * (at % 100))
    else:
        torch.save(STATE, file, _use_new_zipfile_serialization=kind == "zip")
    content = bytearray(file.read_bytes())
    if content:
        content[at % len(content)] = byte
        file.write_bytes(content)
    try:
        state_dicts.read_state(file)
    except WeightsError as error:
        assert str(file) in str(error)


def test_files_that_hold_nothing(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "x.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("x.pt", "list.pt"):
        with pytest.raises(WeightsError, match=f"{name} holds no weights"):
            state_dicts.read_state(tmp_path / name)
    for path in (tmp_path, tmp_path / "none.pt"):
        with pytest.raises(WeightsError, match="cannot be read"):
            state_dicts.read_state(path)


def test_fill_names_every_fault() -> None:
    module = nn.Linear(3, 2)
    with pytest.raises(
        WeightsError, match=r"missing: weight; unexpected: v0, v1, v2, v3 and 2 more; misshapen: bias"
    ):
        state_dicts.fill(module, {"bias": torch.ones(3)} | {f"v{i}": torch.ones(1) for i in range(6)})
    state_dicts.fill(module, {"weight": torch.ones(2, 3).half(), "bias": torch.ones(2).half()})
    assert module.weight.dtype == torch.float32 and module.weight.sum() == 6


def test_parts_of_a_state() -> None:
    x = torch.ones(1)
    assert set(state_dicts.clip_visual({"visual.proj": x, "text.proj": x, "logit_scale": x})) == {"proj"}
    assert set(state_dicts.s3d_torchvision({"features.0.0.0.weight": x, "classifier.1.bias": x})) == {
        "features.0.0.0.weight"
    }
    with pytest.raises(
        WeightsError, match=r"open_clip model's keys are visual\.\*; this file's are fc.weight"
    ):
        state_dicts.clip_visual({"fc.weight": x})


@pytest.mark.parametrize(
    "prefix",
    ["base.", "vfeat_extractor.base.", "module.vfeat_extractor.base.", "model.vfeat_extractor.base."],
)
def test_sparsesync_keys(prefix: str) -> None:
    renamed = {
        "0.conv_s.weight": "0.0.0.weight",
        "0.bn_s.running_mean": "0.0.1.running_mean",
        "3.conv_t.weight": "3.1.0.weight",
        "3.bn_t.bias": "3.1.1.bias",
        "2.conv.weight": "2.0.weight",
        "2.bn.running_var": "2.1.running_var",
        "5.branch0.0.conv.weight": "5.branch0.0.weight",
        "5.branch0.0.bn.weight": "5.branch0.1.weight",
        "15.branch1.0.bn.bias": "15.branch1.0.1.bias",
        "15.branch2.1.conv_t.weight": "15.branch2.1.1.0.weight",
        "15.branch3.1.conv.weight": "15.branch3.1.0.weight",
    }
    x = torch.ones(1)
    state = {prefix + key: x for key in renamed} | {"afeat_extractor.conv1.weight": x, "fc.0.bias": x}
    assert set(state_dicts.s3d_sparsesync(state)) == {f"features.{key}" for key in renamed.values()}


def test_beats_keys_and_config() -> None:
    x = torch.ones(1)
    today = "encoder.pos_conv.0.parametrizations.weight.original"
    old = {"encoder.pos_conv.0.weight_g": x, "encoder.pos_conv.0.weight_v": x + 1, "predictor.bias": x}
    assert same(state_dicts.beats(old), {f"{today}0": x, f"{today}1": x + 1})
    kept = {f"{today}0": x, "encoder.layers.0.self_attn.grep_a": x, "my_weight_g": x}
    assert same(state_dicts.beats(kept), kept)
    assert state_dicts.beats_config({"cfg": {"conv_pos": 128}}) == {"conv_pos": 128}
    for metadata in ({}, {"cfg": {}}, {"cfg": "x"}):
        with pytest.raises(WeightsError, match="it has no `cfg`"):
            state_dicts.beats_config(metadata)


def test_dac_config_is_the_files_own() -> None:
    assert state_dicts.dac({}) == FULL and state_dicts.dac({"kwargs": {}}) is not FULL
    config = state_dicts.dac({"kwargs": {"encoder_dim": 8, "n_codebooks": 2, "name": "x"}, "logs": {}})
    assert config == FULL | {"encoder_dim": 8, "n_codebooks": 2, "latent_dim": None}
    assert state_dicts.rate_and_hop(config) == (44_100, 512)
    with pytest.raises(WeightsError, match="encoder_rates"):
        state_dicts.rate_and_hop({"sample_rate": 44_100, "encoder_rates": 3})

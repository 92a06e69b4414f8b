"""Files in the published layouts, made here from random weights, become a checkpoint; others are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.filled_weights import filled
from v2a_models.checkpoint import load_generator
from v2a_models.checkpoint_files import WeightsError
from v2a_models.mmaudio.config import SOUND_16K, SOUND_44K, tiny
from v2a_models.mmaudio.convert import convert, main
from v2a_models.mmaudio.generator import MMAudioGenerator, recipe_for

State = dict[str, torch.Tensor]


def with_weight_norm(state: State) -> State:
    """The state dict of a vocoder as published, each weight a direction and a magnitude."""
    split: State = {}
    for key, value in state.items():
        if key.endswith(".weight"):
            norm = torch.linalg.vector_norm(value, dim=(1, 2), keepdim=True)
            split |= {f"{key}_g": norm, f"{key}_v": value * 3}
        else:
            split[key] = value
    return split


def published(folder: Path, size: str = "small_16k") -> MMAudioGenerator:
    """A generator, and its weights as files of the published layouts in `folder`."""
    low = size.endswith("16k")
    settings = tiny(SOUND_16K if low else SOUND_44K)
    network: Any = filled(MMAudioGenerator(recipe_for(settings, window_s=1.0), settings))
    (folder / "ext_weights").mkdir(parents=True)
    parts = {name: part.state_dict() for name, part in network.named_children()}
    torch.save(
        parts["flow"] | {"latent_rot": torch.zeros(3), "t_embed.freqs": torch.ones(2)},
        folder / f"mmaudio_{size}.pth",
    )
    inside = folder / "ext_weights"
    torch.save(parts["vae"], inside / ("v1-16.pth" if low else "v1-44.pth"))
    torch.save(
        {"generator": with_weight_norm(parts["vocoder"])},
        inside / ("best_netG.pt" if low else "bigvgan_generator.pt"),
    )
    torch.save(
        {f"vfeat_extractor.{key}": value for key, value in parts["synchformer"].items()}
        | {"vfeat_extractor.patch_embed.proj.bias": torch.ones(4), "afeat_extractor.x": torch.ones(2)},
        inside / "synchformer_state_dict.pth",
    )
    torch.save(
        {key.removeprefix("clip."): value for key, value in parts["clip"].items()},
        folder / "open_clip_pytorch_model.bin",
    )
    return network


@pytest.mark.parametrize("size", ["small_16k", "small_44k"])
def test_published_files_make_the_same_sound(size: str, tmp_path: Path) -> None:
    network = published(tmp_path / "files", size)
    out = convert(tmp_path / "files", tmp_path / "out", window_s=1.0, settings=network.settings)
    loaded: Any = load_generator(str(out))
    assert loaded.recipe == network.recipe and loaded.name == "out"
    ours, theirs = loaded.state_dict(), network.state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        # Stored in half precision; a magnitude times its direction is rounded once more.
        assert torch.allclose(ours[key], value, rtol=2e-3, atol=1e-5), key
    with pytest.raises(WeightsError, match="holds a checkpoint already"):
        convert(tmp_path / "files", out, window_s=1.0, settings=network.settings)


def spoilt(change: Callable[[Path], None], name: str) -> Callable[[Path], None]:
    return lambda folder: change(next(folder.rglob(name)))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def halved(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    torch.save(dict(list(state.items())[: len(state) // 2]), file)


def of_version_2(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    torch.save({key.replace("clip_input_proj.1", "clip_input_proj.2"): v for key, v in state.items()}, file)


def lone_magnitudes(file: Path) -> None:
    state = torch.load(file, weights_only=True)["generator"]
    torch.save({"generator": {k: v for k, v in state.items() if not k.endswith("weight_v")}}, file)


def with_code(file: Path) -> None:
    torch.save({"weights": Path("x")}, file)


def two_sizes(folder: Path) -> None:
    (folder / "mmaudio_large_44k.pth").touch()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoilt(Path.unlink, "mmaudio_small_16k.pth"), "holds no transformer: put one of .*mmaudio_large_44k_v2"),
        (spoilt(Path.unlink, "v1-16.pth"), r"lacks v1-16.pth \(MMAudio's release\)"),
        (spoilt(cut, "v1-16.pth"), "v1-16.pth cannot be read as weights"),
        (spoilt(halved, "mmaudio_small_16k.pth"), "mmaudio_small_16k.pth is not .* or only a part of it: missing"),
        (spoilt(of_version_2, "mmaudio_small_16k.pth"), r"missing: clip_input_proj\.1.*unexpected: clip_input_proj\.2"),
        (spoilt(lone_magnitudes, "best_netG.pt"), "best_netG.pt is not .*missing: conv_pre.weight"),
        (spoilt(with_code, "synchformer_state_dict.pth"), "synchformer_state_dict.pth (is refused|cannot be read)"),
        (two_sizes, "several transformers: name one of"),
    ],
)  # fmt: skip
def test_other_files_are_refused_and_nothing_is_written(
    change: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    network = published(tmp_path / "files")
    change(tmp_path / "files")
    with pytest.raises(WeightsError, match=message):
        convert(tmp_path / "files", tmp_path / "out", settings=network.settings)
    assert not (tmp_path / "out").exists()


def test_the_command_line_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), str(tmp_path / "out"), "--size", "large_44k"]) == 2
    said = capsys.readouterr().out
    assert "mmaudio_large_44k.pth" in said and "bigvgan_generator.pt" in said and "v1-44.pth" in said


def test_an_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="choose one of"):
        convert(tmp_path, tmp_path / "out", "huge")

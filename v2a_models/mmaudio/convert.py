"""Published MMAudio files to a checkpoint folder: `python -m v2a_models.mmaudio.convert FOLDER OUT`.

FOLDER holds the files under their published names, in it or in folders of it. The weights of MMAudio may be used under
CC BY-NC 4.0 only, not commercially. Files are read as tensors; no code in them is run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from v2a_models.checkpoint import save_generator
from v2a_models.checkpoint_files import WeightsError
from v2a_models.encoders.state_dicts import State, fill, read_state
from v2a_models.mmaudio.config import SIZES, MMAudioConfig
from v2a_models.mmaudio.generator import WINDOW_S, MMAudioGenerator, recipe_for
from v2a_models.mmaudio.vocoder import folded

SYNC_PREFIX = "vfeat_extractor."
UNUSED = ("t_embed.freqs", "latent_rot", "clip_rot", "attn_mask", f"{SYNC_PREFIX}patch_embed.proj.")
"""Beginnings of keys that the published code does not use, or computes itself."""


@dataclass(frozen=True)
class PublishedFile:
    """Published file of one network."""

    part: str
    """Attribute of the generator that it fills."""
    names: tuple[str, ...]
    """Names under which it is published."""
    source: str
    own: Callable[[State], State] = lambda state: state
    """Renames its keys to those of the network."""


def published_files(size: str) -> list[PublishedFile]:
    """Files of a published size."""
    low = SIZES[size].sound.sample_rate == 16_000
    vocoder = (
        PublishedFile("vocoder", ("best_netG.pt",), "MMAudio's release (from Make-An-Audio 2)", folded)
        if low
        else PublishedFile(
            "vocoder",
            ("bigvgan_generator.pt",),
            "nvidia/bigvgan_v2_44khz_128band_512x on Hugging Face",
            folded,
        )
    )
    return [
        PublishedFile("flow", (f"mmaudio_{size}.pth",), "hkchengrex/MMAudio on Hugging Face"),
        PublishedFile("vae", ("v1-16.pth" if low else "v1-44.pth",), "MMAudio's release"),
        vocoder,
        PublishedFile("synchformer", ("synchformer_state_dict.pth",), "MMAudio's release", visual_part),
        PublishedFile(
            "clip.clip",
            ("open_clip_pytorch_model.bin", "open_clip_model.safetensors"),
            "apple/DFN5B-CLIP-ViT-H-14-378 on Hugging Face",
        ),
    ]


def convert(
    folder: str | Path,
    out: str | Path,
    size: str = "",
    *,
    window_s: float = WINDOW_S,
    settings: MMAudioConfig | None = None,
) -> Path:
    """Write the checkpoint folder `out` from a folder of published files.

    size: a name of `SIZES`; by default that of the one mmaudio_SIZE.pth in the folder. window_s: seconds of a window of
    a dubbed film. settings: other sizes of the networks, for files of those. Raises WeightsError for missing, damaged
    or foreign files, with what to do; nothing is written then. Weights are stored in half precision.
    """
    folder, out = Path(folder), Path(out)
    if (out / "config.json").exists():
        raise WeightsError(f"{out} holds a checkpoint already: choose another folder")
    files = found(folder, size or found_size(folder))
    settings = settings or SIZES[size or found_size(folder)]
    generator = MMAudioGenerator(recipe_for(settings, window_s=window_s), settings)
    for published, file in files:
        state, _ = read_state(file, instead="the file as published")
        try:
            fill_part(generator.get_submodule(published.part), published, state)
        except WeightsError as error:
            raise WeightsError(
                f"{file} is not the {published.names[0]} that belongs here, or only a part of it: {error}; get it "
                f"again from {published.source}"
            ) from error
    save_generator(generator.eval(), out)
    return out


def found_size(folder: Path) -> str:
    """The size whose transformer lies in a folder. Raises WeightsError for none, and for several."""
    sizes = [size for size in SIZES if _anywhere(folder, f"mmaudio_{size}.pth")]
    if len(sizes) == 1:
        return sizes[0]
    if sizes:
        raise WeightsError(f"{folder} holds several transformers: name one of {sizes} as the size")
    raise WeightsError(
        f"{folder} holds no transformer: put one of {[f'mmaudio_{s}.pth' for s in SIZES]} there"
    )


def found(folder: Path, size: str) -> list[tuple[PublishedFile, Path]]:
    """Files of a size with their places. Raises WeightsError for an unknown size, and naming all that are missing."""
    if size not in SIZES:
        raise WeightsError(f"unknown size {size!r}: choose one of {list(SIZES)}")
    places, missing = [], []
    for published in published_files(size):
        file = next((place for name in published.names if (place := _anywhere(folder, name))), None)
        if file is None:
            missing.append(f"{published.names[0]} ({published.source})")
        else:
            places.append((published, file))
    if missing:
        raise WeightsError(f"{folder} lacks {', '.join(missing)}: put them there")
    return places


def fill_part(module: nn.Module, published: PublishedFile, state: State) -> None:
    """Load a published state dict into its network. Raises WeightsError for another network's."""
    used = {key: value for key, value in state.items() if not key.startswith(UNUSED)}
    fill(module, published.own(used))


def visual_part(state: State) -> State:
    """Keys of Synchformer's visual network, without prefix; those of its other networks are dropped."""
    return {
        key.removeprefix(SYNC_PREFIX): value for key, value in state.items() if key.startswith(SYNC_PREFIX)
    }


def _anywhere(folder: Path, name: str) -> Path | None:
    return min(folder.rglob(name), default=None)


def main(words: list[str] | None = None) -> int:
    """Convert as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m v2a_models.mmaudio.convert", description=__doc__)
    parser.add_argument("folder", help="folder of the published files")
    parser.add_argument("out", help="checkpoint folder to write, for v2a dub --model")
    parser.add_argument("--size", default="", choices=["", *SIZES])
    parser.add_argument("--window-s", type=float, default=WINDOW_S, help="seconds of a window")
    given = parser.parse_args(words)
    try:
        print(convert(given.folder, given.out, given.size, window_s=given.window_s))
    except ValueError as error:
        print(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

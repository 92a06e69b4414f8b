"""Outputs of `v2a_models.mmaudio` under the names of the reference outputs, which the original computed.

Weights and inputs follow from names (`filled_weights`), so only outputs need to be kept. `part` gives, for the name of
a part such as `vae_16k`, the function from the name of an output to its value, without a batch dimension.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.support.filled_weights import filled, named_numbers, weight
from v2a_models.mmaudio import pictures, sampling
from v2a_models.mmaudio.clip import PictureTextEncoder, text_tokens
from v2a_models.mmaudio.config import (
    SIZES,
    SOUND_16K,
    SOUND_44K,
    ClipConfig,
    FlowConfig,
    Lengths,
    SoundConfig,
    SyncConfig,
)
from v2a_models.mmaudio.sound import mel_spectrogram
from v2a_models.mmaudio.synchformer import SynchformerVisual
from v2a_models.mmaudio.transformer import FlowTransformer
from v2a_models.mmaudio.vae import MelVAE
from v2a_models.mmaudio.vocoder import Vocoder, folded

KEPT = Path(__file__).parents[1] / "data" / "mmaudio" / "reference.npz"
"""Reference outputs of the small networks; `python -m benchmarks.mmaudio_reference` compares all."""

Outputs = Callable[[str], Tensor]

RATES = {"16k": SOUND_16K, "44k": SOUND_44K}

CLIP_TINY = ClipConfig(384, 378, 48, 64, 2, 16, text_width=48, text_layers=2, text_heads=4)
PROMPTS = ("", "a dog barks", "Rain & thunder,  far away!", " ".join(["music"] * 100))

TOLERANCES = (
    (r"cfg|euler|mel_|/mel$|encode_|encode$", 1e-4),
    (r"transformer_", 2e-5),
    (r"vae_", 1e-4),
    (r"", 1e-5),
)
"""Largest absolute difference that float32 arithmetic explains, by a pattern of part and output."""


def tolerance(name: str) -> float:
    """Largest difference of an output, PART/NAME."""
    return next(limit for pattern, limit in TOLERANCES if re.search(pattern, name))


def kept(part_name: str) -> dict[str, np.ndarray]:
    """Kept reference outputs of a part, by name."""
    with np.load(KEPT) as arrays:
        return {
            name.removeprefix(part_name + ":"): arrays[name]
            for name in arrays.files
            if name.startswith(part_name + ":")
        }


def difference(ours: Tensor, reference: np.ndarray) -> float:
    """Largest absolute difference. Where the reference has fewer rows, it is every eighth, or so, of ours."""
    theirs = torch.from_numpy(reference)
    if ours.shape != theirs.shape:
        ours = ours[:: -(-len(ours) // len(theirs))]
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float((ours.double() - theirs.double()).abs().max())


def drawn_picture(first: int, last: int, height: int, width: int) -> Tensor:
    """Drawn pictures of indices first to last - 1: uint8 (T, 3, height, width)."""
    t, c, y, x = torch.meshgrid(
        torch.arange(first, last), torch.arange(3), torch.arange(height), torch.arange(width), indexing="ij"
    )
    return ((3 * x + 5 * y + 17 * t + 61 * c + x * y // 32) % 256).to(torch.uint8)


def part(name: str) -> Outputs:
    """Outputs of a part of the reference. Raises KeyError for an unknown part."""
    kinds = dict(
        transformer=_transformer, vae=_vae, bigvgan=_vocoder, synchformer=_synchformer, clip=_clip, mel=_mel,
        resized=_resized,
    )  # fmt: skip
    return torch.inference_mode()(functools.cache(kinds[name.partition("_")[0]](name)))


def _transformer(name: str) -> Outputs:
    name = name.removeprefix("transformer_")
    tiny = name.startswith("tiny")
    config = (
        FlowConfig(8, 128, 2, 3, 2, int(name[-1]), clip_dim=24, sync_dim=16, text_dim=20)
        if tiny
        else SIZES[name].flow
    )
    network: Any = filled(FlowTransformer(config))

    @functools.cache
    @torch.inference_mode()
    def inputs(run: str) -> tuple[Tensor, dict[str, Any]]:
        at = f"{name}/{run}/"
        if tiny:
            latents, clip, sync = dict(a=(33, 7, 24), b=(45, 11, 32))[run]
        else:
            lengths = Lengths.of(float(run.removesuffix("s")), SIZES[name].sound)
            latents, clip, sync = lengths.latents, lengths.clip, lengths.sync
        scale = 0.2 if tiny else 1 / 32
        text, negative = (
            named_numbers(f"{at}{kind}text_f", (1, 77, config.text_dim), scale=scale)
            for kind in ("", "negative_")
        )
        video = (
            named_numbers(at + "clip_f", (1, clip, config.clip_dim), scale=scale),
            named_numbers(at + "sync_f", (1, sync, config.sync_dim)),
        )
        nothing = network.empty_video(1, clip, sync)
        return named_numbers(at + "x0", (1, latents, config.latent_dim)), dict(
            given=network.conditions(*video, text, latents),
            empty=network.conditions(*nothing, network.empty_text(1), latents),
            negative=network.conditions(*nothing, negative, latents),
            only_text=network.conditions(*nothing, text, latents),
        )

    @functools.cache
    @torch.inference_mode()
    def sampled(run: str, steps: int) -> Tensor:
        noise, conditions = inputs(run)
        flow = sampling.guided(network, conditions["given"], conditions["empty"], 4.5)
        return sampling.euler(flow, noise, steps)

    def output(key: str) -> Tensor:
        if key == "time_frequencies":
            return network.t_embed.frequencies
        if key == "time_embedding":
            wide = config.hidden if tiny else 64
            return network.t_embed(torch.tensor([0.0, 0.3, 0.96]))[:, 0, :wide]
        if key.startswith("times"):
            return sampling.times_of(int(key[5:]))[:-1]
        run, _, what = key.partition("/")
        noise, conditions = inputs(run)
        if found := re.fullmatch(r"(given|empty)/(.*)", what):
            of = conditions[found[1]]
            if found[2].endswith("_c"):
                return {"clip_f_c": of.clip_vector, "text_f_c": of.text_vector}[found[2]][0, 0]
            step = {"text_f": 19} if tiny else {"text_f": 19, "clip_f": 16, "sync_f": 43}
            return getattr(of, found[2][:-2])[0, :: step.get(found[2], 1)]
        if found := re.fullmatch(r"euler(\d+)(_unnormalised)?", what):
            x = sampled(run, int(found[1]))
            return (network.unnormalised(x) if found[2] else x)[0]
        if found := re.fullmatch(r"(flow|cfg4\.5)_?(.*?)_?t([\d.]+)", what):
            times = torch.tensor([float(found[3])])
            if found[1] == "flow":
                return network(noise, times, conditions[found[2] or "given"])[0]
            against = conditions[found[2] or "empty"]
            return sampling.guided(network, conditions["given"], against, 4.5)(noise, times)[0]
        raise KeyError(key)

    return output


def _vae(name: str) -> Outputs:
    sound: SoundConfig = RATES[name.split("_")[1]]
    if name.endswith("tiny"):
        sound = replace(sound, vae_width=32)
    vae: Any = filled(MelVAE(sound))

    def output(key: str) -> Tensor:
        if key.startswith("mel_"):
            n = key.removeprefix("mel_")
            return vae.decode(named_numbers(f"{name}/z{n}", (1, sound.latent_dim, int(n))))[0]
        if key.startswith("encode_"):
            mean, std = vae.encode(named_numbers(f"{name}/mel", (1, sound.bands, 24), -2.0))
            return (mean if key.endswith("mean") else std)[0]
        raise KeyError(key)

    return output


def _vocoder(name: str) -> Outputs:
    sound = RATES["16k" if "16k" in name else "44k"]
    if name.endswith("tiny"):
        sound = replace(sound, vocoder_width=192)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Vocoder(sound).state_dict().items()}
    published: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        if key.endswith(".weight"):
            magnitude = (shape[0], *(1 for _ in shape[1:]))
            published |= {f"{key}_v": weight(f"{key}_v", shape), f"{key}_g": weight(f"{key}_g", magnitude)}
        elif not key.endswith(".filter"):
            published[key] = weight(key, shape)
    network = Vocoder(sound).eval()
    state = folded(published)
    network.load_state_dict(network.state_dict() | state)
    mean, spread = (-1.7, 1.0) if "16k" in name else (-4.5, 2.0)
    mel = named_numbers(f"{name}/mel", (1, sound.bands, 24), mean, spread)

    def output(key: str) -> Tensor:
        if key.startswith("wave"):
            return network(mel[..., :9] if key == "wave_9" else mel)[0, 0]
        if key.startswith("filter_"):
            return network.activation_post.upsample.filter.flatten()
        if key == "conv_pre_weight_first":
            return state["conv_pre.weight"][0, :4]
        raise KeyError(key)

    return output


def _synchformer(name: str) -> Outputs:
    tiny = name.endswith("tiny")
    network: Any = filled(
        SynchformerVisual(SyncConfig(96, 2, 3) if tiny else SyncConfig()),
        lambda key: f"vfeat_extractor.{key}",
    )
    pixels = pictures.signed_range(drawn_picture(0, 27 if tiny else 40, 224, 224))

    def output(key: str) -> Tensor:
        if key == "features":
            return network(pixels[None])[0]
        raise KeyError(key)

    return output


def _clip(name: str) -> Outputs:
    encoder: Any = PictureTextEncoder(CLIP_TINY)
    filled(encoder.clip)

    def output(key: str) -> Tensor:
        if key == "tokens":
            return text_tokens(PROMPTS)
        if key == "text_features":
            return encoder.texts(PROMPTS)
        if key == "image_features":
            return encoder.pictures(pictures.unit_range(drawn_picture(0, 3, 384, 384))[None])
        raise KeyError(key)

    return output


def _mel(name: str) -> Outputs:
    def output(key: str) -> Tensor:
        config = RATES[key.partition("/")[0]]
        if not key.endswith("/mel"):
            raise KeyError(key)
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(12_000) / config.sample_rate)
        numbers = named_numbers("mel/wave", (12_000,)).double().numpy()
        sound = torch.from_numpy((tone + 0.05 * numbers).astype(np.float32))
        return mel_spectrogram(sound[None], config)[0]

    return output


def _resized(name: str) -> Outputs:
    def output(key: str) -> Tensor:
        size, branch, place = key.split("/")
        picture = drawn_picture(3, 4, *map(int, size.split("x")))[0]
        whole = (
            pictures.unit_range(pictures.clip_pictures(picture))
            if branch == "clip"
            else pictures.signed_range(pictures.sync_pictures(picture))
        )
        height, width = whole.shape[-2:]
        y, x = {
            "corner": (0, 0), "centre": (height // 2 - 4, width // 2 - 4), "end": (height - 8, width - 8),
            "edge": (height // 3, 0),
        }[place]  # fmt: skip
        return whole[:, y : y + 8, x : x + 8]

    return output


def shapes_of(module: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a module's parameters and buffers."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}

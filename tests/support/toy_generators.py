"""Small videos and generators without weights, for tests of the whole pipeline.

Tests name a generator as users name one of their own, by an object reference: `--model` and `DubJob.model` are
`reference(NoiseGenerator)`. Workers import this module from the folder of the code.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from v2a_models.generator import Generator
from v2a_models.recipe import Recipe, View

SMALL_DAC: dict[str, Any] = dict(
    encoder_dim=8, encoder_rates=[2, 4, 8, 8], latent_dim=96, decoder_dim=160, decoder_rates=[8, 8, 4, 2],
    n_codebooks=4, codebook_size=512, codebook_dim=8, quantizer_dropout=False, sample_rate=44_100,
)  # fmt: skip
"""A codec of the published kind, small enough for a test."""


def write_video(
    path: Path,
    seconds: float = 1.0,
    *,
    fps: int = 12,
    size: tuple[int, int] = (64, 48),
    sound: float | None = None,
    codec: str = "mpeg4",
) -> Path:
    """A video whose brightness changes from frame to frame.

    sound: None for no track, 0 for a silent one, else the peak of a tone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="mono") if sound is not None else None
        for k in range(round(seconds * fps)):
            picture = np.full((size[1], size[0], 3), (k * 29) % 256, np.uint8)
            picture[:, : (k * 7) % size[0]] = (200, 40, k % 256)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            time_s = np.arange(round(seconds * 44100)) / 44100
            tone = ((sound or 0) * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
            for start in range(0, len(tone), 1024):
                block = av.AudioFrame.from_ndarray(
                    tone[None, start : start + 1024], format="fltp", layout="mono"
                )
                block.sample_rate, block.pts, block.time_base = 44100, start, Fraction(1, 44100)
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


_numbers = itertools.count()


def reference(load: Callable[[], Generator]) -> str:
    """Object reference of a class or function that returns a generator. One that is not at the top of its module can be
    referred to in this process only."""
    module, name = load.__module__, load.__qualname__
    if getattr(sys.modules[module], name, None) is not load:
        module, name = __name__, f"given_{next(_numbers)}"
        setattr(sys.modules[module], name, load)
    return f"{module}:{name}"


class NoiseGenerator(Generator):
    """Noise from the seed, as loud as the picture is bright: depends on all that a window's sound may."""

    system = name = "noise"
    sha256 = "0" * 64
    recipe = Recipe("noise", window_s=1.0, overlap_s=0.2)

    def generate_from_frames(self, frames: Mapping[str, Any], seeds: Sequence[int], **sampling: Any) -> Any:
        recipe = self.recipe
        for name, view in recipe.views.items():
            n_frames = round(view.fps * recipe.window_s)
            assert frames[name].shape == (len(seeds), n_frames, view.height, view.width, 3)
        rows = []
        for k, seed in enumerate(seeds):
            level = sum(seen[k].float().mean() for seen in frames.values()) / (256 * len(frames))
            shape = (recipe.channels, recipe.window)
            noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
            rows.append((noise - 0.5) * level)
        return torch.stack(rows)


NOISE = reference(NoiseGenerator)


class SlowGenerator(NoiseGenerator):
    """The same, slowly, so that there is time to strike it; takes no processor time."""

    def generate_from_frames(self, frames: Mapping[str, Any], seeds: Sequence[int], **sampling: Any) -> Any:
        time.sleep(0.4)
        return super().generate_from_frames(frames, seeds, **sampling)


class StereoGenerator(NoiseGenerator):
    """The same from pixels, at another rate and in two channels."""

    name = "stereo"
    recipe = Recipe(
        "stereo", window_s=1.0, overlap_s=0.2, semantic=None, sync=None, frames=View(25, 32, 32),
        sample_rate=16_000, channels=2, waveform=True,
    )  # fmt: skip


class EchoGenerator(NoiseGenerator):
    """Goes on from its own past: noise as loud as the last pictures are bright, an echo of the sound one and a half
    pictures ago, and a decay from sample to sample, so that a wrong past is heard for long."""

    name = "echo"
    recipe = Recipe(
        "echo", semantic=None, sync=None, frames=View(25, 8, 8), sample_rate=16_000, channels=2, waveform=True
    )
    streams, context_frames = True, 2  # type: ignore[assignment]
    frame = 640
    """Samples of a picture."""

    def generate_from_frames(self, frames: Mapping[str, Any], seeds: Sequence[int], **sampling: Any) -> Any:
        from scipy.signal import lfilter, lfiltic

        past = sampling.pop("past")
        assert not sampling
        assert len(frames["frames"]) == len(past) == len(seeds) and past.dtype == torch.float32
        before = past.shape[-1] // self.frame
        filters = np.zeros(self.frame * 3 // 2 + 1)
        filters[[0, 1, -1]] = 1, -0.5, -0.4
        rows = []
        for seen, heard, seed in zip(frames["frames"].numpy(), past.numpy(), seeds, strict=True):
            light = 0.02 + seen.mean(axis=(1, 2, 3)) / 2560
            light = light + np.concatenate([[0.0], light[:-1]])  # the picture before counts too
            n_samples = (len(seen) - before) * self.frame
            noise = torch.rand(n_samples, self.recipe.channels, generator=torch.Generator().manual_seed(seed))
            level = np.repeat(light[before:], self.frame)
            made = [
                lfilter([1.0], filters, level * (noise[:, c].numpy() - 0.5),
                        zi=lfiltic([1.0], filters, heard[c, ::-1].astype(float)))[0]
                for c in range(self.recipe.channels)
            ]  # fmt: skip
            rows.append(np.stack(made).astype(np.float32))
        return torch.from_numpy(np.stack(rows))


def toy_checkpoint(folder: Path, scav: bool = True, window_s: float = 0.4) -> str:
    """A MaskVAT with random weights, the same every time, for short windows; with a SCAV beside it."""
    from v2a_models.checkpoint import save_generator

    generator = toy_generator(window_s)
    if not scav:
        generator.scav = None
    save_generator(generator, folder)
    return str(folder)


def toy_generator(window_s: float = 0.4) -> Any:
    """The generator of `toy_checkpoint`, whose windows are in-painted between each other."""
    from v2a_models.codec.dac import MINI, Codec
    from v2a_models.encoders.clip_s3d import SemanticEncoder, SyncEncoder
    from v2a_models.maskvat.generator import MaskVATGenerator
    from v2a_models.maskvat.model import MaskVAT, MaskVATConfig
    from v2a_models.maskvat.sampling import SamplingConfig
    from v2a_models.scav import SCAV, SCAVConfig

    torch.manual_seed(0)
    recipe = Recipe("toy", window_s=window_s, overlap_s=0.08)
    encoders = (Codec(MINI), SemanticEncoder.mini(), SyncEncoder.mini())
    maskvat = MaskVAT(MaskVATConfig(n_codebooks=MINI["n_codebooks"], dim=32, depth=1, heads=2))
    generator = MaskVATGenerator(recipe, *encoders, maskvat, SamplingConfig(steps=2))
    generator.scav = SCAV(SCAVConfig(width=32, depth=1))
    return generator.eval()

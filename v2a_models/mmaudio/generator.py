"""MMAudio as a Generator: pictures and text -> features -> latents -> mel spectrogram -> waveform (2412.15322)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from v2a_models.batch import Batch
from v2a_models.generator import Generator
from v2a_models.mmaudio import sampling
from v2a_models.mmaudio.clip import PictureTextEncoder, check_length
from v2a_models.mmaudio.config import CLIP_FPS, SYNC_FPS, Lengths, MMAudioConfig
from v2a_models.mmaudio.synchformer import SIDE, SynchformerVisual
from v2a_models.mmaudio.transformer import Conditions, FlowTransformer
from v2a_models.mmaudio.vae import MelVAE
from v2a_models.mmaudio.vocoder import Vocoder
from v2a_models.recipe import Recipe, View
from v2a_models.seeds import RowNoise

Texts = Sequence[str] | str

WINDOW_S, OVERLAP_S = 8.0, 1.0
"""Seconds of a window, as in the original's training, and those that neighbours share: whole pictures of both rates,
so that every window sees its pictures at the same times."""

NOT_TRAINED = "mmaudio cannot be trained yet: convert published weights with v2a_models.mmaudio.convert"

CHANGEABLE = ("steps", "guidance", "window_s")
"""Options that can be changed without training anew."""


class MMAudioGenerator(Generator):
    """MMAudio with all its networks. Windows are independent, of any length from 0.64 seconds.

    Raises ValueError for a recipe that does not fit the networks.
    """

    follows_text = True

    def __init__(self, recipe: Recipe, settings: MMAudioConfig) -> None:
        super().__init__()
        check_views(recipe, settings)
        self.recipe, self.settings = recipe, settings
        self.lengths = Lengths.of(recipe.window_s, settings.sound)
        self.clip, self.synchformer = PictureTextEncoder(settings.clip), SynchformerVisual(settings.sync)
        self.flow = FlowTransformer(settings.flow)
        self.vae, self.vocoder = MelVAE(settings.sound), Vocoder(settings.sound)

    @property
    def system(self) -> str:
        return "mmaudio"

    @property
    def guided(self) -> bool:
        return self.settings.guidance > 1

    @property
    def columns(self) -> tuple[str, ...]:
        return ("semantic", "sync")

    def task(self) -> nn.Module:
        raise ValueError(NOT_TRAINED)

    def config(self) -> dict[str, Any]:
        return self.settings.to_dict()

    @classmethod
    def from_config(cls, recipe: Recipe, config: dict[str, Any]) -> MMAudioGenerator:
        return cls(recipe, MMAudioConfig.from_dict(config))

    def with_options(self, **options: Any) -> MMAudioGenerator:
        """Change steps, guidance or the length of windows (`window_s`, seconds); the weights stay."""
        if unknown := sorted(set(options) - set(CHANGEABLE)):
            raise ValueError(f"{unknown} cannot be changed, only {list(CHANGEABLE)}")
        window_s = float(options.pop("window_s", self.recipe.window_s))
        self.lengths = Lengths.of(window_s, self.settings.sound)
        self.recipe = replace(self.recipe, window_s=window_s, overlap_s=overlap_of(window_s))
        self.settings = replace(self.settings, **options)
        return self

    def check_prompt(self, text: str) -> None:
        check_length(text)

    @torch.inference_mode()
    def features(self, frames: Mapping[str, Tensor]) -> Batch:
        clip, sync = (frames[name].movedim(-1, -3).float() / 255 for name in ("semantic", "sync"))
        with self.autocast():
            semantic = self.clip.pictures(clip[:, : self.lengths.clip])
            motion = self.synchformer(2 * sync[:, : self.lengths.sync_frames] - 1)
        return Batch(semantic=semantic.float(), sync=motion.float(), place=self.place(frames))

    @torch.inference_mode()
    def conditions(
        self, batch: Batch, prompts: Texts | None, negative: Texts | None
    ) -> tuple[Conditions, Conditions]:
        """Conditions of a batch, and those to lead away from. No text is the empty prompt, as in the original; without
        pictures, sound follows the text alone.

        Raises ValueError for features of another length than the window's, and texts that are not one per row.
        """
        n, rows = self.lengths, len(batch)
        nothing = self.flow.empty_video(rows, n.clip, n.sync)
        video = nothing if batch.semantic is None or batch.sync is None else (batch.semantic, batch.sync)
        if (found := tuple(part.shape[1] for part in video)) != (n.clip, n.sync):
            raise ValueError(
                f"windows of {self.recipe.window_s:g} s have {n.clip} CLIP and {n.sync} sync features, not {found}"
            )
        given, against = (
            self.clip.texts(_one_per_row(texts, rows))
            for texts in (batch.text if prompts is None else prompts, negative)
        )
        return (
            self.flow.conditions(*video, given, n.latents),
            self.flow.conditions(*nothing, against, n.latents),
        )

    @torch.inference_mode()
    def generate(
        self, batch: Batch, *, seeds: Sequence[int], candidates: int = 1, keep: int = 1,
        prompts: Texts | None = None, negative: Texts | None = None, **options: Any,
    ) -> Tensor:  # fmt: skip
        """Waveform float32 (B, channels, recipe.window) in [-1, 1]; row i depends on row i and seeds[i] only.

        prompts: the sounds to make, negative: those to avoid, one per row or one for all. options: steps and guidance,
        instead of the model's own. Raises ValueError for several candidates, which nothing ranks, for features of
        another length than the window's, and for a negative prompt without guidance.
        """
        if (candidates, keep) != (1, 1):
            raise ValueError("mmaudio has no SCAV to rank candidates: draw one")
        settings = replace(self.settings, **options)
        if negative and settings.guidance <= 1:
            raise ValueError("a negative prompt needs guidance above 1")
        noise = RowNoise(seeds).normal(
            self.lengths.latents, settings.sound.latent_dim, device=self.flow.latent_mean.device
        )
        with self.autocast():
            given, against = self.conditions(batch, prompts, negative)
            x = sampling.euler(
                sampling.guided(self.flow, given, against, settings.guidance), noise, settings.steps
            )
        mel = self.vae.decode(self.flow.unnormalised(x).mT)
        sound = self.vocoder(mel)[..., : self.recipe.window]
        return self._in_channels(self.level.applied(sound), batch.place)


def recipe_for(settings: MMAudioConfig, name: str = "mmaudio", window_s: float = WINDOW_S) -> Recipe:
    """Recipe of a model's pictures and sound, for windows of `window_s` seconds. Raises ValueError if too short."""
    Lengths.of(window_s, settings.sound)
    return Recipe(
        name,
        window_s=window_s,
        overlap_s=overlap_of(window_s),
        semantic=View(CLIP_FPS, settings.clip.picture, settings.clip.picture),
        sync=View(SYNC_FPS, SIDE, SIDE, "crop"),
        sample_rate=settings.sound.sample_rate,
        hop=settings.sound.hop,
    )


def overlap_of(window_s: float) -> float:
    """Seconds that windows share: a second, or nothing for windows shorter than two."""
    return OVERLAP_S if window_s > 2 * OVERLAP_S else 0.0


def check_views(recipe: Recipe, settings: MMAudioConfig) -> None:
    """Raises ValueError for a recipe with other pictures or another rate than the networks take."""
    wanted = recipe_for(settings)
    for name in ("semantic", "sync", "sample_rate"):
        if getattr(recipe, name) != (right := getattr(wanted, name)):
            raise ValueError(f"{name} is {getattr(recipe, name)}, these networks take {right}")


def _one_per_row(texts: Texts | None, rows: int) -> list[str]:
    found = [texts or ""] * rows if texts is None or isinstance(texts, str) else list(texts)
    if len(found) != rows:
        raise ValueError(f"{rows} rows need as many prompts (or one for all), got {len(found)}")
    return found


GENERATORS: dict[str, type[Generator]] = {"mmaudio": MMAudioGenerator}
"""Generators by system name."""

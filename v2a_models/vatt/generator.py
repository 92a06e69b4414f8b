"""VATT with its encoders, language model and codec, as a Generator.

video -> sound              the prompt is an instruction that names no sound
video and text -> sound     the text determines the sounds, the video their timing
video -> caption            a description of the sound
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from v2a_models.batch import Batch
from v2a_models.codec.dac import Codec
from v2a_models.encoders.bundled import bundled_or_untrained
from v2a_models.generator import Generator
from v2a_models.recipe import Recipe
from v2a_models.selection import draw_best
from v2a_models.vatt.audio import Condition, VATTAudio
from v2a_models.vatt.config import VATTConfig, changed, settings_from
from v2a_models.vatt.converter import Converter
from v2a_models.vatt.converter_generator import ConverterGenerator
from v2a_models.vatt.instructions import ASK, DEFAULT, INSTRUCTIONS
from v2a_models.vatt.language import TextError
from v2a_models.vatt.losses import Teacher, training_loss
from v2a_models.vatt.sampling import sample

Texts = Sequence[str] | str


class VATTTask(nn.Module):
    """Training task: feature store columns -> losses. Holds VATT Audio and nothing frozen."""

    passes: Tensor

    def __init__(
        self,
        audio: VATTAudio,
        config: VATTConfig,
        tokens: Callable[..., tuple[Tensor, Tensor]],
        teach: Callable[[Mapping[str, Any]], Teacher] | None = None,
    ) -> None:
        """teach: trained model that a batch's columns condition, whose answers VATT Audio learns as well."""
        super().__init__()
        self.audio, self.config, self._teach = audio, config, teach
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        # A bound method, so that the frozen language model is neither trained nor saved with the task.
        self._tokens = tokens

    @property
    def units(self) -> list[nn.Module]:
        """Repeated blocks, along which FSDP shards the model."""
        return self.audio.units

    def forward(self, batch: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
        """Losses of columns of B windows; `seed` determines masks, and instructions for rows without a caption."""
        generator = torch.Generator().manual_seed(seed)
        rows = len(batch["codes"])
        picks = torch.randint(len(INSTRUCTIONS), (rows,), generator=generator).tolist()
        captions = batch.get("text") or [""] * rows
        texts = [text or INSTRUCTIONS[pick] for text, pick in zip(captions, picks, strict=True)]
        progress = float(self.passes) / self.config.masking_steps
        if self.training:
            self.passes += 1
        tokens, valid = self._tokens(batch["semantic"], texts)
        return training_loss(
            self.audio, tokens, valid, batch.get("sync"), batch["codes"].long(), generator, self.config.masking,
            progress, teacher=None if self._teach is None else self._teach(batch),
        )  # fmt: skip


class VATTGenerator(Generator):
    """Frames and text -> hidden states of a language model -> codec tokens -> waveform (2411.05679)."""

    inpaints = True
    codec: Codec

    def __init__(
        self, recipe: Recipe, codec: Codec, semantic: nn.Module, sync: nn.Module | None, settings: VATTConfig
    ) -> None:
        super().__init__()
        self.recipe, self.settings = recipe, settings
        self.codec, self.semantic, self.sync = codec, semantic, sync
        self.converter = None if settings.converter is None else Converter(settings.converter)
        if self.converter is not None:
            # The base model's digest is known only now.
            self.settings = dataclasses.replace(settings, converter=self.converter.config)
            self.converter.requires_grad_(False)
        self.audio = VATTAudio(settings.audio)

    @property
    def system(self) -> str:
        if self.converter is None:
            return "vatt-v"
        return "vatt-cross-attn" if self.settings.audio.join == "cross" else "vatt"

    @property
    def follows_text(self) -> bool:  # type: ignore[override]
        return self.converter is not None

    @property
    def writes_captions(self) -> bool:  # type: ignore[override]
        return self.converter is not None

    @property
    def guided(self) -> bool:
        return self.settings.sampling.guidance != 1

    @property
    def columns(self) -> tuple[str, ...]:
        names = ["semantic"] + ["sync"] * bool(self.settings.audio.sync_dim) + ["codes"]
        return (*names, *(["text"] if self.converter is not None and self.settings.stage == 2 else []))

    def stored(self, name: str) -> bool:
        # Bundled encoders are not stored: the recipe names them by their hash.
        part, _, rest = name.partition(".")
        if part in ("codec", "semantic", "sync"):
            if self.recipe.bundled:
                return False
            keeps = getattr(self.semantic, "stored", None)  # of an encoder whose weights a package carries
            return part != "semantic" or keeps is None or bool(keeps(rest))
        return part != "converter" or self.converter is None or self.converter.stored(rest)

    def config(self) -> dict[str, Any]:
        return dict(codec=self.codec.config, settings=dataclasses.asdict(self.settings))

    @classmethod
    def from_config(cls, recipe: Recipe, config: dict[str, Any]) -> VATTGenerator:
        """Build the model without weights, except for bundled encoders and a published language model. Raises KeyError
        or TypeError for a config of another system, CheckpointError for missing weights."""
        return cls(recipe, *bundled_or_untrained(recipe, config["codec"]), settings_from(config["settings"]))

    def with_options(self, **options: Any) -> VATTGenerator:
        """Change training stage, masking or sampling; the weights stay."""
        self.settings = changed(self.settings, options)
        return self

    def preview(self, columns: Mapping[str, Any]) -> Batch:
        return Batch(semantic=columns["semantic"], sync=columns.get("sync"), text=columns.get("text"))

    def task(self, teach: Callable[[Mapping[str, Any]], Teacher] | None = None) -> VATTTask:
        return VATTTask(self.audio, self.settings, self.condition_tokens, teach)

    # conditioning

    @torch.no_grad()
    def condition_tokens(self, semantic: Tensor | None, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Condition tokens (B, C, D) and their mask (B, C)."""
        if semantic is None:
            raise ValueError(f"{self.system} needs semantic features")
        if self.converter is None:
            return semantic, torch.ones(semantic.shape[:2], dtype=torch.bool, device=semantic.device)
        return self.converter.eval().hidden_states(semantic, texts)

    def _texts(self, prompts: Texts | None, rows: int) -> list[str]:
        if prompts is None:
            return [DEFAULT] * rows
        if self.converter is None:
            raise ValueError("vatt-v takes no text prompts; use vatt or vatt-cross-attn for prompts")
        texts = [prompts] * rows if isinstance(prompts, str) else list(prompts)
        if len(texts) != rows:
            raise ValueError(f"{rows} rows need as many prompts (or one for all), got {len(texts)}")
        return texts

    @torch.inference_mode()
    def condition(self, batch: Batch, texts: Texts | None = None, length: int | None = None) -> Condition:
        """Condition of a batch for `length` codec frames, computed once for all steps and candidates.

        texts: one prompt per row, or one for all; by default `batch.text`, else the model's own caption
        (`own_caption`), else an instruction that names no sound. Raises ValueError for prompts that cannot be read.
        """
        semantic = batch.semantic
        prompts = batch.text if texts is None else texts
        if prompts is None and self.converter is not None and self.settings.own_caption:
            prompts = self._own_captions(batch)
        chosen = self._texts(prompts, len(batch))
        with self.autocast():
            tokens, valid = self.condition_tokens(semantic, chosen)
            if len(chosen) == 1:
                # Only batches need padding, to a fixed length, so that no row depends on the others' texts.
                tokens, valid = tokens[:, valid[0]], valid[:, valid[0]]
            return self.audio.condition(tokens, valid, batch.sync, length or self.recipe.codec_frames)

    @torch.inference_mode()
    def captions(self, batch: Batch, *, beams: int = 1, instruction: str = ASK) -> list[str]:
        """Caption of the sound of each row. Raises ValueError for VATT-V, which has no language model."""
        if self.converter is None:
            raise ValueError("vatt-v writes no captions; use vatt or vatt-cross-attn")
        if batch.semantic is None:
            raise ValueError(f"{self.system} needs semantic features")
        with self.autocast():
            return self.converter.eval().captions(batch.semantic, instruction, beams=beams)

    def check_prompt(self, text: str) -> None:
        if self.converter is None:
            raise ValueError("vatt-v takes no text prompts; use vatt or vatt-cross-attn for prompts")
        self.converter.check([text])

    def _own_captions(self, batch: Batch) -> list[str]:
        """Captions to be used as prompts; one too long to be read is replaced by an instruction."""
        assert self.converter is not None
        prompts = []
        for caption in self.captions(batch):
            try:
                self.converter.check([caption])
            except TextError:
                caption = DEFAULT
            prompts.append(caption)
        return prompts

    # outputs

    @torch.inference_mode()
    def features(self, frames: Mapping[str, Tensor]) -> Batch:
        with self.autocast():
            semantic = self.semantic(frames["semantic"]).float()
            # SCAV reads sync features too.
            synced = self.sync is not None and (self.settings.audio.sync_dim or self.scav is not None)
            sync = self.sync(frames["sync"]).float() if synced else None  # type: ignore[misc]
        return Batch(semantic=semantic, sync=sync, place=self.place(frames))

    @torch.inference_mode()
    def codes(
        self,
        batch: Batch,
        seeds: Sequence[int],
        *,
        length: int | None = None,
        prompts: Texts | None = None,
        negative: Texts | None = None,
        known_codes: Tensor | None = None,
        known_mask: Tensor | None = None,
        condition: Condition | None = None,
        against: Condition | None = None,
        **sampling: Any,
    ) -> Tensor:
        """Codec tokens int64 (B, K, L), one seed per row, for windows of L = `length` codec frames (recipe.codec_frames
        by default).

        prompts: the sounds to make (as for `condition`); negative: the sounds to avoid, by guidance. condition,
        against: the same, computed beforehand. `sampling` overrides fields of SamplingConfig, such as steps=8. Raises
        TypeError for an unknown sampling option; ValueError for missing features, unusable prompts, and a negative
        prompt without guidance, which would have no effect.
        """
        config = dataclasses.replace(self.settings.sampling, **sampling)
        if condition is None:
            condition, against = self._both(batch, prompts, negative, length)
        if against is not None and config.guidance == 1:
            raise ValueError("a negative prompt needs guidance other than 1")
        with self.autocast():
            return sample(
                self.audio,
                condition,
                length or self.recipe.codec_frames,
                seeds,
                config,
                known_codes,
                known_mask,
                against,
            )

    def _both(
        self, batch: Batch, prompts: Texts | None, negative: Texts | None, length: int | None
    ) -> tuple[Condition, Condition | None]:
        against = None if negative is None else self.condition(batch, negative, length)
        return self.condition(batch, prompts, length), against

    def draw(
        self, batch: Batch, *, seeds: Sequence[int], candidates: int = 1, keep: int = 1,
        prompts: Texts | None = None, negative: Texts | None = None, length: int | None = None, **sampling: Any,
    ) -> Tensor:  # fmt: skip
        condition, against = self._both(batch, prompts, negative, length)
        sampling |= dict(condition=condition, against=against, length=length)
        return draw_best(self, batch, seeds, candidates, keep, **sampling)


GENERATORS: dict[str, type[Generator]] = {
    "vatt": VATTGenerator,
    "vatt-v": VATTGenerator,
    "vatt-cross-attn": VATTGenerator,
    "vatt-converter": ConverterGenerator,
}
"""Generators by system name: the paper's, its two variants, and the converter alone."""

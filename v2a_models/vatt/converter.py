"""VATT Converter: a causal language model that sees (2411.05679, section 3).

    features of the frames -> averaged to 10 visual tokens -> linear projection -> [visual | text] -> language model

It is asked for a caption of the sound, and its last layer's hidden states are what VATT Audio follows. A published
model keeps its weights: only the projection and LoRA matrices on q_proj and v_proj are trained and saved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.vatt import language
from v2a_models.vatt.instructions import ASK, DEFAULT, INSTRUCTIONS

STAGES = (1, 2)
"""1: the projection alone. 2: projection and LoRA. A small model of one's own is trained whole in both."""


@dataclass(frozen=True)
class ConverterConfig:
    """What a converter is made of. Defaults are the paper's where it has any."""

    feature_dim: int
    """Of the frames' features."""
    base: str = language.OWN
    """Name or folder of the language model, or `own`."""
    base_sha256: str = ""
    """Of the base model's files (`language.base_digest`); empty for `own`."""
    own: dict[str, Any] = field(default_factory=dict)
    """Sizes of a small model of one's own: fields of its transformers config."""
    tokenizer: str = ""
    """Its tokenizer, as JSON."""
    visual_tokens: int = 10
    max_text: int = 64
    """Tokens of a prompt, the one that begins it included."""
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    words: bool = False
    """Beside each state, what the language model was given there (word or visual token). Ours: the last layer of a
    small model says what comes next rather than what was said. False is the paper's."""


class Converter(nn.Module):
    """Features (B, T, D) and texts -> hidden states (B, visual_tokens + max_text, width), or captions.

    Raises CheckpointError for a base model that is missing or is not the one that the adapter belongs to.
    """

    def __init__(self, config: ConverterConfig) -> None:
        super().__init__()
        self.config = config
        if config.base == language.OWN:
            self.tokenizer = language.own_tokenizer(config.tokenizer)
            self.llm: Any = language.new_model(config.own, len(self.tokenizer))
        else:
            folder, there = language.checked_base(config.base, config.base_sha256)
            self.config = dataclasses.replace(config, base_sha256=there)
            model, self.tokenizer = language.load_base(folder)
            self.llm = _with_lora(model, config)
        self.width: int = self.llm.config.hidden_size
        self.states_dim = self.width * (2 if config.words else 1)
        """Width of `hidden_states`."""
        self.project = nn.Linear(config.feature_dim, self.width)

    @property
    def owns_base(self) -> bool:
        """Whether the language model is its own, trained and saved with it."""
        return self.config.base == language.OWN

    def stored(self, name: str) -> bool:
        """Whether a parameter (its name here) is saved: all but the weights of a published base."""
        return self.owns_base or not name.startswith("llm.") or ".lora_" in name

    def set_stage(self, stage: int) -> None:
        """Leaves trainable what a stage trains. Raises ValueError for an unknown one."""
        if stage not in STAGES:
            raise ValueError(f"unknown stage {stage!r} of the converter: choose 1 or 2")
        for name, parameter in self.named_parameters():
            lora = ".lora_" in name and stage == 2
            parameter.requires_grad_(self.owns_base or name.startswith("project.") or lora)

    # what goes in

    def visual(self, features: Tensor) -> Tensor:
        """Visual tokens (B, visual_tokens, width) of features (B, T, D) evenly over time."""
        pooled = F.adaptive_avg_pool1d(features.transpose(1, 2), self.config.visual_tokens).transpose(1, 2)
        return self.project(pooled)

    def _embed(self, features: Tensor, rows: Sequence[Sequence[int]], length: int) -> tuple[Tensor, Tensor]:
        """[visual | text padded to `length`] (B, N, width), and which of it counts, bool (B, N)."""
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id, device=features.device)
        valid = torch.zeros_like(ids, dtype=torch.bool)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row, device=features.device)
            valid[at, : len(row)] = True
        seen = self.visual(features)
        text = self.llm.get_input_embeddings()(ids).to(seen.dtype)
        every = torch.ones(seen.shape[:2], dtype=torch.bool, device=seen.device)
        return torch.cat([seen, text], 1), torch.cat([every, valid], 1)

    def check(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of prompts; an empty one becomes the first instruction. Raises language.TextError."""
        return language.encode(
            self.tokenizer, [text.strip() or DEFAULT for text in texts], self.config.max_text
        )

    # what comes out

    def hidden_states(self, features: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Last layer's states (B, visual_tokens + max_text, states_dim) and which of them count, bool.

        Always as many, so that a row does not depend on the length of the others' texts. Made once a clip: no step of
        the decoding and no candidate needs them again. Raises language.TextError.
        """
        embedded, valid = self._embed(features, self.check(texts), self.config.max_text)
        states = self._states(embedded, valid).float()
        if self.config.words:
            # Of one size: embeddings are small beside states.
            states = torch.cat([F.layer_norm(x.float(), (self.width,)) for x in (states, embedded)], -1)
        return states, valid

    def _states(self, embedded: Tensor, valid: Tensor) -> Tensor:
        inner = self.llm.base_model.model if hasattr(self.llm, "peft_config") else self.llm
        return inner.model(
            inputs_embeds=embedded, attention_mask=valid.long(), use_cache=False
        ).last_hidden_state

    def caption_loss(self, features: Tensor, captions: Sequence[str], instructions: Sequence[str]) -> Tensor:
        """Mean cross entropy of the captions' tokens (and their end) after what is seen and what is asked."""
        asked = self.check(instructions)
        start = 0 if self.tokenizer.bos_token_id is None else 1
        told = language.encode(self.tokenizer, captions, self.config.max_text)
        rows = [q + a[start:] + [self.tokenizer.eos_token_id] for q, a in zip(asked, told, strict=True)]
        embedded, valid = self._embed(features, rows, max(map(len, rows)))
        logits = self.llm.get_output_embeddings()(self._states(embedded, valid))
        n = self.config.visual_tokens
        wanted = torch.full(valid.shape, -100, device=features.device)
        for at, (question, row) in enumerate(zip(asked, rows, strict=True)):
            wanted[at, n + len(question) : n + len(row)] = torch.tensor(
                row[len(question) :], device=features.device
            )
        return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), wanted[:, 1:].flatten())

    @torch.inference_mode()
    def captions(
        self, features: Tensor, instruction: str = ASK, *, beams: int = 1, max_tokens: int | None = None
    ) -> list[str]:
        """What each of B clips should sound like: the likeliest words (greedy, or the best of `beams`)."""
        rows = self.check([instruction]) * len(features)
        embedded, valid = self._embed(features, rows, len(rows[0]))
        made = self.llm.generate(
            inputs_embeds=embedded, attention_mask=valid.long(), do_sample=False, num_beams=beams,
            max_new_tokens=max_tokens or self.config.max_text, pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id, bos_token_id=self.tokenizer.bos_token_id,
        )  # fmt: skip
        return [_tidy(text) for text in self.tokenizer.batch_decode(made, skip_special_tokens=True)]


class ConverterTask(nn.Module):
    """What training fits: features and captions -> caption loss, each asked for by one of the ten instructions."""

    def __init__(self, converter: Converter, stage: int) -> None:
        super().__init__()
        converter.set_stage(stage)
        self.converter = converter

    @property
    def units(self) -> list[nn.Module]:
        """The language model's blocks, by which FSDP cuts it."""
        inner = self.converter.llm
        inner = inner.base_model.model if hasattr(inner, "peft_config") else inner
        return list(inner.model.layers)

    def forward(self, batch: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
        """Losses of columns `semantic` (B, T, D) and `text` (B strings); rows without text count nothing."""
        generator = torch.Generator().manual_seed(seed)
        rows = [at for at, text in enumerate(batch["text"]) if text]
        picks = torch.randint(len(INSTRUCTIONS), (len(batch["text"]),), generator=generator).tolist()
        features = batch["semantic"]
        if not rows:  # still a loss, whose gradient is zero: other workers wait for all of it
            return dict(loss=0 * self.converter.caption_loss(features[:1], [ASK], INSTRUCTIONS[:1]))
        loss = self.converter.caption_loss(
            features[rows], [batch["text"][at] for at in rows], [INSTRUCTIONS[picks[at]] for at in rows]
        )
        return dict(loss=loss)


def own_converter(texts: Sequence[str], feature_dim: int, **sizes: Any) -> ConverterConfig:
    """Config of a small model of one's own, with a tokenizer made from `texts` and the ten instructions.

    sizes: fields of `language.SMALL`, and `vocabulary`, `visual_tokens` and `max_text`.
    """
    vocabulary = int(sizes.pop("vocabulary", 512))
    ours = {name: sizes.pop(name) for name in ("visual_tokens", "max_text") if name in sizes}
    tokenizer = language.train_tokenizer([*INSTRUCTIONS, *texts], vocabulary)
    return ConverterConfig(
        feature_dim, own={**language.SMALL, **sizes}, tokenizer=tokenizer, **{"max_text": 32, **ours}
    )


def _tidy(text: str) -> str:
    """Single spaces, none before a comma or a full stop."""
    return " ".join(text.split()).replace(" ,", ",").replace(" .", ".")


def _with_lora(model: Any, config: ConverterConfig) -> Any:
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=list(config.targets),
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(model, settings)

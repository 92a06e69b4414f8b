"""VATT Converter: a causal language model with visual input (2411.05679, section 3).

    features of the frames -> averaged to 10 visual tokens -> linear projection -> [visual | text] -> language model

It is asked for a caption of the sound; the hidden states of its last layer condition VATT Audio. The weights of a
published model stay as they are: only the projection and LoRA matrices on q_proj and v_proj are trained and saved.
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
"""Training stages. 1: projection only. 2: projection and LoRA. A small model is trained entirely in both."""


@dataclass(frozen=True)
class ConverterConfig:
    """Settings of a converter. Defaults are the paper's, if it gives any."""

    feature_dim: int
    """Width of the visual features."""
    base: str = language.OWN
    """Name or folder of the language model, or `own`."""
    base_sha256: str = ""
    """Digest of the base model's files (`language.base_digest`); empty for `own`."""
    own: dict[str, Any] = field(default_factory=dict)
    """Sizes of a small model (`own`): fields of its transformers config."""
    tokenizer: str = ""
    """Tokenizer of a small model, as JSON."""
    visual_tokens: int = 10
    max_text: int = 64
    """Maximum number of tokens of a prompt, including the start token."""
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    words: bool = False
    """True to append the input embedding (word or visual token) to each hidden state. Ours: the last layer of a small
    model encodes the next token rather than the current one. False is the paper's."""


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
        """Width of the vectors of `hidden_states`."""
        self.project = nn.Linear(config.feature_dim, self.width)

    @property
    def owns_base(self) -> bool:
        """True if the language model is trained and saved with the converter."""
        return self.config.base == language.OWN

    def stored(self, name: str) -> bool:
        """True if a checkpoint holds the parameter: all except the weights of a published base model."""
        return self.owns_base or not name.startswith("llm.") or ".lora_" in name

    def set_stage(self, stage: int) -> None:
        """Make only the parameters of a training stage trainable. Raises ValueError for an unknown stage."""
        if stage not in STAGES:
            raise ValueError(f"unknown stage {stage!r} of the converter: choose 1 or 2")
        for name, parameter in self.named_parameters():
            lora = ".lora_" in name and stage == 2
            parameter.requires_grad_(self.owns_base or name.startswith("project.") or lora)

    # inputs

    def visual(self, features: Tensor) -> Tensor:
        """Visual tokens (B, visual_tokens, width): features (B, T, D) pooled evenly over time and projected."""
        pooled = F.adaptive_avg_pool1d(features.transpose(1, 2), self.config.visual_tokens).transpose(1, 2)
        return self.project(pooled)

    def _embed(self, features: Tensor, rows: Sequence[Sequence[int]], length: int) -> tuple[Tensor, Tensor]:
        """Embeddings [visual | text padded to `length`], (B, N, width), and their mask, bool (B, N)."""
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id, device=features.device)
        valid = torch.zeros_like(ids, dtype=torch.bool)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row, device=features.device)
            valid[at, : len(row)] = True
        visual = self.visual(features)
        text = self.llm.get_input_embeddings()(ids).to(visual.dtype)
        every = torch.ones(visual.shape[:2], dtype=torch.bool, device=visual.device)
        return torch.cat([visual, text], 1), torch.cat([every, valid], 1)

    def check(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of prompts; an empty prompt becomes the first instruction. Raises language.TextError."""
        return language.encode(
            self.tokenizer, [text.strip() or DEFAULT for text in texts], self.config.max_text
        )

    # outputs

    def hidden_states(self, features: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Hidden states of the last layer, (B, visual_tokens + max_text, states_dim), and their mask, bool.

        The length is fixed, so a row does not depend on the length of other texts. Computed once per clip, for all
        sampling steps and candidates. Raises language.TextError.
        """
        embedded, valid = self._embed(features, self.check(texts), self.config.max_text)
        states = self._states(embedded, valid).float()
        if self.config.words:
            # Normalised, since embeddings are small compared to states.
            states = torch.cat([F.layer_norm(x.float(), (self.width,)) for x in (states, embedded)], -1)
        return states, valid

    def _states(self, embedded: Tensor, valid: Tensor) -> Tensor:
        inner = self.llm.base_model.model if hasattr(self.llm, "peft_config") else self.llm
        return inner.model(
            inputs_embeds=embedded, attention_mask=valid.long(), use_cache=False
        ).last_hidden_state

    def caption_loss(self, features: Tensor, captions: Sequence[str], instructions: Sequence[str]) -> Tensor:
        """Mean cross entropy of the caption tokens, including the end token, given features and instructions."""
        questions = self.check(instructions)
        start = 0 if self.tokenizer.bos_token_id is None else 1
        answers = language.encode(self.tokenizer, captions, self.config.max_text)
        rows = [
            q + a[start:] + [self.tokenizer.eos_token_id] for q, a in zip(questions, answers, strict=True)
        ]
        embedded, valid = self._embed(features, rows, max(map(len, rows)))
        logits = self.llm.get_output_embeddings()(self._states(embedded, valid))
        n = self.config.visual_tokens
        targets = torch.full(valid.shape, -100, device=features.device)
        for at, (question, row) in enumerate(zip(questions, rows, strict=True)):
            targets[at, n + len(question) : n + len(row)] = torch.tensor(
                row[len(question) :], device=features.device
            )
        return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), targets[:, 1:].flatten())

    @torch.inference_mode()
    def captions(
        self, features: Tensor, instruction: str = ASK, *, beams: int = 1, max_tokens: int | None = None
    ) -> list[str]:
        """Caption of the sound of each of B clips, decoded greedily or with `beams` beams."""
        rows = self.check([instruction]) * len(features)
        embedded, valid = self._embed(features, rows, len(rows[0]))
        generated = self.llm.generate(
            inputs_embeds=embedded, attention_mask=valid.long(), do_sample=False, num_beams=beams,
            max_new_tokens=max_tokens or self.config.max_text, pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id, bos_token_id=self.tokenizer.bos_token_id,
        )  # fmt: skip
        return [_tidy(text) for text in self.tokenizer.batch_decode(generated, skip_special_tokens=True)]


class ConverterTask(nn.Module):
    """Training task: features and captions -> caption loss, each caption prompted by one of ten instructions."""

    def __init__(self, converter: Converter, stage: int) -> None:
        super().__init__()
        converter.set_stage(stage)
        self.converter = converter

    @property
    def units(self) -> list[nn.Module]:
        """Blocks of the language model, along which FSDP shards it."""
        inner = self.converter.llm
        inner = inner.base_model.model if hasattr(inner, "peft_config") else inner
        return list(inner.model.layers)

    def forward(self, batch: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
        """Losses of columns `semantic` (B, T, D) and `text` (B strings); rows without text are ignored."""
        generator = torch.Generator().manual_seed(seed)
        rows = [at for at, text in enumerate(batch["text"]) if text]
        picks = torch.randint(len(INSTRUCTIONS), (len(batch["text"]),), generator=generator).tolist()
        features = batch["semantic"]
        if not rows:  # a zero loss with gradients: other workers wait for them
            return dict(loss=0 * self.converter.caption_loss(features[:1], [ASK], INSTRUCTIONS[:1]))
        loss = self.converter.caption_loss(
            features[rows], [batch["text"][at] for at in rows], [INSTRUCTIONS[picks[at]] for at in rows]
        )
        return dict(loss=loss)


def own_converter(texts: Sequence[str], feature_dim: int, **sizes: Any) -> ConverterConfig:
    """Config of a converter with a small language model, its tokenizer trained on `texts` and the instructions.

    sizes: fields of `language.SMALL`, and `vocabulary`, `visual_tokens` and `max_text`.
    """
    vocabulary = int(sizes.pop("vocabulary", 512))
    ours = {name: sizes.pop(name) for name in ("visual_tokens", "max_text") if name in sizes}
    tokenizer = language.train_tokenizer([*INSTRUCTIONS, *texts], vocabulary)
    return ConverterConfig(
        feature_dim, own={**language.SMALL, **sizes}, tokenizer=tokenizer, **{"max_text": 32, **ours}
    )


def _tidy(text: str) -> str:
    """Normalise spaces: single ones, none before a comma or full stop."""
    return " ".join(text.split()).replace(" ,", ",").replace(" .", ".")


def _with_lora(model: Any, config: ConverterConfig) -> Any:
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=list(config.targets),
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(model, settings)

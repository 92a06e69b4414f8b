"""CLIP features of pictures and text: DFN5B ViT-H/14 by open_clip, which is imported on use."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.mmaudio.config import TEXT_LENGTH, ClipConfig

PATCH = 14
"""Pixels of a patch on a side."""

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class PromptTooLong(ValueError):
    """Prompt of more tokens than the text encoder reads."""


class PictureTextEncoder(nn.Module):
    """CLIP of both kinds of condition: one vector per picture, and all hidden states of a text."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        import open_clip

        self.clip = open_clip.CLIP(
            config.dim,
            open_clip.CLIPVisionCfg(
                layers=config.image_layers, width=config.image_width, head_width=config.head_width,
                patch_size=PATCH, image_size=config.image_size,
            ),
            open_clip.CLIPTextCfg(
                context_length=TEXT_LENGTH, width=config.text_width, heads=config.text_heads,
                layers=config.text_layers,
            ),
            quick_gelu=True,
        )  # fmt: skip
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def pictures(self, pixels: Tensor) -> Tensor:
        """Unit vectors (B, T, D) of pictures in [0, 1], float (B, T, 3, height, width)."""
        normed = (pixels.flatten(0, 1) - self.mean) / self.std
        vectors = self.clip.encode_image(normed)
        return F.normalize(vectors.float(), dim=-1).unflatten(0, pixels.shape[:2])

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Hidden states of every token, each of unit length: (B, 77, D). Padding is encoded like any token."""
        clip: Any = self.clip
        tokens = text_tokens(texts).to(self.mean.device)
        x = clip.token_embedding(tokens) + clip.positional_embedding
        x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask))
        return F.normalize(x.float(), dim=-1)


@functools.cache
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=TEXT_LENGTH)


def text_tokens(texts: Sequence[str]) -> Tensor:
    """Tokens int64 (B, 77): start, text, end, and padding of 0. Longer texts are cut, the end token stays."""
    return _tokenizer()(list(texts))


def check_length(text: str) -> None:
    """Raises PromptTooLong, with the fix, for a text of more tokens than are read."""
    most, n = TEXT_LENGTH - 2, len(_tokenizer().encode(text))
    if n > most:
        raise PromptTooLong(f"the prompt has {n} tokens, MMAudio reads {most}: shorten it")

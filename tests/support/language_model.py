"""Tiny language models and converters for tests of VATT."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from v2a_models.vatt.converter import Converter, ConverterConfig, own_converter
from v2a_models.vatt.language import own_tokenizer, train_tokenizer

TEXTS = ("a heavy hammer strikes an anvil", "rain falls, heavy", "someone hits a drum with a stick, loud")
SMALL = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2
)


@lru_cache
def own(feature_dim: int = 6, **sizes: Any) -> ConverterConfig:
    """A converter with a small model of its own."""
    return own_converter(TEXTS, feature_dim, vocabulary=200, **{**SMALL, "visual_tokens": 3, **sizes})


def converter(feature_dim: int = 6) -> Converter:
    torch.manual_seed(0)
    return Converter(own(feature_dim)).eval()


def base_folder(folder: Path, kind: str, seed: int = 0) -> Path:
    """A random language model of a published layout (`gemma` or `llama`), as save_pretrained leaves it."""
    import transformers

    torch.manual_seed(seed)
    tokenizer = own_tokenizer(train_tokenizer(TEXTS, 200))
    name = kind.capitalize()
    sizes: dict[str, Any] = dict(
        SMALL, num_key_value_heads=1, max_position_embeddings=128, vocab_size=len(tokenizer)
    )
    if kind == "gemma":
        sizes["head_dim"] = 16
    model = getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

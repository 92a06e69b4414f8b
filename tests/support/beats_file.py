"""A BEATs in a file of the published layout, small and with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from v2a_models.encoders.beats import speechbrain_beats

NAME = "beats-iter3-plus-as2m"
FILE = "BEATs_iter3_plus_AS2M.pt"

PUBLISHED: dict[str, Any] = dict(
    encoder_layers=12, encoder_embed_dim=768, encoder_ffn_embed_dim=3072, encoder_attention_heads=12,
    activation_fn="gelu", dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, encoder_layerdrop=0.05,
    dropout_input=0.0, layer_norm_first=False, conv_bias=False, conv_pos=128, conv_pos_groups=16,
    relative_position_embedding=True, num_buckets=320, max_distance=800, gru_rel_pos=True, deep_norm=True,
    input_patch_size=16, layer_wise_gradient_decay_ratio=0.6, embed_dim=512, finetuned_model=False,
    predictor_dropout=0.0, predictor_class=527,
)  # fmt: skip
"""`cfg` of the file; names that only its training knew are left out."""

SMALL = PUBLISHED | dict(encoder_layers=2, encoder_ffn_embed_dim=64, conv_pos=16, embed_dim=64)
"""Two layers of the same width, 5 of 90 million weights."""


def content(**changes: Any) -> dict[str, Any]:
    """Content of the file: `cfg`, and `model` under the names of the torch of 2022."""
    speechbrain = speechbrain_beats()  # the first to import it decides what it sets in the process
    torch.manual_seed(0)
    cfg = SMALL | changes
    parts = nn.ModuleDict(
        dict(
            patch_embedding=nn.Conv2d(1, cfg["embed_dim"], 16, 16, bias=False),
            layer_norm=nn.LayerNorm(cfg["embed_dim"]),
            post_extract_proj=nn.Linear(cfg["embed_dim"], 768),
            encoder=speechbrain.TransformerEncoder(speechbrain.BEATsConfig(cfg)),
        )
    )
    with torch.no_grad():
        for name, values in parts.named_parameters():
            if values.ndim == 1 or name.endswith("grep_a"):
                values.uniform_(
                    0.5, 1.5
                )  # untrained they are all alike: nobody would see two of them swapped
            elif "layers" in name:
                values.mul_(3)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for key, value in parts.state_dict().items():
        for new, name in old.items():
            key = key.replace(new, name)
        state[key] = value
    return {"cfg": cfg, "model": state}


def save(path: Path, **changes: Any) -> Path:
    """Writes such a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content(**changes), path)
    return path

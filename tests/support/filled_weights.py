"""Weights and inputs that follow from their names alone, by which two implementations of a network are compared.

A tensor's values are normal numbers of PCG64, seeded by the CRC-32 of its name, with an offset and a scale that the
first fitting pattern of `RULES` names. Reference outputs need no weights beside them then.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

RULES = (
    (r"^latent_mean$", 0.0, 0.1),
    (r"^latent_std$", 1.0, 0.1),
    (r"^(sync_pos_emb|empty_sync_feat)$", 0.0, 0.5),
    (r"^(clip|text)_input_proj\.0\.weight$", 0.0, 1.0),
    (r"^data_mean$", -2.0, 0.5),
    (r"^data_std$", 1.0, 0.1),
    (r"(^|\.)(cls_token|pos_embed|temp_embed|class_embedding|positional_embedding)$", 0.0, 0.3),
    (r"token_embedding\.weight$", 0.0, 0.3),
    (r"(norm\d?|ln_\w+)\.weight$", 1.0, 0.1),
    (r"(alpha|beta)$", 0.0, 0.3),
    (r"weight_v$", 0.0, 1.0),
    (r"convs2\.\d+\.weight_g$", 0.3, 0.03),
    (r"conv_post\.weight_g$", 0.1, 0.01),
    (r"weight_g$", 1.0, 0.1),
)
"""Pattern, offset and scale."""

COMPUTED = re.compile(r"(\.filter|^latent_rot|^clip_rot|^t_embed\.freqs|attn_mask)$")
"""Names of buffers that keep the values which the network computes."""


def named_numbers(name: str, shape: Sequence[int], offset: float = 0.0, scale: float = 1.0) -> Tensor:
    """Float32 tensor offset + scale * n, with the normal numbers n of a name."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return torch.from_numpy(np.asarray(offset + scale * generator.standard_normal(tuple(shape)), np.float32))


def weight(name: str, shape: Sequence[int]) -> Tensor:
    """Weight of a published name and shape."""
    for pattern, offset, scale in RULES:
        if re.search(pattern, name):
            return named_numbers(name, shape, offset, scale)
    return named_numbers(name, shape, 0.0, 0.1 if len(shape) < 2 else 1 / math.sqrt(math.prod(shape[1:])))


def filled(module: nn.Module, published: Callable[[str], str] = lambda name: name) -> nn.Module:
    """The module in evaluation mode, its tensors filled by their published names.

    published: published name of one of the module's own.
    """
    names = {name: published(name) for name in module.state_dict()}
    own = module.state_dict()
    module.load_state_dict(
        {
            name: own[name] if COMPUTED.search(there) else weight(there, own[name].shape)
            for name, there in names.items()
        }
    )
    return module.eval()

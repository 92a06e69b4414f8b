"""Draw several candidates of a window's sound and keep the one nearest to the picture (2407.10387, section 3).

SCAV compares candidates by the codec latents of their tokens, so only the chosen ones are decoded: decoding costs as
much as several sampling steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from v2a_models.batch import Batch
from v2a_models.codec.dac import Codec
from v2a_models.generator import Generator
from v2a_models.scav import SCAV, interpolated_euclidean, select


def candidate_seed(seed: int, candidate: int) -> int:
    """Seed of one candidate of a row. Candidate 0 has the row's own seed, so one candidate equals no selection."""
    if candidate == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/candidate {candidate}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@torch.inference_mode()
def draw_best(
    generator: Generator,
    batch: Batch,
    seeds: Sequence[int],
    candidates: int = 1,
    keep: int = 1,
    **sampling: Any,
) -> Tensor:
    """Tokens int64 (B, keep, K, L) of the candidates nearest to each row's picture, nearest first.

    One candidate needs no SCAV. `sampling`: options of `generator.codes`. Raises ValueError for fewer than one
    candidate, for keeping more than are drawn, and for a generator that cannot rank candidates.
    """
    if candidates == 1 and keep == 1:
        return generator.codes(batch, [candidate_seed(seed, 0) for seed in seeds], **sampling)[:, None]
    if keep == 1:
        return best_codes(generator, batch, seeds, candidates, **sampling)[0][:, None]
    return nearest_codes(generator, batch, seeds, candidates, keep, **sampling)


@torch.inference_mode()
def nearest_codes(
    generator: Generator,
    batch: Batch,
    seeds: Sequence[int],
    candidates: int,
    keep: int,
    **sampling: Any,
) -> Tensor:
    """Tokens int64 (B, keep, K, L) of the nearest candidates of each row, nearest first."""
    if not 1 <= keep <= candidates:
        raise ValueError(f"cannot keep {keep} of {candidates} candidates")
    tokens: list[Tensor] = []

    def record(codes: Tensor) -> Tensor:
        tokens.append(codes)
        return codes

    _, distances = best_codes(generator, batch, seeds, candidates, scored_as=record, **sampling)
    # A stable sort, so that equal candidates keep the order that `select` gives them.
    order = distances.nan_to_num(nan=torch.inf).argsort(dim=1, stable=True)[:, :keep]
    rows = torch.arange(len(order), device=order.device)[:, None]
    return torch.stack(tokens, 1)[rows, order]


@torch.inference_mode()
def best_codes(
    generator: Generator,
    batch: Batch,
    seeds: Sequence[int],
    candidates: int,
    *,
    scored_as: Callable[[Tensor], Tensor] | None = None,
    **sampling: Any,
) -> tuple[Tensor, Tensor]:
    """Tokens int64 (B, K, L) of the nearest candidate of each row, and the distances (B, candidates) of all.

    Candidates are drawn one after another, each in a batch of the same B rows: memory does not grow with their
    number, and rows stay independent of each other. scored_as: maps drawn tokens to the tokens that are scored.
    """
    scav, codec = _ranking(generator, candidates)
    video = scav.video(batch.semantic, batch.sync)
    best: Tensor | None = None
    distances: list[Tensor] = []
    for candidate in range(candidates):
        tokens = generator.codes(batch, [candidate_seed(seed, candidate) for seed in seeds], **sampling)
        scored = tokens if scored_as is None else scored_as(tokens)
        distances.append(interpolated_euclidean(video, scav.audio(codec.latents(scored))))
        chosen = select(torch.stack(distances, 1)) == candidate
        best = tokens if best is None else torch.where(chosen[:, None, None], tokens, best)
    assert best is not None
    return best, torch.stack(distances, 1)


def _ranking(generator: Generator, candidates: int) -> tuple[SCAV, Codec]:
    """SCAV and codec that rank the candidates of a generator; ValueError if it cannot rank them."""
    if candidates < 1:
        raise ValueError(f"candidates must be at least 1, not {candidates}")
    scav, codec = generator.scav, generator.codec
    if scav is None or codec is None:
        raise ValueError(
            f"the model {generator.name!r} has no SCAV to select candidates with; use one candidate"
        )
    channels, latent_dim = scav.config.audio_channels, codec.config["latent_dim"]
    if channels != latent_dim:
        raise ValueError(f"this SCAV expects {channels} channels, the codec's latents have {latent_dim}")
    return scav, codec

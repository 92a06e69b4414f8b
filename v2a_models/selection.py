"""Draw several candidates of a window's sound and keep the one nearest to its picture (2407.10387, section 3).

Candidates are compared in SCAV's space by the codec latents of their tokens, so that only the chosen ones are
decoded: the decoder costs as much as several sampling steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from v2a_models.batch import Batch
from v2a_models.scav import interpolated_euclidean, select

if TYPE_CHECKING:
    from v2a_models.maskvat.generator import MaskVATGenerator
    from v2a_models.vatt.generator import VATTGenerator


def candidate_seed(seed: int, candidate: int) -> int:
    """Seed of one candidate of a row. Candidate 0 has the row's own: one candidate is no selection."""
    if candidate == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/candidate {candidate}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@torch.inference_mode()
def generate_best(
    generator: MaskVATGenerator | VATTGenerator,
    batch: Batch,
    seeds: Sequence[int],
    candidates: int,
    *,
    keep: int = 1,
    decode_all: bool = False,
    **sampling: Any,
) -> Tensor:
    """Waveform (B, keep, recipe.window) of the nearest of `candidates` candidates of each row, the nearest first.

    decode_all: decode every candidate and judge what comes back out of the codec's encoder, as a space made from
    waveforms has to, and keep one. Slower; kept to be compared with. `sampling`: as for `generator.codes`.

    Raises ValueError as `check_selects` where there is something to choose, and where more are to be kept than drawn.
    """
    if not decode_all:
        codes = draw_best(generator, batch, seeds, candidates, keep, **sampling)
        return torch.cat([generator.decode(codes[:, k]) for k in range(keep)], 1)
    waveforms: list[Tensor] = []

    def again(codes: Tensor) -> Tensor:
        waveforms.append(generator.decode(codes))
        return generator.codec.encode(waveforms[-1])

    _, distances = best_codes(generator, batch, seeds, candidates, heard_as=again, **sampling)
    rows = torch.arange(len(distances), device=distances.device)
    return torch.stack(waveforms, 1)[rows, select(distances)]


@torch.inference_mode()
def draw_best(
    generator: MaskVATGenerator | VATTGenerator,
    batch: Batch,
    seeds: Sequence[int],
    candidates: int = 1,
    keep: int = 1,
    **sampling: Any,
) -> Tensor:
    """Tokens int64 (B, keep, K, L) of the nearest of `candidates`, the nearest first; without a SCAV where there is
    nothing to choose. Raises ValueError as `nearest_codes`."""
    if candidates == 1 and keep == 1:
        return generator.codes(batch, [candidate_seed(seed, 0) for seed in seeds], **sampling)[:, None]
    if keep == 1:
        return best_codes(generator, batch, seeds, candidates, **sampling)[0][:, None]
    return nearest_codes(generator, batch, seeds, candidates, keep, **sampling)


@torch.inference_mode()
def nearest_codes(
    generator: MaskVATGenerator | VATTGenerator,
    batch: Batch,
    seeds: Sequence[int],
    candidates: int,
    keep: int,
    **sampling: Any,
) -> Tensor:
    """Tokens int64 (B, keep, K, L) of the nearest candidates of each row, the nearest first."""
    if not 1 <= keep <= candidates:
        raise ValueError(f"of {candidates} candidates at most as many can be kept, not {keep}")
    drawn: list[Tensor] = []

    def kept(codes: Tensor) -> Tensor:
        drawn.append(codes)
        return codes

    _, distances = best_codes(generator, batch, seeds, candidates, heard_as=kept, **sampling)
    # Stable, as `select` is: of equals the first one is the nearer.
    order = distances.nan_to_num(nan=torch.inf).argsort(dim=1, stable=True)[:, :keep]
    rows = torch.arange(len(order), device=order.device)[:, None]
    return torch.stack(drawn, 1)[rows, order]


@torch.inference_mode()
def best_codes(
    generator: MaskVATGenerator | VATTGenerator,
    batch: Batch,
    seeds: Sequence[int],
    candidates: int,
    *,
    heard_as: Callable[[Tensor], Tensor] | None = None,
    **sampling: Any,
) -> tuple[Tensor, Tensor]:
    """Tokens int64 (B, K, L) of the nearest candidate of each row, and the distances (B, candidates) of all.

    Candidates are drawn one after another, each in a batch of the same B rows: memory does not grow with them, and
    a row's sound depends as little on the others as without selection. `heard_as` turns drawn tokens into those
    that are judged.
    """
    scav = check_selects(generator, candidates)
    seen = scav.video(batch.semantic, batch.sync)
    best: Tensor | None = None
    distances: list[Tensor] = []
    for candidate in range(candidates):
        drawn = generator.codes(batch, [candidate_seed(seed, candidate) for seed in seeds], **sampling)
        judged = drawn if heard_as is None else heard_as(drawn)
        distances.append(interpolated_euclidean(seen, scav.audio(generator.codec.latents(judged))))
        chosen = select(torch.stack(distances, 1)) == candidate
        best = drawn if best is None else torch.where(chosen[:, None, None], drawn, best)
    assert best is not None
    return best, torch.stack(distances, 1)


def check_selects(generator: Any, candidates: int) -> Any:
    """The generator's SCAV.

    Raises ValueError for fewer than one candidate, for a generator without SCAV, and for a SCAV that listens to
    something else than this generator's codec latents.
    """
    if candidates < 1:
        raise ValueError(f"candidates must be at least 1, not {candidates}")
    scav = getattr(generator, "scav", None)
    if scav is None:
        raise ValueError(
            f"the model {generator.name!r} has no SCAV to select candidates with; use one candidate"
        )
    wanted, there = scav.config.audio_channels, generator.codec.config["latent_dim"]
    if wanted != there:
        raise ValueError(f"this SCAV listens to {wanted} channels, the codec's latents have {there}")
    return scav

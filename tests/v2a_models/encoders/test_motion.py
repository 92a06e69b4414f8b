"""Motion in parts of the picture: where it is, its direction, and that time stays where it is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from v2a_models.encoders.motion import CELL_DIM, CELLS, MotionEncoder, mirrored, motion_cells

FLOW = slice(4, 6)
COARSE = slice(6, 8)


def texture(n_frames: int, dx: float, dy: float, contrast: float = 1.0) -> torch.Tensor:
    """Frames uint8 (1, T, 64, 64, 3) of a smooth texture that moves by (dx, dy) pixels per frame."""
    generator = torch.Generator().manual_seed(0)
    noise = F.interpolate(torch.rand(1, 1, 40, 40, generator=generator), (160, 160), mode="bicubic")
    frames = []
    for t in range(n_frames):
        x = torch.arange(64) + 48 - t * dx
        y = torch.arange(64) + 48 - t * dy
        places = torch.stack(torch.meshgrid(x / 79.5 - 1, y / 79.5 - 1, indexing="xy"), -1)
        frames.append(F.grid_sample(noise, places[None], align_corners=True)[0, 0])
    grey = 127 + 127 * contrast * (torch.stack(frames) - 0.5)
    return grey.clamp(0, 255).to(torch.uint8)[None, ..., None].repeat(1, 1, 1, 1, 3)


def clip(n_frames: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, n_frames, 64, 64, 3), dtype=torch.uint8, generator=generator)


def test_change_is_where_and_when_something_appears() -> None:
    frames = torch.full((1, 12, 64, 64, 3), 100, dtype=torch.uint8)
    frames[:, 6:, :16, 48:] = 180  # something appears at the upper right
    cells = motion_cells(frames)
    assert cells.shape == (1, 12, CELLS**2, CELL_DIM)
    amount = cells[0, :, :, 0].unflatten(-1, (CELLS, CELLS))
    assert float(amount[6, :2, 6:].min()) > 0.5
    amount[6, :2, 6:] = 0
    assert float(amount.abs().max()) == 0
    assert float(cells[0, 6, 7, 3]) > 0 and float(cells[0, 6, 7, 8]) > 0 > float(cells[0, 7, 7, 8])


@pytest.mark.parametrize(("dx", "dy"), [(0.8, 0.0), (-0.8, 0.0), (0.0, 0.8), (0.0, -0.8), (0.6, -0.6)])
def test_flow_has_the_direction_and_speed_of_the_picture(dx: float, dy: float) -> None:
    cells = motion_cells(texture(8, dx, dy))[0, 1:]
    assert cells[..., FLOW].median(0).values.median(0).values * 3 == pytest.approx([dx, dy], abs=0.2)
    assert cells[..., COARSE].median(0).values.median(0).values * 6 == pytest.approx([dx, dy], abs=0.25)


def test_flow_explains_a_picture_that_moves_but_no_flicker() -> None:
    moving = motion_cells(texture(8, 0.7, 0.3))[0, 1:, :, -1]
    assert float(moving.median()) < 0.25
    assert float(motion_cells(clip(8))[0, 1:, :, -1].median()) > 0.8


def test_motion_is_seen_at_low_contrast_too() -> None:
    strong, weak = motion_cells(texture(8, 1.0, 0.5)), motion_cells(texture(8, 1.0, 0.5, 0.15))
    ratio = weak[0, 1:, :, 0].mean() / strong[0, 1:, :, 0].mean()
    assert 0.2 < float(ratio) < 0.9
    assert weak[0, 1:, :, FLOW].median(0).values.median(0).values * 3 == pytest.approx([1.0, 0.5], abs=0.35)


def test_a_still_picture_has_no_motion() -> None:
    cells = motion_cells(clip(1).repeat(1, 5, 1, 1, 1))
    assert float(cells[..., :9].abs().max()) < 1e-6


def test_a_mirrored_picture_has_mirrored_motion() -> None:
    frames = texture(6, 0.9, 0.2)
    torch.testing.assert_close(
        motion_cells(frames.flip(3)), mirrored(motion_cells(frames)), atol=1e-4, rtol=1e-3
    )


def test_features_keep_every_frame_and_look_at_most_twenty_frames_away() -> None:
    torch.manual_seed(0)
    encoder, frames = MotionEncoder().eval(), clip(60)
    changed = frames.clone()
    changed[:, 30] = 255 - changed[:, 30]
    with torch.no_grad():
        features, after = encoder(frames), encoder(changed)
    assert features.shape == (1, 60, encoder.dim)
    touched = torch.nonzero((features - after).abs().amax(-1)[0] > 1e-6)[:, 0]
    assert 30 in touched and int((touched - 30).abs().max()) <= 20


def test_frames_of_any_size_are_taken() -> None:
    encoder = MotionEncoder(width=8, dim=16).eval()
    assert encoder(torch.zeros(2, 5, 48, 96, 3, dtype=torch.uint8)).shape == (2, 5, 16)

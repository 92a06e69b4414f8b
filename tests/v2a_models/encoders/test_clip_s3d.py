"""The visual encoders' shapes, and that time stays where it is."""

import pytest
import torch
from torch import nn

from v2a_models.encoders.clip_s3d import (
    SemanticEncoder,
    SyncEncoder,
    TemporalConv,
    quick_over_time,
)
from v2a_models.training.sync_task import SyncTask, onset_steps


def clip(n_frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        0, 256, (1, n_frames, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def test_semantic_features_are_unit_vectors_frame_by_frame() -> None:
    encoder, frames = SemanticEncoder.mini().eval(), clip(3)
    with torch.no_grad():
        features = encoder(frames)
        assert features.shape == (1, 3, encoder.dim)
        assert torch.allclose(features.norm(dim=-1), torch.ones(1, 3), atol=1e-5)
        alone = encoder(frames[:, 1:2])
    assert torch.allclose(features[:, 1:2], alone, atol=1e-5)


def test_sync_features_keep_every_frame_and_look_at_most_half_a_second_away() -> None:
    encoder, frames = SyncEncoder.mini().eval(), clip(40)
    changed = frames.clone()
    changed[:, 20] = 255 - changed[:, 20]
    with torch.no_grad():
        features, after = encoder(frames), encoder(changed)
    assert features.shape == (1, 40, encoder.dim)
    touched = (features - after).abs().amax(-1)[0] > 1e-6
    reach = torch.nonzero(touched)[:, 0]
    assert touched[20] and (reach - 20).abs().max() <= 12


def test_sync_task_trains_towards_the_right_offset() -> None:
    torch.manual_seed(0)
    task = SyncTask()
    out = task(clip(10), torch.randn(1, 10 * 1764) * 0.1)
    assert set(out) == {"loss", "offset", "spectrum", "onset"}
    out["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in task.video.parameters() if p.grad is not None)
    assert -8 <= task.eval().offset(clip(10), torch.randn(1, 10 * 1764) * 0.1) <= 8


def test_onsets_of_a_sound_are_at_its_strokes() -> None:
    sound = 1e-4 * torch.randn(1, 50 * 1764, generator=torch.Generator().manual_seed(0))
    for step in (10, 30):
        sound[0, step * 1764 + 200 : step * 1764 + 1500] += 0.3 * torch.randn(1300)
    steps = onset_steps(SyncTask().coarse_spectrum(sound, 50))[0]
    found = set(torch.nonzero(steps)[:, 0].tolist())
    assert {9, 10, 11, 29, 30, 31} <= found <= {*range(8, 13), *range(28, 33)}
    sound[0, 20 * 1764 :] = 0.3 * torch.randn(30 * 1764)  # goes on: an onset where it begins only
    steps = onset_steps(SyncTask().coarse_spectrum(sound, 50))[0]
    assert 20 in torch.nonzero(steps)[:, 0] and not steps[24:].any()


@pytest.mark.parametrize("kernel, stride, bias", [(1, 1, True), (3, 1, False), (7, 2, False)])
def test_a_convolution_over_time_is_torchs(kernel: int, stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(5, 6, (kernel, 1, 1), (stride, 1, 1), (kernel // 2, 0, 0), bias=bias)
    x = torch.randn(2, 5, 9, 3, 4)
    torch.testing.assert_close(TemporalConv.of(conv)(x), conv(x))


def test_only_convolutions_over_time_alone_are_done_otherwise() -> None:
    model = nn.Sequential(
        nn.Conv3d(3, 4, (1, 3, 3)), nn.Sequential(nn.Conv3d(4, 4, (3, 1, 1)), nn.Conv3d(4, 4, 3))
    )
    names = list(model.state_dict())
    quick = quick_over_time(model)
    assert [type(part) is TemporalConv for part in quick.modules() if isinstance(part, nn.Conv3d)] == [
        False,
        True,
        False,
    ]
    assert list(quick.state_dict()) == names

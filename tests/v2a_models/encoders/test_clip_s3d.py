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

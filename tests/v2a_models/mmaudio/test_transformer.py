"""The flow transformer gives the original's numbers, and has the published parameters."""

from typing import Any

import pytest
import torch

from tests.support.mmaudio_reference import difference, kept, part, shapes_of, tolerance
from v2a_models.mmaudio.config import SIZES, FlowConfig
from v2a_models.mmaudio.transformer import FlowTransformer


@pytest.mark.parametrize("name", ["transformer_tiny_v1", "transformer_tiny_v2"])
def test_every_output_is_the_original_s(name: str) -> None:
    ours, reference = part(name), kept(name)
    assert any("negative" in key for key in reference) and any("euler5" in key for key in reference)
    for key, theirs in reference.items():
        assert difference(ours(key), theirs) <= tolerance(f"{name}/{key}"), key


@pytest.mark.parametrize("size", SIZES)
def test_full_sizes_have_the_published_parameters(size: str) -> None:
    with torch.device("meta"):
        network = FlowTransformer(SIZES[size].flow)
    ours = {f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes_of(network).items()}
    assert ours == set(kept(f"keys_{size}")["shapes"].tolist())


def network() -> Any:
    torch.manual_seed(0)
    net = FlowTransformer(FlowConfig(4, 32, 2, 2, 1, clip_dim=6, sync_dim=5, text_dim=7)).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return net


@torch.inference_mode()
def test_rows_do_not_depend_on_each_other() -> None:
    net = network()
    inputs = torch.randn(3, 5, 6), torch.randn(3, 16, 5), torch.randn(3, 77, 7), torch.randn(3, 20, 4)
    times = torch.tensor([0.1, 0.5, 0.9])

    def flow(rows: slice) -> torch.Tensor:
        clip, sync, text, x = (each[rows] for each in inputs)
        return net(x, times[rows], net.conditions(clip, sync, text, 20))

    together = flow(slice(0, 3))
    assert together.std() > 0.01
    for k in range(3):
        assert torch.allclose(together[k : k + 1], flow(slice(k, k + 1)), atol=1e-5)


def test_half_a_segment_of_sync_features_is_refused() -> None:
    with pytest.raises(ValueError, match="whole segments"):
        network().conditions(torch.randn(1, 5, 6), torch.randn(1, 12, 5), torch.randn(1, 77, 7), 20)

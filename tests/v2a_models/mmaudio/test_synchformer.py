"""Synchformer's visual network gives the original's features, and has the published parameters."""

import pytest
import torch

from tests.support.mmaudio_reference import difference, kept, part, shapes_of, tolerance
from v2a_models.mmaudio.config import SyncConfig
from v2a_models.mmaudio.synchformer import SynchformerVisual

UNUSED = "vfeat_extractor.patch_embed.proj."


def test_features_are_the_original_s() -> None:
    reference = kept("synchformer_tiny")["features"]
    assert reference.shape == (16, 96)
    gap = difference(part("synchformer_tiny")("features"), reference)
    assert gap <= tolerance("synchformer_tiny/features")


def test_the_full_size_has_the_published_parameters() -> None:
    with torch.device("meta"):
        network = SynchformerVisual(SyncConfig())
    ours = {
        f"vfeat_extractor.{name} {'x'.join(map(str, shape))}" for name, shape in shapes_of(network).items()
    }
    rows = kept("keys_synchformer_visual")["shapes"].tolist()
    assert ours == {row for row in rows if not row.startswith(UNUSED)}


@torch.inference_mode()
def test_a_segment_sees_its_own_pictures_only() -> None:
    torch.manual_seed(0)
    network = SynchformerVisual(SyncConfig(16, 1, 2)).eval()
    pixels = torch.rand(1, 30, 3, 224, 224)
    before = network(pixels)
    assert before.shape == (1, 16, 16)  # pictures 0 to 15 and 8 to 23; the last six are no segment
    pixels[:, 24:] = 0
    assert torch.equal(network(pixels), before)
    pixels[:, 20] = 0
    changed = (network(pixels) != before).any(-1)[0]
    assert changed.tolist() == [False] * 8 + [True] * 8


def test_other_pictures_are_refused() -> None:
    network = SynchformerVisual(SyncConfig(16, 1, 2))
    for shape in ((1, 15, 3, 224, 224), (1, 16, 3, 112, 224)):
        with pytest.raises(ValueError, match="at least 16 pictures of 224x224"):
            network(torch.zeros(shape))

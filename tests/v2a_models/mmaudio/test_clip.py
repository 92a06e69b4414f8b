"""CLIP gives the original's features of pictures and prompts, and has the published parameters."""

import pytest
import torch

from tests.support.mmaudio_reference import difference, kept, part, shapes_of, tolerance
from v2a_models.mmaudio.clip import PictureTextEncoder, PromptTooLong, check_length, text_tokens
from v2a_models.mmaudio.config import ClipConfig


@pytest.mark.parametrize("key", ["tokens", "text_features", "image_features"])
def test_every_output_is_the_original_s(key: str) -> None:
    assert difference(part("clip_tiny")(key), kept("clip_tiny")[key]) <= tolerance(f"clip_tiny/{key}")


def test_the_full_size_has_the_published_parameters() -> None:
    with torch.device("meta"):
        encoder = PictureTextEncoder(ClipConfig())
    ours = {f"{name} {'x'.join(map(str, shape))}".strip() for name, shape in shapes_of(encoder.clip).items()}
    theirs = {row.strip() for row in kept("keys_clip_dfn5b_h14_378")["shapes"].tolist()}
    assert ours == theirs


def test_a_long_prompt_is_refused_with_the_number_of_its_tokens() -> None:
    check_length("music " * 75)
    with pytest.raises(PromptTooLong, match="76 tokens, MMAudio reads 75: shorten it"):
        check_length("music " * 76)
    assert text_tokens(["music " * 76])[0, -1] == 49407 == text_tokens(["music " * 75])[0, -1]

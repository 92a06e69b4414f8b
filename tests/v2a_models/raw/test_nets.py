"""The networks of the raw-waveform systems: nothing of the future leaks, and fast sampling says the same as slow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2a_models.raw.autoregressive import Sampler
from v2a_models.raw.av_transformer import AVTransformer, AVTransformerConfig
from v2a_models.raw.deep_fusion import DeepFusion, DeepFusionConfig
from v2a_models.raw.video_context import VideoContext, VideoContextConfig
from v2a_models.raw.wavenet import WaveNet, WaveNetConfig

CHANNELS, OUTPUTS, LENGTH = 2, 5, 60


def wavenet(**options: Any) -> WaveNet:
    torch.manual_seed(0)
    return (
        WaveNet(WaveNetConfig(layers=3, stacks=2, channels=8, skip=8, **options), CHANNELS, OUTPUTS)
        .double()
        .eval()
    )


def transformer(**options: Any) -> AVTransformer:
    torch.manual_seed(0)
    config = AVTransformerConfig(**{"context": 8, "dim": 8, "depth": 2, "heads": 2} | options)
    net = AVTransformer(config, CHANNELS, OUTPUTS).double().eval()
    for block in net.blocks:
        torch.nn.init.normal_(block.ago)  # as if learnt: zeros would hide a mistake in the order
    return net


NETS = {
    "wavenet": wavenet(),
    "wavenet, joined as published": wavenet(join="audio"),
    "transformer, raw samples": transformer(),
    "transformer, strided": transformer(context=24, strides=(2, 3)),
    "transformer, one token": transformer(context=4, strides=(4,)),
}
named = st.sampled_from(list(NETS))


def inputs(net: Any, n: int = LENGTH) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(2, CHANNELS, n, generator=generator, dtype=torch.float64),
        torch.randn(2, net.context_channels, n, generator=generator, dtype=torch.float64),
    )


@given(named, st.integers(0, LENGTH - 1))
@settings(max_examples=40)
def test_no_later_sample_or_picture_is_seen(name: str, at: int) -> None:
    net = NETS[name]
    audio, context = inputs(net)
    before = net(audio, context)
    audio[..., at:] += torch.randn(audio[..., at:].shape, dtype=torch.float64)
    changed = net(audio, context)
    assert torch.allclose(changed[:, :at], before[:, :at], atol=1e-12)
    assert not torch.equal(changed[:, at], before[:, at]), "the sample before is not heard"
    audio, context = inputs(net)
    context[..., at:] += torch.randn(context[..., at:].shape, dtype=torch.float64)
    changed = net(audio, context)
    assert torch.allclose(changed[:, :at], before[:, :at], atol=1e-12)
    assert not torch.equal(changed[:, at], before[:, at]), "this moment's picture is not seen"


@given(named, st.integers(0, LENGTH - 1))
@settings(max_examples=40)
def test_one_after_the_other_says_what_all_at_once_says(name: str, start: int) -> None:
    net = NETS[name]
    audio, context = inputs(net)
    with torch.inference_mode():
        whole = net(audio, context)
        stepper = net.stepper(audio[..., :start], context[..., :start])
        steps = [stepper.step(audio[..., t], context[..., t]) for t in range(start, LENGTH)]
        # With places that a CUDA graph can follow.
        stepper = net.stepper(audio[..., :start], context[..., :start])
        stepper.time = torch.tensor([stepper.time])
        followed = [stepper.step(audio[..., t], context[..., t]) for t in range(start, LENGTH)]
    assert torch.allclose(torch.stack(steps, 1), whole[:, start:], atol=1e-12)
    assert torch.allclose(torch.stack(followed, 1), whole[:, start:], atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("name", list(NETS))
@pytest.mark.parametrize("heard", [0, 3, 20])
def test_a_recorded_sample_is_the_sample(name: str, heard: int) -> None:
    net = NETS[name].cuda()
    try:
        audio, context = (part.cuda() for part in inputs(net))
        drawn = torch.zeros(LENGTH - heard, len(audio), audio.shape[1], dtype=audio.dtype, device="cuda")
        with torch.inference_mode():
            plain, last, sounds = net.stepper(audio[..., :heard], context[..., :heard]), audio[..., heard], []
            for t in range(heard, LENGTH):
                last = plain.step(last, context[..., t])[:, : audio.shape[1]].tanh()
                sounds.append(last)
            sampler = Sampler(
                net.stepper(audio[..., :heard], context[..., :heard]),
                lambda outputs, uniform: outputs[:, : audio.shape[1]].tanh() + uniform,
                audio[..., heard],
            )
            made = sampler.run(context[..., heard:].permute(2, 0, 1).contiguous(), drawn)
        assert torch.allclose(made.double(), torch.stack(sounds), atol=1e-6)
    finally:
        net.cpu()


@pytest.mark.parametrize("name", list(NETS))
def test_nothing_further_back_than_the_receptive_field_is_heard(name: str) -> None:
    net = NETS[name]
    assert net.receptive < LENGTH
    audio, context = inputs(net)
    before = net(audio, context)[:, -1]
    audio[..., : -net.receptive] += 1
    assert torch.allclose(net(audio, context)[:, -1], before, atol=1e-12)
    audio[..., -net.receptive] += 1
    assert not torch.equal(net(audio, context)[:, -1], before), "the receptive field is shorter than said"
    # So a sound goes on from its last samples as it would from all of them.
    audio, context = inputs(net)
    last = slice(LENGTH - net.receptive, LENGTH - 1)
    with torch.inference_mode():
        step = net.stepper(audio[..., last], context[..., last]).step(audio[..., -1], context[..., -1])
    assert torch.allclose(step, net(audio, context)[:, -1], atol=1e-12)


@pytest.mark.parametrize(
    "options", [dict(strides=(3,), context=8), dict(heads=3), dict(context=2, strides=(4,))]
)
def test_sizes_of_a_transformer_that_do_not_fit(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        AVTransformerConfig(**{"dim": 8, "heads": 2} | options)


# pictures


def film(frames: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, frames, 16, 16, 3), generator=torch.Generator().manual_seed(2)).byte()


def embedding(attention: int) -> VideoContext:
    torch.manual_seed(0)
    made = VideoContext(VideoContextConfig(width=4, depth=1, attention=attention), (16, 16), 5, 3).eval()
    if made.attention is not None:
        torch.nn.init.normal_(made.attention.out.weight)
    return made


@pytest.mark.parametrize("attention", [0, 3])
@given(at=st.integers(0, 15))
@settings(max_examples=16)
def test_the_embedding_sees_the_past_frames_and_no_later_one(attention: int, at: int) -> None:
    made, frames = embedding(attention), film(16)
    before = made(frames)
    assert before.shape == (2, 3, 16 * 5)
    frames[:, at] = 255 - frames[:, at]
    changed = (made(frames) != before).any(0).any(0).view(16, 5).any(1)
    reach = made.config.context_frames
    assert reach == 4 + attention
    assert not changed[:at].any() and changed[at] and not changed[at + reach + 1 :].any()
    # A stretch with the frames that it depends on before it is as in the whole film.
    first = max(0, at - reach)
    assert torch.allclose(
        made(frames[:, first:])[..., (at - first) * 5 :], made(frames)[..., at * 5 :], atol=1e-5
    )


def test_pictures_too_small_for_the_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        VideoContext(VideoContextConfig(depth=3), (6, 16), 5, 3)


@given(st.integers(1, 11))
@settings(max_examples=10)
def test_deep_fusion_sees_its_frames_and_no_later_one(at: int) -> None:
    torch.manual_seed(0)
    config = DeepFusionConfig(frames=3, audio_width=4, video_width=4, depth=2)
    net = DeepFusion(config, (16, 16), loss="mse", channels=2, samples=6).eval()
    from v2a_models.seeds import RowNoise

    frames = film(12)
    silence = torch.zeros(2, 2, 0)
    before = net.extend(frames, silence, RowNoise([1, 2]))
    assert before.shape == (2, 2, 12 * 6)
    frames[:, at] = 255 - frames[:, at]
    changed = (net.extend(frames, silence, RowNoise([1, 2])) != before).any(0).any(0).view(12, 6).any(1)
    assert not changed[:at].any() and changed[at]
    # It goes on from the sound of its frames as from all of it.
    there = before[..., : at * 6]
    first = max(0, at - config.frames)
    on = net.extend(film(12)[:, first:], there[..., first * 6 :], RowNoise([1, 2]))
    assert torch.equal(on, before[..., at * 6 :])

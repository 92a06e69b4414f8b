"""SCAV: distances, selection, and that training it teaches which sound fits and when."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from v2a_models import scav as scavs
from v2a_models.checkpoint import CheckpointError, load_scav, save_scav
from v2a_models.codec.dac import MINI, Codec
from v2a_models.scav import SCAV, SCAVConfig, SCAVTask

TOY = SCAVConfig(audio_channels=6, semantic_dim=5, sync_dim=4, dim=16, width=32, depth=2)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def toy_batch(rows: int, seed: int) -> dict[str, Tensor]:
    """Clips of 4 s of three kinds with events at random moments: the picture shows both, so does the sound."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(3, (rows,), generator=generator)
    events = torch.rand(rows, 3, generator=generator)
    semantic, sync, latents = torch.zeros(rows, 32, 5), torch.zeros(rows, 100, 4), torch.zeros(rows, 6, 345)
    semantic[torch.arange(rows), :, kind] = 1
    for row in range(rows):
        sync[row, (events[row] * 99).long(), 0] = 1
        latents[row, 3 + kind[row]] = 1
        latents[row, 0, (events[row] * 342).long()] = 1
    return dict(semantic=semantic, sync=sync, latents=latents)


lengths = st.integers(1, 12)


@settings(max_examples=20)
@given(lengths, lengths, st.integers(0, 99))
def test_distance_is_symmetric_and_zero_for_equal_sequences(t1: int, t2: int, seed: int) -> None:
    a, b = numbers(3, t1, 4, seed=seed), numbers(3, t2, 4, seed=seed + 100)
    assert torch.equal(scavs.interpolated_euclidean(a, a), torch.zeros(3))
    assert torch.equal(scavs.pairwise_interpolated_euclidean(a, a).diagonal(), torch.zeros(3))
    torch.testing.assert_close(scavs.interpolated_euclidean(a, b), scavs.interpolated_euclidean(b, a))
    assert (scavs.interpolated_euclidean(a, b) > 0).all()


@settings(max_examples=20)
@given(st.integers(1, 5), lengths, lengths, st.integers(0, 99))
def test_a_distance_does_not_depend_on_the_batch(rows: int, t1: int, t2: int, seed: int) -> None:
    a, b = numbers(rows, t1, 4, seed=seed), numbers(rows, t2, 4, seed=seed + 100)
    together = scavs.interpolated_euclidean(a, b)
    pairs = scavs.pairwise_interpolated_euclidean(a, b)
    torch.testing.assert_close(pairs.diagonal(), together)
    for row in range(rows):
        assert torch.equal(scavs.interpolated_euclidean(a[row : row + 1], b[row : row + 1])[0], together[row])


def test_distance_is_the_euclidean_one_of_interpolated_sequences() -> None:
    # 0 2 stretched to four cells with matched centres is 0 0.5 1.5 2.
    a, b = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.0], [0.5], [1.5], [4.0]]])
    assert scavs.interpolated_euclidean(a, b).item() == pytest.approx((2**2 / 4) ** 0.5)


def test_unlike_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one space"):
        scavs.interpolated_euclidean(torch.zeros(1, 3, 4), torch.zeros(1, 3, 5))
    with pytest.raises(ValueError, match="2 and 3"):
        scavs.interpolated_euclidean(torch.zeros(2, 3, 4), torch.zeros(3, 3, 4))


@settings(max_examples=20)
@given(st.integers(-9, 9), st.integers(0, 4), st.integers(0, 99))
def test_a_sound_moved_earlier_fits_again_when_moved_later(shift: int, margin: int, seed: int) -> None:
    sound = numbers(2, 20, 4, seed=seed)
    distances = scavs.shifted_distances(sound.roll(shift, 1), sound, torch.arange(-9, 10), margin)
    assert (scavs.select(distances) == shift + 9).all()
    whole = scavs.shifted_distances(sound, sound.roll(3, 1), torch.tensor([0]))[:, 0]
    torch.testing.assert_close(whole, scavs.interpolated_euclidean(sound, sound.roll(3, 1)))


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 99))
def test_selection_takes_the_planted_one(rows: int, candidates: int, seed: int) -> None:
    video = numbers(rows, 7, 4, seed=seed)
    planted = torch.randint(candidates, (rows,), generator=torch.Generator().manual_seed(seed))
    others = [numbers(rows, 7, 4, seed=seed + 100 + n) for n in range(candidates)]
    sounds = [
        torch.where((planted == n)[:, None, None], video + 0.01 * other, other)
        for n, other in enumerate(others)
    ]
    distances = torch.stack([scavs.interpolated_euclidean(video, sound) for sound in sounds], 1)
    assert torch.equal(scavs.select(distances), planted)


def test_selection_of_equals_and_of_what_is_no_number() -> None:
    nan = float("nan")
    distances = torch.tensor([[1.0, 1.0, 2.0], [nan, 3.0, 2.0], [nan, nan, nan]])
    assert scavs.select(distances).tolist() == [0, 2, 0]


def test_encoders_keep_time() -> None:
    torch.manual_seed(0)
    scav = SCAV(SCAVConfig()).eval()
    assert sum(p.numel() for p in scav.parameters()) < 2_000_000
    latents = numbers(1, 96, 345)
    moved = latents.roll(3 * scav.config.audio_stride, -1)
    with torch.inference_mode():
        seen = scav.video(numbers(1, 32, 128), numbers(1, 100, 128))
        heard, later = scav.audio(latents), scav.audio(moved)
        assert scav.audio(latents[..., :-1]).shape == heard.shape
    assert seen.shape == (1, 100, 128) and heard.shape == (1, 115, 128)
    torch.testing.assert_close(heard.norm(dim=-1), torch.ones(1, 115))
    # Away from the ends, what is 9 codec frames later in the sound is 3 moments later in the space.
    torch.testing.assert_close(later[:, 20:100], heard[:, 17:97], atol=1e-5, rtol=1e-4)


def test_one_stream_is_enough_and_a_missing_one_is_named() -> None:
    scav = SCAV(SCAVConfig(semantic_dim=0, sync_dim=4))
    assert scav.video(None, numbers(2, 9, 4)).shape == (2, 9, 128)
    with pytest.raises(ValueError, match="needs sync"):
        scav.video(numbers(2, 9, 4), None)
    with pytest.raises(ValueError, match="semantic or sync"):
        SCAV(SCAVConfig(semantic_dim=0, sync_dim=0))


def test_the_same_seed_gives_the_same_losses() -> None:
    torch.manual_seed(0)
    task, batch = SCAVTask(SCAV(TOY), window_s=4.0), toy_batch(4, 0)
    first, again, other = task(batch, 1), task(batch, 1), task(batch, 2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["loss"] != other["loss"]


def test_training_teaches_which_sound_fits_and_when() -> None:
    torch.manual_seed(0)
    task = SCAVTask(SCAV(TOY), window_s=4.0, drop=0.0)
    optimiser = torch.optim.AdamW(task.parameters(), 5e-3)
    before = task(toy_batch(24, 1000), 0)
    for step in range(60):
        optimiser.zero_grad()
        task(toy_batch(16, step), step)["loss"].backward()
        optimiser.step()
    after = task(toy_batch(24, 1000), 0)
    assert before["accuracy"] < 0.3 and after["accuracy"] > 0.8
    assert before["timing"] < 0.3 and after["timing"] > 0.7  # chance is one in nine
    # Apart from its training's shifts: a sound half a second late is farther than the true one.
    batch = toy_batch(24, 2000)
    with torch.inference_mode():
        seen = task.scav.video(batch["semantic"], batch["sync"])
        true, late = task.scav.audio(batch["latents"]), task.scav.audio(batch["latents"].roll(43, -1))
        nearer = scavs.interpolated_euclidean(seen, true) < scavs.interpolated_euclidean(seen, late)
    assert nearer.float().mean() > 0.9


def test_codes_are_read_through_the_codec_which_is_not_trained() -> None:
    torch.manual_seed(0)
    codec = Codec(MINI).eval()
    codes = torch.randint(512, (2, 4, 30))
    latents = codec.latents(codes)
    assert latents.shape == (2, 96, 30)
    assert torch.equal(codec.dac.decoder(latents), codec.decode(codes))
    with pytest.raises(ValueError, match=r"\[0, 512\)"):
        codec.latents(codes + 512)
    rest = dict(semantic=numbers(2, 3, 128), sync=numbers(2, 9, 128))
    task = SCAVTask(SCAV(SCAVConfig()), window_s=0.35, latents=codec.latents).eval()
    assert not any("codec" in name for name in task.state_dict())
    assert torch.equal(
        task(rest | dict(codes=codes), 0)["loss"], task(rest | dict(latents=latents), 0)["loss"]
    )
    with pytest.raises(ValueError, match="latents"):
        SCAVTask(SCAV(SCAVConfig()), 0.35)(rest | dict(codes=codes), 0)


def test_round_trip_and_what_can_be_wrong(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"system": "any"}))
    assert load_scav(str(tmp_path)) is None
    torch.manual_seed(0)
    scav = SCAV(TOY)
    save_scav(scav, tmp_path)
    loaded = load_scav(str(tmp_path))
    assert loaded is not None and loaded.config == TOY and not loaded.training
    for a, b in zip(scav.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(a.half().float(), b)
    assert json.loads(config.read_text())["system"] == "any"
    stated = config.read_text()
    config.write_text(json.dumps({"scav": {"depth": 2, "colour": "red"}}))
    with pytest.raises(CheckpointError, match="colour"):
        load_scav(str(tmp_path))
    config.write_text(stated)
    file = tmp_path / "scav.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="do not fill the file"):
        load_scav(str(tmp_path))
    file.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load_scav(str(tmp_path))
    with pytest.raises(CheckpointError, match="cannot be read"):
        save_scav(scav, tmp_path / "none")

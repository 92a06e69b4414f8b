"""Published weights: found by name, checked, and loaded from files of exactly the published layout."""

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from dac.model.dac import DAC
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.video import S3D, S3D_Weights
from torchvision.models.video.s3d import SepInceptionBlock3D, TemporalSeparableConv
from torchvision.transforms.functional import normalize

from tests.support.toy_generators import SMALL_DAC
from v2a_models.codec.dac import Codec
from v2a_models.encoders import published, s3d, state_dicts
from v2a_models.encoders.clip_s3d import SemanticEncoder, image_tower
from v2a_models.encoders.published import WeightsError, find_weights

CLIP = "ViT-B-32/laion2b_s34b_b79k"
LARGE = "EVA02-L-14-336/merged2b_s6b_b61k"
MISSING = [
    ("semantic", CLIP),
    ("sync", "s3d-kinetics400"),
    ("sync", "s3d-sparsesync"),
    ("audio", "beats-iter3-plus-as2m"),
    ("codec", "dac-44khz"),
]


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights anywhere: neither in a home directory nor in Hugging Face's cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("V2A_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "home"


def frames(n_frames: int, size: int) -> Tensor:
    shape = (2, n_frames, size, size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# The catalogue.


def test_names_put_the_recommended_first() -> None:
    assert published.names("semantic")[:2] == [CLIP, LARGE]
    assert len(published.names("semantic")) == len(open_clip.list_pretrained()) + 1
    assert published.names("sync") == ["s3d-kinetics400", "s3d-sparsesync"]
    assert published.names("audio") == ["beats-iter3-plus-as2m"]
    assert published.names("codec") == ["dac-44khz"]


def test_every_entry_says_where_and_under_which_licence() -> None:
    for role in published.ROLES:
        for name in published.names(role):
            item = published.get(name, role)
            assert (item.name, item.role) == (name, role) and item.file and item.licence
            assert item.package or item.source.startswith("https://")
            assert not item.source.endswith("/")
    base = published.get(CLIP, "semantic")
    assert base.source == "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    assert (base.file, base.licence) == ("open_clip_model.safetensors", "MIT")
    assert published.get("ViTamin-B/datacomp1b", "semantic").file == "pytorch_model.bin"


@pytest.mark.parametrize(
    ("name", "role", "nearest"),
    [
        ("vit-b-32/laion2b_s34b_b79", "semantic", CLIP),
        ("s3d-kinetics", "sync", "s3d-kinetics400"),
        ("BEATs_iter3", "audio", "beats-iter3-plus-as2m"),
        ("dac44", "codec", "dac-44khz"),
    ],
)
def test_unknown_names_suggest_the_nearest(name: str, role: str, nearest: str) -> None:
    with pytest.raises(WeightsError, match=f"no {role} weights {name!r} .did you mean {nearest!r}"):
        published.get(name, role)


def test_unknown_role_and_hopeless_name() -> None:
    with pytest.raises(WeightsError, match="no encoders of role 'text'"):
        published.names("text")
    with pytest.raises(WeightsError, match=r"no codec weights 'qqq': choose one of \['dac-44khz'\]"):
        published.get("qqq", "codec")


# Finding and checking.


@pytest.mark.parametrize(("role", "name"), MISSING)
def test_missing_weights_say_how_to_get_them(role: str, name: str) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights(name, role)
    item, message = published.get(name, role), str(caught.value)
    for needed in (item.file, item.source, item.licence, f"--weights {role}=", "$V2A_WEIGHTS"):
        assert needed in message


def test_weights_are_found_where_they_may_lie(
    empty_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touch(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    cached = touch(empty_home / ".cache/torch/hub/checkpoints/s3d-d76dad2f.pth")
    assert find_weights("s3d-kinetics400", "sync") == cached
    monkeypatch.setenv("V2A_WEIGHTS", str(tmp_path / "w"))
    assert find_weights("s3d-kinetics400", "sync") == cached
    flat = touch(tmp_path / "w/s3d-d76dad2f.pth")
    assert find_weights("s3d-kinetics400", "sync") == flat
    given = touch(tmp_path / "mine.pth")
    assert find_weights("s3d-kinetics400", "sync", str(given)) == given
    with pytest.raises(WeightsError, match=r"--weights sync=nope.pth: there is no such file"):
        find_weights("s3d-kinetics400", "sync", "nope.pth")

    repository = tmp_path / "hub/models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("abc")
    in_hub = touch(repository / "snapshots/abc/open_clip_pytorch_model.bin")
    assert find_weights(CLIP, "semantic") == in_hub
    in_hub = touch(repository / "snapshots/abc/open_clip_model.safetensors")
    assert find_weights(CLIP, "semantic") == in_hub
    flat = touch(tmp_path / "w/open_clip_model.safetensors")
    assert find_weights(CLIP, "semantic") == flat
    own_folder = touch(tmp_path / "w/CLIP-ViT-B-32-laion2B-s34B-b79K/open_clip_model.safetensors")
    assert find_weights(CLIP, "semantic") == own_folder


def test_check_compares_the_published_digits(tmp_path: Path) -> None:
    file = tmp_path / "x.pth"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert published.check(file, digest[:8]) == published.check(str(file), "") == digest
    with pytest.raises(
        WeightsError, match=f"expected a sha256 of d76dad2f.*{digest}.*truncated or a different one"
    ):
        published.check(file, published.get("s3d-kinetics400", "sync").sha256)
    with pytest.raises(WeightsError, match="cannot be read"):
        published.check(tmp_path / "none")


# The codec.


def save_dac(path: Path, **changes: object) -> DAC:
    """A small DAC in a file as `BaseModel.save(package=False)` of descript-audiotools writes it."""
    torch.manual_seed(0)
    kwargs = dict(SMALL_DAC, latent_dim=None, **changes)
    model = DAC(**kwargs)
    metadata = {"kwargs": kwargs | {"verbose": True}, "logs": {"loss": [1.0]}}
    torch.save({"state_dict": model.state_dict(), "metadata": metadata}, path)
    return model.eval()


def test_codec_is_the_one_that_was_saved(tmp_path: Path) -> None:
    model, sound = save_dac(tmp_path / "weights.pth"), torch.randn(1, 1, 20 * 512) * 0.1
    assert any(key.endswith("weight_g") for key in model.state_dict())
    codec = published.load_codec("dac-44khz", tmp_path / "weights.pth")
    assert isinstance(codec, Codec) and not codec.training
    with torch.no_grad():
        z, codes, *_ = model.encode(sound)
        assert torch.equal(codec.encode(sound), codes)
        waveform = model.decode(z)
    assert torch.allclose(codec.decode(codes)[..., : waveform.shape[-1]], waveform, atol=1e-5)


def test_codecs_of_another_grid_are_refused(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"x": torch.ones(1)}, "metadata": {"kwargs": {"sample_rate": 24_000}}},
        tmp_path / "x.pth",
    )
    with pytest.raises(WeightsError, match=r"x.pth does not hold 'dac-44khz': a codec of 24000 Hz, hop 512"):
        published.load_codec("dac-44khz", tmp_path / "x.pth")


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"conv.weight": torch.ones(1)}, "metadata": {"kwargs": SMALL_DAC}}, tmp_path / "x.pth"
    )
    with pytest.raises(WeightsError, match=r"x.pth does not .*missing: .* more; unexpected: conv.weight"):
        published.load_codec("dac-44khz", tmp_path / "x.pth")
    for load, name in ((published.load_sync, "s3d-kinetics400"), (published.load_sync, "s3d-sparsesync"),
                       (published.load_semantic, CLIP)):  # fmt: skip
        with pytest.raises(WeightsError, match=f"x.pth does not hold {name!r}.*this file's are conv.weight"):
            load(name, tmp_path / "x.pth")
    torch.save({"features.0.0.0.weight": torch.ones(1)}, tmp_path / "y.pth")
    with pytest.raises(
        WeightsError, match=r"y.pth .*missing: features.0.0.1.*misshapen: features.0.0.0.weight"
    ):
        published.load_sync("s3d-kinetics400", tmp_path / "y.pth")


# S3D.


@pytest.fixture(scope="module")
def kinetics() -> S3D:
    """torchvision's S3D with random weights and random statistics, so that no two layers can be mistaken."""
    torch.manual_seed(0)
    model = S3D().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv3d):
                # torch's own choice fades out over 20 layers: nothing of the picture would be left to compare.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, nn.BatchNorm3d):
                for values in (module.weight, module.running_var):
                    assert values is not None
                    values.uniform_(0.5, 1.5)
                for values in (module.bias, module.running_mean):
                    assert values is not None
                    values.uniform_(-0.2, 0.2)
    return model


def expected_features(trunk: nn.Module, clip: Tensor, mean: list[float], std: list[float]) -> Tensor:
    pixels = normalize(clip.permute(0, 1, 4, 2, 3).float() / 255, mean, std)
    with torch.no_grad():
        return trunk(pixels.transpose(1, 2)).mean((3, 4)).transpose(1, 2)


def test_torchvision_s3d_gives_the_features_of_the_original(kinetics: S3D, tmp_path: Path) -> None:
    torch.save(kinetics.state_dict(), tmp_path / "s3d.pth")
    encoder, clip = published.load_sync("s3d-kinetics400", tmp_path / "s3d.pth"), frames(16, 64)
    assert not encoder.training and "classifier.1.bias" in kinetics.state_dict()
    preprocessing = S3D_Weights.KINETICS400_V1.transforms()
    expected = expected_features(kinetics.features, clip, preprocessing.mean, preprocessing.std)
    with torch.no_grad():
        features = encoder(clip)
    assert features.shape == (2, encoder.steps(16), encoder.dim) == (2, 2, 1024)
    assert torch.allclose(features, expected, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        other = s3d.PublishedSyncEncoder(*s3d.IMAGENET).eval()
        state_dicts.fill(other, encoder.state_dict())
        assert not torch.allclose(features, other(clip), rtol=1e-2), (
            "a test that cannot tell the scalings apart"
        )


class Basic(nn.Module):
    def __init__(self, block: nn.Sequential) -> None:
        super().__init__()
        self.conv, self.bn = copy.deepcopy(block[0]), copy.deepcopy(block[1])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Separable(nn.Module):
    def __init__(self, block: nn.Sequential) -> None:
        super().__init__()
        space, time = Basic(block[0]), Basic(block[1])
        self.conv_s, self.bn_s, self.conv_t, self.bn_t = space.conv, space.bn, time.conv, time.bn

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn_s(self.conv_s(x)))
        return F.relu(self.bn_t(self.conv_t(x)))


class Mixed(nn.Module):
    def __init__(self, block: SepInceptionBlock3D) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(Basic(block.branch0))
        self.branch1 = nn.Sequential(Basic(block.branch1[0]), Separable(block.branch1[1]))
        self.branch2 = nn.Sequential(Basic(block.branch2[0]), Separable(block.branch2[1]))
        self.branch3 = nn.Sequential(block.branch3[0], Basic(block.branch3[1]))

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.branch0, self.branch1, self.branch2, self.branch3)
        return torch.cat([branch(x) for branch in branches], dim=1)


def kylemin_layout(trunk: nn.Sequential) -> nn.Sequential:
    """The same network under the names of kylemin/S3D, which SparseSync uses."""

    def rebuilt(block: nn.Module) -> nn.Module:
        if isinstance(block, nn.MaxPool3d):
            return block
        if isinstance(block, SepInceptionBlock3D):
            return Mixed(block)
        assert isinstance(block, nn.Sequential)
        return Separable(block) if isinstance(block, TemporalSeparableConv) else Basic(block)

    return nn.Sequential(*(rebuilt(block) for block in trunk))


def test_sparsesync_s3d_gives_the_features_of_the_original(kinetics: S3D, tmp_path: Path) -> None:
    original, clip = kylemin_layout(kinetics.features).eval(), frames(16, 64)
    state = {f"module.vfeat_extractor.base.{key}": value for key, value in original.state_dict().items()}
    state["module.afeat_extractor.conv1.weight"] = torch.ones(64, 1, 7, 7)
    state["module.v_bridge.proj.bias"] = torch.ones(512)
    assert "module.vfeat_extractor.base.5.branch1.1.conv_s.weight" in state
    torch.save({"model": state, "epoch": 7, "optimizer": {"state": {0: {"step": 1}}}}, tmp_path / "sync.pt")
    encoder = published.load_sync("s3d-sparsesync", tmp_path / "sync.pt")
    expected = expected_features(original, clip, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        assert torch.allclose(encoder(clip), expected, rtol=1e-3, atol=1e-5)


def test_steps_are_what_the_trunk_gives() -> None:
    encoder = s3d.PublishedSyncEncoder(*s3d.IMAGENET).eval()
    with torch.no_grad():
        for n_frames in (5, 12, 13, 20, 21):
            assert encoder(frames(n_frames, 32)).shape[1] == encoder.steps(n_frames)
    assert encoder.steps(100) == 12 and encoder.steps(125) == 16  # 16: SparseSync's visual_block_shape
    with pytest.raises(ValueError, match="at least 5 frames"):
        encoder(frames(4, 32))


# CLIP.


@pytest.fixture
def clip_file(tmp_path: Path) -> Iterator[tuple[nn.Module, Path]]:
    """open_clip's ViT-B-32 with random weights, and its file in half precision."""
    torch.manual_seed(0)
    model, file = open_clip.create_model("ViT-B-32"), tmp_path / "open_clip_model.safetensors"
    halves = {key: value.half() for key, value in model.state_dict().items()}
    save_file(halves, file)
    model.load_state_dict(halves)
    yield model.eval(), file
    file.unlink()


def expected_vectors(model: nn.Module, clip: Tensor) -> Tensor:
    config = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")
    pixels = normalize(clip.flatten(0, 1).permute(0, 3, 1, 2).float() / 255, config["mean"], config["std"])
    with torch.no_grad():
        return model.encode_image(pixels, normalize=True)  # type: ignore[operator]


def test_clip_gives_the_features_of_the_original(clip_file: tuple[nn.Module, Path]) -> None:
    model, file = clip_file
    encoder, clip = published.load_semantic(CLIP, file), frames(1, 224)
    assert not encoder.training and (encoder.dim, encoder.image_size) == (512, 224)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    expected = expected_vectors(model, clip)
    with torch.no_grad():
        features = encoder(clip)
        assert torch.allclose(features.flatten(0, 1), expected, atol=1e-5)
        # OpenAI's weights were trained with another activation, which the files do not say.
        quick = published.load_semantic("ViT-B-32/openai", file)(clip)
    assert not torch.allclose(quick, features, atol=1e-3)
    for block in model.visual.transformer.resblocks:  # type: ignore[union-attr]
        block.mlp.gelu = open_clip.transformer.QuickGELU()
    assert torch.allclose(quick.flatten(0, 1), expected_vectors(model, clip), atol=1e-5)


def test_scaling_follows_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict = {}
    monkeypatch.setattr(
        SemanticEncoder, "from_open_clip", lambda *args, **kwargs: seen.update(kwargs) or nn.Identity()
    )
    torch.save({"visual.x": torch.ones(1)}, tmp_path / "x.pt")
    published.load_semantic("ViT-B-16-SigLIP/webli", tmp_path / "x.pt")
    assert seen == dict(quick_gelu=False, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.mark.parametrize("model", ["EVA02-L-14-336", "ViT-B-32-quickgelu", "RN50", "coca_ViT-B-32"])
def test_image_towers_have_the_published_keys(model: str) -> None:
    with torch.device("meta"):
        whole, (tower, dim) = open_clip.create_model(model, device="meta"), image_tower(model)
    own = {key: value.shape for key, value in tower.state_dict().items()}
    assert own == {k: v.shape for k, v in state_dicts.clip_visual(whole.state_dict()).items()}
    assert dim == open_clip.get_model_config(model)["embed_dim"]


def test_coca_gives_vectors_only() -> None:
    with torch.device("meta"):
        assert isinstance(image_tower("coca_ViT-B-32")[0](torch.zeros(1, 3, 224, 224)), Tensor)


def test_unknown_open_clip_model() -> None:
    with pytest.raises(ValueError, match="open_clip has no model 'ViT-Q'"):
        SemanticEncoder.from_open_clip("ViT-Q", {})


@pytest.mark.slow
def test_eva_gives_the_features_of_the_original(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, file = open_clip.create_model("EVA02-L-14-336").eval(), tmp_path / "open_clip_model.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, file)
    encoder, clip = published.load_semantic(LARGE, file), frames(1, 336)[:1]
    file.unlink()
    assert (encoder.dim, encoder.image_size) == (768, 336)
    with torch.no_grad():
        assert torch.allclose(encoder(clip).flatten(0, 1), expected_vectors(model, clip), atol=1e-5)

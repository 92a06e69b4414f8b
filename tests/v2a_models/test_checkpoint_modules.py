"""Checkpoints that lie: a config or a header out of all proportion ends with a CheckpointError, not with memory."""

from __future__ import annotations

import contextlib
import json
import math
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from v2a_models import checkpoint_files
from v2a_models.checkpoint import CheckpointError, load_classifier, load_generator, save_generator
from v2a_models.checkpoint_files import BUNDLED, BUNDLED_SHA256, read_config, sha256
from v2a_models.checkpoint_modules import Bounded, stored_tensors
from v2a_models.codec.dac import MINI, Codec
from v2a_models.encoders.audio import EventClassifier
from v2a_models.encoders.clip_s3d import SemanticEncoder, SyncEncoder
from v2a_models.encoders.sound_classes import SOUND_CLASSES
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.maskvat.model import MaskVAT, MaskVATConfig
from v2a_models.recipe import Recipe

few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "toy"
    parts = (
        Codec(MINI),
        SemanticEncoder.mini(),
        SyncEncoder.mini(),
        MaskVAT(MaskVATConfig(n_codebooks=6, depth=1)),
    )
    save_generator(
        MaskVATGenerator(Recipe(name="toy"), *parts), folder, classes=("a", "b"),
        extra=dict(classifier=EventClassifier(2)),
    )  # fmt: skip
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy whose weights are the same file."""
    (tmp_path / "toy").mkdir()
    for file in good.iterdir():
        (tmp_path / "toy" / file.name).hardlink_to(file)
    return tmp_path / "toy"


def put(folder: Path, text: str | bytes) -> None:
    (folder / "config.json").unlink(missing_ok=True)
    (folder / "config.json").write_bytes(text.encode() if isinstance(text, str) else text)


def changed(folder: Path, *path: str | int, to: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    put(folder, json.dumps(config))


@pytest.mark.parametrize("value", [10**6, 10**9, 2**63, -1, 1.5, "many", None, []])
@pytest.mark.parametrize("key", ["depth", "dim"])
def test_sizes_are_bounded_by_the_weights(folder: Path, key: str, value: Any) -> None:
    """A million layers, or a tensor a thousand million wide, is refused before it takes memory."""
    assert key in json.loads((folder / "config.json").read_text())["model"]["maskvat"]
    changed(folder, "model", "maskvat", key, to=value)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError):
        load_generator(str(folder))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20, "KiB"


def test_a_message_says_what_to_do(folder: Path) -> None:
    changed(folder, "model", "maskvat", "depth", to=10**6)
    with pytest.raises(
        CheckpointError, match=r"far larger model than its weights hold: .*copy the folder again"
    ):
        load_generator(str(folder))


def test_a_tensor_is_counted_before_it_is_allocated(good: Path) -> None:
    """Twenty tebibytes on paper: no machine of a test has them."""
    with Bounded(good, good / "model.safetensors"):
        torch.nn.Linear(8, 8)
        for make in (
            lambda: torch.nn.Linear(10**9, 5000),
            lambda: torch.zeros(10**13),
            lambda: torch.arange(10**13),
        ):
            with pytest.raises(CheckpointError):
                make()
    with Bounded(good, good / "classifier.safetensors"), pytest.raises(CheckpointError):
        [torch.zeros(1 << 20) for _ in range(100)]
    with Bounded(good, good / "classifier.safetensors"), pytest.raises(CheckpointError):
        [torch.zeros(1) for _ in range(20_000)]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"x"', "[" * 100_000, '{"model": ' * 5_000, "{}", "\x00", b"\xff\xfe{}",
     '{"system": ["maskvat-hybrid"]}', '{"system": "maskvat-hybrid", "recipe": []}', '{"a": NaN}',
     '{"system": "maskvat-hybrid", "recipe": {}, "model": 1}', '{"x": 1' + "0" * 10_000 + "}", " " * (5 << 20)],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_configs_that_are_none(folder: Path, text: str | bytes) -> None:
    put(folder, text)
    with pytest.raises(CheckpointError):
        load_generator(str(folder))
    with pytest.raises(CheckpointError):
        load_classifier(str(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [("window_s", math.inf), ("window_s", 1e12), ("window_s", -4), ("sample_rate", 10**12), ("hop", "512"),
     ("channels", 10**6), ("semantic", {"fps": 1e9, "width": 64, "height": 64}), ("semantic", [1]), ("encoders", 7),
     ("unheard_of", 1), ("sync", {"fps": 25, "width": 10**9, "height": 64}), ("overlap_s", 5.0)],
)  # fmt: skip
def test_recipes_that_no_model_has(folder: Path, key: str, value: Any) -> None:
    changed(folder, "recipe", key, to=value)
    with pytest.raises(CheckpointError):
        load_generator(str(folder))


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@few
@given(data=st.data())
def test_any_value_anywhere_in_a_config(good: Path, data: st.DataObject) -> None:
    """A model, or a CheckpointError: nothing else comes of a config in which one value is another."""
    folder = good.with_name("any")
    if not folder.exists():
        shutil.copytree(good, folder)
    config = json.loads((good / "config.json").read_text())
    inner: Any = config
    while isinstance(inner, (dict, list)) and inner:
        outer, key = (
            inner,
            data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner)))),
        )
        inner = inner[key]
        if data.draw(st.booleans()):
            break
    outer[key] = data.draw(values)
    put(folder, json.dumps(config))
    try:
        load_generator(str(folder))
    except CheckpointError as error:
        assert str(error)


def lying(header: Any, body: bytes = bytes(16), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


F32 = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 7, lying({}, length=2**63), lying({}, length=2**60), lying(b"["), lying(b"[]"), lying({"a": 1}),
     lying({"a": F32 | {"data_offsets": [0, 2**60]}}), lying({"a": F32 | {"data_offsets": [-16, 0]}}),
     lying({"a": F32 | {"data_offsets": [16, 0]}}), lying({"a": F32, "b": F32}),
     lying({"a": F32 | {"shape": [2**60, 4]}}),
     lying({"a": F32 | {"shape": [-4]}}), lying({"a": F32 | {"dtype": "F999"}}), lying({"a": F32}, bytes(15)),
     lying({"a": F32}, bytes(17)), lying({"a": {**F32, "shape": None}}), lying(b'{"a":' * 10_000),
     lying({"a": F32 | {"shape": [2**32, 2**32]}}), lying({"a": F32 | {"data_offsets": [0]}})],
    ids=lambda content: content[8:40].decode("latin-1").encode("unicode_escape").decode(),
)  # fmt: skip
def test_headers_that_lie(folder: Path, content: bytes) -> None:
    file = folder / "model.safetensors"
    file.unlink()
    file.write_bytes(content)
    changed(folder, "sha256", to=sha256(file))
    with pytest.raises(CheckpointError):
        load_generator(str(folder))
    (folder / "classifier.safetensors").unlink()
    (folder / "classifier.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError):
        load_classifier(str(folder))


@few
@given(at=st.integers(0, 3000), byte=st.integers(0, 255))
def test_a_damaged_byte_of_a_header(good: Path, at: int, byte: int) -> None:
    file = good.with_name("damaged.safetensors")
    content = bytearray((good / "classifier.safetensors").read_bytes())
    content[at] = byte
    file.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        assert stored_tensors(file)[0] < len(content)


def test_bundled_files_are_the_ones_of_the_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {
        f"{file.parent.name}/{file.name}": file
        for file in BUNDLED.glob("*/*")
        if file.suffix not in (".md", ".csv")
    }
    assert {name: sha256(file) for name, file in files.items()} == BUNDLED_SHA256
    # A copy of them, of which one byte is changed.
    monkeypatch.setattr(checkpoint_files, "BUNDLED", tmp_path)
    shutil.copytree(BUNDLED / "mini", tmp_path / "mini")
    assert len(load_classifier("mini")[1]) == 1 + len(SOUND_CLASSES)
    for name in ("classifier.safetensors", "config.json"):
        file = tmp_path / "mini" / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + b" ")
        with pytest.raises(
            CheckpointError, match="not the file that v2a was released with: install v2a again"
        ):
            load_classifier("mini")
        file.write_bytes(whole)
    # With a config to match, too.
    (tmp_path / "mini" / "model.safetensors").write_bytes(b"other")
    config = read_config(BUNDLED / "mini") | {"sha256": sha256(tmp_path / "mini" / "model.safetensors")}
    put(tmp_path / "mini", json.dumps(config))
    with pytest.raises(CheckpointError, match="not the file"):
        load_generator("mini")

"""Encoders and codec of the bundled model, read without building a generator."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tests.support.train_store import frames
from v2a_models import checkpoint_files
from v2a_models.checkpoint import load_generator
from v2a_models.encoders.bundled import load_bundled


def test_they_equal_those_of_the_generator() -> None:
    generator, modules = load_generator("mini"), load_bundled(("codec", "semantic", "sync"))
    for role, module in modules.items():
        own, theirs = module.state_dict(), getattr(generator, role).state_dict()
        assert list(own) == list(theirs) and own
        assert all(torch.equal(own[key], theirs[key]) and own[key].dtype == theirs[key].dtype for key in own)
        assert not module.training
    seen = frames(0.8)
    sound = torch.rand(1, 1, 8192, generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.inference_mode():
        for role in ("semantic", "sync"):
            assert torch.equal(modules[role](seen[role]), getattr(generator, role)(seen[role]))
        assert generator.codec is not None
        assert torch.equal(modules["codec"].encode(sound), generator.codec.encode(sound))  # type: ignore[operator]


def test_an_extraction_loads_no_generator() -> None:
    code = (
        "import sys; from pipelines.extract import recipes; from v2a_models.encoders.encoders import load_encoders; "
        "load_encoders(*recipes.resolve(recipes.find('mini'), {}, None)); "
        "found = [name for name in sys.modules if name.startswith(('v2a_models.maskvat', 'v2a_models.vatt'))]; "
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_damaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "mini"
    folder.mkdir()
    bundled = checkpoint_files.find_checkpoint("mini")
    (folder / "config.json").write_bytes((bundled / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes((bundled / "model.safetensors").read_bytes()[:-1])
    monkeypatch.setattr(checkpoint_files, "BUNDLED", tmp_path)
    with pytest.raises(checkpoint_files.CheckpointError, match="truncated"):
        load_bundled(("codec",))

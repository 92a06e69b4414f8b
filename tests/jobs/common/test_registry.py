"""Weights of registered models are held against the tag of their version."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.common import registry
from jobs.common.verb import WrongUsage


class Client:
    """A registry with one version, `digest` its tag if any."""

    def __init__(self, digest: str) -> None:
        self.tags = {registry.SHA256_TAG: digest} if digest else {}

    def get_model_version(self, name: str, version: str) -> Any:
        return SimpleNamespace(version=version, source="runs:/1/model", tags=self.tags)


WEIGHTS = b"weights"
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Downloads of the model, which the test's registry serves."""
    import mlflow.artifacts

    seen: list[str] = []

    def download(artifact_uri: str, dst_path: str, tracking_uri: str) -> str:
        seen.append(artifact_uri)
        folder = Path(dst_path, "model")
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(WEIGHTS)
        return str(folder)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    monkeypatch.setenv("V2A_CACHE", str(tmp_path))
    registry._untagged.clear()
    return seen


def resolve(monkeypatch: pytest.MonkeyPatch, digest: str) -> str:
    monkeypatch.setattr(registry, "client_of", lambda uri: Client(digest))
    return registry.resolve("models:/v2a/3", "http://mlflow")


def test_the_tag_is_held_against_the_weights(
    fetched: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(resolve(monkeypatch, DIGEST))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS and len(fetched) == 1
    assert resolve(monkeypatch, DIGEST) == str(folder) and len(fetched) == 1
    assert not capsys.readouterr().out
    # What was kept is checked as well.
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(WrongUsage, match=r"not what was registered.*Remove that folder"):
        resolve(monkeypatch, DIGEST)


def test_other_weights_are_not_kept(
    fetched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(WrongUsage, match="not what was registered"):
            resolve(monkeypatch, "0" * 64)
    assert len(fetched) == 2 and not list(tmp_path.rglob("model.safetensors"))


def test_a_version_without_a_tag_is_used_and_said_once(
    fetched: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        resolve(monkeypatch, "")
    assert capsys.readouterr().out.count("has no tag v2a.sha256 in the registry") == 1


@pytest.mark.parametrize("uri", ["bogus://x", "sqlite:///{folder}/junk"])
def test_a_registry_that_is_none_is_wrong_usage(uri: str, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("no database")
    with pytest.raises(WrongUsage, match="--tracking-uri"):
        registry.resolve("models:/v2a/3", uri.format(folder=tmp_path))


def test_a_cache_that_cannot_be_written_is_wrong_usage(
    fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(WrongUsage, match="cannot be fetched"):
        resolve(monkeypatch, DIGEST)
    assert fetched == []

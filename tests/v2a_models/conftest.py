"""A machine without published weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from v2a_models.encoders import published


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of $V2A_WEIGHTS; nothing of this machine's own is found, and nothing is fetched."""
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(published.FOLDER, str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(os, "system", lambda command: pytest.fail(f"ran {command}"))
    return tmp_path / "weights"

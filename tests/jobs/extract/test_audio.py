"""`v2a extract` with BEATs beside the sound itself: the column, and everything that tells of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs import cli
from tests.support import beats_file
from tests.support.extraction import footage, rows, run
from v2a_models.encoders import published

# Sound of two channels and another rate, kept, so that the features can be made from it again.
RECIPE = f"""
name: heard
window_s: 1
frames: {{fps: 10, width: 16, height: 12}}
waveform: {{rate: 16000, channels: 2}}
audio: {{encoder: {beats_file.NAME}}}
"""


@pytest.mark.slow
def test_the_features_of_the_sound_are_a_column(
    ray_session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, store = tmp_path / "heard.yaml", tmp_path / "store"
    recipe.write_text(RECIPE)
    archive = footage(tmp_path / "archive", ["a"], 2.5)
    monkeypatch.setenv("V2A_WEIGHTS", str(tmp_path / "weights"))
    weights = beats_file.save(tmp_path / "weights" / beats_file.FILE, encoder_layers=1)

    assert run(archive, store, str(recipe), describe=True) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert (
        "audio: beats-iter3-plus-as2m" in words
        and "fixed_shape_tensor[value_type=halffloat, shape=[7,768]" in words
    )
    assert not store.exists()

    assert run(archive, store, str(recipe), precision="float32") == 0
    found = rows(store)
    arrays = {name: found[name].combine_chunks().to_numpy_ndarray() for name in ("audio", "waveform")}
    assert arrays["audio"].shape == (3, 7, 768) and arrays["audio"].dtype == np.float16
    sound = torch.from_numpy(arrays["waveform"].copy()).float().mean(1) / 32768
    assert sound.abs().max() > 0.3
    with torch.inference_mode():
        expected = published.load_audio(beats_file.NAME, weights, 16_000)(sound)
    assert np.allclose(arrays["audio"], expected.numpy(), rtol=5e-3, atol=5e-3)
    assert not np.allclose(arrays["audio"][0, 3], arrays["audio"][2, 6], atol=0.1), "tone and silence"

    page = tmp_path / "page.html"
    capsys.readouterr()
    assert cli.main(["store", str(store), "--html", str(page)]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for part in (
        "audio encoder beats-iter3-plus-as2m",
        "samples kept, and as features",
        "audio float16 [7, 768]",
    ):
        assert part in words, part
    assert "float16 [7, 768]" in page.read_text()

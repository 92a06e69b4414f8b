"""Settings of sampling on recorded clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import real_sampling
from tests.benchmarks.test_real_footage import flashing


def test_each_setting_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(2):
        flashing(tmp_path / f"{k}.mp4", [5 + k, 20])
    assert (
        real_sampling.main([str(tmp_path), "--seeds", "1", "--try", "steps=1", "steps=1,temperature=0.01"])
        == 0
    )
    out = capsys.readouterr().out
    assert "2 clips, 1 seeds, mini" in out
    rows = [line.split("|")[1:3] for line in out.splitlines() if line.startswith("|")]
    assert [name.strip() for name, _ in rows] == [
        "setting",
        "---",
        "as it is",
        "steps=1",
        "steps=1,temperature=0.01",
    ]


def test_wrong_usage_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="name=value"):
        real_sampling.setting("guidance")
    assert real_sampling.setting("guidance=2,guided=0.5") == {"guidance": 2, "guided": 0.5}
    for arguments in ([str(tmp_path / "none")], [str(tmp_path)], [str(tmp_path), "--try", "x"]):
        with pytest.raises(SystemExit) as ended:
            real_sampling.main(arguments)
        assert ended.value.code == 2
    assert "fewer than two clips" in capsys.readouterr().err

"""`import v2a`: the verbs from Python, and nothing heavy until they are called."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import v2a
from tests.support.toy_generators import write_video


def test_importing_it_imports_nothing_heavy() -> None:
    script = (
        "import sys, v2a; v2a.dub, v2a.scan, v2a.extract, v2a.load_generator\n"
        "print(v2a.__version__, *{name.partition('.')[0] for name in sys.modules})"
    )
    version, *modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert re.match(r"\d+\.\d+", version)
    assert not {"torch", "ray", "av", "mlflow", "pyarrow", "numpy", "tyro", "rich"} & set(modules)


def test_generators_have_the_public_type() -> None:
    generator = v2a.load_generator("mini")
    assert isinstance(generator, v2a.Generator)
    assert generator.name == "mini"


def test_other_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="'dubb'"):
        v2a.dubb  # noqa: B018


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: v2a.dub("in", "out", loudnes=-23),
            "DubConfig has no option 'loudnes'; did you mean 'loudness'",
        ),
        (lambda: v2a.scan("in", shows=3), "did you mean 'show'"),
        (lambda: v2a.extract("in", "store", xyz=1), "has no option 'xyz'; choose from address, archive"),
    ],
)
def test_an_unknown_option_names_the_nearest(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


def test_scan_and_dub_of_a_film(tmp_path: Path, ray_session: Any) -> None:
    films, out = tmp_path / "films", tmp_path / "dubbed"
    write_video(films / "reel.mp4", 2.0)
    result = v2a.scan(films, show=0)
    assert result.exit_code == 0
    assert [(row["path"], row["audio_state"]) for row in result.rows] == [("reel.mp4", "none")]
    assert v2a.dub(films, out, sidecar="wav", joins="crossfade", tracking_uri="off") == 0
    assert (out / "reel.mp4.wav").stat().st_size > 44_100 * 2


def test_extract_checks_its_options_as_the_command_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "films" / "reel.mp4", 1.0, sound=0.5)
    assert v2a.extract(tmp_path / "films", tmp_path / "store", gpu_share=2.0) == 2
    assert "--gpu-share" in capsys.readouterr().err

"""`python -m benchmarks.vatt_page` with an untrained model."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import av
import pytest

from benchmarks import vatt_page
from tests.support.toy_generators import write_video


def test_a_clip_has_a_player_and_a_picture_for_every_prompt(
    vatt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = write_video(tmp_path / "film.mp4", 0.5), tmp_path / "page.html"
    command = [str(out), "--clip", str(clip), "--prompts", "a drum", "--negative", "rain", "--model", vatt]
    assert vatt_page.main(command) == 0
    page = out.read_text()
    films = [base64.b64decode(text) for text in re.findall(r"data:video/mp4;base64,([^\"]+)", page)]
    assert len(films) == 2 and len(re.findall("data:image/webp;base64,", page)) == 2
    for number, content in enumerate(films):
        (tmp_path / f"{number}.mp4").write_bytes(content)
        with av.open(str(tmp_path / f"{number}.mp4")) as film:
            assert len(film.streams.video) == len(film.streams.audio) == 1
    assert films[0] != films[1] and "“a drum”" in page and "heard as" in page and ">rain<" in page


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--clip", "film.avi"], "which browsers play"),
        (["--clip", "gone.mp4"], "no film gone.mp4"),
        (["--scene", "-1"], "must not be negative"),
        (["--prompts", "☃"], "does not know: '☃'"),
    ],
)
def test_what_cannot_be_shown_is_told(
    vatt: str, tmp_path: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(vatt_page, "SCENE_S", 1.0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        vatt_page.main([str(tmp_path / "page.html"), "--model", vatt, *more])
    assert words in capsys.readouterr().err and not (tmp_path / "page.html").exists()

"""`python -m benchmarks.page_picture`: one PNG of the size asked for. Left out where there is no browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import page_picture

BROWSER = any(shutil.which(name) for name in page_picture.BROWSERS)


@pytest.mark.skipif(not BROWSER, reason="no browser")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("dark", [False, True])
def test_the_picture_shows_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str], dark: bool) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    style = (
        "body { background: #0000ff } @media (prefers-color-scheme: dark) { body { background: #ff0000 } }"
    )
    page.write_text(f"<!doctype html><style>{style}</style>")
    options = ["--width", "600", "--height", "700", *(["--dark"] if dark else [])]
    assert page_picture.main([str(page), str(picture), *options]) == 0
    with Image.open(picture) as image:
        assert image.size == (600, 700)
        assert image.convert("RGB").getpixel((300, 350)) == ((255, 0, 0) if dark else (0, 0, 255))
    assert "600 x 700 pixels" in capsys.readouterr().out


def test_without_a_browser_it_says_which_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert page_picture.main([str(tmp_path / "page.html"), str(tmp_path / "page.png")]) == 2
    assert "install one of chromium" in capsys.readouterr().err

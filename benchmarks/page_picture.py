"""Picture of a page for the documentation, taken by a headless browser.

    make demo && python -m benchmarks.page_picture out/demo/dubbed/_v2a/report.html docs/report.png
        [--width 948] [--height 1640] [--dark]

Takes the top of the page at one pixel per CSS pixel. Needs Chromium or Chrome on PATH.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

SPARE = 300
"""Pixels added to the height of the window: its lowest part stays blank, and pictures load only near what is seen."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page_picture", description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path, help="the .png file to write")
    parser.add_argument("--width", type=int, default=948)
    parser.add_argument("--height", type=int, default=1640)
    parser.add_argument("--dark", action="store_true", help="take the page in its dark colours")
    given = parser.parse_args(arguments)
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        print(f"no browser found; install one of {', '.join(BROWSERS)}", file=sys.stderr)
        return 2
    if not given.page.is_file():
        print(f"there is no page {given.page}", file=sys.stderr)
        return 2
    image = take(browser, given.page, given.width, given.height, given.dark)
    # Palette colours: a third of the size, and no visible difference on pages of flat areas.
    image.quantize(256).save(given.picture, optimize=True)
    size_kb = given.picture.stat().st_size / 1000
    print(f"{given.picture}: {given.width} x {given.height} pixels of {given.page}, {size_kb:.0f} kB")
    return 0


def take(browser: str, page: Path, width: int, height: int, dark: bool = False) -> Image.Image:
    """The top of the page as the browser draws it once its pictures have loaded."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "page.png")
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--force-device-scale-factor=1", "--virtual-time-budget=10000",
            "--run-all-compositor-stages-before-draw", f"--user-data-dir={folder}/profile",
            f"--window-size={width},{height + SPARE}", f"--screenshot={shot}",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []), page.resolve().as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        with Image.open(shot) as image:
            return image.convert("RGB").crop((0, 0, width, height))


if __name__ == "__main__":
    sys.exit(main())

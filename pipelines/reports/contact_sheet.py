"""A film at a glance: frames over its whole length with their times, in a grid."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.reports.film_card import BACKGROUND, LABEL, PANEL, WIDTH, time_label

MOST = 48
"""Frames on a sheet."""

CELL_HEIGHT = 96
"""Pixels that a frame is high at most, about; the frames that are kept are not larger."""

GAP = 4
"""Pixels between frames."""

FEWEST_COLUMNS, MOST_COLUMNS = 3, 12


class Picker:
    """Chooses frames as they pass: of each of `MOST` equal stretches of the film the one nearest to its middle. Holds
    no more than these, however long the film is."""

    def __init__(self, duration_s: float) -> None:
        self.stretch_s = max(duration_s, 1e-6) / MOST
        self._held: dict[int, tuple[float, float, np.ndarray]] = {}
        """Distance from the middle of its stretch, time and frame, by number of the stretch."""

    def add(self, frames: Iterable[tuple[float, np.ndarray]]) -> None:
        """(seconds, uint8 [h, w, 3]) in any order."""
        for time_s, frame in frames:
            stretch = min(MOST - 1, max(0, int(time_s / self.stretch_s)))
            distance = abs(time_s - (stretch + 0.5) * self.stretch_s)
            held = self._held.get(stretch)
            if held is None or (distance, time_s) < held[:2]:
                # A copy: the frame is a view of all frames of its segment.
                self._held[stretch] = distance, time_s, frame.copy()

    @property
    def frames(self) -> list[tuple[float, np.ndarray]]:
        """Chosen frames in the order of the film. Stretches without a frame are left out."""
        return [self._held[stretch][1:] for stretch in sorted(self._held)]


def layout(n: int, aspect: float) -> tuple[int, int, int, int]:
    """Columns, rows, and width and height of a cell in pixels, for n frames of this width per height."""
    columns = round((WIDTH + GAP) / (CELL_HEIGHT * aspect + GAP))
    columns = min(MOST_COLUMNS, max(FEWEST_COLUMNS, columns))
    width = (WIDTH + GAP) // columns - GAP
    return columns, -(-n // columns), width, max(1, min(2 * CELL_HEIGHT, round(width / aspect)))


def draw_sheet(frames: list[tuple[float, np.ndarray]]) -> Image.Image:
    """The sheet, RGB, `WIDTH` wide. frames: (seconds, uint8 [h, w, 3]), at least one."""
    height, width = frames[0][1].shape[:2]
    columns, rows, cell_width, cell_height = layout(len(frames), width / max(1, height))
    sheet = Image.new("RGB", (WIDTH, rows * (cell_height + GAP) - GAP), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    left = (WIDTH + GAP - columns * (cell_width + GAP)) // 2
    for k, (time_s, frame) in enumerate(frames):
        x = left + k % columns * (cell_width + GAP)
        y = k // columns * (cell_height + GAP)
        sheet.paste(_fitted(frame, cell_width, cell_height), (x, y))
        text = time_label(time_s, 1.0)
        bounds = pen.textbbox((x + 7, y + cell_height - 6), text, font=font, anchor="ls")
        pen.rounded_rectangle(
            (bounds[0] - 4, bounds[1] - 3, bounds[2] + 4, bounds[3] + 3), radius=3, fill=BACKGROUND
        )
        pen.text((x + 7, y + cell_height - 6), text, font=font, fill=LABEL, anchor="ls")
    return sheet


def _fitted(frame: np.ndarray, width: int, height: int) -> Image.Image:
    """The whole frame in the middle of a cell."""
    cell = Image.new("RGB", (width, height), PANEL)
    picture = Image.fromarray(np.ascontiguousarray(frame))
    scale = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    cell.paste(picture, ((width - size[0]) // 2, (height - size[1]) // 2))
    return cell

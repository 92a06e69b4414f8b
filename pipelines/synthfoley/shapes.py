"""Anti-aliased shapes in scene units: each one touches only the pixels of its bounding box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Colour = Sequence[float] | np.ndarray
"""Red, green, blue in 0..255."""


class Canvas:
    """Float32 picture [h, w, 3] in 0..255, and the mapping from scene units to its pixels.

    Scene units have their origin at the object, y downwards. Distances are measured in rows of pixels, `unit` rows per
    scene unit. A picture squeezed horizontally has columns `stretch` times as dense, so a scene fills any frame shape
    as if the native picture had been resized. `flip` is -1 for a mirrored scene.
    """

    def __init__(
        self, image: np.ndarray, unit: float, x0: float, y0: float, flip: int = 1, stretch: float = 1.0
    ) -> None:
        self.image, self.unit, self.x0, self.y0 = image, unit, x0 / stretch, y0
        self.flip, self.stretch = flip, stretch
        self.h, self.w = image.shape[:2]

    def to_pixels(self, x, y):
        """Scene coordinates in rows of pixels on both axes (column k is centred at (k + 0.5) / stretch)."""
        return self.x0 + self.flip * self.unit * np.asarray(x), self.y0 + self.unit * np.asarray(y)

    def area(self, left: float, right: float, top: float, bottom: float):
        """Region of the picture around a box (in rows of pixels), with its grid; None if it lies outside."""
        x0, x1 = max(0, int(left * self.stretch) - 1), min(self.w, int(right * self.stretch) + 3)
        y0, y1 = max(0, int(top) - 1), min(self.h, int(bottom) + 3)
        if x0 >= x1 or y0 >= y1:
            return None
        gx = (np.arange(x0, x1, dtype=np.float32) + np.float32(0.5)) / np.float32(self.stretch)
        gy = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5)
        return self.image[y0:y1, x0:x1], gx, gy

    @staticmethod
    def blend(region: np.ndarray, cover: np.ndarray, colour: Colour) -> None:
        """Blend `colour` into a region of the picture with opacity `cover` (0..1)."""
        region += cover[..., None] * (np.asarray(colour, np.float32) - region)

    def _paint(self, region, distance, colour, alpha, edge, edge_w) -> None:
        if edge is not None:
            self.blend(region, np.clip(0.5 - distance, 0, 1) * np.float32(alpha), edge)
            distance = distance + np.float32(max(edge_w * self.unit, 0.7))
        self.blend(region, np.clip(0.5 - distance, 0, 1) * np.float32(alpha), colour)

    def disc(self, x, y, r, colour, alpha=1.0, ry=None, edge=None, edge_w=0.012) -> None:
        """A disc, or an upright ellipse when `ry` is given."""
        px, py = self.to_pixels(x, y)
        a = max(r * self.unit, 0.3)
        b = a if ry is None else max(ry * self.unit, 0.3)
        box = self.area(px - a, px + a, py - b, py + b)
        if box is None or alpha <= 0.004:
            return
        region, gx, gy = box
        distance = (np.sqrt(((gx - px) / a) ** 2 + ((gy - py) / b) ** 2) - 1) * min(a, b)
        self._paint(region, distance.astype(np.float32), colour, alpha, edge, edge_w)

    def ring(self, x, y, r, width, colour, alpha=1.0, ry=None) -> None:
        """The outline of a disc or ellipse."""
        px, py = self.to_pixels(x, y)
        a = max(r * self.unit, 0.3)
        b = a if ry is None else max(ry * self.unit, 0.3)
        half = max(width * self.unit / 2, 0.5)
        box = self.area(px - a - half, px + a + half, py - b - half, py + b + half)
        if box is None or alpha <= 0.004:
            return
        region, gx, gy = box
        u, v = (gx - px) / a, (gy - py) / b
        rho = np.sqrt(u * u + v * v) + 1e-6
        # distance along the radius, corrected by the gradient of the ellipse
        slope = np.sqrt((u / a) ** 2 + (v / b) ** 2) / rho + 1e-9
        distance = np.abs(rho - 1) / slope - half
        self._paint(region, distance.astype(np.float32), colour, alpha, None, 0)

    def line(self, x0, y0, x1, y1, width, colour, alpha=1.0, edge=None, edge_w=0.012) -> None:
        """A line with round ends."""
        ax, ay = self.to_pixels(x0, y0)
        bx, by = self.to_pixels(x1, y1)
        r = max(width * self.unit / 2, 0.45)
        box = self.area(min(ax, bx) - r, max(ax, bx) + r, min(ay, by) - r, max(ay, by) + r)
        if box is None or alpha <= 0.004:
            return
        region, gx, gy = box
        dx, dy = bx - ax, by - ay
        along = np.clip(((gx - ax) * dx + (gy - ay) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
        distance = np.sqrt((gx - ax - along * dx) ** 2 + (gy - ay - along * dy) ** 2) - r
        self._paint(region, distance.astype(np.float32), colour, alpha, edge, edge_w)

    def poly(self, points, colour, alpha=1.0, edge=None, edge_w=0.012) -> None:
        """A convex polygon; points [n, 2] in order (either direction)."""
        points = np.asarray(points, float)
        px, py = self.to_pixels(points[:, 0], points[:, 1])
        box = self.area(px.min(), px.max(), py.min(), py.max())
        if box is None or alpha <= 0.004:
            return
        region, gx, gy = box
        turn = np.sum(px * np.roll(py, -1) - np.roll(px, -1) * py)
        sign = 1.0 if turn > 0 else -1.0
        distance = None
        for i in range(len(px)):
            j = (i + 1) % len(px)
            ex, ey = px[j] - px[i], py[j] - py[i]
            norm = sign / max(np.hypot(ex, ey), 1e-6)
            side = (gx - px[i]) * np.float32(ey * norm) - (gy - py[i]) * np.float32(ex * norm)
            distance = side if distance is None else np.maximum(distance, side)
        self._paint(region, distance, colour, alpha, edge, edge_w)

    def box(self, x, y, half_w, half_h, colour, angle=0.0, **kw) -> None:
        """A rectangle around (x, y), turned by `angle` radians (in scene coordinates)."""
        c, s = np.cos(angle), np.sin(angle)
        corners = ((-half_w, -half_h), (half_w, -half_h), (half_w, half_h), (-half_w, half_h))
        self.poly([(x + u * c - v * s, y + u * s + v * c) for u, v in corners], colour, **kw)

    def dots(self, x, y, r, colour, alpha=1.0) -> None:
        """Many small discs of one colour at once; `r` and `alpha` may differ per dot."""
        x, y = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
        if not x.size:
            return
        px, py = self.to_pixels(x, y)
        radius = np.broadcast_to(np.asarray(r, float) * self.unit, x.shape)
        # a dot smaller than a pixel is drawn as one fainter pixel, of the same total light
        alpha = np.broadcast_to(np.asarray(alpha, float), x.shape) * np.minimum(1, radius / 0.6)
        radius = np.maximum(radius, 0.6)
        reach_x, reach_y = int(np.ceil(radius.max() * self.stretch)) + 1, int(np.ceil(radius.max())) + 1
        ix = np.floor(px * self.stretch).astype(int)[:, None, None] + np.arange(-reach_x, reach_x + 1)
        iy = np.floor(py).astype(int)[:, None, None] + np.arange(-reach_y, reach_y + 1)[:, None]
        dx = (ix + 0.5) / self.stretch - px[:, None, None]
        distance = np.sqrt(dx * dx + (iy + 0.5 - py[:, None, None]) ** 2)
        cover = np.clip(0.5 - distance + radius[:, None, None], 0, 1) * alpha[:, None, None]
        inside = (ix >= 0) & (ix < self.w) & (iy >= 0) & (iy < self.h) & (cover > 0)
        if not inside.any():
            return
        flat = (iy * self.w + ix)[inside]
        order = np.unique(flat, return_inverse=True)
        best = np.zeros(order[0].shape, np.float32)
        np.maximum.at(best, order[1], cover[inside].astype(np.float32))
        pixels = self.image.reshape(-1, 3)
        old = pixels[order[0]]
        pixels[order[0]] = old + best[:, None] * (np.asarray(colour, np.float32) - old)

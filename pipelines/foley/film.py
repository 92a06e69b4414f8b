"""Pictures of a Foley scene as a camera and a film would give them, at the synchrony encoder's size.

Everything that real footage has besides what sounds: textured places, a camera that shakes, pans and zooms, motion
blur, grain, flicker, scratches, black and white, low frame rates, things in front, and motion that makes no sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from pipelines.foley.actors import ACTORS
from pipelines.foley.scene import FoleyScene
from pipelines.foley.style import style_of
from pipelines.synthfoley.shapes import Canvas

STAGE = 144
"""Side in pixels of the picture in which actors are drawn; the camera sees a part of it."""

RATES = (5.0, 8.0, 10.0, 12.0, 15.0, 16.0, 18.0, 20.0, 24.0, 25.0, 30000 / 1001, 30.0, 50.0)
RATE_WEIGHTS = (1, 1, 2, 2, 4, 2, 2, 2, 12, 20, 16, 20, 2)


@dataclass(frozen=True)
class Film:
    """Random constants of camera and film."""

    fps: float
    shake: float
    pan: tuple[float, float]
    zoom: tuple[float, float]
    grain: float
    flicker: float
    scratches: bool
    grey: bool
    gamma: float
    contrast: float
    blur: float
    tint: tuple[float, float, float]
    bars: float
    front: bool


def film_of(scene: FoleyScene) -> Film:
    """Camera and film of a scene: a tripod and clean film most often, all else in every mixture."""
    rng = scene.rng(3)

    def sometimes(share: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.uniform() < share else 0.0

    old = rng.uniform() < 0.12
    weights = np.array(RATE_WEIGHTS, float)
    return Film(
        fps=float(RATES[int(rng.choice(len(RATES), p=weights / weights.sum()))]),
        shake=sometimes(0.4, 0.002, 0.03),
        pan=(sometimes(0.25, -0.12, 0.12), sometimes(0.1, -0.05, 0.05)),
        zoom=(float(rng.uniform(0.75, 1.1)), sometimes(0.15, -0.05, 0.05)),
        grain=float(rng.uniform(4, 22)) if old else float(rng.uniform(0, 7)),
        flicker=float(rng.uniform(0.02, 0.15)) if old else sometimes(0.15, 0.005, 0.04),
        scratches=bool(old),
        grey=bool(old or rng.uniform() < 0.1),
        gamma=float(np.exp(rng.normal(0, 0.3))),
        contrast=float(rng.uniform(0.35, 1.15)),
        blur=sometimes(0.4, 0.3, 1.5),
        tint=tuple(float(v) for v in rng.uniform(0.85, 1.15, 3)),  # type: ignore[arg-type]
        bars=sometimes(0.15, 0.05, 0.18),
        front=bool(rng.uniform() < 0.15),
    )


def render_frames(scene: FoleyScene, times: Sequence[float] | np.ndarray, size: int = 64) -> np.ndarray:
    """Frames that a player shows at `times` (seconds, rising), uint8 [T, size, size, 3].

    A film of another frame rate shows the picture that began last, as when frames are picked from a file.
    """
    film = film_of(scene)
    shown = np.floor(np.asarray(times) * film.fps + 1e-6) / film.fps
    moments, back = np.unique(shown, return_inverse=True)
    frames = _filmed(scene, film, moments, size)
    return frames[back]


def _filmed(scene: FoleyScene, film: Film, moments: np.ndarray, size: int) -> np.ndarray:
    place, style = _place(scene), style_of(scene)
    draw, crowd = ACTORS[scene.actor], _silent_movers(scene)
    stage = np.empty((len(moments), STAGE, STAGE, 3), np.float32)
    flip = 1 if style.u[15] < 0.5 else -1
    for k, t in enumerate(moments):
        stage[k] = place
        canvas = Canvas(stage[k], 0.72 * STAGE, STAGE / 2, STAGE / 2, 1)
        for mover in crowd:
            mover(canvas, float(t))
        if scene.seen:
            actor = Canvas(
                stage[k], 0.72 * STAGE, STAGE * (0.5 + 0.72 * style.x), STAGE * (0.5 + 0.72 * style.y), flip
            )
            draw(actor, scene, style, float(t))
        if film.front:
            canvas.box(0.5, 0.1, 0.12, 1.0, style.colours[3])
    if film.blur > 0.8 and len(moments) > 2:  # a long exposure
        stage[1:-1] = 0.25 * stage[:-2] + 0.5 * stage[1:-1] + 0.25 * stage[2:]
    frames = _through_the_camera(stage, scene, film, moments, size)
    return _developed(frames, scene, film, moments)


def _through_the_camera(
    stage: np.ndarray, scene: FoleyScene, film: Film, moments: np.ndarray, size: int
) -> torch.Tensor:
    """Part of the stage that the camera sees at each moment, float (T, 3, size, size)."""
    rng, t = scene.rng(4), torch.from_numpy(moments.astype(np.float32))
    middle = t - scene.duration_s / 2

    def trembling(amount: float) -> torch.Tensor:
        waves = [
            torch.sin(2 * np.pi * f * rng.uniform(0.7, 1.4) * t + rng.uniform(0, 6.28)) / k
            for k, f in enumerate((0.3, 1.1, 2.7, 6.0), 1)
        ]
        return amount * sum(waves)  # type: ignore[return-value]

    zoom = film.zoom[0] * torch.exp(film.zoom[1] * middle)
    x = (film.pan[0] * middle).clamp(-0.35, 0.35) + trembling(film.shake)
    y = (film.pan[1] * middle).clamp(-0.3, 0.3) + trembling(film.shake)
    turn = trembling(film.shake * 0.5)
    theta = torch.stack(
        [
            torch.stack([zoom * torch.cos(turn), -zoom * torch.sin(turn), x], -1),
            torch.stack([zoom * torch.sin(turn), zoom * torch.cos(turn), y], -1),
        ],
        1,
    )
    pictures = torch.from_numpy(stage).permute(0, 3, 1, 2)
    seen = F.affine_grid(theta.float(), [len(t), 3, 2 * size, 2 * size], align_corners=False)
    large = F.grid_sample(pictures, seen, mode="bilinear", padding_mode="reflection", align_corners=False)
    return F.avg_pool2d(large, 2)


def _developed(frames: torch.Tensor, scene: FoleyScene, film: Film, moments: np.ndarray) -> np.ndarray:
    """Frames with exposure, colour, blur, grain and damage of the film: uint8 [T, size, size, 3]."""
    rng = scene.rng(5)
    if film.blur:
        size = frames.shape[-1]
        small = F.interpolate(frames, scale_factor=1 / (1 + film.blur), mode="bilinear", antialias=True)
        frames = F.interpolate(small, (size, size), mode="bilinear")
    if film.grey:
        frames = frames.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    x = (frames / 255).clamp(0, 1) ** film.gamma
    x = (x - 0.45) * film.contrast + rng.uniform(0.3, 0.6)
    x = x * torch.tensor(film.tint)[:, None, None]
    light = torch.from_numpy(1 + film.flicker * rng.standard_normal(len(moments)).astype(np.float32))
    for event in scene.events if scene.seen else ():
        if scene.label in ("gunshot", "explosion", "thunder"):
            since = torch.from_numpy((moments - event.onset_s).astype(np.float32))
            light = light + 0.8 * event.strength * torch.exp(-since.clamp(min=0) / 0.06) * (since >= 0)
    x = x * light[:, None, None, None]
    x = x + film.grain / 255 * torch.from_numpy(rng.standard_normal(x.shape).astype(np.float32))
    if film.scratches:
        for k in range(len(x)):
            if rng.uniform() < 0.3:
                x[k, :, :, int(rng.integers(x.shape[-1]))] += float(rng.uniform(-0.4, 0.5))
            if rng.uniform() < 0.2:
                r, c = rng.integers(0, x.shape[-1] - 5, 2)
                x[k, :, r : r + int(rng.integers(1, 5)), c : c + int(rng.integers(1, 5))] = float(
                    rng.uniform(0, 1)
                )
    if film.bars:
        bar = int(film.bars * x.shape[-1])
        x[..., :bar, :] = x[..., -bar:, :] = 0.02
    pixels = (x.clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def _place(scene: FoleyScene) -> np.ndarray:
    """Background with the spectrum of photographs: soft shapes, edges and texture, float32 [STAGE, STAGE, 3]."""
    rng = scene.rng(6)
    slope = rng.uniform(0.8, 1.9)
    frequencies = np.hypot(np.fft.fftfreq(STAGE)[:, None], np.fft.rfftfreq(STAGE)[None]) + 1 / STAGE
    shades = []
    for _ in range(3):
        noise = rng.standard_normal((STAGE, STAGE // 2 + 1)) + 1j * rng.standard_normal(
            (STAGE, STAGE // 2 + 1)
        )
        field = np.fft.irfft2(noise / frequencies**slope, s=(STAGE, STAGE))
        shades.append(field / (field.std() + 1e-9))
    common = shades[0]
    picture = np.stack([0.8 * common + 0.3 * shades[1], common, 0.8 * common + 0.3 * shades[2]], -1)
    picture = 128 + rng.uniform(8, 45) * picture
    for _ in range(int(rng.integers(0, 7))):  # walls, windows, furniture, hills
        top, left = rng.integers(0, STAGE - 20, 2)
        bottom, right = top + int(rng.integers(10, STAGE)), left + int(rng.integers(10, STAGE))
        shade = rng.uniform(10, 240, 3) * 0.6 + rng.uniform(10, 240) * 0.4
        picture[top:bottom, left:right] = 0.35 * picture[top:bottom, left:right] + 0.65 * shade
    if rng.uniform() < 0.5:
        picture = ndimage.gaussian_filter(picture, (rng.uniform(0.5, 3.0),) * 2 + (0,))
    return np.clip(picture, 0, 255).astype(np.float32)


def _silent_movers(scene: FoleyScene) -> list:
    """Things that move and make no sound: smooth ways, or an arm that gestures."""
    rng = scene.rng(7)
    movers = []
    for _ in range(int(rng.choice(4, p=[0.5, 0.25, 0.15, 0.1]))):
        a, b, c, d, e, f = (float(v) for v in rng.uniform(0, 1, 6))
        colour = tuple(float(v) for v in rng.uniform(10, 245, 3))

        def move(canvas: Canvas, t: float, a=a, b=b, c=c, d=d, e=e, f=f, colour=colour) -> None:
            phase = 6.28 * (c + t * (0.03 + 0.35 * d))
            x, y = (
                1.1 * (a - 0.5) + (0.1 + 0.4 * e) * np.sin(phase),
                0.9 * (b - 0.5) + 0.1 * np.sin(1.7 * phase),
            )
            r = 0.03 + 0.15 * f
            if e < 0.5:
                canvas.disc(x, y, r, colour, ry=r * (0.6 + 1.5 * a))
            else:
                canvas.line(x, y, x + 3 * r * np.cos(phase), y + 3 * r * np.sin(phase), 0.5 * r, colour)

        movers.append(move)
    return movers

"""The picture of one dubbed film: film strip, waveform and spectrogram over one time axis."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from v2a_models import pcm

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

WIDTH = 1200
"""Pixels from the start to the end of the time axis: the picture has no margin at the sides, so that a
position in time is a position in the picture."""

STRIP, WAVE, SPECTRUM, AXIS, GAP = 76, 84, 124, 22, 6
HEIGHT = STRIP + WAVE + SPECTRUM + AXIS + 2 * GAP

BACKGROUND = (15, 17, 22)
PANEL = (22, 25, 32)
LABEL = (226, 230, 237)
_INK = (150, 158, 172)
_WAVE = (94, 214, 190)
_RMS = (190, 250, 236)
_RAMP = (
    (15, 17, 26),
    (44, 28, 84),
    (110, 36, 120),
    (188, 58, 104),
    (240, 118, 76),
    (252, 196, 118),
    (255, 250, 220),
)
_FLOOR_DB = 72.0
_N_FFT = 2048
_BANDS = SPECTRUM


THUMBS = 12
"""Frames of the film strip in the report."""

THUMB_HEIGHT = 96

CARD_S = 120.0
"""Maximum length of film in the report's picture, in seconds: more would be too fine to see."""


def draw_card(frames: np.ndarray, sound: np.ndarray, sample_rate: int, duration_s: float) -> Image.Image:
    """The picture, RGB, `WIDTH` x `HEIGHT`.

    frames: uint8 [N, h, w, 3], taken at the middles of N equal stretches of `duration_s`.
    sound: int16 or float32 [n] or [channels, n] at `sample_rate`; cut or filled with silence to `duration_s`.
    """
    mono = as_mono(sound, max(1, round(duration_s * sample_rate)))
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    wave_top, spectrum_top = STRIP + GAP, STRIP + WAVE + 2 * GAP
    _paste_strip(image, frames)
    peak = float(np.abs(mono).max())
    image.paste(Image.fromarray(_wave_pixels(mono, peak)), (0, wave_top))
    image.paste(Image.fromarray(_spectrum_pixels(mono, sample_rate)), (0, spectrum_top))
    pen = ImageDraw.Draw(image)
    small = ImageFont.load_default(size=13)
    level = f"peak {20 * np.log10(peak):.1f} dBFS" if peak > 0 else "silence"
    _label(pen, (WIDTH - 11, wave_top + 7), level, small, "ra")
    for frequency in (10_000, 1_000):
        y = spectrum_top + SPECTRUM * (1 - _mel(frequency) / _mel(sample_rate / 2))
        _label(pen, (11, y - 6), f"{frequency // 1000} kHz", small, "la")
    _draw_axis(pen, duration_s, small)
    return image


def save(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write the picture; PNG or WebP by the suffix of `path` (WebP is about a fifth of the size)."""
    if os.fspath(path).lower().endswith(".webp"):
        image.save(path, quality=82, method=2)  # 4 takes twice as long for 4 % fewer bytes
    else:
        image.save(path, optimize=True)


def as_mono(sound: np.ndarray, n_samples: int) -> np.ndarray:
    """float32 [n_samples] in [-1, 1]."""
    scale = pcm.EXACT_SCALE if sound.dtype == np.int16 else 1.0
    channels = np.atleast_2d(sound)[:, :n_samples].astype(np.float32) / scale
    mono = channels.mean(axis=0) if channels.size else np.zeros(0, np.float32)
    mono = np.nan_to_num(mono, posinf=1.0, neginf=-1.0)
    return np.pad(mono, (0, n_samples - mono.size)).astype(np.float32)


def time_ticks(duration_s: float, most: int = 12) -> list[float]:
    """Round times, in seconds from 0 to the end of the axis, at most `most` of them."""
    steps = [m * 10.0**e for e in range(-3, 1) for m in (1, 2, 5)] + [
        15,
        30,
        60,
        120,
        300,
        600,
        900,
        1800,
        3600,
    ]
    step = next((s for s in steps if duration_s / s < most), None)
    if step is None:
        step = 3600.0 * -(-duration_s // (3600 * most))
    return [step * k for k in range(int(duration_s / step + 1e-9) + 1)]


def time_label(seconds: float, step: float) -> str:
    """`0.25 s` where the ticks are finer than a second, `1:05` or `1:00:05` elsewhere."""
    if step < 1:
        return f"{seconds:.{2 if step < 0.1 else 1}f} s"
    total = round(seconds)
    hours, minutes = divmod(total // 60, 60)
    return f"{hours}:{minutes:02}:{total % 60:02}" if hours else f"{minutes}:{total % 60:02}"


def _paste_strip(image: Image.Image, frames: np.ndarray) -> None:
    edges = np.linspace(0, WIDTH, len(frames) + 1).round().astype(int)
    for frame, left, right in zip(frames, edges[:-1], edges[1:], strict=True):
        width = int(right - left) - 2
        if width < 2:
            continue
        picture = Image.fromarray(np.ascontiguousarray(frame))
        # Fill the cell, but never cut away more than a third of the picture.
        fill = max(width / picture.width, STRIP / picture.height)
        fit = min(width / picture.width, STRIP / picture.height)
        scale = fill if fill < 1.5 * fit else fit * 1.5
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        cell = Image.new("RGB", (width, STRIP), PANEL)
        cell.paste(picture, ((width - size[0]) // 2, (STRIP - size[1]) // 2))
        image.paste(cell, (int(left) + 1, 0))


def _columns(mono: np.ndarray, width: int) -> np.ndarray:
    """Bounds of the samples under each column of pixels: int [width + 1], none of them empty."""
    return np.linspace(0, max(mono.size, width), width + 1).astype(int)


def _wave_pixels(mono: np.ndarray, peak: float) -> np.ndarray:
    """uint8 [WAVE, WIDTH, 3]: span from the lowest to the highest sample of each column, RMS in front."""
    bounds = _columns(mono, WIDTH)
    values = np.pad(mono, (0, bounds[-1] - mono.size), mode="edge") / max(peak, 1e-4)
    high = np.maximum.reduceat(values, bounds[:-1])
    low = np.minimum.reduceat(values, bounds[:-1])
    rms = np.sqrt(np.add.reduceat(values**2, bounds[:-1]) / np.diff(bounds))
    y = (0.5 - (np.arange(WAVE) + 0.5) / WAVE)[:, None] * 2.2  # a little room above the peak
    line = 2.2 / WAVE
    pixels = np.empty((WAVE, WIDTH, 3), np.uint8)
    pixels[:] = PANEL
    pixels[(y <= high + line / 2) & (y >= low - line / 2)] = _WAVE
    pixels[(np.abs(y) <= rms) & (rms > line)] = _RMS
    return pixels


def _spectrum_pixels(mono: np.ndarray, sample_rate: int) -> np.ndarray:
    """uint8 [SPECTRUM, WIDTH, 3]: mel spectrogram in dB below its loudest cell, high frequencies on top."""
    hop = max(1, min(1024, mono.size // WIDTH))
    padded = np.pad(mono, (_N_FFT // 2, _N_FFT // 2))
    starts = np.arange(0, mono.size, hop)
    window = np.hanning(_N_FFT).astype(np.float32)
    bank = mel_bank(sample_rate)
    mel = np.empty((starts.size, _BANDS), np.float32)
    for at in range(0, starts.size, 512):  # in slices: the frames of two minutes at once are 100 MB
        views = np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)[starts[at : at + 512]]
        mel[at : at + 512] = (np.abs(np.fft.rfft(views * window)) ** 2) @ bank
    bounds = np.minimum((np.linspace(0, 1, WIDTH + 1) * starts.size).astype(int), starts.size - 1)
    mel = np.maximum.reduceat(mel, bounds[:-1], axis=0)  # the loudest of a column: clicks stay visible
    top = float(mel.max())
    level = np.zeros_like(mel) if top <= 0 else 1 + 10 * np.log10(np.maximum(mel / top, 1e-12)) / _FLOOR_DB
    ramp, at_ramp = np.array(_RAMP, np.float32), np.linspace(0, len(_RAMP) - 1, 256)
    colours = np.stack([np.interp(at_ramp, np.arange(len(_RAMP)), ramp[:, c]) for c in range(3)], axis=-1)
    return colours.astype(np.uint8)[(np.clip(level.T[::-1], 0, 1) * 255).astype(np.uint8)]


def mel_bank(sample_rate: int) -> np.ndarray:
    """Triangular mel filters, float32 [_N_FFT // 2 + 1, bands], wide enough to have a bin each."""
    frequency = np.fft.rfftfreq(_N_FFT, 1 / sample_rate)
    edges = np.linspace(0, _mel(sample_rate / 2), _BANDS + 2)
    at = _mel(frequency)[:, None]
    step = np.maximum(edges[1] - edges[0], np.gradient(_mel(frequency))[:, None])
    return np.clip(1 - np.abs(at - edges[1:-1]) / step, 0, None).astype(np.float32)


def _mel(frequency: np.ndarray | float) -> np.ndarray:
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)


def _draw_axis(pen: ImageDraw.ImageDraw, duration_s: float, font: Font) -> None:
    ticks = time_ticks(duration_s)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else duration_s
    top = HEIGHT - AXIS
    for tick in ticks:
        x = tick / duration_s * WIDTH
        pen.line([(x, top), (x, top + 5)], fill=_INK)
        text = time_label(tick, step)
        half = pen.textlength(text, font=font) / 2
        if x + half <= WIDTH:
            pen.text((max(x, half + 2), top + 7), text, font=font, fill=_INK, anchor="ma")


def _label(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, font: Font, anchor: str) -> None:
    """Text on a plate of its own, since anything may be behind it."""
    left, top, right, bottom = pen.textbbox(at, text, font=font, anchor=anchor)
    pen.rounded_rectangle((left - 5, top - 3, right + 5, bottom + 3), radius=4, fill=BACKGROUND)
    pen.text(at, text, font=font, fill=LABEL, anchor=anchor)

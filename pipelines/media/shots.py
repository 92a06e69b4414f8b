"""Shot boundaries and motion in a film, by which it is divided into windows.

Pure functions of decoded pictures, uint8 [T, height, width, 3] at the rate of the model's fastest view, which are
decoded anyway. Two segments of a film with the same pictures get the same results.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np

BLOCKS = 8
"""Pictures are compared in BLOCKS x BLOCKS parts: a small thing that moves fills one of them, noise fills none."""

STEADY = 4.0
"""Motion below which no cut is looked for: the detector, which is slower, requires a change of 15 in the whole
picture."""


def cuts(pictures: np.ndarray, fps: float) -> list[int]:
    """Indices of the pictures that begin a new shot, by PySceneDetect's adaptive detector.

    A cut is a sudden change far larger than those around it, so that neither a fast camera nor the flicker of old film
    counts.
    """
    if peak_motion(pictures) < STEADY:
        return []
    FrameTimecode, AdaptiveDetector = _scenedetect()
    detector, first_frames = AdaptiveDetector(min_scene_len=2), list[int]()
    for number, picture in enumerate(pictures):
        shots = detector.process_frame(
            FrameTimecode(number, float(fps)),
            np.ascontiguousarray(picture[..., ::-1]),  # BGR, as in OpenCV
        )
        first_frames += [int(shot.frame_num) for shot in shots]
    return first_frames


def _scenedetect() -> tuple[Any, Any]:
    """The classes FrameTimecode and AdaptiveDetector of PySceneDetect, imported without the rest of it.

    The package runs `ffmpeg` on import to learn whether it is installed. ffmpeg sets up the terminal, and the kernel
    stops a background process that does, with the worker that started it. The two modules do not need the package's
    own imports, so an empty package replaces it while they load.
    """
    replaced = "scenedetect" not in sys.modules
    if replaced:
        spec = importlib.util.find_spec("scenedetect")
        if spec is None:
            raise ModuleNotFoundError("scenedetect is not installed", name="scenedetect")
        sys.modules["scenedetect"] = importlib.util.module_from_spec(spec)
    try:
        from scenedetect.common import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector
    finally:
        if replaced:
            sys.modules.pop("scenedetect", None)
    return FrameTimecode, AdaptiveDetector


# Two measures of motion, both on the scale of 0 to 255, with thresholds that are not comparable: a small thing that
# moves hardly raises the mean over the picture, but it fills a block.


def mean_motion(pictures: np.ndarray) -> float:
    """Mean absolute difference of successive pictures, over the whole picture and window (`--drop-static`).

    Low for a window in which little happens altogether. 0 for fewer than two pictures.
    """
    if len(pictures) < 2:
        return 0.0
    return float(np.abs(np.diff(pictures.astype(np.int16), axis=0)).mean())


def peak_motion(pictures: np.ndarray) -> float:
    """Largest mean difference from the first picture, in any block of any picture (`--motion-level`).

    Low only where nothing moves anywhere at any time. 0 for no pictures.
    """
    import cv2  # PySceneDetect's; ten times as fast as numpy here

    if not len(pictures):
        return 0.0
    first = np.ascontiguousarray(pictures[0])
    blocks = np.zeros((len(pictures), BLOCKS, BLOCKS, 3), np.float32)
    for number in range(1, len(pictures)):
        difference = cv2.absdiff(np.ascontiguousarray(pictures[number]), first).astype(np.float32)
        cv2.resize(difference, (BLOCKS, BLOCKS), dst=blocks[number], interpolation=cv2.INTER_AREA)
    return float(blocks.mean(3).max())

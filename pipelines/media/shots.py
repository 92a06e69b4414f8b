"""What the pictures of a film say about how it is to be cut: where its hard cuts are, and where nothing moves.

Pure functions of decoded pictures, uint8 [T, height, width, 3] at the rate of the model's fastest view: small, and
looked at anyway. Two segments of a film that look at the same pictures find the same.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np

BLOCKS = 8
"""Pictures are compared in so many blocks by so many: a small thing that moves fills one of them, noise fills none."""


STEADY = 4.0
"""Where less than this moves no cut is looked for: the detector asks for a change of 15 of the whole picture, and costs
more."""


def cuts(pictures: np.ndarray, fps: float) -> list[int]:
    """Numbers of the pictures that begin another shot, by PySceneDetect's adaptive detector: content that changes at
    once and by far more than around it, so that neither a fast camera nor the flicker of old film counts."""
    if movement(pictures) < STEADY:
        return []
    FrameTimecode, AdaptiveDetector = _scenedetect()
    detector, found = AdaptiveDetector(min_scene_len=2), list[int]()
    for number, picture in enumerate(pictures):
        # OpenCV's order of colours.
        shots = detector.process_frame(
            FrameTimecode(number, float(fps)), np.ascontiguousarray(picture[..., ::-1])
        )
        found += [int(shot.frame_num) for shot in shots]
    return found


def _scenedetect() -> tuple[Any, Any]:
    """Classes FrameTimecode and AdaptiveDetector of PySceneDetect, imported without the rest of it.

    The package itself runs `ffmpeg` when it is imported, to learn whether it is there. ffmpeg sets up the terminal,
    and the kernel stops a background process that does, with the worker that started it. Its modules get by
    without what the package imports, so an empty one stands in for it while they load.
    """
    stands_in = "scenedetect" not in sys.modules
    if stands_in:
        spec = importlib.util.find_spec("scenedetect")
        if spec is None:
            raise ModuleNotFoundError("scenedetect is not installed", name="scenedetect")
        sys.modules["scenedetect"] = importlib.util.module_from_spec(spec)
    try:
        from scenedetect.common import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector
    finally:
        if stands_in:
            sys.modules.pop("scenedetect", None)
    return FrameTimecode, AdaptiveDetector


def movement(pictures: np.ndarray) -> float:
    """How much moves: the mean difference, of 255, from the first picture, in the block and the picture where it is
    largest."""
    import cv2  # PySceneDetect's; ten times as fast as numpy here

    if not len(pictures):
        return 0.0
    first = np.ascontiguousarray(pictures[0])
    blocks = np.zeros((len(pictures), BLOCKS, BLOCKS, 3), np.float32)
    for number in range(1, len(pictures)):
        difference = cv2.absdiff(np.ascontiguousarray(pictures[number]), first).astype(np.float32)
        cv2.resize(difference, (BLOCKS, BLOCKS), dst=blocks[number], interpolation=cv2.INTER_AREA)
    return float(blocks.mean(3).max())

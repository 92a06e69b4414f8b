"""What the pictures of a film say about how it is to be cut: where its hard cuts are, and where nothing moves.

Pure functions of decoded pictures, uint8 [T, height, width, 3] at the rate of the model's fastest view: small, and
looked at anyway. Two segments of a film that look at the same pictures find the same.
"""

from __future__ import annotations

import numpy as np

BLOCKS = 8
"""Pictures are compared in so many blocks by so many: a small thing that moves fills one of them, noise fills none."""


def cuts(pictures: np.ndarray, fps: float) -> list[int]:
    """Numbers of the pictures that begin another shot, by PySceneDetect's adaptive detector: content that changes at
    once and by far more than around it, so that neither a fast camera nor the flicker of old film counts."""
    from scenedetect import FrameTimecode  # half a second, and only where pictures are decoded
    from scenedetect.detectors import AdaptiveDetector

    detector, found = AdaptiveDetector(min_scene_len=2), list[int]()
    for number, picture in enumerate(pictures):
        # OpenCV's order of colours.
        shots = detector.process_frame(
            FrameTimecode(number, float(fps)), np.ascontiguousarray(picture[..., ::-1])
        )
        found += [int(shot.frame_num) for shot in shots]
    return found


def movement(pictures: np.ndarray) -> float:
    """How much moves: the mean difference, of 255, from the first picture, in the block and the picture where it is
    largest."""
    if len(pictures) < 2:
        return 0.0
    rows, columns = (np.linspace(0, size, BLOCKS + 1).astype(int)[:-1] for size in pictures.shape[1:3])
    first = pictures[0].astype(np.int16)
    most = 0.0
    for picture in pictures[1:]:
        difference = np.abs(picture.astype(np.int16) - first).sum(2)
        blocks = np.add.reduceat(np.add.reduceat(difference, rows, 0), columns, 1)
        areas = np.outer(np.diff([*rows, pictures.shape[1]]), np.diff([*columns, pictures.shape[2]]))
        most = max(most, float((blocks / (3 * areas)).max()))
    return most

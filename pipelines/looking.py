"""What the pictures of a film say about how it is to be cut: where its hard cuts are, and where nothing moves.

Pure functions of decoded pictures, uint8 [T, height, width, 3] at the rate of the model's fastest view: small, and
looked at anyway. Two segments of a film that look at the same pictures find the same.
"""

from __future__ import annotations

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
    import cv2  # PySceneDetect's; ten times as fast as numpy here

    if not len(pictures):
        return 0.0
    first = np.ascontiguousarray(pictures[0])
    blocks = np.zeros((len(pictures), BLOCKS, BLOCKS, 3), np.float32)
    for number in range(1, len(pictures)):
        difference = cv2.absdiff(np.ascontiguousarray(pictures[number]), first).astype(np.float32)
        cv2.resize(difference, (BLOCKS, BLOCKS), dst=blocks[number], interpolation=cv2.INTER_AREA)
    return float(blocks.mean(3).max())

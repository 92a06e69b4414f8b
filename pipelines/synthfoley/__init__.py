"""SynthFoley: synthetic scenes whose picture and sound are rendered from one simulated list of events.

The time, strength and class of every sound are known exactly. Plain functions over numpy arrays: nothing here writes a
file, starts a worker or needs a codec.

    scene = make_scene(seed=0, index=3)
    frames = render_frames(scene, frame_times(scene))     # uint8 [T, H, W, 3]
    sound = render_sound(scene)                           # float32 [round(duration_s * 44100)]
"""

from pipelines.synthfoley.draw import render_frames
from pipelines.synthfoley.physics import (
    CLASSES,
    CONTINUOUS,
    DRAWN,
    IMPACTS,
    Event,
    Scene,
    class_among,
    frame_times,
    make_scene,
    split_of,
)
from pipelines.synthfoley.sound import RATE as SAMPLE_RATE
from pipelines.synthfoley.sound import render_sound

__all__ = [
    "CLASSES",
    "CONTINUOUS",
    "DRAWN",
    "IMPACTS",
    "SAMPLE_RATE",
    "Event",
    "Scene",
    "class_among",
    "frame_times",
    "make_scene",
    "render_frames",
    "render_sound",
    "split_of",
]

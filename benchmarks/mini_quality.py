"""Has `mini` learnt to look? Onset F1 and class match on held-out SynthFoley, through the whole pipeline.

Renders clips that no model was trained on (another seed), strips their sound, dubs the silent mp4 files with
`v2a dub`, decodes the generated tracks and compares them with what was simulated. Beside it: the true sound
(the ceiling of the measurement) and the codec's resynthesis of it (the ceiling of the model), and for each the
same sounds laid on the wrong clips.

    python -m benchmarks.mini_quality [--clips 140] [--model mini] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from pipelines import synthfoley
from pipelines.media import video
from v2a_models.checkpoint import load_classifier, load_generator
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.metrics.foley import FoleyScore, foley_score

HELD_OUT_SEED = 2026
"""The models train on seed 1."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=140)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, help="keep the clips and the dubbed files here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        rows = measure(work, args.clips, args.seconds, args.model)
    print(table(rows))
    if args.json:
        args.json.write_text(
            json.dumps({name: asdict(score) for name, score in rows.items()}, indent=2) + "\n"
        )
    return 0


def measure(work: Path, clips: int, seconds: float, model: str) -> dict[str, FoleyScore]:
    """Rows of the table: truth, resynthesis, model."""
    silent, dubbed = str(work / "silent"), str(work / "dubbed")
    size = ["--clips", str(clips), "--seconds", str(seconds), "--seed", str(HELD_OUT_SEED)]
    command("synth", silent, *size, "--strip-sound")
    command("dub", silent, dubbed, "--model", model, "--tracking-uri", "off")
    events = pq.read_table(work / "silent" / "events.parquet").to_pylist()
    names = sorted({event["clip"]: event["index"] for event in events}.items(), key=lambda item: item[1])
    scenes = [synthfoley.make_scene(HELD_OUT_SEED, index, seconds) for _, index in names]
    classifier, classes = load_classifier(model)
    labels = class_numbers(classes, [scene.label for scene in scenes])
    onsets = [
        [event.onset_s for event in scene.events] if scene.label in synthfoley.IMPACTS else None
        for scene in scenes
    ]
    truth = [synthfoley.render_sound(scene) for scene in scenes]
    generator = load_generator(model)
    assert isinstance(generator, MaskVATGenerator)
    again = [resynthesis(generator, sound) for sound in truth]
    tracks = [generated_track(work / "dubbed" / clip, seconds) for clip, _ in names]
    sounds = {"true sound": truth, "codec resynthesis": again, f"{model} (v2a dub)": tracks}
    return {name: foley_score(tracks, onsets, labels, classifier) for name, tracks in sounds.items()}


def class_numbers(classes: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Indices of SynthFoley's classes among those of a classifier. Raises ValueError for a class that it lacks."""
    return [classes.index(synthfoley.class_among(classes, label) or label) for label in labels]


def command(verb: str, *args: str) -> None:
    """Runs a verb of the real command line."""
    done = subprocess.run([sys.executable, "-m", f"jobs.{verb}", *args], stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"v2a {verb} ended with {done.returncode}")


def resynthesis(generator: MaskVATGenerator, sound: np.ndarray) -> np.ndarray:
    waveform = torch.from_numpy(sound)[None, None]
    return generator.codec.decode(generator.codec.encode(waveform), len(sound))[0, 0].numpy()


def generated_track(path: Path, seconds: float) -> np.ndarray:
    """The generated track of a dubbed clip, mono."""
    with path.open("rb") as file:
        return video.decode_sound(file, 0.0, seconds).mean(0)


def table(rows: dict[str, FoleyScore]) -> str:
    """Markdown."""
    first = next(iter(rows.values()))
    head = [
        f"{first.clips} held-out clips, {first.impact_clips} of them with events; "
        f"chance of a class match {1 / len(synthfoley.CLASSES):.3f}",
        "",
        "| sound | onset F1 ±100 ms | on the wrong clips | ±50 ms | median error | class match | on the wrong clips |",
        "|---|---|---|---|---|---|---|",
    ]
    body = [
        f"| {name} | {s.onset_f1:.3f} | {s.onset_f1_shuffled:.3f} | {s.onset_f1_close:.3f} | "
        f"{1000 * s.median_error_s:.0f} ms | "
        f"{s.class_match:.3f} | {s.class_match_shuffled:.3f} |"
        for name, s in rows.items()
    ]
    return "\n".join(head + body)


if __name__ == "__main__":
    sys.exit(main())

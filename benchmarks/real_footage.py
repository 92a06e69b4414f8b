"""Has a model learnt to look at real footage? Its sound against the true sound of recorded clips.

Takes any folder of clips that have sound, copies them without it, dubs the copies with `v2a dub`, and compares the
generated tracks with the true ones: onset F1, also on the wrong clips; the share of near silence; the level. Prints the
figures, with 95 % intervals of resampled clips, and a row per clip, with the sounds that its pictures promise
(`v2a_models.encoders.efficientnet`), and the class of the generated sound, as the classifier of the bundled `mini`
hears it. Writes OUT/real_footage.html with the films, their true, generated and shuffled sound, and all onsets.

    python -m benchmarks.real_footage FOLDER [--model mini] [--out out/real_footage] [--seed 0] [--limit N]
        [--classes CLASSES.csv]

CLASSES.csv has columns `clip` and `class`, one of the classes that `mini` knows, and gives the share of clips whose
generated sound is of the right class, and the same of the true sounds, which is as much as the classifier can tell.

The same command again resumes. Clips that have no sound or cannot be read are rows with the reason. The exit code is 1
if a clip failed or none could be compared, else 0.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torchaudio.functional as audio

from benchmarks import real_page
from benchmarks.real_clips import RealClip, dub_clips, find_clips, track_sound
from jobs.common.terminal import printable
from pipelines.media.errors import DecodeFailed
from pipelines.sandbox.decoder import Sandbox
from v2a_models import grid
from v2a_models.checkpoint import load_classifier
from v2a_models.checkpoint_files import WeightsError
from v2a_models.encoders.sound_classes import SOUND_CLASSES
from v2a_models.encoders.untrained import sound_expectation
from v2a_models.metrics.estimate import Estimate
from v2a_models.metrics.recorded import RATE, RecordedFigures, measure_clip, recorded_figures
from v2a_models.recipe import View

Hear = Callable[[np.ndarray], str]
"""Names the class of a sound, mono float32 [n] at `recorded.RATE`."""

Look = Callable[[np.ndarray], Mapping[str, float]]
"""Names what is seen in a clip: from frames, uint8 [T, height, width, 3] of SEEN, to the probability of each class."""

SEEN = View(2, 224, 224, "crop")
"""Frames of a whole clip that a Look gets."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_footage",
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--out", type=Path, default=Path("out/real_footage"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N clips that have sound")
    parser.add_argument(
        "--classes", type=Path, metavar="CLASSES.csv", help="true classes: columns clip and class"
    )
    args = parser.parse_args(arguments)
    if not args.folder.is_dir():
        parser.error(f"no folder {args.folder}")
    folder, out = args.folder.resolve(), args.out.resolve()
    if folder.is_relative_to(out) or out.is_relative_to(folder):
        parser.error(f"--out must lie outside FOLDER, and FOLDER outside of it: {args.out}")
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    try:
        labels = read_classes(args.classes) if args.classes else {}
    except (OSError, ValueError) as error:
        parser.error(f"--classes {args.classes}: {error}")
    with Sandbox() as sandbox:
        clips = find_clips(folder, args.limit, sandbox)
        if not clips:
            parser.error(f"no clips in {args.folder}")
        for clip in clips:
            clip.label = labels.get(clip.name, "")
        dub_clips(clips, folder, out, args.model, args.seed)
        figures = compare(clips, folder, sandbox, expected_sounds(), heard_class())
        print(heading(clips, args.folder.name, args.model, args.seed))
        print(f"\n{table(figures)}\n\n{class_line(clips)}{listing(clips)}")
        if figures is not None:
            page = out / "real_footage.html"
            html = real_page.page_html(
                clips, figures, folder, sandbox,
                name=args.folder.name, model=args.model, seed=args.seed, rows=figure_rows(figures),
            )  # fmt: skip
            page.write_text(html, encoding="utf-8")
            print(f"\n{args.out / page.name}: {len(html) / 1e6:.1f} MB")
    return 1 if figures is None or any(clip.failed for clip in clips) else 0


def compare(
    clips: Sequence[RealClip],
    folder: Path,
    sandbox: Sandbox,
    look: Look | None = None,
    hear: Hear | None = None,
) -> RecordedFigures | None:
    """Figures of the clips that were dubbed; None if there are none. Each of them gets its score, or a reason.

    look: names what is seen, for `RealClip.seen`; hear: names both sounds, for `heard` and `heard_true`.
    """
    for clip in clips:
        if clip.dubbed is None:
            continue
        try:
            # The first track is the film's own; of several in a dubbed film, the generated one is the last.
            generated, true = track_sound(clip.dubbed, -1), track_sound(folder / clip.name, 0)
            clip.score = measure_clip(generated, true)
            if hear is not None:
                clip.heard, clip.heard_true = hear(generated), hear(true)
            if look is not None:
                [frames] = sandbox.decode_views(str(folder / clip.name), [SEEN], 0.0, clip.duration_s)
                clip.seen = dict(look(frames))
        except DecodeFailed as error:
            clip.score = None
            clip.fail(error.message)
    scores = [clip.score for clip in clips if clip.score is not None]
    return recorded_figures(scores) if scores else None


def expected_sounds() -> Look | None:
    """A Look that names the sounds that pictures promise; None without the package of EfficientNet-Lite0's weights."""
    try:
        expectation = sound_expectation()
    except WeightsError as error:
        print(f"what is seen is not named: {error}", file=sys.stderr)
        return None
    names = ("nothing", *SOUND_CLASSES)

    def look(frames: np.ndarray) -> dict[str, float]:
        with torch.inference_mode():
            parts = [expectation.probabilities(part[None])[0] for part in torch.from_numpy(frames).split(16)]
        mean = torch.cat(parts).mean(0)
        return dict(zip(names, mean.tolist(), strict=True))

    return look


def heard_class() -> Hear:
    """A Hear that asks the classifier of `mini`: the class of the greatest mean probability over parts of 4 s."""
    classifier, classes = load_classifier("mini")

    @torch.inference_mode()
    def hear(sound: np.ndarray) -> str:
        wave = audio.resample(torch.from_numpy(sound)[None], RATE, grid.SAMPLE_RATE)
        parts = [part for part in wave.split(4 * grid.SAMPLE_RATE, 1) if part.shape[1] >= grid.SAMPLE_RATE]
        mean = torch.stack([classifier(part)[0].softmax(0) for part in parts or [wave]]).mean(0)
        return classes[int(mean.argmax())]

    return hear


def read_classes(file: Path) -> dict[str, str]:
    """True class of each clip, from a CSV file. Raises OSError; ValueError for missing columns or an unknown class."""
    with file.open(newline="", encoding="utf-8") as lines:
        table = csv.DictReader(lines)
        if not {"clip", "class"} <= set(table.fieldnames or ()):
            raise ValueError("it needs the columns clip and class")
        labels = {row["clip"]: row["class"] for row in table}
    if unknown := sorted(set(labels.values()) - {"nothing", *SOUND_CLASSES}):
        raise ValueError(f"unknown classes {', '.join(unknown)}; known: {', '.join(SOUND_CLASSES)}")
    return labels


def class_line(clips: Sequence[RealClip]) -> str:
    """Share of the labelled clips that sound like their class; empty without labels."""
    labelled = [clip for clip in clips if clip.label and clip.heard]
    if not labelled:
        return ""
    ours, true = (
        sum(getattr(clip, which) == clip.label for clip in labelled) for which in ("heard", "heard_true")
    )
    wrong = np.mean([one.heard == other.label for one in labelled for other in labelled if one is not other])
    return (
        f"Of {len(labelled)} clips with a true class, {ours} are heard as it, {true} by their true sound; "
        f"on the wrong clips {100 * wrong:.0f} %.\n\n"
    )


def heading(clips: Sequence[RealClip], name: str, model: str, seed: int) -> str:
    """The line above the figures."""
    compared = [clip for clip in clips if clip.score is not None]
    minutes = sum(clip.duration_s for clip in compared) / 60
    return (
        f"{len(compared)} of {len(clips)} clips of {printable(name)} compared, {minutes:.1f} min, "
        f"dubbed by {model} with seed {seed}"
    )


def figure_rows(figures: RecordedFigures) -> list[tuple[str, str, str]]:
    """Name, value and interval of every figure."""
    rows = []
    for onsets in figures.onsets:
        within = f"±{1000 * onsets.tolerance_s:.0f} ms"
        rows += [
            (f"onset F1 {within}", *texts(onsets.f1, "{:.3f}")),
            (f"on the wrong clips {within}", *texts(onsets.wrong, "{:.3f}")),
            (f"ratio {within}", *texts(onsets.ratio, "{:.2f}")),
        ]
    low, high = figures.level_quartiles_db
    return [
        *rows,
        ("near silence, of the seconds with audible sound", *texts(figures.near_silence, "{:.0f} %", 100)),
        ("level against the true sound, median over clips", *texts(figures.level_db, "{:+.1f} dB")),
        ("its quartiles over clips", f"{low:+.1f} and {high:+.1f} dB", ""),
    ]


def texts(figure: Estimate, form: str, factor: float = 1) -> tuple[str, str]:
    """A figure and its interval as texts; the reason in place of a missing figure."""
    if not figure.available:
        return figure.note, ""
    value, low, high = (form.format(factor * number) for number in (figure.value, figure.low, figure.high))
    return value, "" if math.isnan(figure.low) else f"{low} to {high}"


def table(figures: RecordedFigures | None) -> str:
    """Figures as Markdown."""
    if figures is None:
        return "No clip could be compared."
    rows = [" | ".join(cells) for cells in figure_rows(figures)]
    return "\n".join(["| what | figure | 95 % interval |", "|---|---|---|", *(f"| {row} |" for row in rows)])


def listing(clips: Sequence[RealClip]) -> str:
    """A row per clip as Markdown."""
    head = [
        "| clip | s | onsets, true | generated | F1 ±100 ms | near silence | level | seen | heard |",
        "|---" * 9 + "|",
    ]
    rows = []
    for clip in clips:
        name = printable(clip.name).replace("|", "\\|")
        cells = real_page.clip_cells(clip) or [clip.reason.replace("|", "\\|"), *[""] * 7]
        rows.append(" | ".join([name, *cells]))
    return "\n".join([*head, *(f"| {row} |" for row in rows)])


if __name__ == "__main__":
    sys.exit(main())

"""Does text steer `vatt-mini`, and does timing stay with the picture? And do its captions name what is seen?

Held-out SynthFoley scenes (another seed than any model was trained on), one window each. Every scene of struck things
gets three sounds: one without a prompt and two with prompts that name other classes than what is seen. The classifier
says what is heard, onsets are compared with the simulated events, and beside the model stand the true sound of the
prompted class at the same moments and the same through the codec.

    python -m benchmarks.vatt_steering [--scenes 63] [--model vatt-mini] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines import synthfoley
from pipelines.captions import instructions
from pipelines.foley.captions import label_in
from pipelines.foley.corpus import DRAWN
from pipelines.synthfoley import corpus, steering
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_classifier, load_generator
from v2a_models.metrics.foley import classify
from v2a_models.metrics.onsets import OnsetScore, match_onsets, onsets
from v2a_models.seeds import window_seed

HELD_OUT_SEED = 2026
WINDOW_S = 4.0
PROMPTS = 2


@dataclass(frozen=True)
class Case:
    """A scene, and the sound that is asked for."""

    scene: Any
    target: Any
    """The scene with the sound of the class that the prompt names; the scene itself without a prompt."""
    prompt: str


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=63)
    parser.add_argument("--model", default="vatt-mini")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    sampling = {} if args.guidance is None else {"guidance": args.guidance}
    figures = measure(args.model, args.scenes, sampling)
    print(table(figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def measure(model: str, n: int, sampling: dict[str, Any]) -> dict[str, Any]:
    """Figures of the table."""
    generator: Any = load_generator(model)
    judge = load_classifier(model)
    scenes = [synthfoley.make_scene(HELD_OUT_SEED, index, WINDOW_S) for index in range(n)]
    features = [generator.features(frames_of(scene, generator.recipe)) for scene in scenes]
    captions = [generator.captions(batch)[0] for batch in features]
    right = [label_in(text) == DRAWN[scene.label] for text, scene in zip(captions, scenes, strict=True)]
    struck = [
        (s, f) for s, f in zip(scenes, features, strict=True) if s.label in synthfoley.IMPACTS and s.events
    ]
    plain = [Case(scene, scene, "") for scene, _ in struck]
    with_prompt = [case for scene, _ in struck for case in prompted(scene)]
    by_scene = {id(scene): batch for scene, batch in struck}
    rows = {}
    for name, cases in (("without a prompt", plain), ("with a prompt", with_prompt)):
        sounds = [
            sound_of(generator, by_scene[id(case.scene)], case, at, sampling) for at, case in enumerate(cases)
        ]
        rows[name] = score(sounds, cases, judge)
        if cases is with_prompt:
            truth = [synthfoley.render_sound(case.target) for case in cases]
            rows["true sound of the prompted class"] = score(truth, cases, judge)
            rows["the same through the codec"] = score(
                [again(generator, wave) for wave in truth], cases, judge
            )
    return dict(
        model=model, scenes=n, classes=len(judge[1]), struck=len(struck), rows=rows,
        captions_right=float(np.mean(right)),
        drop=rows["without a prompt"]["onset_f1"] - rows["with a prompt"]["onset_f1"],
        examples=list(zip((scene.label for scene in scenes[:6]), captions[:6], strict=True)),
    )  # fmt: skip


def prompted(scene: Any) -> list[Case]:
    """Cases with prompts that name other classes, each in words of its own."""
    cases = []
    for at, label in enumerate(steering.others_of(scene, PROMPTS)):
        target = steering.resounded(scene, label)
        rng = np.random.default_rng([HELD_OUT_SEED, scene.index, at])
        cases.append(Case(scene, target, instructions.reworded(label, target.caption, rng)))
    return cases


def frames_of(scene: Any, recipe: Any) -> dict[str, torch.Tensor]:
    """Pictures of a scene by view, uint8 (1, T, H, W, 3)."""
    return {
        name: torch.from_numpy(corpus.view_frames(scene, view))[None] for name, view in recipe.views.items()
    }


def sound_of(generator: Any, batch: Batch, case: Case, at: int, sampling: dict[str, Any]) -> np.ndarray:
    """Sound made for a case, float32 [n]."""
    seeds = [window_seed(0, f"steering {case.scene.index}", at)]
    texts = {"prompts": case.prompt} if case.prompt else {}
    return generator.generate(batch, seeds=seeds, **texts, **sampling)[0, 0].numpy()


def again(generator: Any, wave: np.ndarray) -> np.ndarray:
    """A sound through the codec."""
    codes = generator.codec.encode(torch.from_numpy(wave)[None, None])
    return generator.codec.decode(codes, len(wave))[0, 0].numpy()


def score(
    sounds: Sequence[np.ndarray], cases: Sequence[Case], judge: tuple[Any, Sequence[str]]
) -> dict[str, float]:
    """Share heard as the wanted class and as what is seen, and onset F1 within 100 ms, also on the wrong clips.

    judge: classifier of sounds, and its classes: SynthFoley's, or classes of sound.
    """
    classifier, classes = judge
    predicted = [classes[k] for k in classify(sounds, classifier)]
    times = [onsets(sound).tolist() for sound in sounds]
    true = [[event.onset_s for event in case.scene.events] for case in cases]

    def f1(shift: int) -> float:
        total = OnsetScore()
        for at in range(len(cases)):
            total += match_onsets(times[(at + shift) % len(cases)], true[at], 0.1)
        return float(total.f1)

    def share(labels: Sequence[str]) -> float:
        wanted = [label if label in classes else DRAWN[label] for label in labels]
        return float(np.mean([heard == label for heard, label in zip(predicted, wanted, strict=True)]))

    return dict(
        follows=share([case.target.label for case in cases]),
        seen=share([case.scene.label for case in cases]),
        onset_f1=f1(0),
        onset_f1_shuffled=f1(len(cases) // 2),
        cases=len(cases),
    )


def table(figures: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"{figures['scenes']} held-out windows, {figures['struck']} of them with struck things, {PROMPTS} prompts "
        f"each; chance of a class {1 / figures['classes']:.3f}",
        "",
        "| sound | heard as asked | heard as seen | onset F1 ±100 ms | on the wrong clips | cases |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['follows']:.3f} | {row['seen']:.3f} | {row['onset_f1']:.3f} | "
        f"{row['onset_f1_shuffled']:.3f} | {row['cases']} |"
        for name, row in figures["rows"].items()
    ]
    lines += ["", f"Onset F1 lost to the prompt: {figures['drop']:.3f}."]
    lines += [f"Captions that name the right class: {figures['captions_right']:.3f}."]
    lines += [f"- {label}: {text}" for label, text in figures["examples"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

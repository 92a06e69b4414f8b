"""A page to see and hear what text does: one clip, several prompts, players and spectrograms, in one HTML file.

    python -m benchmarks.vatt_page OUT.html [--prompts "a drum" "an anvil" "a bell"] [--clip film.mp4 | --scene 3]
        [--model vatt-mini] [--negative music] [--seed 0]

The clip is a film of at most a minute that browsers play, or a SynthFoley scene that no bundled model was trained on.
Its sounds are made by the stages of `v2a dub`, the one without a prompt first. What the bundled classifier of
SynthFoley hears stands beside each.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import steering_page
from benchmarks.vatt_steering import HELD_OUT_SEED
from jobs.common.verb import WrongUsage
from jobs.dub import DubConfig
from jobs.dub.preflight import make_job
from pipelines import synthfoley
from pipelines.archive import scan
from pipelines.dub import decode, finish, plan
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.job import DubJob
from pipelines.sandbox.decoder import Sandbox
from pipelines.synthfoley import mp4
from v2a_models import pcm
from v2a_models.checkpoint import load_classifier
from v2a_models.metrics.onsets import match_onsets, onsets

PROMPTS = ("a drum", "a hammer on an anvil", "dripping water")
SCENE_S = 6.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS), metavar="TEXT")
    parser.add_argument("--negative", default="")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--clip", type=Path)
    chosen.add_argument("--scene", type=int, default=8, help="number of a held-out SynthFoley scene")
    parser.add_argument("--model", default="vatt-mini")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if args.clip is not None and args.clip.suffix.lower() not in steering_page.PLAYED:
        parser.error(
            f"--clip must be one of {', '.join(steering_page.PLAYED)}, which browsers play: {args.clip}"
        )
    if args.clip is not None and not args.clip.is_file():
        parser.error(f"no film {args.clip}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root, scene = Path(scratch, "archive"), None
        root.mkdir()
        try:
            if args.clip is not None:
                shutil.copy(args.clip, root)
            else:
                scene = synthfoley.make_scene(HELD_OUT_SEED, args.scene, SCENE_S)
                (root / f"{scene.label}.mp4").write_bytes(mp4.encode(scene, strip_sound=True))
            page = page_html(root, Path(scratch, "out"), args, scene)
        except (ValueError, WrongUsage) as error:
            parser.error(str(error))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(page)
    print(f"{args.out}: {len(args.prompts)} prompts, {len(page) / 1e6:.1f} MB")
    return 0


def page_html(root: Path, out: Path, args: argparse.Namespace, scene: Any) -> str:
    """The page for the one clip below `root`. Raises ValueError or WrongUsage."""
    configs = [
        DubConfig(
            str(root), str(out / str(number)), model=args.model, seed=args.seed, prompt=prompt,
            negative=args.negative if prompt else "", only="all",
        )
        for number, prompt in enumerate(["", *args.prompts])
    ]  # fmt: skip
    jobs = [make_job(config, None) for config in configs]  # what cannot be followed is told first
    variants, caption = [], ""
    with Sandbox() as sandbox:
        [video] = scan.scan(str(root), sandbox)
        if video["status"] != "ok":
            raise ValueError(f"{video['path']} cannot be dubbed: {video['error'] or video['status']}")
        # Browsers play the first track: the generated one, as in a film that was silent.
        video["audio_state"] = "silent"
        for job in jobs:
            row, sound, picture = dubbed(job, video, sandbox)
            film = Path(job.out, row["output"])
            facts = sound_facts(sound, scene)
            variants.append(
                steering_page.Variant(
                    job.prompt, film.read_bytes(), film.suffix, picture, job.negative, facts
                )
            )
            caption = caption or row["caption"]
    clip = video["path"] if scene is None else f"SynthFoley scene {args.scene} ({scene.label})"
    return steering_page.steering_html(
        variants,
        clip=clip,
        duration_s=video["duration_s"],
        model=jobs[0].model_name,
        seed=args.seed,
        caption=caption,
    )


def dubbed(job: DubJob, video: Any, sandbox: Sandbox) -> tuple[dict[str, Any], np.ndarray, bytes]:
    """Report row, sound (float32 [n], at the model's rate) and picture of one film. Raises ValueError."""
    tasks = plan.plan_file(job, video, video["path"], f"{video['path']}.mkv")
    if len(tasks) > 1:
        raise ValueError(
            f"{video['path']} lasts {video['duration_s']:.0f} s: give a clip of at most a minute"
        )
    [item] = Dubber(job).generate([decode.decode_task(tasks[0], job, sandbox)])
    row = finish.finish_item(item, job)
    if row is None or row["status"] != "dubbed":
        raise ValueError(f"{video['path']} was not dubbed: {row and row['message']}")
    picture = Path(job.out, row["card"]).read_bytes() if row["card"] else b""
    return row, item.arrays["sound"][0] / np.float32(pcm.SYMMETRIC_SCALE), picture


def sound_facts(sound: np.ndarray, scene: Any) -> dict[str, str]:
    """Class of a sound by the classifier, and for a scene, how many of its moments have an onset."""
    classifier, names = load_classifier("mini")
    with torch.inference_mode():
        chances = classifier(torch.from_numpy(sound)[None]).softmax(1)[0]
    best = chances.topk(2)
    top_classes = [
        f"{names[k].replace('_', ' ')} {probability:.0%}" for probability, k in zip(*best, strict=True)
    ]
    facts = {"heard as": ", ".join(top_classes)}
    if scene is not None and scene.label in synthfoley.IMPACTS:
        score = match_onsets(onsets(sound).tolist(), [event.onset_s for event in scene.events], 0.1)
        facts["onsets"] = f"{score.matched} of {score.true} moments within 100 ms, {score.detected} detected"
    return facts


if __name__ == "__main__":
    sys.exit(main())

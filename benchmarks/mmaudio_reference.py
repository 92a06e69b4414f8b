"""Largest differences between `v2a_models.mmaudio` and reference outputs of the original code.

REFERENCE_FOLDER holds one .npz file of outputs per part. Every
part is computed from weights and inputs that follow from their names (tests/support/filled_weights.py). One line per
group of outputs. `--only` names parts by a regular expression; full sizes take long and up to 8 GB. `--keep FILE`
writes the outputs that the tests compare.

    python -m benchmarks.mmaudio_reference FOLDER --only tiny

`--film FILE` shows instead how far the pictures of `v2a dub` lie from the original's, in steps of 255.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections import defaultdict
from pathlib import Path

import av
import numpy as np
import torch

from pipelines.media.frames import Scaler
from tests.support.mmaudio_reference import difference, part, tolerance
from v2a_models.mmaudio import pictures
from v2a_models.mmaudio.config import SIZES
from v2a_models.mmaudio.generator import recipe_for

KEPT = (
    r"transformer_tiny_v\d:(time_frequencies|time_embedding|a/(given|empty)/.*|a/(flow|cfg|euler5).*"
    r"|b/(flow_t0\.3|cfg4\.5_t0\.3))"
    r"|vae_\w+_tiny:(mel_13|encode_\w+)|bigvgan_\w+_tiny:(wave_9|filter_up|conv_pre_weight_first)"
    r"|synchformer_tiny:features|clip_tiny:.*|mel:.*/mel|resized:(360x640|480x270)/.*|frame_picks:.*(24|25|29\.97|12|starts|uneven).*"
)
"""Outputs, PART:NAME, that the tests compare."""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("folder", type=Path, nargs="?", default=Path())
    options.add_argument("--only", default="")
    options.add_argument("--keep", type=Path)
    options.add_argument("--film", type=Path)
    given = options.parse_args()
    if given.film is not None:
        return pictures_of(given.film)
    if given.keep is not None:
        return keep(given.folder, given.keep)
    torch.set_num_threads(1)  # waiting threads would take the cores from others
    wrong = 0
    for file in sorted(given.folder.glob("*.npz")):
        if re.search(given.only, file.stem) and file.stem != "frame_picks":
            wrong += compare(file)
    return 1 if wrong else 0


def compare(file: Path) -> int:
    """Print the largest difference of each group of a part's outputs; returns the number beyond tolerance."""
    groups: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    outputs, skipped = part(file.stem), 0
    with np.load(file) as arrays:
        for name in arrays.files:
            try:
                ours = outputs(name)
            except KeyError:
                skipped += 1
                continue
            largest = float(np.abs(arrays[name]).max())
            group = re.sub(r"^(8s|5\.2s|1s|a|b)/|_?t\d\.\d+|(?<=/)(corner|centre|end|edge)$", "", name)
            groups[group].append((difference(ours, arrays[name]), largest, tolerance(f"{file.stem}/{name}")))
    for group, found in groups.items():
        gap, largest, limit = (max(column) for column in zip(*found, strict=True))
        verdict = "" if gap <= limit else "  TOO MUCH"
        print(f"| {file.stem} | {group} | {gap:.1e} | {largest:.1f} |{verdict}", flush=True)
    if skipped:
        print(f"  {file.stem}: {skipped} outputs inside the network are not compared")
    return sum(gap > limit for found in groups.values() for gap, _, limit in found)


def pictures_of(film: Path, most: int = 40) -> int:
    """Print how far the pictures of both views lie from the original's, over one frame in ten of a film."""
    recipe = recipe_for(SIZES["small_16k"])
    ways = {"semantic": pictures.clip_pictures, "sync": pictures.sync_pictures}
    gaps: dict[str, list[float]] = defaultdict(list)
    scaler = Scaler((0, False), 1.0)
    with av.open(str(film)) as opened:
        for frame in itertools.islice(opened.decode(video=0), 0, 10 * most, 10):
            source = torch.from_numpy(frame.to_ndarray(format="rgb24")).movedim(-1, 0)
            for name, theirs in ways.items():
                view = recipe.view(name)
                ours = torch.from_numpy(scaler.picture(frame, view.width, view.height, view.fit).copy())
                gap = (ours.movedim(-1, 0).int() - theirs(source).int()).abs().float()
                gaps[name].append(float(gap.mean()))
    for name, means in gaps.items():
        print(f"| {film.name} | {name} | mean of {len(means)} pictures {np.mean(means):.2f} steps |")
    return 0


def keep(folder: Path, into: Path) -> int:
    """Write the outputs that the tests compare."""
    chosen = {}
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as arrays:
            chosen |= {
                name: arrays[key] for key in arrays.files if re.fullmatch(KEPT, name := f"{file.stem}:{key}")
            }
    for file in sorted(folder.glob("keys_*.json")):
        rows = json.loads(file.read_text())["entries"]
        chosen[f"{file.stem}:shapes"] = np.array([f"{row[0]} {'x'.join(map(str, row[1]))}" for row in rows])
    for stem in ("frame_picks", "lengths", "resized"):
        chosen[f"{stem}:json"] = np.array((folder / f"{stem}.json").read_text())
    into.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(into, **chosen)
    print(f"{len(chosen)} arrays, {into.stat().st_size / 1e3:.0f} kB in {into}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

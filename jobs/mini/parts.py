"""Trained parts in the work folder of `make mini`, and windows cut from whole scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines import synthfoley
from pipelines.foley import corpus as foley
from pipelines.foley.corpus import DRAWN, LABELS
from pipelines.synthfoley import corpus as synthfoley_corpus
from pipelines.synthfoley.corpus import Corpus
from v2a_models import grid
from v2a_models.checkpoint import CheckpointError, load_classifier, load_generator
from v2a_models.checkpoint_files import put_in_place
from v2a_models.codec.dac import MINI, Codec
from v2a_models.codec.level import OutputLevel
from v2a_models.encoders.audio import EventClassifier
from v2a_models.encoders.efficientnet import SoundExpectation
from v2a_models.encoders.motion import CELL_DIM, CELLS, MotionEncoder, motion_cells
from v2a_models.maskvat.model import MaskVAT, sized
from v2a_models.maskvat.sampling import SamplingConfig
from v2a_models.recipe import Recipe, View
from v2a_models.scav import SCAV, SCAVConfig

if TYPE_CHECKING:
    from jobs.mini.config import MiniConfig

Log = Callable[[str], None]

RECIPE = Recipe(name="mini", semantic=View(2.5, 224, 224, "crop"), channels=2)
"""Inputs of `mini`. Windows begin every 3.6 s, a whole number of semantic frames, so those too keep their phase."""

MINI_MASKVAT = sized("hybrid", "mini", n_codebooks=MINI["n_codebooks"], semantic_dim=len(LABELS))
MINI_SCAV = SCAVConfig(semantic_dim=len(LABELS))

MINI_SAMPLING = SamplingConfig(guidance=3.0, temperature=0.9, choice_temperature=2.5, top_k=8)
"""Chosen on recorded clips (`python -m benchmarks.real_sampling`) and held-out scenes. A few improbable codes turn any
sound into a clap or a door, so they are cut off."""

MINI_LEVEL = OutputLevel(gain_db=-3.0, knee_dbfs=-12.0, ceiling_dbfs=-6.0)
"""Recordings of the training reach full scale. So, an event leaves room for others and for the film's own sound, and
nothing clips."""

PARTS: dict[str, Callable[[], nn.Module]] = dict(
    codec_spectra=lambda: Codec(MINI),
    codec=lambda: Codec(MINI),
    semantic=SoundExpectation,
    sync=MotionEncoder,
    scav=lambda: SCAV(MINI_SCAV),
    maskvat=lambda: MaskVAT(MINI_MASKVAT),
    classifier=lambda: EventClassifier(len(LABELS)),
)


def load_part(config: MiniConfig, part: str, device: str) -> nn.Module:
    """Trained part from the work folder, in evaluation mode."""
    model: nn.Module = PARTS[part]()
    model.load_state_dict(torch.load(config.work / f"{part}.pt", map_location="cpu", weights_only=True))
    return model.to(device).eval()


START = "maskvat_start.pt"
"""File in the work folder with the weights that the training of MaskVAT goes on from."""


def take_over(config: MiniConfig) -> tuple[str, ...]:
    """Write the parts of the checkpoint `config.go_on_from` to the work folder; returns the stages that they replace.

    Raises SystemExit for no checkpoint, one of other parts, or a folder with parts of another one.
    """
    try:
        start: Any = load_generator(config.go_on_from)
        classifier, _ = load_classifier(config.go_on_from)
    except CheckpointError as error:
        raise SystemExit(f"--go-on-from {config.go_on_from}: {error}") from error
    names = ("codec", "semantic", "sync", "scav")
    parts = {name: getattr(start, name, None) for name in (*names, "maskvat")} | {"classifier": classifier}
    config.work.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        wanted, weights = PARTS[name]().state_dict(), {} if part is None else part.state_dict()
        if {key: value.shape for key, value in weights.items()} != {k: v.shape for k, v in wanted.items()}:
            raise SystemExit(f"--go-on-from {config.go_on_from}: its {name} is not that of mini")
        file = config.work / (START if name == "maskvat" else f"{name}.pt")
        if not file.exists():
            torch.save(weights, file)
            continue
        # Tokens and features in the folder belong to the parts that made them.
        there = torch.load(file, weights_only=True)
        if there.keys() != weights.keys() or not all(torch.equal(there[key], weights[key]) for key in there):
            raise SystemExit(f"--go-on-from {config.go_on_from}: {file} is another one; use an empty --work")
    return (*names, "codec_spectra", "classifier")


DRAWN_SHARE = 0.3
"""Fraction of the rows of a batch that are drawings: their pure tones are the first that a codec loses, and what they
show is certain."""


def draw_scenes(rng: np.random.Generator, rows: int, total: int, drawings: int) -> np.ndarray:
    """Distinct random scenes int64 [rows] of `total`, or all if there are fewer; the last `drawings` are drawings."""
    rows, recorded = min(rows, total), total - drawings
    n_drawn = int(np.clip(rng.binomial(rows, DRAWN_SHARE), rows - recorded, min(rows, drawings)))
    parts = [
        rng.choice(recorded, rows - n_drawn, replace=False),
        rng.choice(drawings, n_drawn, replace=False),
    ]
    return rng.permutation(np.concatenate([parts[0], recorded + parts[1]]))


@dataclass
class Scenes:
    """Features and tokens of whole scenes, to cut windows from."""

    semantic: Tensor
    """float16 (N, V, T1, D): V answers of the image classifier to each scene, of which a crop takes one."""
    sync: Tensor
    codes: Tensor
    recipe: Recipe
    drawings: int = 0
    """Number of scenes at the end that show drawings."""

    def crops(
        self, rng: np.random.Generator, rows: int, device: str, seconds: float | None = None
    ) -> dict[str, Tensor]:
        """Columns of random stretches of `rows` scenes; of the recipe's window unless `seconds` are given."""
        chosen = draw_scenes(rng, rows, len(self.codes), self.drawings)
        windows = [self._crop(int(row), rng, seconds or self.recipe.window_s) for row in chosen]
        semantic, sync, codes = (torch.stack(part).to(device) for part in zip(*windows, strict=True))
        return dict(semantic=semantic.float(), sync=sync.float(), codes=codes.long())

    def _crop(self, row: int, rng: np.random.Generator, seconds: float) -> tuple[Tensor, Tensor, Tensor]:
        recipe, length = self.recipe, grid.codec_frames(grid.samples(seconds))
        slow, fast = recipe.view("semantic").fps, recipe.view("sync").fps
        n_slow, n_fast = (grid.frame_count(seconds, fps) for fps in (slow, fast))
        start = int(rng.integers(self.sync.shape[1] - n_fast + 1))
        first = min(round(grid.samples(start / fast) / grid.HOP), self.codes.shape[-1] - length)
        start_slow = min(round(start * slow / fast), self.semantic.shape[2] - n_slow)
        answer = int(rng.integers(self.semantic.shape[1]))
        return (
            self.semantic[row, answer, start_slow : start_slow + n_slow],
            self.sync[row, start : start + n_fast],
            self.codes[row, :, first : first + length],
        )


def corpus_of(config: MiniConfig, split: str, *, with_frames: bool = True) -> Corpus:
    """Scenes of a split, Foley's before SynthFoley's; labels are indices into `LABELS`."""
    ours = foley.load(config.work / "foley", config.foley, split, with_frames=with_frames)
    drawn = synthfoley_corpus.load(config.work / "corpus", config.corpus, split, with_frames=with_frames)
    labels = [LABELS.index(DRAWN[synthfoley.CLASSES[label]]) for label in drawn.labels]
    return Corpus(
        ours.sounds + drawn.sounds,
        ours.frames + drawn.frames,
        np.concatenate([ours.labels, np.array(labels, np.int64)]),
        ours.captions + drawn.captions,
        ours.events + drawn.events,
    )


def cells_of(config: MiniConfig, split: str, log: Log) -> np.ndarray:
    """Motion in every scene of a split, float16 [N, T, 64, 11] (`motion_cells`); computed once."""
    file = config.work / f"cells_{split}.npy"
    if not file.exists():
        frames = corpus_of(config, split).frames
        log(f"cells: motion in {len(frames)} scenes")
        # Written in place: small arrays kept between large ones that are freed break up the heap, by 10 MB a scene.
        cells = np.empty((len(frames), *frames[0].shape[:1], CELLS * CELLS, CELL_DIM), np.float16)
        for row, clip in enumerate(frames):
            cells[row] = motion_cells(torch.from_numpy(np.array(clip))[None])[0].numpy()
        beside = file.with_suffix(".tmp.npy")  # a kill leaves no torn file for the next run
        np.save(beside, cells)
        put_in_place(beside, file)
    return np.asarray(np.load(file))


def windows_of(config: MiniConfig, split: str) -> Scenes:
    """Scenes as the stages `tokens` and `features` wrote them."""
    data = torch.load(config.work / f"features_{split}.pt", weights_only=True)
    codes = torch.load(config.work / f"codes_{split}.pt", weights_only=True)
    return Scenes(data["semantic"], data["sync"], codes, RECIPE, drawings_of(config, split))


def drawings_of(config: MiniConfig, split: str) -> int:
    """Number of SynthFoley's scenes in a split."""
    drawn = config.corpus
    return sum(
        synthfoley.make_scene(drawn.seed, k, drawn.seconds).split == split for k in range(drawn.scenes)
    )

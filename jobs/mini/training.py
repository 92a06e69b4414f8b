"""Training of the parts of `make mini`: codec, visual encoders, SCAV, MaskVAT, and the event classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jobs.mini.parts import (
    MINI_MASKVAT,
    MINI_SCAV,
    RECIPE,
    START,
    Log,
    cells_of,
    corpus_of,
    draw_scenes,
    drawings_of,
    load_part,
    windows_of,
)
from pipelines import synthfoley
from pipelines.foley.corpus import DRAWN, LABELS
from pipelines.synthfoley.corpus import Corpus
from v2a_models import grid, pcm
from v2a_models.checkpoint import load_generator
from v2a_models.codec.dac import MINI, CodebookKeeper, Codec, perplexity
from v2a_models.codec.training import CodecTask
from v2a_models.encoders.audio import EventClassifier
from v2a_models.encoders.motion import mirrored
from v2a_models.encoders.untrained import sound_expectation
from v2a_models.generator import autocast, best_precision
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.maskvat.model import MaskVAT
from v2a_models.scav import SCAV, SCAVTask
from v2a_models.training.loop import FitConfig, fit
from v2a_models.training.sync_task import SyncTask

if TYPE_CHECKING:
    from jobs.mini.config import MiniConfig

SYNC_FRAMES = 100
"""Frames (25 fps) of a training crop for the synchrony encoder."""

SHORT_S, WHOLE_WINDOWS = 2.0, 0.15
"""Most steps of MaskVAT train on stretches of 2 s, at less than half the cost, since its attention knows distances, not
places; the last 15 % train on whole windows."""


def codec_spectra(config: MiniConfig, device: str, log: Log) -> None:
    """Train the mini DAC with spectral losses; codebooks start from data and unused codes are replaced."""
    model = Codec(MINI)
    if config.codec_from:
        start: Any = load_generator(config.codec_from)
        if start.codec.config | {"n_codebooks": model.n_codebooks} != model.config:
            raise SystemExit(
                f"--codec-from {config.codec_from}: its codec is {start.codec.config}, not {model.config}"
            )
        # Codebooks that it has not got begin untrained: each refines those before it.
        model.load_state_dict(start.codec.state_dict(), strict=False)
    _fit_codec("codec_spectra", model, config.codec_spectra, config, device, log, adversarial=False)


def codec(config: MiniConfig, device: str, log: Log) -> None:
    """Train the codec on against an adversary, which restores detail that spectral losses blur."""
    model = load_part(config, "codec_spectra", "cpu")
    assert isinstance(model, Codec)
    _fit_codec("codec", model, config.codec, config, device, log, adversarial=True)


def _fit_codec(
    name: str,
    model: Codec,
    fitting: FitConfig,
    config: MiniConfig,
    device: str,
    log: Log,
    *,
    adversarial: bool,
) -> None:
    """Train `model` and save it in the work folder; log its losses on held-out sound."""
    corpus = corpus_of(config, "train", with_frames=False)
    drawings = drawings_of(config, "train")
    task = CodecTask(model, adversarial).to(device)
    keeper = CodebookKeeper(model, start_step=-1 if adversarial or config.codec_from else 40)
    length, rows = 32 * grid.HOP, 10

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        chosen = draw_scenes(rng, rows, len(corpus), drawings)
        waves = torch.from_numpy(np.stack([_random_stretch(corpus.sounds[k], rng, length) for k in chosen]))
        with autocast(device, best_precision(device)):
            return task(waves[:, None].to(device))

    def after_step(step: int, losses: dict[str, Tensor]) -> None:
        keeper.update(step, losses["codes"], losses["latents"], torch.Generator().manual_seed(step))

    fit(name, task, step_loss, fitting, config.work, after_step=after_step,
        extra_state=dict(last_used=keeper.last_used), log=log)  # fmt: skip
    torch.save(model.state_dict(), config.work / f"{name}.pt")
    held_out = corpus_of(config, "val", with_frames=False)
    waves = torch.from_numpy(np.stack(held_out.sounds[:32])).float()[:, None] / pcm.EXACT_SCALE
    with torch.no_grad():
        codes = torch.cat([model.encode(w.to(device)) for w in waves.split(8)])
        decoded = torch.cat([model.decode(c, waves.shape[-1]) for c in codes.split(8)])
        losses = task.spectral(decoded, waves.to(device))
        log("codec: held-out losses " + ", ".join(f"{name} {float(v):.4f}" for name, v in losses.items()))
    log(
        f"codec: held-out perplexity of each codebook {[round(p) for p in perplexity(codes, model.codebook_size)]}"
    )


def _random_stretch(sound: np.ndarray, rng: np.random.Generator, length: int) -> np.ndarray:
    """Random stretch of sound, float32 [length], with a gain of up to 6 dB either way; the loudest of three is taken.

    Most of a clip with sparse impacts is nearly silent, which teaches the codec nothing.
    """
    best: np.ndarray = np.zeros(length, np.float32)
    for _ in range(3):
        start = rng.integers(len(sound) - length)
        piece = sound[start : start + length].astype(np.float32) / pcm.EXACT_SCALE
        if np.abs(piece).max() >= np.abs(best).max():
            best = piece
    return np.clip(best * 10 ** rng.uniform(-0.3, 0.3), -1, 1).astype(np.float32)


def semantic(config: MiniConfig, device: str, log: Log) -> None:
    """Take over the published image classifier, and fit its plane of drawings to SynthFoley."""
    model = sound_expectation().to(device)
    rows: dict[str, list[tuple[Tensor, int]]] = dict(train=[], val=[], test=[])
    for index in range(config.corpus.scenes):
        scene = synthfoley.make_scene(config.corpus.seed, index, config.corpus.seconds)
        rng = synthfoley.physics.generator(config.corpus.seed, index, 21)
        frames = torch.from_numpy(drawn_frames(scene, rng.uniform(0, config.corpus.seconds - 0.1, 4)))
        with torch.no_grad():
            features = model.encoder(frames[None].to(device))[0].cpu()
        rows[scene.split] += [(row, LABELS.index(DRAWN[scene.label])) for row in features]
    model.cpu().drawings.fit(*_stacked(rows["train"]))
    if rows["val"]:
        features, labels = _stacked(rows["val"])
        with torch.no_grad():
            drawn, which = model.drawings(features)
        right = float((which.argmax(-1) == labels).float().mean())
        log(
            f"semantic: held-out drawings recognised as drawings {float(drawn.mean()):.2f}, class {right:.2f}"
        )
    torch.save(model.state_dict(), config.work / "semantic.pt")


def _stacked(rows: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    return torch.stack([row for row, _ in rows]), torch.tensor([label for _, label in rows])


def drawn_frames(scene: synthfoley.Scene, times: np.ndarray) -> np.ndarray:
    """Frames of a SynthFoley scene as the semantic view crops them: uint8 [T, H, W, 3]."""
    view = RECIPE.view("semantic")
    scale = max(view.width / scene.width, view.height / scene.height)
    width, height = round(scene.width * scale), round(scene.height * scale)
    frames = synthfoley.render_frames(scene, times, width, height)
    left, top = (width - view.width) // 2, (height - view.height) // 2
    return np.ascontiguousarray(frames[:, top : top + view.height, left : left + view.width])


def sync(config: MiniConfig, device: str, log: Log) -> None:
    """Train the motion encoder on audio-visual offsets and onsets."""
    corpus, cells = corpus_of(config, "train", with_frames=False), cells_of(config, "train", log)
    model = SyncTask().to(device)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = rng.choice(len(corpus), min(12, len(corpus)), replace=False)
        crops = [_aligned_crop(cells, corpus, int(row), rng, SYNC_FRAMES) for row in rows]
        motion = torch.stack([mirrored(c) if rng.random() < 0.5 else c for c, _ in crops]).to(device)
        with autocast(device, best_precision(device)):
            return model(motion, torch.stack([sound for _, sound in crops]).to(device))

    fit("sync", model, step_loss, config.sync, config.work, log=log)
    held_out, cells = corpus_of(config, "val", with_frames=False), cells_of(config, "val", log)
    rng, offsets = np.random.default_rng(0), []
    for row in range(min(64, len(held_out))):
        motion, sound = _aligned_crop(cells, held_out, row, rng, SYNC_FRAMES)
        offsets.append(model.offset(motion[None].to(device), sound[None].to(device)))
    log(
        f"sync: held-out clips with the offset estimated within one frame: {np.mean(np.abs(offsets) <= 1):.2f}"
    )
    torch.save(model.state_dict(), config.work / "sync_task.pt")
    torch.save(model.video.state_dict(), config.work / "sync.pt")


def _aligned_crop(
    cells: np.ndarray, corpus: Corpus, row: int, rng: np.random.Generator, n_frames: int
) -> tuple[Tensor, Tensor]:
    """Motion float32 (n_frames, 64, 11) and sound float32 (samples,) of the same random stretch of a scene."""
    start = int(rng.integers(cells.shape[1] - n_frames + 1))
    first, last = grid.samples(start / 25), grid.samples((start + n_frames) / 25)
    sound = corpus.sounds[row][first:last].astype(np.float32) / pcm.EXACT_SCALE
    return torch.from_numpy(cells[row, start : start + n_frames].astype(np.float32)), torch.from_numpy(sound)


def scav(config: MiniConfig, device: str, log: Log) -> None:
    """Train SCAV, on features and codec latents, to match sound and picture over time."""
    data, codec = windows_of(config, "train"), load_part(config, "codec", device)
    assert isinstance(codec, Codec)
    task = SCAVTask(SCAV(MINI_SCAV), RECIPE.window_s, latents=codec.latents).to(device)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        return task(data.crops(rng, 32, device), step)

    fit("scav", task, step_loss, config.scav, config.work, log=log)
    torch.save(task.scav.state_dict(), config.work / "scav.pt")


def maskvat(config: MiniConfig, device: str, log: Log) -> None:
    """Train MaskVAT-Hybrid on the features; its encoder predicts the features of SCAV's audio encoder."""
    data = windows_of(config, "train")
    parts: Any = [load_part(config, part, device) for part in ("codec", "semantic", "sync")]
    generator = MaskVATGenerator(RECIPE, *(*parts, MaskVAT(MINI_MASKVAT))).to(device)
    if config.go_on_from:
        generator.maskvat.load_state_dict(torch.load(config.work / START, weights_only=True))
    generator.scav = load_part(config, "scav", device)  # type: ignore[assignment]
    task = generator.task()

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        short = step < (1 - WHOLE_WINDOWS) * config.maskvat.steps
        batch = data.crops(rng, 8, device, SHORT_S if short else None)
        with autocast(device, best_precision(device)):
            return task(batch, step)

    fit("maskvat", task, step_loss, config.maskvat, config.work, log=log)
    torch.save(generator.maskvat.state_dict(), config.work / "maskvat.pt")


def classifier(config: MiniConfig, device: str, log: Log) -> None:
    """Train the event classifier, which scores generated sound, on sound of scenes, true and decoded from tokens."""
    splits = {split: corpus_of(config, split, with_frames=False) for split in ("train", "val")}
    codes = torch.load(config.work / "codes_train.pt", weights_only=True)
    codec, model = load_part(config, "codec", device), EventClassifier(len(LABELS)).to(device)
    assert isinstance(codec, Codec)
    length = 4 * grid.SAMPLE_RATE
    n_codes = grid.codec_frames(length)

    def crops(corpus: Corpus, rows: np.ndarray, rng: np.random.Generator, through_codec: int = 0) -> Tensor:
        """Stretches float (B, length) of the sounds `rows`, the first `through_codec` of them decoded from tokens."""
        starts = rng.integers(len(corpus.sounds[0]) // grid.HOP - n_codes, size=len(rows))
        sounds = np.stack(
            [corpus.sounds[r][a : a + length] for r, a in zip(rows, starts * grid.HOP, strict=True)]
        )
        waves = torch.from_numpy(sounds.astype(np.float32)).to(device) / pcm.EXACT_SCALE
        if through_codec:
            tokens = [codes[r, :, a : a + n_codes] for r, a in zip(rows, starts, strict=True)][:through_codec]
            with autocast(device, best_precision(device)):
                decoded = codec.decode(torch.stack(tokens).long().to(device), length)
            waves[:through_codec] = decoded[:, 0].float()
        return waves * torch.from_numpy(10 ** rng.uniform(-0.5, 0.3, (len(rows), 1))).float().to(device)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = rng.integers(len(splits["train"]), size=16)
        # Blurred and hissing copies, and half of them as the codec renders them: the classifier must respond to the
        # event, not to the faint background that only real sound has and every codec changes.
        predicted = model(disturb(crops(splits["train"], rows, rng, len(rows) // 2), rng))
        return dict(
            loss=F.cross_entropy(predicted, torch.from_numpy(splits["train"].labels[rows]).to(device))
        )

    fit("classifier", model, step_loss, config.classifier, config.work, log=log)
    rows = np.arange(len(splits["val"]))
    with torch.no_grad():
        logits = torch.cat(
            [model(part) for part in crops(splits["val"], rows, np.random.default_rng(0)).split(16)]
        )
    log(
        f"classifier: held-out accuracy {np.mean(logits.argmax(1).cpu().numpy() == splits['val'].labels):.2f}"
    )
    torch.save(model.state_dict(), config.work / "classifier.pt")


def disturb(sounds: Tensor, rng: np.random.Generator) -> Tensor:
    """Sounds float (B, N) with a random equaliser curve and hiss added."""
    spectrum = torch.fft.rfft(sounds)
    curves = torch.from_numpy(rng.uniform(-9, 9, (len(sounds), 1, 9)).astype(np.float32))
    # Nine gains, one per octave below half the sampling rate.
    place = (torch.log2(torch.arange(1, spectrum.shape[-1] + 1) / spectrum.shape[-1]) / 9 + 1).clamp(0, 1)
    gains = F.interpolate(curves, 512, mode="linear", align_corners=True)[:, 0, (place * 511).long()]
    level = torch.from_numpy(10 ** rng.uniform(-4.0, -2.3, (len(sounds), 1)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(sounds.shape, np.float32))
    toned = torch.fft.irfft(spectrum * (10 ** (gains / 20)).to(sounds.device), n=sounds.shape[-1])
    return toned + (level * noise).to(sounds.device)

"""The stages of `make mini`: each trains or computes one part and leaves it in the work folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines import minicorpus, synthfoley
from v2a_models import grid
from v2a_models.audio import EventClassifier
from v2a_models.checkpoint import load_classifier, load_generator, save_generator
from v2a_models.codec import MINI, CodebookKeeper, Codec, perplexity
from v2a_models.codec_task import CodecTask
from v2a_models.generator import Generator
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.maskvat.losses import training_loss
from v2a_models.maskvat.model import MaskVAT, MaskVATConfig
from v2a_models.metrics.foley import FoleyScore, foley_score
from v2a_models.recipe import Recipe
from v2a_models.seeds import window_seed
from v2a_models.sync_task import SyncTask, augment
from v2a_models.training import FitConfig, fit
from v2a_models.visual import CLIP_MINI, SemanticEncoder, SyncEncoder

if TYPE_CHECKING:
    from jobs.mini import MiniConfig

Log = Callable[[str], None]

SYNC_FRAMES = 60
"""Frames (at 25 fps) of one training crop of the synchrony encoder."""


def render_corpus(config: MiniConfig, device: str, log: Log) -> None:
    """Scenes as arrays on disk, rendered by a pool of processes."""
    for kind in ("sounds", "frames"):
        minicorpus.render(config.work / "corpus", config.corpus, kind, torch.get_num_threads(), log)


def codec(config: MiniConfig, device: str, log: Log) -> None:
    """Mini DAC: spectral losses, codebooks started from data and kept alive."""
    model = Codec(MINI)
    if config.codec_from:
        model.load_state_dict(load_generator(config.codec_from).codec.state_dict())
    _fit_codec("codec", model, config.codec, config, device, log, adversarial=False)


def codec_adversary(config: MiniConfig, device: str, log: Log) -> None:
    """The same codec against an adversary, which brings back what spectral losses blur."""
    model = load_part(config, "codec", "cpu")
    assert isinstance(model, Codec)
    _fit_codec("codec_adversary", model, config.codec_adversary, config, device, log, adversarial=True)


def _fit_codec(
    name: str, model: Codec, fitting: FitConfig, config: MiniConfig, device: str, log: Log, *, adversarial: bool
) -> None:
    """Trains `model` and leaves it in the work folder; logs what it does to held-out sound."""
    corpus = minicorpus.load(config.work / "corpus", config.corpus, "train", with_frames=False)
    task = CodecTask(model, adversarial).to(device)
    keeper = CodebookKeeper(model, start_step=-1 if adversarial or config.codec_from else 40)
    if shutil.which("c++"):
        model.dac.encoder.compile()
        model.dac.decoder.compile()
    length, rows = 32 * grid.HOP, 10

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        waves = torch.from_numpy(np.stack([_stretch_of_sound(corpus, rng, length) for _ in range(rows)]))
        with _autocast(device):
            return task(waves[:, None].to(device))

    def after_step(step: int, losses: dict[str, Tensor]) -> None:
        keeper.update(step, losses["codes"], losses["latents"], torch.Generator().manual_seed(step))

    fit(name, task, step_loss, fitting, config.work, after_step=after_step,
        extra_state=dict(last_used=keeper.last_used), log=log)  # fmt: skip
    torch.save(model.state_dict(), config.work / "codec.pt")
    held_out = minicorpus.load(config.work / "corpus", config.corpus, "val", with_frames=False)
    waves = torch.from_numpy(np.stack(held_out.sounds[:32])).float()[:, None] / 32768
    with torch.no_grad():
        codes = torch.cat([model.encode(w.to(device)) for w in waves.split(8)])
        again = torch.cat([model.decode(c, waves.shape[-1]) for c in codes.split(8)])
        log(f"codec: held-out spectral loss {float(task.spectral(again, waves.to(device))):.4f}")
    log(
        f"codec: held-out perplexity of each codebook {[round(p) for p in perplexity(codes, model.codebook_size)]}"
    )


def _stretch_of_sound(corpus: minicorpus.Corpus, rng: np.random.Generator, length: int) -> np.ndarray:
    """A random stretch, float32 [length], its level varied by up to 6 dB; loud ones are preferred.

    Most of a clip of sparse impacts is near-silence, which teaches the codec nothing.
    """
    best: np.ndarray = np.zeros(length, np.float32)
    sound = corpus.sounds[rng.integers(len(corpus))]
    for _ in range(2):
        start = rng.integers(len(sound) - length)
        piece = sound[start : start + length].astype(np.float32) / 32768
        if np.abs(piece).max() >= np.abs(best).max():
            best = piece
    return np.clip(best * 10 ** rng.uniform(-0.3, 0.3), -1, 1).astype(np.float32)


def visual(config: MiniConfig, device: str, log: Log) -> None:
    """CLIP-mini on captions, then S3D-mini on audio-visual offset."""
    corpus = minicorpus.load(config.work / "corpus", config.corpus, "train")
    _clip(config, corpus, device, log)
    _sync(config, corpus, device, log)


def _clip(config: MiniConfig, corpus: minicorpus.Corpus, device: str, log: Log) -> None:
    model = open_clip.CLIP(**CLIP_MINI).to(device)
    tokenize = open_clip.SimpleTokenizer(context_length=CLIP_MINI["text_cfg"]["context_length"])
    tokens = tokenize(corpus.captions)
    normalize = SemanticEncoder(model.visual, CLIP_MINI["embed_dim"]).to(device).normalize
    contrast = open_clip.ClipLoss()

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = rng.choice(len(corpus), min(64, len(corpus)), replace=False)
        frames = torch.from_numpy(
            np.stack([corpus.frames[r][rng.integers(len(corpus.frames[r]))] for r in rows])
        )
        with _autocast(device):
            image, text, scale = model(normalize(frames.to(device)), tokens[rows].to(device))
        return dict(loss=contrast(image.float(), text.float(), scale))

    fit("clip", model, step_loss, config.clip, config.work, log=log)
    # Zero-shot check on held-out scenes: is the caption nearest to the middle frame one of its own class?
    held_out = minicorpus.load(config.work / "corpus", config.corpus, "val")
    with torch.no_grad():
        frames = torch.from_numpy(np.stack([f[len(f) // 2] for f in held_out.frames])).to(device)
        image = model.encode_image(normalize(frames), normalize=True)
        text = model.encode_text(tokenize(held_out.captions).to(device), normalize=True)
        nearest = held_out.labels[(image @ text.T).argmax(1).cpu().numpy()]
    log(f"clip: nearest held-out caption has the right class in {np.mean(nearest == held_out.labels):.2f}")
    torch.save(model.visual.state_dict(), config.work / "clip.pt")


def _sync(config: MiniConfig, corpus: minicorpus.Corpus, device: str, log: Log) -> None:
    model = SyncTask().to(device)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = rng.choice(len(corpus), min(12, len(corpus)), replace=False)
        frames, sound = zip(*(_aligned_crop(corpus, int(r), rng, SYNC_FRAMES) for r in rows), strict=True)
        picture = torch.from_numpy(augment(np.stack(frames), rng)).to(device)
        with _autocast(device):
            return model(picture, torch.from_numpy(np.stack(sound)).to(device))

    fit("sync", model, step_loss, config.sync, config.work, log=log)
    held_out = minicorpus.load(config.work / "corpus", config.corpus, "val")
    rng = np.random.default_rng(0)
    with torch.no_grad():
        offsets = []
        for row in range(min(64, len(held_out))):
            frames, sound = _aligned_crop(held_out, row, rng, SYNC_FRAMES)
            offsets.append(
                model.offset(
                    torch.from_numpy(frames[None]).to(device), torch.from_numpy(sound[None]).to(device)
                )
            )
    log(f"sync: held-out clips whose offset is found within one frame: {np.mean(np.abs(offsets) <= 1):.2f}")
    torch.save(model.video.state_dict(), config.work / "sync.pt")


def _aligned_crop(
    corpus: minicorpus.Corpus, row: int, rng: np.random.Generator, n_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same stretch of picture uint8 [n_frames, H, W, 3] and sound float32 [samples] of one scene."""
    start = int(rng.integers(len(corpus.frames[row]) - n_frames + 1))
    first, last = grid.samples(start / 25), grid.samples((start + n_frames) / 25)
    sound = corpus.sounds[row][first:last].astype(np.float32) / 32768
    return corpus.frames[row][start : start + n_frames], sound


def tokens(config: MiniConfig, device: str, log: Log) -> None:
    """Codec tokens of every scene, whole."""
    model = load_part(config, "codec", device)
    assert isinstance(model, Codec)
    target = config.work / "codes_train.pt"
    if target.exists():
        return
    corpus = minicorpus.load(config.work / "corpus", config.corpus, "train", with_frames=False)
    codes = []
    for at in range(0, len(corpus), 4):
        sounds = torch.from_numpy(np.stack(corpus.sounds[at : at + 4])).float()[:, None] / 32768
        # bfloat16 disturbs the latents far less than the quantiser does, and is five times as fast.
        with _autocast(device):
            codes.append(model.encode(sounds.to(device)).to(torch.int16).cpu())
        if at % 100 == 0:
            log(f"tokens: {at}/{len(corpus)}")
    torch.save(torch.cat(codes), target)


def features(config: MiniConfig, device: str, log: Log) -> None:
    """CLIP and S3D features of every scene, whole."""
    semantic, sync = load_part(config, "clip", device), load_part(config, "sync", device)
    target = config.work / "features_train.pt"
    if target.exists():
        return
    corpus = minicorpus.load(config.work / "corpus", config.corpus, "train")
    picks = [grid.frame_index(t, 25) for t in grid.frame_times(0, config.corpus.seconds, 8)]
    seen: dict[str, list[Tensor]] = dict(semantic=[], sync=[])
    with torch.no_grad(), _autocast(device):
        for at in range(0, len(corpus), 4):
            frames = torch.from_numpy(np.stack(corpus.frames[at : at + 4])).to(device)
            seen["semantic"].append(semantic(frames[:, picks]).half().cpu())
            seen["sync"].append(sync(frames).half().cpu())
            if at % 100 == 0:
                log(f"features: {at}/{len(corpus)}")
    torch.save({k: torch.cat(v) for k, v in seen.items()}, target)


def maskvat(config: MiniConfig, device: str, log: Log) -> None:
    """MaskVAT-AdaLN on the features: random 4-second crops of 8-second scenes."""
    data = torch.load(config.work / "features_train.pt", weights_only=True)
    data["codes"] = torch.load(config.work / "codes_train.pt", weights_only=True)
    model = MaskVAT(MaskVATConfig()).to(device)
    recipe = Recipe(name="mini")
    rows, n_sync = 8, grid.frame_count(recipe.window_s, recipe.view("sync").fps)
    n_semantic = grid.frame_count(recipe.window_s, recipe.view("semantic").fps)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        crops = []
        for row in rng.choice(len(data["codes"]), min(rows, len(data["codes"])), replace=False):
            start = int(rng.integers(data["sync"].shape[1] - n_sync + 1))
            first = round(grid.samples(start / recipe.view("sync").fps) / grid.HOP)
            first = min(first, data["codes"].shape[-1] - recipe.codec_frames)
            seen = min(
                round(start * recipe.view("semantic").fps / recipe.view("sync").fps),
                data["semantic"].shape[1] - n_semantic,
            )
            crops.append((
                data["semantic"][row, seen : seen + n_semantic],
                data["sync"][row, start : start + n_sync],
                data["codes"][row, :, first : first + recipe.codec_frames],
            ))  # fmt: skip
        semantic, sync, codes = (torch.stack(part).to(device) for part in zip(*crops, strict=True))
        generator = torch.Generator().manual_seed(step)
        with _autocast(device):
            return training_loss(model, semantic.float(), sync.float(), codes.long(), generator)

    fit("maskvat", model, step_loss, config.maskvat, config.work, log=log)
    torch.save(model.state_dict(), config.work / "maskvat.pt")


def classifier(config: MiniConfig, device: str, log: Log) -> None:
    """The judge of what is heard: trained on real SynthFoley sound."""
    splits = {
        s: minicorpus.load(config.work / "corpus", config.corpus, s, with_frames=False)
        for s in ("train", "val")
    }
    model = EventClassifier(len(synthfoley.CLASSES)).to(device)
    length = 4 * grid.SAMPLE_RATE

    def crops(corpus: minicorpus.Corpus, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        starts = [int(rng.integers(len(corpus.sounds[r]) - length)) for r in rows]
        gain = 10 ** rng.uniform(-0.5, 0.3, (len(rows), 1))
        sounds = np.stack([corpus.sounds[r][a : a + length] for r, a in zip(rows, starts, strict=True)])
        return torch.from_numpy((sounds / 32768 * gain).astype(np.float32)).to(device)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = rng.integers(len(splits["train"]), size=16)
        # Blurred and hissing copies of real sound: the judge is to listen to the event, not to the faint
        # background that only real sound has and every codec changes.
        logits = model(disturb(crops(splits["train"], rows, rng), rng))
        return dict(loss=F.cross_entropy(logits, torch.from_numpy(splits["train"].labels[rows]).to(device)))

    fit("classifier", model, step_loss, config.classifier, config.work, log=log)
    rows = np.arange(len(splits["val"]))
    with torch.no_grad():
        heard = torch.cat(
            [model(part) for part in crops(splits["val"], rows, np.random.default_rng(0)).split(16)]
        )
    log(f"classifier: held-out accuracy {np.mean(heard.argmax(1).cpu().numpy() == splits['val'].labels):.2f}")
    torch.save(model.state_dict(), config.work / "classifier.pt")


def disturb(sounds: Tensor, rng: np.random.Generator) -> Tensor:
    """Random tone control and hiss: float (B, N) -> the same shape."""
    spectrum = torch.fft.rfft(sounds)
    curves = torch.from_numpy(rng.uniform(-9, 9, (len(sounds), 1, 9)).astype(np.float32))
    # Nine gains over nine octaves below half the sampling rate.
    place = (torch.log2(torch.arange(1, spectrum.shape[-1] + 1) / spectrum.shape[-1]) / 9 + 1).clamp(0, 1)
    gains = F.interpolate(curves, 512, mode="linear", align_corners=True)[:, 0, (place * 511).long()]
    level = torch.from_numpy(10 ** rng.uniform(-4.0, -2.3, (len(sounds), 1)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(sounds.shape, np.float32))
    toned = torch.fft.irfft(spectrum * (10 ** (gains / 20)).to(sounds.device), n=sounds.shape[-1])
    return toned + (level * noise).to(sounds.device)


def load_part(config: MiniConfig, part: str, device: str) -> nn.Module:
    """A trained part from the work folder, ready to use."""
    model: nn.Module = PARTS[part]()
    inner = model.visual if isinstance(model, SemanticEncoder) else model
    inner.load_state_dict(torch.load(config.work / f"{part}.pt", map_location="cpu", weights_only=True))
    return model.to(device).eval()


def export(config: MiniConfig, device: str, log: Log) -> None:
    """Joins the parts into the checkpoint folder that `v2a dub --model mini` loads."""
    parts: Any = [load_part(config, part, "cpu") for part in ("codec", "clip", "sync", "maskvat")]
    generator = MaskVATGenerator(Recipe(name="mini"), *parts)
    judge = load_part(config, "classifier", "cpu")
    save_generator(generator, config.out, extra=dict(classifier=judge), classes=synthfoley.CLASSES)
    size = sum(f.stat().st_size for f in config.out.iterdir())
    log(f"export: {config.out}, {size / 1e6:.1f} MB; sha256 {generator.sha256[:16]}")


def evaluate(config: MiniConfig, device: str, log: Log) -> None:
    """Quality on held-out scenes at the models' own frame size: a quick look; the card's figures come from the
    whole pipeline (benchmarks/mini_quality.py)."""
    generator = load_generator(str(config.out), device)
    classifier, _ = load_classifier(str(config.out))
    for name, sounds, held_out in held_out_sounds(config, generator, device):
        log(
            f"evaluate: {name:>13}: "
            + _figures(foley_score(sounds, held_out.events, held_out.labels, classifier))
        )


def _figures(score: FoleyScore) -> str:
    return ", ".join(f"{k} {v:.3g}" for k, v in vars(score).items())


@dataclass
class HeldOut:
    """Crops of the validation scenes: N windows."""

    frames: list[np.ndarray]
    sounds: list[np.ndarray]
    events: list[list[float] | None]
    labels: np.ndarray


def held_out_windows(config: MiniConfig, recipe: Recipe) -> HeldOut:
    """One window from the middle of each validation scene."""
    corpus = minicorpus.load(config.work / "corpus", config.corpus, "val")
    n_frames, start = grid.frame_count(recipe.window_s, recipe.view("sync").fps), 40
    first = grid.samples(start / recipe.view("sync").fps)
    events: list[list[float] | None] = []
    for label, scene_events in zip(corpus.labels, corpus.events, strict=True):
        onsets = [t - grid.seconds(first) for t in scene_events]
        inside = [t for t in onsets if 0 <= t < recipe.window_s]
        events.append(inside if synthfoley.CLASSES[label] in synthfoley.IMPACTS else None)
    return HeldOut(
        [f[start : start + n_frames] for f in corpus.frames],
        [s[first : first + recipe.window].astype(np.float32) / 32768 for s in corpus.sounds],
        events,
        corpus.labels,
    )


def held_out_sounds(
    config: MiniConfig, generator: Generator, device: str, **sampling: float
) -> Iterator[tuple[str, list[np.ndarray], HeldOut]]:
    """Rows of the quality table: the truth, the codec's resynthesis of it (its ceiling), the model."""
    assert isinstance(generator, MaskVATGenerator)
    held_out = held_out_windows(config, generator.recipe)
    yield "ground truth", held_out.sounds, held_out
    picks = [grid.frame_index(t, 25) for t in grid.frame_times(0, generator.recipe.window_s, 8)]
    again: list[np.ndarray] = []
    made: list[np.ndarray] = []
    for at in range(0, len(held_out.frames), 8):
        sounds = torch.from_numpy(np.stack(held_out.sounds[at : at + 8]))[:, None].to(device)
        again += list(
            generator.codec.decode(generator.codec.encode(sounds), sounds.shape[-1])[:, 0].cpu().numpy()
        )
        frames = torch.from_numpy(np.stack(held_out.frames[at : at + 8])).to(device)
        seeds = [window_seed(0, "val", at + i) for i in range(len(frames))]
        made += list(
            generator.generate_from_frames(frames[:, picks], frames, seeds, **sampling)[:, 0].cpu().numpy()
        )
    yield "resynthesis", again, held_out
    yield "model", made, held_out


def _autocast(device: str) -> torch.autocast:
    return torch.autocast(device, torch.bfloat16)


PARTS: dict[str, Callable[[], nn.Module]] = dict(
    codec=lambda: Codec(MINI),
    clip=SemanticEncoder.mini,
    sync=SyncEncoder.mini,
    maskvat=lambda: MaskVAT(MaskVATConfig()),
    classifier=lambda: EventClassifier(len(synthfoley.CLASSES)),
)

STAGES: dict[str, Callable[[MiniConfig, str, Log], None]] = dict(
    corpus=render_corpus,
    codec=codec,
    codec_adversary=codec_adversary,
    visual=visual,
    tokens=tokens,
    features=features,
    maskvat=maskvat,
    classifier=classifier,
    export=export,
    evaluate=evaluate,
)

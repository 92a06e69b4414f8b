"""Export of a finished training: checkpoint folder, card, curves, and the sounds of its validations."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.train.job import TrainPlan
from jobs.train.preflight import DONE_FILE, versions
from pipelines import scratch, storage
from v2a_models import pcm


def write_model(
    plan: TrainPlan, system: str, checkpoint: Any, job: Any, facts: Mapping[str, Any]
) -> list[str]:
    """Write the finished model into OUT; returns the addresses of its files.

    Files are written to a scratch folder first and then copied, config.json last: a folder without it is no model,
    and one that held an older model keeps it until the new one is whole.
    """
    import torch

    from jobs.train.job import STATE
    from v2a_models.checkpoint import save_generator
    from v2a_models.training import optim

    with checkpoint.as_directory() as source:
        state = torch.load(Path(source, STATE), map_location="cpu", weights_only=True, mmap=True)
        history = json.loads(state["history"])
        optim.fill(plan.generator.task(), optim.finished_weights(state))
        steps = int(state["step"])
    with scratch.folder() as place:
        name = plan.out.rstrip("/").rpartition("/")[2] or system
        folder = place / name
        save_generator(plan.generator, folder)
        training = training_facts(plan, job, history, steps) | dict(facts)
        training["sha256"] = json.loads((folder / "config.json").read_text())["sha256"]
        (folder / DONE_FILE).write_text(json.dumps(training, indent=2) + "\n")
        (folder / "card.md").write_text(card(name, training))
        (folder / "curves.png").write_bytes(curves(history, f"{name}: {system} {job.size}"))
        names = sorted((file.name for file in folder.iterdir()), key=lambda n: (n == "config.json", n))
        for file in names:
            storage.put_atomic(str(folder / file), storage.join(plan.out, file))
    return [storage.join(plan.out, file) for file in names]


def training_facts(
    plan: TrainPlan, job: Any, history: Sequence[Mapping[str, float]], steps: int
) -> dict[str, Any]:
    """Content of training.json."""
    trained = [row for row in history if "train/loss" in row]
    validated = [row for row in history if "val/loss" in row]
    recipe = plan.recipe
    return {
        "system": plan.identity["name"],
        "size": job.size,
        "steps": steps,
        "identity": plan.identity,
        "precision": job.precision,
        "strategy": job.strategy,
        "store": plan.store,
        "rows": {"train": len(plan.train), "val": len(plan.val)},
        "hours": len(plan.train) * recipe.window_s / 3600,
        "columns": list(plan.generator.columns),
        "recipe": {"name": recipe.name, "digest": recipe.digest},
        "encoders": {e.role: f"{e.name} {e.sha256[:16]}" for e in recipe.encoders},
        "epochs": trained[-1]["epoch"] if trained else 0.0,
        "train_loss": trained[-1]["train/loss"] if trained else None,
        "val_loss": validated[-1]["val/loss"] if validated else None,
        "versions": versions(),
    }


def card(name: str, training: Mapping[str, Any]) -> str:
    """Text of card.md: the model, its data, and its losses."""
    identity, recipe = training["identity"], training["recipe"]
    figures = {
        "system": f"{training['system']}, {training['size']}",
        "recipe": f"{recipe['name']} ({recipe['digest']})",
        **{f"encoder, {role}": text for role, text in training["encoders"].items()},
        "data": f"{training['store']}: {training['rows']['train']:,} windows for training ({training['hours']:.1f} h), "
        f"{training['rows']['val']:,} for validation",
        "steps": f"{training['steps']:,} of {identity['batch_size']} windows ({training['epochs']:.1f} epochs)",
        "learning rate": f"{identity['learning_rate']:g} at most, {identity['warmup']} steps of warm-up, cosine",
        "weight decay": f"{identity['weight_decay']:g}",
        "clipping, average": f"{identity['clip_norm']:g}, {identity['ema']:g}",
        "precision": f"{training['precision']}, {training['strategy']}",
        "seed": str(identity["seed"]),
        "loss": f"{_number(training['train_loss'])} in training, {_number(training['val_loss'])} in validation",
        "versions": ", ".join(f"{key} {value}" for key, value in training["versions"].items()),
    }
    if identity["start"]:
        figures["started from"] = identity["start"]
    if identity["set"]:
        figures["model options"] = ", ".join(f"{key}={value}" for key, value in identity["set"].items())
    origin = f"Trial {training['trial']} of `v2a tune`" if "trial" in training else "Trained with `v2a train`"
    lines = [f"# {name}", "", f"{origin}; use it with `v2a dub --model FOLDER`.", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key} | {str(value).replace('|', '/')} |" for key, value in figures.items()]
    lines += ["", "![loss and learning rate](curves.png)", ""]
    lines += ["Its sound is synthetic. Its quality was not measured here; `v2a compare` measures it."]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def curves(history: Sequence[Mapping[str, float]], title: str) -> bytes:
    """Plot (.png) over steps: losses in training and validation above, learning rate below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    trained = [row for row in history if "train/loss" in row]
    validated = [row for row in history if "val/loss" in row]
    losses.plot([r["step"] for r in trained], [r["train/loss"] for r in trained], lw=1, label="training")
    if validated:
        losses.plot(
            [r["step"] for r in validated], [r["val/loss"] for r in validated], "o-", ms=4,
            label="validation (averaged weights)",
        )  # fmt: skip
    losses.set_ylabel("loss")
    losses.set_title(title)
    losses.legend()
    rates.plot([r["step"] for r in trained], [r["learning_rate"] for r in trained], lw=1, color="tab:gray")
    rates.set_ylabel("learning rate")
    rates.set_xlabel("step")
    for axes in (losses, rates):
        axes.grid(alpha=0.3)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=110)
    return sink.getvalue()


def write_sounds(out: str, sounds: Mapping[str, Any]) -> list[str]:
    """Write the sounds of one validation as .wav, with their spectrograms beside the originals'; returns addresses."""
    folder = (storage.PRIVATE_FOLDER, "samples", f"step-{sounds['step']:07d}")
    generated, true, rate = sounds["generated"], sounds["true"], sounds["rate"]
    written = []

    def write(name: str, content: bytes) -> None:
        uri = storage.join(out, *folder, name)
        storage.write_atomic(uri, content)
        written.append(uri)

    for at in range(len(generated)):
        write(f"{at}-generated.wav", _wav(generated[at], rate))
        if true is not None:
            write(f"{at}-true.wav", _wav(true[at], rate))
    write("spectrograms.png", spectrograms(sounds))
    return written


def spectrograms(sounds: Mapping[str, Any]) -> bytes:
    """Plot (.png) with one row per window: the generated sound, and the original where there is one."""
    from matplotlib.figure import Figure

    generated, true, rate = sounds["generated"], sounds["true"], sounds["rate"]
    columns = [("generated", generated)] + ([("true", true)] if true is not None else [])
    figure = Figure(figsize=(5.5 * len(columns), 2.6 * len(generated)), layout="constrained")
    grid = np.atleast_2d(figure.subplots(len(generated), len(columns), squeeze=False))
    for at, clip in enumerate(sounds["clips"]):
        for (name, waves), axes in zip(columns, grid[at], strict=True):
            mono = waves[at].astype(np.float32).mean(0) / pcm.EXACT_SCALE
            axes.specgram(
                mono + 1e-6 * np.sin(np.arange(len(mono))), NFFT=1024, noverlap=512, Fs=rate, vmin=-140
            )
            axes.set_ylim(0, min(16_000, rate / 2))
            axes.set_title(f"{name}: {clip}", fontsize=8)
    figure.suptitle(f"step {sounds['step']}")
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=90)
    return sink.getvalue()


def _wav(samples: np.ndarray, rate: int) -> bytes:
    """Content of a .wav file with int16 (channels, samples)."""
    from scipy.io import wavfile

    sink = io.BytesIO()
    wavfile.write(sink, rate, samples.T)
    return sink.getvalue()

"""Scores generated sounds against their references, clip by clip; what needs many clips is gathered as features.

One worker sees a clip with all its systems at once, so that the reference is read and analysed once. Beside the systems
it scores baselines, which it makes itself out of the reference: they say what each figure is worth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipelines import rows, sounds, storage
from pipelines.sounds import SoundError
from v2a_models import grid
from v2a_models.metrics import baselines, networks, quality, synchrony, waveform
from v2a_models.metrics.sync import onsets
from v2a_models.seeds import window_seed

REFERENCE = "reference"
BASELINES = {
    REFERENCE: "the true sound",
    "codec": "the true sound through the codec (DAC-GT)",
    "shuffled": "the true sound of another clip",
    "noise": "noise with the spectrum of the true sound",
    "silence": "nothing",
}
"""In the order in which they should come out, best first."""


@dataclass(frozen=True)
class Clip:
    """One clip to score, with what is known about it."""

    name: str
    reference: str
    """Address of the true sound."""
    systems: dict[str, str]
    """Addresses of the sounds of each system."""
    other: str = ""
    """Reference of another clip, for the shuffled baseline."""
    label: str = ""
    text: str = ""
    events: tuple[float, ...] | None = None
    """Onsets in seconds; None where they are not known."""
    strengths: tuple[float, ...] = ()
    fps: float = 0.0
    """Pictures per second; 0 where that is not known."""


@dataclass(frozen=True)
class Job:
    """What the workers need to know, in plain values."""

    codec: str = "mini"
    """Checkpoint whose codec is the DAC-GT row, and gives the latents of FDD; empty for neither."""
    networks: tuple[str, ...] = ("foley",)
    files: dict[str, str] = field(default_factory=dict)
    """Weights files of the networks."""
    baselines: bool = True
    keep: str = ""
    """Folder for the sounds of the baselines, to listen to; empty keeps none."""


@dataclass
class Scored:
    """One sound, scored."""

    system: str
    clip: str
    problem: str = ""
    """Why it could not be."""
    aligned: str = ""
    """What was done to bring it to the reference's form."""
    metrics: dict[str, float] = field(default_factory=dict)
    onsets: dict[str, Any] = field(default_factory=dict)
    """Counts by tolerance, and errors in seconds (`synchrony.ClipOnsets`)."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """Features for the figures that need many clips."""


def kinds(job: Job) -> dict[str, Any]:
    """Arrays of a scored sound: frames of MFCC and of codec latents, and per network an embedding and
    probabilities."""
    found: dict[str, Any] = {"fdm": np.float32, "fdd": np.float32}
    for name in job.networks:
        found |= {f"{name}.embedding": np.float32, f"{name}.probabilities": np.float32}
    return found


class Scorer:
    """The actor that Ray Data calls: clips in, scored sounds out."""

    def __init__(self, job: Job) -> None:
        from v2a_models.checkpoint import load_generator

        torch.set_num_threads(1)
        self.job = job
        generator: Any = load_generator(job.codec) if job.codec else None
        self.codec = None if generator is None else generator.codec
        self.heard = {name: networks.load(name, job.files) for name in job.networks}

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for text in batch["clip"].to_pylist():
            for scored in self.score(clip_from(text)):
                notes = {k: v for k, v in asdict(scored).items() if k != "arrays"}
                yield rows.pack(notes, scored.arrays, kinds(self.job))

    @torch.inference_mode()
    def score(self, clip: Clip) -> Iterator[Scored]:
        """Every system of a clip, and the baselines; where one system has no sound, none is scored on it.

        So all figures of a comparison are of the same clips.
        """
        try:
            truth = sounds.read_sound(clip.reference).samples
        except (SoundError, storage.StorageNotFound) as error:
            for system in clip.systems:
                yield Scored(system, clip.name, f"the reference: {error}")
            return
        read: dict[str, tuple[np.ndarray, str]] = {}
        failed = False
        for system, uri in clip.systems.items():
            try:
                read[system] = sounds.read_sound(uri).fitted(len(truth))
            except (SoundError, storage.StorageNotFound) as error:
                failed = True
                yield Scored(system, clip.name, str(error))
        if failed:
            return
        reference = self._analyse(truth)
        for system, (samples, aligned) in read.items():
            scored = self._compare(system, clip, samples, truth, reference)
            scored.aligned = aligned
            yield scored
        for system, samples in self._baselines(clip, truth):
            if self.job.keep and system != REFERENCE:
                place = storage.join(self.job.keep, system, f"{clip.name}.wav")
                storage.write_atomic(place, sounds.wav_bytes(samples))
            yield self._compare(system, clip, samples, truth, reference)

    def _baselines(self, clip: Clip, truth: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        yield REFERENCE, truth  # always: the Fréchet distances are distances from it
        if not self.job.baselines:
            return
        if self.codec is not None:
            wave = torch.from_numpy(truth)[None, None]
            yield "codec", self.codec.decode(self.codec.encode(wave), len(truth))[0, 0].numpy()
        if clip.other:
            yield "shuffled", sounds.read_sound(clip.other).fitted(len(truth))[0]
        yield "noise", baselines.spectrum_noise(truth, window_seed(0, clip.name, 0))
        yield "silence", baselines.silence(len(truth))

    def _analyse(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Features of one sound."""
        wave = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
        found = {"fdm": quality.mfcc_frames(samples)}
        if self.codec is not None:
            latents = self.codec.latents(self.codec.encode(wave[None, None]))[0].T
            found["fdd"] = np.ascontiguousarray(latents.float().numpy())
        for name, network in self.heard.items():
            heard = network.hear(_at_rate(wave, network.rate)[None])[0]
            found[f"{name}.embedding"] = np.atleast_2d(np.asarray(heard.embedding, np.float32))
            if heard.probabilities is not None:
                found[f"{name}.probabilities"] = np.asarray(heard.probabilities, np.float32)
        return found

    def _compare(
        self,
        system: str,
        clip: Clip,
        samples: np.ndarray,
        truth: np.ndarray,
        reference: Mapping[str, np.ndarray],
    ) -> Scored:
        arrays = reference if system == REFERENCE else self._analyse(samples)
        figures = {"mse": waveform.mse(samples, truth), "mae": waveform.mae(samples, truth)}
        figures["stft"] = waveform.multi_resolution_stft(samples, truth).total
        if clip.fps and len(samples) >= grid.SAMPLE_RATE:
            figures["tone"] = waveform.frame_rate_tone_db(samples, grid.SAMPLE_RATE, clip.fps)
        figures |= self._heard(clip, arrays, reference)
        scored = Scored(system, clip.name, metrics=figures, arrays=dict(arrays))
        if clip.events is not None:
            found = synchrony.onset_scores(onsets(samples).tolist(), clip.events)
            counts = {f"{1000 * t:.0f}": [s.matched, s.heard, s.true] for t, s in found.scores.items()}
            scored.onsets = {"counts": counts, "errors": list(found.errors)}
            if clip.strengths:
                figures["strength"] = synchrony.strength_correlation(samples, clip.events, clip.strengths)
        return scored

    def _heard(
        self, clip: Clip, arrays: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """What the networks say of one sound beside its reference."""
        figures: dict[str, float] = {}
        for name, network in self.heard.items():
            probabilities = arrays.get(f"{name}.probabilities")
            if probabilities is not None:
                theirs = reference[f"{name}.probabilities"]
                figures[f"kld_{name}"] = float(quality.kl_divergence(theirs[None], probabilities[None])[0])
                if name == "foley" and network.classes and clip.label in network.classes:
                    heard = network.classes[int(probabilities.argmax())]
                    figures["class_match"] = float(heard == clip.label)
            ours, theirs = arrays[f"{name}.embedding"], reference[f"{name}.embedding"]
            if name == "beats" and len(ours) >= synchrony.KERNEL:
                curves = (synchrony.novelty_curve(features) for features in (theirs, ours))
                figures["ns"] = synchrony.novelty_similarity(*curves)
            if name == "clap" and clip.text:
                said: Any = network
                figures["clap"] = _cosine(ours.mean(0), said.embed_text([clip.text])[0])
            if name == "wav2clip":
                figures["wc"] = _cosine(ours.mean(0), theirs.mean(0))
        return figures


def clip_text(clip: Clip) -> str:
    """A clip as it travels to a worker."""
    return json.dumps(asdict(clip))


def clip_from(text: str) -> Clip:
    """Inverse of `clip_text`."""
    found = json.loads(text)
    events = found.pop("events")
    return Clip(
        **{**found, "strengths": tuple(found["strengths"])},
        events=None if events is None else tuple(events),
    )


def unpack(batch: pa.Table, job: Job) -> Iterator[Scored]:
    """Scored sounds of the workers' answers."""
    for notes, arrays in rows.unpack(batch, kinds(job)):
        yield Scored(**notes, arrays=arrays)


FEW_SOUNDS = 48
"""Up to so many are scored in this process; starting Ray would take longer."""


def score_all(clips: Sequence[Clip], job: Job, session: Any) -> Iterator[Scored]:
    """Scores clips as they come, in actors of Ray unless they are few.

    session: gives a context with `Resources` (`jobs.ray_session.session`), entered only where Ray is needed.
    """
    if sum(len(clip.systems) + len(BASELINES) * job.baselines for clip in clips) <= FEW_SOUNDS:
        scorer = Scorer(job)
        for clip in clips:
            yield from scorer.score(clip)
        return
    import ray.data

    with session() as resources:
        texts = [{"clip": clip_text(clip)} for clip in clips]
        source = ray.data.from_items(texts, override_num_blocks=min(len(texts), 200))
        scored = source.map_batches(
            Scorer,
            fn_constructor_kwargs={"job": job},
            batch_size=4,
            batch_format="pyarrow",
            num_cpus=0.8,
            compute=ray.data.ActorPoolStrategy(size=resources.cpus, max_tasks_in_flight_per_actor=2),
        )
        batches: Any = scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for batch in batches:
            yield from unpack(batch, job)


def _at_rate(wave: torch.Tensor, rate: int) -> torch.Tensor:
    from torchaudio.functional import resample

    return wave if rate == grid.SAMPLE_RATE else resample(wave, grid.SAMPLE_RATE, rate)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm else math.nan

"""Scores generated sounds against their references, clip by clip; what needs many clips is gathered as features.

A clip is scored with all its systems at once, so that the reference is read and analysed once. Beside the systems
baselines are scored, which are made here out of the reference: they say what each figure is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipelines import storage
from pipelines.sandbox.decoder import DecodeFailed, shared_sandbox
from pipelines.scoring import sound_folder
from pipelines.scoring.job import REFERENCE, Clip, Scored, ScoringJob, hearing
from pipelines.scoring.sound_folder import SoundError
from v2a_models import grid
from v2a_models.metrics import baselines, quality, synchrony, waveform
from v2a_models.metrics.alignment import nearer
from v2a_models.metrics.networks.base import Network
from v2a_models.metrics.networks.load import reach
from v2a_models.metrics.networks.sources import NETWORKS
from v2a_models.metrics.onsets import onsets
from v2a_models.seeds import window_seed


@dataclass(frozen=True)
class Truth:
    """Reference of a clip, computed once for all its sounds."""

    samples: np.ndarray
    arrays: dict[str, np.ndarray]
    """Features of the true sound."""
    spectra: list[torch.Tensor]
    """Its spectrograms (`waveform.stft_magnitudes`)."""
    seen: dict[str, np.ndarray]
    """Visual features of the clip, by network."""
    other: dict[str, np.ndarray]
    """Features of the true sound of another clip; empty if there is none."""


class Scorer:
    """Scores one clip after the other; several threads may share it."""

    def __init__(self, job: ScoringJob) -> None:
        torch.set_num_threads(1)
        self.job = job
        self.codec: Any = None
        if job.codec:
            from v2a_models.checkpoint import load_generator

            self.codec = load_generator(job.codec).codec
        loaded = {name: reach(name, job.files, download=job.download) for name in job.networks}
        self.heard: dict[str, Network] = {name: loaded[name] for name in hearing(job)}
        self.watchers = {name: loaded[name] for name in job.networks if NETWORKS[name].sees}

    @torch.inference_mode()
    def score(self, clip: Clip) -> Iterator[Scored]:
        """Every system of a clip, and the baselines; where one system has no sound, none is scored on it.

        So all figures of a comparison are of the same clips.
        """
        try:
            samples = sound_folder.read_sound(clip.reference).samples
        except (SoundError, storage.StorageNotFound) as error:
            for system in clip.systems:
                yield Scored(system, clip.name, f"the reference: {error}")
            return
        read: dict[str, tuple[np.ndarray, str]] = {}
        failed = False
        for system, uri in clip.systems.items():
            try:
                read[system] = sound_folder.read_sound(uri).fitted(len(samples))
            except (SoundError, storage.StorageNotFound) as error:
                failed = True
                yield Scored(system, clip.name, str(error))
        if failed:
            return
        other = None
        if clip.other and (self.job.baselines or "scav" in self.watchers):
            try:
                other = sound_folder.read_sound(clip.other).fitted(len(samples))[0]
            except (SoundError, storage.StorageNotFound) as error:
                yield Scored("shuffled", clip.name, f"the sound of another clip: {error}")
        truth = Truth(
            samples,
            self._analyse(samples),
            waveform.stft_magnitudes(samples),
            self._watch(clip, len(samples)),
            {} if other is None else self._analyse(other),
        )
        for system, (sound, aligned) in read.items():
            scored = self._compare(system, clip, sound, self._analyse(sound), truth)
            scored.aligned = aligned
            yield scored
        yield self._compare(REFERENCE, clip, samples, truth.arrays, truth)  # Fréchet distances are from it
        if not self.job.baselines:
            return
        for system, sound in self._baselines(clip, samples, other):
            if self.job.keep:
                place = storage.join(self.job.keep, system, f"{clip.name}.wav")
                storage.write_atomic(place, sound_folder.wav_bytes(sound))
            arrays = truth.other if system == "shuffled" else self._analyse(sound)
            yield self._compare(system, clip, sound, arrays, truth)

    def _baselines(
        self, clip: Clip, truth: np.ndarray, other: np.ndarray | None
    ) -> Iterator[tuple[str, np.ndarray]]:
        if self.codec is not None:
            wave = torch.from_numpy(truth)[None, None]
            yield "codec", self.codec.decode(self.codec.encode(wave), len(truth))[0, 0].numpy()
        if other is not None:
            yield "shuffled", other
        yield "noise", baselines.spectrum_noise(truth, window_seed(0, clip.name, 0))
        yield "silence", baselines.silence(len(truth))

    def _watch(self, clip: Clip, n: int) -> dict[str, np.ndarray]:
        """Visual features by network; empty if the pictures cannot be decoded."""
        views = {(name, key): v for name, net in self.watchers.items() for key, v in net.views.items()}
        if not views or not clip.film:
            return {}
        end_s = clip.start_s + grid.seconds(n, grid.SAMPLE_RATE)
        try:
            frames = shared_sandbox().decode_views(clip.film, list(views.values()), clip.start_s, end_s)
        except DecodeFailed:  # a sound without a picture: what needs pictures is not measured on it
            return {}
        pictures: dict[str, dict[str, torch.Tensor]] = {name: {} for name in self.watchers}
        for (name, key), view in zip(views, frames, strict=True):
            pictures[name][key] = torch.from_numpy(view)
        return {name: self.watchers[name].watch(views) for name, views in pictures.items()}

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
        self, system: str, clip: Clip, samples: np.ndarray, arrays: Mapping[str, np.ndarray], truth: Truth
    ) -> Scored:
        figures = dict.fromkeys(("mse", "mae", "stft"), 0.0)
        if system != REFERENCE:
            figures = {
                "mse": waveform.mse(samples, truth.samples),
                "mae": waveform.mae(samples, truth.samples),
                "stft": waveform.stft_distance(samples, truth.spectra).total,
            }
        if clip.fps and len(samples) >= grid.SAMPLE_RATE:
            figures["tone"] = waveform.frame_rate_tone_db(samples, grid.SAMPLE_RATE, clip.fps)
        figures |= self._heard(clip, arrays, truth)
        scored = Scored(system, clip.name, metrics=figures, arrays=dict(arrays))
        if clip.events is not None:
            found = synchrony.onset_scores(onsets(samples).tolist(), clip.events)
            counts = {f"{1000 * t:.0f}": [s.matched, s.heard, s.true] for t, s in found.scores.items()}
            scored.onsets = {"counts": counts, "errors": list(found.errors)}
            if clip.strengths:
                figures["strength"] = synchrony.strength_correlation(samples, clip.events, clip.strengths)
        return scored

    def _heard(self, clip: Clip, arrays: Mapping[str, np.ndarray], truth: Truth) -> dict[str, float]:
        """Scores that networks give one sound, its reference and its pictures."""
        figures: dict[str, float] = {}
        for name, network in self.heard.items():
            probabilities = arrays.get(f"{name}.probabilities")
            if probabilities is not None:
                theirs = truth.arrays[f"{name}.probabilities"]
                figures[f"kld_{name}"] = float(quality.kl_divergence(theirs[None], probabilities[None])[0])
                if name == "foley" and network.classes and clip.label in network.classes:
                    heard = network.classes[int(probabilities.argmax())]
                    figures["class_match"] = float(heard == clip.label)
            ours, theirs = arrays[f"{name}.embedding"], truth.arrays[f"{name}.embedding"]
            if name == "beats" and len(ours) >= synchrony.KERNEL:
                curves = (synchrony.novelty_curve(features) for features in (theirs, ours))
                figures["ns"] = synchrony.novelty_similarity(*curves)
            if name == "clap" and clip.text:
                said: Any = network
                figures["clap"] = _cosine(ours.mean(0), said.embed_text([clip.text])[0])
            if name == "wav2clip":
                figures["wc"] = _cosine(ours.mean(0), theirs.mean(0))
                if "clip" in truth.seen:
                    figures["cc"] = _cosine(ours.mean(0), truth.seen["clip"])
            if name == "scav" and "scav" in truth.seen and truth.other:
                figures["alignment"] = float(nearer(truth.seen["scav"], ours, truth.other["scav.embedding"]))
        return figures


def _at_rate(wave: torch.Tensor, rate: int) -> torch.Tensor:
    from torchaudio.functional import resample

    return wave if rate == grid.SAMPLE_RATE else resample(wave, grid.SAMPLE_RATE, rate)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm else math.nan

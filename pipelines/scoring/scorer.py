"""Score generated sounds against their references clip by clip; metrics over many clips get their features here.

A clip is scored with all its systems at once, so that the reference is read and analysed once. Baselines made from the
reference are scored along with the systems: they show how far each metric can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipelines import retry, storage, synthfoley
from pipelines.media.errors import DecodeFailed, DecoderNotStarted, first_line
from pipelines.sandbox.decoder import shared_sandbox
from pipelines.scoring import sound_folder
from pipelines.scoring.job import REFERENCE, Clip, Scored, ScoringJob, audio_networks
from pipelines.scoring.sound_folder import Sound, SoundError
from v2a_models import grid
from v2a_models.metrics import baselines, quality, synchrony, waveform
from v2a_models.metrics.alignment import nearer
from v2a_models.metrics.networks.base import Network
from v2a_models.metrics.networks.load import load_any
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
    """Spectrograms of the true sound (`waveform.stft_magnitudes`)."""
    visual: dict[str, np.ndarray]
    """Visual features of the clip, by network."""
    other: dict[str, np.ndarray]
    """Features of the true sound of another clip; empty if there is none."""


class Scorer:
    """Scores clips one at a time; several threads may share it."""

    def __init__(self, job: ScoringJob) -> None:
        torch.set_num_threads(1)
        self.job = job
        self.codec: Any = None
        if job.codec:
            from v2a_models.checkpoint import load_generator

            self.codec = load_generator(job.codec).codec
        loaded = {name: load_any(name, job.files, download=job.download) for name in job.networks}
        self.audio: dict[str, Network] = {name: loaded[name] for name in audio_networks(job)}
        self.visual = {name: loaded[name] for name in job.networks if NETWORKS[name].takes_frames}

    def score(self, clip: Clip) -> list[Scored]:
        """Scores of every system on a clip, and of the baselines.

        If one system has no sound for the clip, none is scored on it, so that all figures cover the same clips. Raises
        StorageError if the sounds of baselines cannot be kept.
        """
        try:
            return list(self._score(clip))
        except (storage.StorageError, MemoryError, DecoderNotStarted):
            raise
        except Exception as error:  # one clip never ends an evaluation
            words = (
                str(error)
                if isinstance(error, SoundError)
                else f"{type(error).__name__}: {first_line(error)}"
            )
            return [Scored(system, clip.name, words) for system in clip.systems]

    @torch.inference_mode()
    def _score(self, clip: Clip) -> Iterator[Scored]:
        try:
            samples = _read(clip.reference).samples
        except SoundError as error:
            for system in clip.systems:
                yield Scored(system, clip.name, f"the reference: {error}")
            return
        read: dict[str, tuple[np.ndarray, str]] = {}
        failed = False
        for system, uri in clip.systems.items():
            try:
                read[system] = _read(uri).fitted(len(samples))
            except SoundError as error:
                failed = True
                yield Scored(system, clip.name, str(error))
        if failed:
            return
        other = None
        if clip.other and (self.job.baselines or "scav" in self.visual):
            try:
                other = _read(clip.other).fitted(len(samples))[0]
            except SoundError as error:
                yield Scored("shuffled", clip.name, f"the sound of another clip: {error}")
        truth = Truth(
            samples,
            self._analyse(samples),
            waveform.stft_magnitudes(samples),
            self._visual_features(clip, len(samples)),
            {} if other is None else self._analyse(other),
        )
        for system, (sound, aligned) in read.items():
            scored = self._compare(system, clip, sound, self._analyse(sound), truth)
            scored.aligned = aligned
            yield scored
        yield self._compare(
            REFERENCE, clip, samples, truth.arrays, truth
        )  # Fréchet distances need its features
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

    def _visual_features(self, clip: Clip, n: int) -> dict[str, np.ndarray]:
        """Visual features by network; empty if the pictures cannot be decoded."""
        views = {(name, key): v for name, net in self.visual.items() for key, v in net.views.items()}
        if not views or not clip.film:
            return {}
        end_s = clip.start_s + grid.seconds(n, grid.SAMPLE_RATE)
        try:
            frames = shared_sandbox().decode_views(clip.film, list(views.values()), clip.start_s, end_s)
        except DecodeFailed:  # a sound without a picture: visual metrics skip the clip
            return {}
        except storage.StorageError as error:
            raise SoundError(f"the film: {error}") from error
        pictures: dict[str, dict[str, torch.Tensor]] = {name: {} for name in self.visual}
        for (name, key), view in zip(views, frames, strict=True):
            pictures[name][key] = torch.from_numpy(view)
        return {name: self.visual[name].embed_frames(views) for name, views in pictures.items()}

    def _analyse(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Features of one sound."""
        wave = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
        features = {"fdm": quality.mfcc_frames(samples)}
        if self.codec is not None:
            latents = self.codec.latents(self.codec.encode(wave[None, None]))[0].T
            features["fdd"] = np.ascontiguousarray(latents.float().numpy())
        for name, network in self.audio.items():
            output = network.embed_audio(_at_rate(wave, network.rate)[None])[0]
            features[f"{name}.embedding"] = np.atleast_2d(np.asarray(output.embedding, np.float32))
            if output.probabilities is not None:
                features[f"{name}.probabilities"] = np.asarray(output.probabilities, np.float32)
        return features

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
        figures |= self._network_scores(clip, arrays, truth)
        scored = Scored(system, clip.name, metrics=figures, arrays=dict(arrays))
        if clip.events is not None:
            clip_onsets = synchrony.onset_scores(onsets(samples).tolist(), clip.events)
            counts = {
                f"{1000 * t:.0f}": [s.matched, s.detected, s.true] for t, s in clip_onsets.scores.items()
            }
            scored.onsets = {"counts": counts, "errors": list(clip_onsets.errors)}
            if clip.strengths:
                figures["strength"] = synchrony.strength_correlation(samples, clip.events, clip.strengths)
        return scored

    def _network_scores(self, clip: Clip, arrays: Mapping[str, np.ndarray], truth: Truth) -> dict[str, float]:
        """Metrics of one sound that are computed from network features."""
        figures: dict[str, float] = {}
        for name, network in self.audio.items():
            probabilities = arrays.get(f"{name}.probabilities")
            if probabilities is not None:
                theirs = truth.arrays[f"{name}.probabilities"]
                figures[f"kld_{name}"] = float(quality.kl_divergence(theirs[None], probabilities[None])[0])
                classes = network.classes or ()
                label = synthfoley.class_among(classes, clip.label)
                if name == "foley" and label is not None:
                    top_class = classes[int(probabilities.argmax())]
                    figures["class_match"] = float(top_class == label)
            ours, theirs = arrays[f"{name}.embedding"], truth.arrays[f"{name}.embedding"]
            if name == "beats" and len(ours) >= synchrony.KERNEL:
                curves = (synchrony.novelty_curve(features) for features in (theirs, ours))
                figures["ns"] = synchrony.novelty_similarity(*curves)
            if name == "clap" and clip.text:
                clap: Any = network
                figures["clap"] = _cosine(ours.mean(0), clap.embed_text([clip.text])[0])
            if name == "wav2clip":
                figures["wc"] = _cosine(ours.mean(0), theirs.mean(0))
                if "clip" in truth.visual:
                    figures["cc"] = _cosine(ours.mean(0), truth.visual["clip"])
            if name == "scav" and "scav" in truth.visual and truth.other:
                figures["alignment"] = float(
                    nearer(truth.visual["scav"], ours, truth.other["scav.embedding"])
                )
        return figures


def _read(uri: str) -> Sound:
    """The sound of a file. Raises SoundError, also where storage does not give it."""
    try:
        for attempt in retry.storage_attempts(retry.SCAN):
            with attempt:
                return sound_folder.read_sound(uri)
    except storage.StorageError as error:
        raise SoundError(str(error)) from error
    raise AssertionError("a try returns or raises")


def _at_rate(wave: torch.Tensor, rate: int) -> torch.Tensor:
    from torchaudio.functional import resample

    return wave if rate == grid.SAMPLE_RATE else resample(wave, grid.SAMPLE_RATE, rate)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm else math.nan

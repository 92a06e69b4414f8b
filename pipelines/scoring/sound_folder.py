"""Folders of sounds as published systems write them: one file per clip, named after the clip.

The layout is av-benchmark's: `FOLDER/CLIP.wav`, mono, exactly as long as the clip. Other sounds are converted, and the
conversion is reported: channels are averaged, the rate becomes 44.1 kHz, and the end is cut off or padded with silence.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.io import wavfile

from pipelines import storage
from pipelines.media.errors import DecodeFailed
from pipelines.sandbox.decoder import shared_sandbox
from v2a_models import grid, pcm

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".mkv", ".mov", ".webm")
PICTURELESS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
"""Suffixes of files without a picture."""
LONGEST_S = 600.0
"""Maximum length of a clip; longer files are not clips."""
LARGEST_WAV = 1 << 30
"""Bytes of the largest .wav file that is read: eight channels of `LONGEST_S` in floats."""
FASTEST = 768_000
"""Highest sample rate."""
LARGEST_FILTER = 1 << 22
"""Numerator times denominator of the largest ratio of two rates."""


class SoundError(ValueError):
    """A sound that cannot be scored; the message has the reason."""


@dataclass(frozen=True)
class Sound:
    """Decoded sound of one file."""

    samples: np.ndarray
    """float32 [n], mono, 44.1 kHz."""
    rate: int
    """Sample rate of the file."""
    channels: int

    def fitted(self, n: int) -> tuple[np.ndarray, str]:
        """Exactly `n` samples, and the conversions made (channels and rate too); "" if there were none."""
        done = []
        if self.channels > 1:
            done.append(f"{self.channels} channels averaged")
        if self.rate != grid.SAMPLE_RATE:
            done.append(f"resampled from {self.rate} Hz")
        extra = len(self.samples) - n
        if extra > 0:
            done.append("cut to the length of the reference")
        elif extra < 0:
            done.append("padded with silence")
        return np.pad(self.samples[:n], (0, max(0, -extra))), ", ".join(done)


def list_sounds(folder: str) -> dict[str, str]:
    """Addresses of the sounds by clip, sorted. Raises SoundError if two files are the same clip, StorageError."""
    uris: dict[str, str] = {}
    for info in storage.list_tree(folder):
        stem, dot, suffix = info.path.rpartition(".")
        private = info.path.startswith(f"{storage.PRIVATE_FOLDER}/")
        if info.problem or private or f"{dot}{suffix.lower()}" not in SUFFIXES:
            continue
        if stem in uris:
            raise SoundError(f"{folder} holds {stem} twice, with different endings: remove one")
        uris[stem] = info.uri
    return dict(sorted(uris.items()))


def read_sound(uri: str) -> Sound:
    """Read a sound file: .wav with scipy (plain Python, nothing to exploit), others with the sandboxed decoder.

    Raises SoundError if it is no sound, holds NaN, or is longer than `LONGEST_S`; StorageError.
    """
    is_wav = uri.lower().endswith(".wav")
    if is_wav and (size := storage.size(uri)) > LARGEST_WAV:
        raise SoundError(f"a .wav file of {size >> 20} MiB: not a clip")
    sound = _read_wav(storage.read_bytes(uri)) if is_wav else _decode(uri)
    if not len(sound.samples):
        raise SoundError("the file holds no sound")
    if not np.isfinite(sound.samples).all():
        raise SoundError("the sound holds NaN or infinite values")
    return sound


def _read_wav(content: bytes) -> Sound:
    try:
        rate, data = wavfile.read(io.BytesIO(content))
    except Exception as error:  # a broken header can make scipy raise anything
        raise SoundError(f"not a .wav file ({error})") from error
    if not 0 < rate <= FASTEST or len(data) > LONGEST_S * rate:
        raise SoundError(f"longer than {LONGEST_S:.0f} s, or of {rate} samples per second: not a clip")
    samples = _as_float(data)
    return sound_of(samples[None] if samples.ndim == 1 else samples.T, int(rate))


def sound_of(wave: np.ndarray, rate: int) -> Sound:
    """Mono sound at 44.1 kHz from samples [channels, n] in [-1, 1] at any rate."""
    mono = np.ascontiguousarray(wave.mean(0), np.float32)
    if rate != grid.SAMPLE_RATE and len(mono):
        import torch
        from torchaudio.functional import resample

        ratio = _rate_ratio(rate)
        mono = resample(torch.from_numpy(mono), ratio.denominator, ratio.numerator).contiguous().numpy()
    return Sound(mono, rate, len(wave))


def _rate_ratio(rate: int) -> Fraction:
    """44.1 kHz over a rate. The filters that resample have as many taps as its numerator times its denominator,
    thousands of millions for a rate such as 44,099: then a fraction near it, off by about one sample in a second."""
    exact = near = Fraction(grid.SAMPLE_RATE, rate)
    most = LARGEST_FILTER
    while near.numerator * near.denominator > LARGEST_FILTER:
        most //= 2
        near = exact.limit_denominator(most)
    return near


def _as_float(data: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1]; 24 bits come left-aligned in int32, 8 bits are unsigned."""
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / 128
    if np.issubdtype(data.dtype, np.integer):
        return data.astype(np.float32) / -float(np.iinfo(data.dtype).min)
    return data.astype(np.float32)


def _decode(uri: str) -> Sound:
    sandbox = shared_sandbox()
    try:
        n, rate, channels = sandbox.sound_facts(uri)
        if not 0 < n <= LONGEST_S * grid.SAMPLE_RATE:
            raise SoundError(f"{n / grid.SAMPLE_RATE:.0f} s of sound: not a clip")
        samples = sandbox.decode_sound(uri, 0.0, grid.seconds(n, grid.SAMPLE_RATE), origin_s=0.0, channels=1)
    except DecodeFailed as error:
        raise SoundError(str(error)) from error
    return Sound(samples[0], rate, channels)


def wav_bytes(samples: np.ndarray, rate: int = grid.SAMPLE_RATE) -> bytes:
    """Content of a mono 16-bit .wav file with float32 samples [n] in [-1, 1]."""
    sink = io.BytesIO()
    wavfile.write(sink, rate, pcm.quantise(np.nan_to_num(samples)))
    return sink.getvalue()


def flat_names(clips: Iterable[str]) -> dict[str, str]:
    """File names by clip, for a folder without subfolders.

    Raises SoundError if two would be called the same.
    """
    names = {clip: clip.replace("/", "-") for clip in clips}
    twice = [name for name, n in Counter(names.values()).items() if n > 1]
    if twice:
        raise SoundError(f"two clips would have the name {twice[0]}.wav: rename one")
    return names


def export_sounds(sounds: Mapping[str, str], folder: str) -> None:
    """Copy sounds (addresses by name) into a folder of av-benchmark's layout: FOLDER/NAME.wav."""
    for name, uri in sounds.items():
        storage.write_atomic(storage.join(folder, f"{name}.wav"), storage.read_bytes(uri))

"""Sound files: WAV and FLAC beside films, and the samples of a track that is coded with loss.

    OUT/reel.mp4.wav                 `v2a dub --sidecar wav`
    OUT/_v2a/sound/<video_id>.flac   samples for `v2a redub` if the film's own track has lost them

Encoders get only generated sound, so they run in this process. Files are written block by block, and the caller gives a
temporary name. The same samples give the same bytes, but for the date in a Broadcast Wave file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipelines.mux.containers import layout
from pipelines.mux.files import disk_error

KINDS = {"wav": "pcm_s16le", "flac": "flac"}
"""Codec by format."""

_OPTIONS = {"wav": {"rf64": "auto"}}
"""A WAV file of more than 4 GB becomes RF64, which has 64-bit lengths."""


class AudioFileWriter:
    """Writer of one sound file. A context manager; only `close` completes the file.

    broadcast: chunk `bext` of a WAV file (`broadcast`), which becomes a Broadcast Wave file. Raises
    storage.StorageError for the disk.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        rate: int,
        channels: int,
        tags: dict[str, str] | None = None,
        broadcast: dict[str, str] | None = None,
    ) -> None:
        self.path, self._rate, self._layout = path, rate, layout(channels)
        self._hash, self._position = hashlib.sha256(), 0
        try:
            options = _OPTIONS.get(kind, {}) | ({"write_bext": "1"} if broadcast else {})
            self._file: Any = av.open(str(path), "w", format=kind, options=options)
            self._file.flags |= av.container.Flags.bitexact.value  # type: ignore[operator]
            self._file.metadata.update((tags or {}) | (broadcast or {}))
            stream: Any = self._file.add_stream(KINDS[kind], rate=rate)
            self._stream = stream
            self._stream.codec_context.layout = self._layout
        except OSError as error:
            raise disk_error(path, error) from error

    def __enter__(self) -> AudioFileWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def feed(self, block: np.ndarray) -> None:
        """Write a block, int16 [channels, n]."""
        interleaved = np.ascontiguousarray(block.T).reshape(1, -1)
        frame: Any = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate, self._position
        frame.time_base = Fraction(1, self._rate)
        self._position += block.shape[1]
        self._write(self._stream.encode(frame))

    def close(self) -> str:
        """Finish the file. Returns the SHA-256 of its packets in hex digits."""
        self._write(self._stream.encode(None))
        try:
            self._file.close()
        except OSError as error:
            raise disk_error(self.path, error) from error
        return self._hash.hexdigest()

    def _write(self, packets: list[Any]) -> None:
        try:
            for packet in packets:
                self._hash.update(bytes(packet))
                self._file.mux(packet)
        except OSError as error:
            raise disk_error(self.path, error) from error


def passing(blocks: Iterable[np.ndarray], writer: AudioFileWriter, channels: int) -> Iterator[np.ndarray]:
    """Pass on the blocks, int16 [any, n], and write their first `channels` channels."""
    for block in blocks:
        writer.feed(block[:channels])
        yield block


def read(path: Path) -> Iterator[np.ndarray]:
    """Blocks int16 [channels, n] of a local 16-bit FLAC or WAV file that v2a has written."""
    with av.open(str(path)) as file:
        for frame in file.decode(file.streams.audio[0]):
            sound = frame.to_ndarray()
            yield sound.reshape(-1, frame.layout.nb_channels).T if frame.format.is_packed else sound


class Samples:
    """SHA-256 of a stream of int16 samples, independent of its division into blocks."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def watch(self, blocks: Iterable[np.ndarray], channels: int) -> Iterator[np.ndarray]:
        """Pass on the blocks, int16 [any, n], and hash their first `channels` channels."""
        for block in blocks:
            self._hash.update(np.ascontiguousarray(block[:channels].T).astype("<i2", copy=False).tobytes())
            yield block

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def broadcast(text: str, reference: int, rate: int, channels: int, version: str) -> dict[str, str]:
    """Chunk `bext` of a Broadcast Wave file (EBU Tech 3285), as FFmpeg's muxer takes it, dated now.

    text: description, cut to 256 characters of ASCII. reference: samples from midnight to the first one, at `rate`.
    """
    now = datetime.now(UTC)
    mode = "mono" if channels == 1 else "stereo"
    return {
        "description": text.encode("ascii", "replace").decode()[:256],
        "originator": f"v2a {version}"[:32],
        "origination_date": f"{now:%Y-%m-%d}",
        "origination_time": f"{now:%H:%M:%S}",
        "time_reference": str(reference),
        "coding_history": f"A=PCM,F={rate},W=16,M={mode},T=v2a {version}\r\n",
    }


def is_sound_file(output: str) -> bool:
    """True for the name of a sound file, which stands for a film."""
    return output.rpartition(".")[2] in KINDS


def numbered(output: str, k: int) -> str:
    """Name of the k-th alternative of a sound file; the first (k = 1) is the file itself."""
    stem, _, suffix = output.rpartition(".")
    return output if k == 1 else f"{stem}.{k}.{suffix}"

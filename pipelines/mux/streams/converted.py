"""Sound tracks whose coding a container cannot hold, as PCM of the same samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

from pipelines.media import container
from pipelines.mux.streams import left_out

_PCM = {
    "u8": "pcm_u8",
    "s16": "pcm_s16le",
    "s32": "pcm_s32le",
    "flt": "pcm_f32le",
    "dbl": "pcm_f64le",
}
"""FFmpeg's encoder by the format of the samples that a decoder gives, which it keeps as they are."""


def pcm_of(stream: Any) -> str:
    """FFmpeg's name of the PCM that holds what a sound stream decodes to; empty if it cannot be decoded."""
    context = stream.codec_context
    if context is None or context.format is None or not context.sample_rate or not context.layout.nb_channels:
        return ""
    return _PCM.get(str(context.format.packed.name), "")


class ConvertedTrack:
    """A sound track that is decoded and written as PCM, packet by packet."""

    def __init__(self, out: Any, stream: Any) -> None:
        """out: the container that is written. Raises ValueError if it does not hold PCM, or there is no decoder."""
        codec = pcm_of(stream)
        if not codec:
            raise ValueError(f"no sound can be decoded from {container.codec_name(stream)}")
        context = stream.codec_context
        self.stream = out.add_stream(codec, rate=context.sample_rate)
        self.stream.codec_context.layout = context.layout.name
        self.stream.codec_context.format = context.format.packed.name
        self._pack = av.AudioResampler(context.format.packed.name, context.layout.name, context.sample_rate)
        self._source = stream
        self.told = f"{left_out.title(stream)}: decoded to {codec}, the same samples"
        """The change in words."""

    def packets(self, packet: Any) -> Iterator[Any]:
        """Packets of PCM for a packet of the source, or for its end (None). Damaged packets give none."""
        try:
            frames = self._source.codec_context.decode(packet)
        except container.SKIPPED:
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base is None:
                frame.time_base = self._source.time_base
            for packed in self._pack.resample(frame):
                yield from self.stream.encode(packed)

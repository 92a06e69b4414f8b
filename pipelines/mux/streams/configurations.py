"""Configurations of sound that come again in the middle of a film, on their way into Matroska.

A recorder of FLV repeats the decoder's configuration when its sender starts again. FFmpeg's Matroska muxer writes one
of AAC over what follows it in the header, and the copy cannot be read.
"""

from __future__ import annotations

from typing import Any

import av

from pipelines.mux.track import MuxFailed

_NEW = "new_extradata"


def settled(packet: Any, muxer: str) -> Any:
    """The packet without a configuration that its stream has anyway.

    muxer: FFmpeg's name of that of the copy. Raises MuxFailed (`ContainerCannotHold`) for sound that goes on with
    another one.
    """
    stream = packet.stream
    if muxer not in ("matroska", "webm") or stream.type != "audio" or not packet.has_sidedata(_NEW):
        return packet
    if bytes(packet.get_sidedata(_NEW)) != bytes(stream.codec_context.extradata or b""):
        raise MuxFailed(
            "ContainerCannotHold",
            f"a sound track goes on with another configuration of its decoder: {muxer} holds one per track",
        )
    # Side data cannot be removed from a packet.
    bare = av.Packet(bytes(packet))
    bare.stream, bare.time_base = stream, packet.time_base
    bare.pts, bare.dts, bare.duration = packet.pts, packet.dts, packet.duration
    bare.is_keyframe = packet.is_keyframe
    return bare

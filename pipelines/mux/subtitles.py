"""Captions as subtitles: SubRip text, and a track in the copy of the film.

A caption describes a window. Windows overlap and subtitles may not, so each lasts from the middle of one overlap to the
middle of the next. Neighbours with the same text are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av

SUBTITLE_TITLE = "v2a captions (generated)"
SUBTITLE_LANGUAGE = "eng"
"""ISO 639-2: language of the captions that v2a's models are trained on."""

Cue = tuple[float, float, str]
"""Start and end in seconds from the first picture, and the text."""

_TICKS = 1000
"""Ticks per second: subtitles are timed in milliseconds everywhere."""


def cues(captions: Sequence[Cue], duration_s: float) -> list[Cue]:
    """Subtitles of a film of `duration_s`, in order: neighbours with the same text are joined.

    captions: stretches of the film that do not overlap.
    """
    joined = list[Cue]()
    for start_s, stop_s, caption in sorted(captions):
        text, end_s = tidy(caption), min(stop_s, duration_s)
        if not text or end_s <= start_s:
            continue
        if joined and joined[-1][2] == text and abs(joined[-1][1] - start_s) < 1e-6:
            joined[-1] = (joined[-1][0], end_s, text)
        else:
            joined.append((start_s, end_s, text))
    return joined


def tidy(text: str) -> str:
    """The text on one line, without the arrow that marks a line of times in SubRip."""
    return " ".join(text.replace("-->", "->").split())


def srt(subtitles: Sequence[Cue]) -> str:
    """The text of a .srt file."""
    return "".join(
        f"{number}\n{_clock(start_s)} --> {_clock(end_s)}\n{text}\n\n"
        for number, (start_s, end_s, text) in enumerate(subtitles, 1)
    )


def _clock(seconds: float) -> str:
    whole = round(seconds * _TICKS)
    minutes, rest = divmod(whole, 60 * _TICKS)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // _TICKS:02},{rest % _TICKS:03}"


def add_stream(container: Any, codec: str) -> Any:
    """A subtitle stream of a container that is being written: `mov_text` or `subrip`."""
    stream = container.add_stream(codec)
    # The header of mov_text (font, position) comes from the encoder; without it, players of mp4 show nothing.
    stream.codec_context.subtitle_header = _STYLE.encode()
    stream.codec_context.time_base = stream.time_base = Fraction(1, _TICKS)
    stream.metadata.update({"title": SUBTITLE_TITLE, "language": SUBTITLE_LANGUAGE})
    if codec == "mov_text":
        stream.metadata["handler_name"] = SUBTITLE_TITLE
    stream.disposition = 0
    return stream


class SubtitleWriter:
    """Writer that passes subtitles to the muxer as the film advances."""

    def __init__(
        self, container: Any, stream: Any, codec: str, subtitles: Sequence[Cue], start_s: float
    ) -> None:
        """start_s: container time of the first picture."""
        self._container, self._stream, self._codec = container, stream, codec
        self._left = [(start_s + a, start_s + b, text) for a, b, text in subtitles]

    def advance(self, time_s: float | Fraction) -> None:
        """Write all subtitles that begin at or before a container time."""
        while self._left and self._left[0][0] <= time_s:
            self._container.mux(self._packet(*self._left.pop(0)))

    def finish(self) -> None:
        self.advance(float("inf"))

    def _packet(self, start_s: float, end_s: float, text: str) -> Any:
        data = text.encode()
        if self._codec == "mov_text":
            data = data[:0xFFFF]
            data = len(data).to_bytes(2, "big") + data
        packet: Any = av.Packet(data)
        packet.stream, packet.time_base = self._stream, Fraction(1, _TICKS)
        packet.pts = packet.dts = max(0, round(start_s * _TICKS))
        packet.duration = max(1, round(end_s * _TICKS) - packet.pts)
        return packet


_STYLE = """[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
"""Header of an ASS script, from which FFmpeg's subtitle encoders take the style."""

"""Fields of interlaced pictures: two halves of their lines, taken one after the other."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from av.filter import Graph


def first_field(frame: Any) -> Any:
    """The earlier field of a picture, as one of half the height; the picture itself if it is not marked as interlaced.

    A field shows one instant, without combs where something moves. One field rather than a filter over several
    pictures: the result depends on this picture alone, wherever decoding began, and the views of the models have fewer
    lines than a field.
    """
    if not frame.interlaced_frame or frame.height % 2 or frame.height < 4:
        return frame
    # FFmpeg's filter knows from each picture which field is the earlier one, and copies no pixels. It keeps the later
    # one for the next picture.
    return filtered(frame, "separatefields")


def filtered(frame: Any, name: str, arguments: str | None = None) -> Any:
    """The first picture that FFmpeg's filter `name` makes of one picture; a new filter each time, which knows no other.

    The result is valid as long as `frame`.
    """
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format.name, time_base=Fraction(1, 1000)
    )
    changed, sink = graph.add(name, arguments), graph.add("buffersink")
    source.link_to(changed)
    changed.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()

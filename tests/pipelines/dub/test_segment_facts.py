"""Facts about segments: their sum, JSON, and the layout of parts that earlier releases wrote."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np

from pipelines.dub.segment_facts import Part, SegmentFacts

FIRST = SegmentFacts(
    cost_s=2.5,
    gpu_s=0.5,
    windows=3,
    scenes=1,
    captions=((0.0, 1.5, "a bell: döng"), (1.5, 3.0, "")),
    damage=((0.25, 0.75),),
    still=((1.0, 2.0), (2.5, 3.0)),
    seams=((1.5, 7.25),),
)
SECOND = SegmentFacts(cost_s=1.0, windows=2, still=((3.0, 4.0),), unseen="no frame at all")


def test_every_fact_is_added_up() -> None:
    both = FIRST + SECOND
    assert both == dataclasses.replace(
        FIRST, cost_s=3.5, windows=5, still=((1.0, 2.0), (2.5, 3.0), (3.0, 4.0)), unseen="no frame at all"
    )
    assert (SECOND + dataclasses.replace(SECOND, unseen="another reason")).unseen == "no frame at all"
    assert SegmentFacts() + FIRST == FIRST + SegmentFacts() == FIRST


def test_facts_survive_json_and_a_part() -> None:
    for facts in (SegmentFacts(), FIRST, SECOND):
        assert SegmentFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts
        assert Part.from_bytes(Part(np.zeros((1, 4), np.int16), facts=facts).to_bytes()).facts == facts
    assert SegmentFacts.from_json({"windows": 2}) == SegmentFacts(windows=2)


def test_parts_of_earlier_releases_read() -> None:
    stream = io.BytesIO()
    np.savez(
        stream,
        sound=np.arange(6, dtype=np.int16)[None],
        thumbs=np.zeros((2, 3, 4, 3), np.uint8),
        thumb_times=np.array([0.0, 1.5]),
        cost_s=np.float64(2.5),
        gpu_s=np.float64(0.5),
        caption_times=np.array([(0.0, 1.5), (1.5, 3.0)]),
        captions=np.array(["a bell: döng", ""], np.str_),
        unseen=np.str_(""),
        damage=np.array([(0.25, 0.75)]),
        still=np.array([(1.0, 2.0), (2.5, 3.0)]),
        counts=np.array([1, 3]),
        seams=np.array([(1.5, 7.25)]),
    )
    part = Part.from_bytes(stream.getvalue())
    assert part.facts == FIRST
    assert part.sound.tolist() == [[0, 1, 2, 3, 4, 5]] and part.thumb_times.tolist() == [0.0, 1.5]

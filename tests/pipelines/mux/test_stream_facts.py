"""Facts about streams, in a form that does not depend on the container."""

from __future__ import annotations

import pytest

from pipelines.mux import stream_facts
from pipelines.mux.stream_facts import cue_text, language


@pytest.mark.parametrize(
    ("code", "wanted"),
    [("und", ""), ("", ""), ("ger", "deu"), ("deu", "deu"), ("FRE", "fra"), ("zxx", "zxx")],
)
def test_languages(code: str, wanted: str) -> None:
    assert language(code) == wanted


def test_tags_of_muxers_are_left_out() -> None:
    written = {
        "ENCODER": "Lavf",
        "major_brand": "isom",
        "BPS-eng": "7",
        "_STATISTICS_TAGS": "x",
        "DURATION": "1",
    }
    assert stream_facts.tags({**written, "title": "a"}) == {}
    assert list(stream_facts.tags({**written, "title": "a", "Copyright": "b"}, titled=True)) == [
        "copyright",
        "title",
    ]
    assert stream_facts.tags({"COPYRIGHT": "b "}) == stream_facts.tags({"copyright": "b"})


def test_texts_of_subtitles() -> None:
    assert cue_text("mov_text", b"\0\6a\r\nb  ") == cue_text("subrip", b"a\nb\n") == b"a\nb"
    assert cue_text("mov_text", b"\0\0") == b""
    styled = b"\0\1a" + b"\0\0\0\x16styl" + bytes(14)
    assert cue_text("mov_text", styled) != b"a"
    assert cue_text("hdmv_pgs_subtitle", b"\0\1") == b"\0\1"

"""Facts about streams, in a form that does not depend on the container."""

from __future__ import annotations

import pytest

from pipelines.mux import stream_facts
from pipelines.mux.stream_facts import _clipped, cue_text, language, tags


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


def test_no_tag_hides_behind_others() -> None:
    technical = {f"_STATISTICS_{k:04}": "1" for k in range(2_000)}
    assert set(tags({"title": "a", **technical}, titled=True)) == {"title"}
    many = {f"tag {k:04}": "1" for k in range(2_000)}
    assert len(tags(many)) == 201
    assert tags(many) != tags(many | {"tag 1999": "2"})


def test_a_tag_in_another_language_is_a_tag_of_its_own() -> None:
    assert set(tags({"comment": "a", "comment-eng": "a"})) == {"comment"}
    assert set(tags({"comment": "a", "comment-eng": "a", "comment-fra": "b"})) == {"comment", "comment-fra"}


def test_long_names_differ_to_their_end() -> None:
    long = "x" * 1_000
    names = {next(iter(tags({long + end: "1"}))) for end in ("a", "b")}
    assert len(names) == 2 and all(len(name) <= 60 for name in names)
    assert _clipped(long + "a") != _clipped(long + "b") and _clipped("x" * 300) == "x" * 300

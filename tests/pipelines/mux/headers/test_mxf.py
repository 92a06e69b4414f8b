"""Tags of MXF by their own names. Films are tested in tests/jobs/dub/test_mxf.py."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from pipelines.mux.headers import mxf

NAMES = st.sampled_from(["comment", "v2a", "title", "timecode", "company_name", "my_name"])


def film(tags: dict[str, str], name: str = "mxf") -> SimpleNamespace:
    return SimpleNamespace(metadata=tags, format=SimpleNamespace(name=name))


def test_comments_of_users_are_tags_by_their_names() -> None:
    tags = {"uid": "1", "comment_comment": "Sound", "comment_v2a": "facts"}
    assert mxf.tags_of(film(tags)) == {"uid": "1", "comment": "Sound", "v2a": "facts"}
    assert mxf.tags_of(film(tags, "avi")) == tags


@given(own=st.dictionaries(NAMES, st.text()), added=st.dictionaries(NAMES, st.text()))
def test_tags_come_back_as_they_were_given(own: dict[str, str], added: dict[str, str]) -> None:
    given_tags = own | added
    assert mxf.tags_of(film(mxf.as_comments(given_tags, own))) == given_tags

"""Page of one clip under several prompts."""

from __future__ import annotations

import base64
import re

import pytest

from benchmarks.steering_page import Variant, steering_html


def test_one_clip_under_several_prompts() -> None:
    takes = [
        Variant("", b"film 0", ".mp4", b"card 0", facts={"heard as": "drum 90%"}),
        Variant("an <anvil>", b"film 1", ".webm", b"card 1", negative="music"),
    ]
    page = steering_html(takes, clip="a.mp4", duration_s=4.0, model="vatt", seed=3, caption="rain")
    for content in (b"film 0", b"film 1", b"card 0", b"card 1"):
        assert base64.b64encode(content).decode() in page
    assert "video/mp4" in page and "video/webm" in page
    for words in ("No prompt", "an &lt;anvil&gt;", "music", "drum 90%", "rain", "seed 3"):
        assert words in page
    assert all(url.startswith("data:") for url in re.findall(r'(?:src|href)="([^"]+)"', page))
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert 0 <= style.index(":root {") < style.index(".take {")  # the style sheet of every page, then its own
    with pytest.raises(ValueError, match=r"browsers do not play \.avi"):
        steering_html([Variant("", b"", ".avi")], clip="", duration_s=1, model="", seed=0)

"""A copy that does not show what its muxer was given is a failed film, and no copy is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.mux import remux
from pipelines.mux.read_back import Place, TrackFacts, check_sound, compare, places
from pipelines.mux.track import MuxFailed
from tests.support import media_files
from tests.support.mp4_edits import set_edits
from tests.support.muxing import dub

PICTURE = TrackFacts("video", "h264", "a", np.arange(10) / 25, 0.001, 0.4)
SOUND = TrackFacts("audio", "pcm_s16le", "b", np.arange(10) / 50, 0.001, 0.2)
FILM: dict[Place, TrackFacts] = {("video", 0): PICTURE, ("audio", 0): SOUND}

CHANGES: dict[str, tuple[Place, Callable[[TrackFacts], TrackFacts], str]] = {
    "other packets": (("video", 0), lambda f: replace(f, digest="x"), "packets of a picture track are not"),
    "a picture less": (("video", 0), lambda f: replace(f, times_s=f.times_s[:-1]), "9 pictures instead of 10"),
    "a late picture": (
        ("video", 0),
        lambda f: replace(f, times_s=f.times_s + 0.04 * (np.arange(10) == 3)),
        r"picture 4 of 10 is \+0.040 s off its time",
    ),
    "late sound": (("audio", 0), lambda f: replace(f, times_s=f.times_s + 0.01), "sound 1 of 1 is"),
    "other sound": (("audio", 0), lambda f: replace(f, digest="x"), "packets of a sound track are not"),
}  # fmt: skip


def test_rounding_and_blocks_of_pcm_are_no_difference() -> None:
    compare(FILM, FILM)
    rounded = replace(PICTURE, times_s=PICTURE.times_s + 0.0009)
    blocks = replace(SOUND, times_s=SOUND.times_s[:3])
    compare(FILM, {("video", 0): rounded, ("audio", 0): blocks, ("audio", 1): SOUND})


@pytest.mark.parametrize("change", CHANGES)
def test_a_difference_is_a_failure_with_its_place(change: str) -> None:
    place, changed, words = CHANGES[change]
    with pytest.raises(MuxFailed, match=f"CopyDiffers: .*{words}"):
        compare(FILM, {**FILM, place: changed(FILM[place])})
    with pytest.raises(MuxFailed, match=r"has no .* track where one was written"):
        compare(FILM, {key: fact for key, fact in FILM.items() if key != place})


def test_a_form_that_muxers_rewrite_is_compared_by_its_times() -> None:
    film = {("video", 0): replace(PICTURE, codec="av1")}
    compare(film, {("video", 0): replace(PICTURE, codec="av1", digest="x")})
    with pytest.raises(MuxFailed, match="9 pictures"):
        compare(film, {("video", 0): replace(PICTURE, codec="av1", times_s=PICTURE.times_s[1:])})


def test_the_new_sound_has_its_length() -> None:
    check_sound(SOUND, "b", 0.25)
    with pytest.raises(MuxFailed, match=r"ends after 0.200 s instead of 0.500 s"):
        check_sound(SOUND, "b", 0.5)
    with pytest.raises(MuxFailed, match="not those that were coded"):
        check_sound(SOUND, "c", 0.2)


def test_places_count_by_kind() -> None:
    kinds = {0: "video", 2: "audio", 5: "audio", 7: "video"}
    assert places(kinds) == {0: ("video", 0), 2: ("audio", 0), 5: ("audio", 1), 7: ("video", 1)}


def test_a_muxer_that_moves_a_picture_leaves_no_copy(tmp_path: Path) -> None:
    """FFmpeg's muxer of FLV counts 31 bits of milliseconds, its demuxer 32, and it moves what then goes back."""
    film = media_files.write_video(
        tmp_path / "a.flv", codec="flv", start_s=-0.52, times_s=[0, 0.04, 0.12, 0.16, 0.6, 0.64, 0.68, 1.2, 1.24]
    )  # fmt: skip
    with pytest.raises(MuxFailed, match=r"CopyDiffers: .*off its time"):
        dub(film, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("edited", [False, True])
def test_a_header_with_other_times_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: bool
) -> None:
    film = media_files.write_video(tmp_path / "a.mp4", duration_s=0.6, sound="audible")
    if edited:
        set_edits(film, [(0.2, 0.0), (0.2, 0.4)])
    whole = remux._finish_headers

    def damage(source: Any, output: Any, *others: Any) -> None:
        whole(source, output, *others)
        data = Path(f"/proc/self/fd/{output.fileno()}").read_bytes()
        output.seek(data.index(b"stts") + 16)  # how long each picture lasts, in ticks
        output.write(b"\0\0\0\1")

    dub(film, tmp_path / "good", default=False)
    monkeypatch.setattr(remux, "_finish_headers", damage)
    with pytest.raises(MuxFailed, match=r"CopyDiffers: the copy does not show"):
        dub(film, tmp_path / "out", default=False)
    assert not list((tmp_path / "out").iterdir())

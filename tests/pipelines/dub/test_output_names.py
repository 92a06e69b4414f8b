"""Names of outputs: unique, short enough, and in the container that holds picture and sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.dub.output_names import UsedNames, most_bytes, output_names, subtitles_at, unique_output
from pipelines.soundtrack.mixing import MixPolicy
from tests.support.dub_stages import make_job


def video(path: str) -> dict[str, Any]:
    return {"video_id": "v", "path": path, "container": "mov,mp4", "video_codec": "h264"}


def test_outputs_never_collide() -> None:
    taken = UsedNames()
    names = [unique_output("a.mp4.mkv", video_id, taken) for video_id in ("one", "two")]
    names.append(unique_output("A.mp4.MKV", "three", taken))
    names.append(unique_output("sub/a", "four", taken))
    names.append(unique_output("sub/a", "five", taken))
    assert names[0] == "a.mp4.mkv"
    assert len({name.casefold() for name in names}) == len(names)
    assert names[1].endswith(".mkv") and names[2].endswith(".MKV")


def test_a_film_keeps_its_name_and_has_a_matroska_one_to_fall_back_on() -> None:
    taken = UsedNames()
    assert output_names(make_job("out"), video("sub/a.mp4"), taken) == ("sub/a.mp4", "sub/a.mp4.mkv")
    assert output_names(make_job("out"), video("sub/a.mp4"), taken) == ("sub/a.v.mp4", "sub/a.mp4.v.mkv")


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_sound_file_is_named_after_its_film(kind: str) -> None:
    job = make_job("out", treatment=MixPolicy(sidecar=kind))
    assert output_names(job, video("a.mp4"), UsedNames()) == (f"a.mp4.{kind}", f"a.mp4.{kind}")


def test_names_leave_room_for_the_files_beside_them(tmp_path: Path) -> None:
    plain, most = make_job(tmp_path), 255
    assert most_bytes(plain, "a.mp4", "a.mp4") == most
    assert most_bytes(plain, "x" * 300, "x" * 300 + ".mkv") is None
    signed = make_job(tmp_path, subtitles=True, sign_key="key")
    assert most_bytes(signed, "a.avi", "a.avi") == most - len(".srt")
    assert most_bytes(signed, "a.mkv", "a.mkv") == most - len(".c2pa")
    sounds = make_job(tmp_path, keep_top=10, treatment=MixPolicy(sidecar="wav"))
    assert most_bytes(sounds, "a.mp4", "a.mp4.wav") == most - len(".10")
    long = unique_output("x" * 253 + ".mkv", "v", UsedNames(), most)
    assert len(long) == most and long.endswith(".v.mkv")


def test_captions_become_a_track_where_the_container_holds_one() -> None:
    assert subtitles_at("a.mp4", make_job("out")) == "track"
    assert subtitles_at("a.avi", make_job("out")) == "a.avi.srt"
    job = make_job("out", treatment=MixPolicy(sidecar="wav"))
    assert subtitles_at("a.mp4.wav", job) == "a.mp4.wav.srt"

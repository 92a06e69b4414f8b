"""Names of outputs: unique, short enough, and in the container that holds picture and sound."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import pytest

from pipelines import storage
from pipelines.dub.output_names import (
    UsedNames,
    files_of,
    most_bytes,
    output_names,
    subtitles_at,
    unique_output,
    used_names,
)
from pipelines.soundtrack.mixing import MixPolicy
from pipelines.storage import safe_names
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


def test_names_leave_room_for_the_files_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, most = make_job(tmp_path), 255
    assert most_bytes(plain, "a.mp4", "a.mp4") == most
    assert most_bytes(plain, "x" * 300, "x" * 300 + ".mkv") is None
    signed = make_job(tmp_path, subtitles=True, sign_key="key")
    assert most_bytes(signed, "a.avi", "a.avi") == most - len(".srt")
    assert most_bytes(signed, "a.mkv", "a.mkv") == most - len(".c2pa")
    sounds = make_job(tmp_path, keep_top=10, treatment=MixPolicy(sidecar="wav"))
    assert most_bytes(sounds, "a.mp4", "a.mp4.wav") == most - len(".10")
    monkeypatch.setattr(storage, "name_limit", lambda folder: 1530)  # exFAT's, for 255 characters
    assert most_bytes(plain, "a.mp4", "a.mp4") == most and most_bytes(plain, "x" * 300, "x" * 300) == 300
    long = unique_output("x" * 253 + ".mkv", "v", UsedNames(), most)
    assert len(long) == most and long.endswith(".v.mkv")


def found(path: str, **changes: Any) -> dict[str, Any]:
    return video(path) | {"video_id": re.sub(r"[^\w.]", "-", path), "status": "ok"} | changes


def names_of(job: Any, *videos: dict[str, Any], tries: bool = True) -> dict[str, tuple[str, str]]:
    used = used_names(job, videos, lambda video_id: None, tries=tries)
    return {each["path"]: output_names(job, each, used) for each in videos}


def test_a_film_whose_name_is_the_folder_of_another(tmp_path: Path) -> None:
    """Keys of an object store, which has no folders."""
    names = names_of(make_job(tmp_path), found("b/x.mp4"), found("b/x.mp4/y.mp4"), found("b/X.MP4/z/y.mp4"))
    assert names["b/x.mp4"] == ("b/x.b-x.mp4.mp4", "b/x.mp4.mkv")
    assert names["b/x.mp4/y.mp4"][0] == "b/x.mp4/y.mp4" and names["b/X.MP4/z/y.mp4"][0] == "b/X.MP4/z/y.mp4"


def test_no_film_takes_the_name_of_a_file_beside_another(tmp_path: Path) -> None:
    sounds = make_job(
        tmp_path, keep_top=3, treatment=MixPolicy(sidecar="wav"), sign_key="key", subtitles=True
    )
    films = [found("a"), found("a.2"), found("a.wav.srt"), found("a.3.wav")]
    for order in (films, films[::-1]):
        names = names_of(sounds, *order)
        files = [name for output, _ in names.values() for name in files_of(sounds, output)]
        assert len(set(files)) == len(files) == 4 * 4
    plain = make_job(tmp_path, sign_key="key")
    names = names_of(plain, found("a.mkv", container="matroska,webm"), found("a.mkv.c2pa/b.mp4"))
    assert names["a.mkv"][0] == "a.a.mkv.mkv"  # its manifest would be a folder


def test_names_that_out_refuses_become_legal_and_stay_unique(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(path: str) -> None:
        if set(Path(path).name) & set(':?*"'):
            raise OSError(errno.EINVAL, "Invalid argument")
        Path(path).touch()

    monkeypatch.setattr(safe_names, "create", create)
    films = [found(path) for path in ("a?/12:30.mp4", "a*/12:30.mp4", "a_/12_30.mp4", "a?/12:30.flv")]
    names = names_of(make_job(tmp_path), *films)
    assert [name for name, _ in names.values()] == [
        "a_/12_30.mp4", "a_/12_30.a--12-30.mp4.mp4", "a_/12_30.a_-12_30.mp4.mp4", "a_/12_30.flv.mov",
    ]  # fmt: skip
    assert names_of(make_job(tmp_path), films[0], tries=False)["a?/12:30.mp4"][0] == "a?/12:30.mp4"


def test_captions_become_a_track_where_the_container_holds_one() -> None:
    assert subtitles_at("a.mp4", make_job("out")) == "track"
    assert subtitles_at("a.avi", make_job("out")) == "a.avi.srt"
    job = make_job("out", treatment=MixPolicy(sidecar="wav"))
    assert subtitles_at("a.mp4.wav", job) == "a.mp4.wav.srt"

"""Notes on films of several files: missing numbers and missing time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import storage
from pipelines.archive import joined_films
from pipelines.archive.joined_films import Part
from pipelines.media import clock
from pipelines.media.video import Probe, View
from pipelines.sandbox.decoder import Sandbox
from tests.support import media_files


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cam_1.ts", "cam_2.ts", "cam_4.ts"], "missing between its parts: 3"),
        (["00007.MTS", "00008.MTS", "00012.MTS"], "missing between its parts: 9 to 11"),
        (["a1.ts", "a2.ts", "a3.ts"], ""),
        (["a1.ts"], ""),
        (["cam1_120000.ts", "cam1_121000.ts", "cam1_123000.ts"], ""),  # times, not numbers
        (["a1b1.ts", "a2b2.ts", "a4b4.ts"], ""),
        (["a1.ts", "b2.ts", "c4.ts"], ""),
    ],
)
def test_numbers_that_names_leave_out(names: list[str], words: str) -> None:
    assert joined_films.missing_numbers(names) == [words] * bool(words)


@given(numbers=st.sets(st.integers(0, 300), min_size=2, max_size=20))
def test_the_numbers_noted_and_those_there_are_all(numbers: set[int]) -> None:
    there = sorted(numbers | {min(numbers) + 1})
    [note] = joined_films.missing_numbers([f"cam {n:03}.ts" for n in there]) or [""]
    gone = sorted(set(range(there[0], there[-1] + 1)) - set(there))
    assert bool(note) == bool(gone)
    if gone:
        assert note.removeprefix("missing between its parts: ").split(",")[0].split(" ")[0] == str(gone[0])


def at(*seconds: float, lasts_s: float = 600.0, form: str = "2026-01-03T{:02}:{:02}:{:02}") -> list[Part]:
    """Parts that begin so many seconds after midnight."""
    times = [form.format(int(s) // 3600, int(s) // 60 % 60, int(s) % 60) for s in seconds]
    return [Part(f"cam_{k}.ts", lasts_s, time) for k, time in enumerate(times)]


def test_time_that_is_missing_is_noted_with_its_length_and_place() -> None:
    assert joined_films.gaps(at(0, 600, 1201)) == []
    assert joined_films.gaps(at(0, 603, 1203)) == ["3 s are missing between cam_0.ts and cam_1.ts"]
    assert joined_films.gaps(at(0, 600, 8400)) == ["2:00:00 h are missing between cam_1.ts and cam_2.ts"]
    assert joined_films.gaps(at(0, 590)) == ["cam_0.ts and cam_1.ts overlap by 0:00:10"]
    [note] = joined_films.gaps(at(*range(0, 9000, 700)))
    assert note.endswith("... and 7 more")


def test_times_of_day_in_names_count_only_if_they_go_on_as_the_parts_do() -> None:
    names = ("cam1_120000.ts", "cam1_121003.ts")
    parts = [Part(name, 600.0, None) for name in names]
    assert joined_films.gaps(parts) == ["3 s are missing between cam1_120000.ts and cam1_121003.ts"]
    assert joined_films.gaps([Part(name, 600.0, None) for name in ("a_000001.ts", "a_000002.ts")]) == []
    assert joined_films.gaps([Part("a.ts", 1.0, None), Part("b.ts", 1.0, None)]) == []


def probe(**facts: object) -> Probe:
    known: dict[str, object] = dict(
        duration_s=1.0, fps=25.0, width=96, height=64, rotation=0, video_codec="h264"
    )
    known |= dict(container="mpegts", audio_state="none", peak_dbfs=None, video_start_s=0.0, n_audio_tracks=0)
    return Probe(**known | {"n_frames": 25} | facts)


@pytest.mark.parametrize(
    "fact", [{"video_codec": "hevc"}, {"height": 128}, {"rotation": 90}, {"container": "mpeg"}]
)
def test_a_part_that_differs_does_not_fit(fact: dict[str, object]) -> None:
    joined_films.check_fits("a.ts", probe(), "b.ts", probe(duration_s=2.0, fps=24.9))
    with pytest.raises(joined_films.DecodeFailed, match=r"b\.ts is no part of the film of a\.ts"):
        joined_films.check_fits("a.ts", probe(), "b.ts", probe(**fact))


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("a.ts", {}),
        ("a.m2ts", {"bframes": 2}),
        ("a.mpg", {"codec": "mpeg2video"}),
        ("a.vob", {"codec": "mpeg2video", "container_format": "vob"}),
        ("a.h264", {}),
        ("a.m2v", {"codec": "mpeg2video"}),
        ("a.mp4", {"bframes": 2}),
        ("a.mp4", {"sound": "audible"}),
        ("a.mov", {"codec": "mpeg4"}),
        ("a.mjpeg", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("a.ts", {"sound": "audible", "audio_codec": "mp2", "rate": 48_000}),
    ],
)
def test_files_of_a_format_that_follow_each_other_are_one_film(
    name: str, facts: dict[str, Any], tmp_path: Path, sandbox: Sandbox
) -> None:
    part = media_files.write_video(tmp_path / name, duration_s=2, **facts)
    one = sandbox.probe(str(part))
    assert one.container in joined_films.JOINABLE
    uri = storage.joined_uri([str(part)] * 3)
    film = sandbox.probe(uri)
    assert film.n_frames == 3 * one.n_frames
    assert film.duration_s == pytest.approx(3 * one.duration_s, abs=0.1)
    assert (film.audio_state, film.width) == (one.audio_state, one.width)
    seeks = not clock.has_leaps(film.note)
    for start_s in (0.0, 3.0, 5.2):
        [pictures] = sandbox.decode_views(uri, [View(5, 48, 32)], start_s, start_s + 0.4, seeks=seeks)
        shown = [media_files.number_of(picture) for picture in pictures]
        assert shown == [round(25 * (start_s + k / 5)) % 50 for k in range(2)]

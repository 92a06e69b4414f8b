"""Films of recorders (`.dav`): rate, length, wall clock, sound, pauses and damage."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from pipelines.media.clock import has_leaps
from tests.support import dav_files, decoding, media_files, muxing

SECONDS, FPS = 6, 25


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media_files.write_video(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=SECONDS, fps=FPS)


def test_rate_length_and_wall_clock_are_those_of_the_recorder(film: Path, tmp_path: Path) -> None:
    found = decoding.probe(dav_files.write_dav(film, tmp_path / "a.dav"))
    assert (found.container, found.video_codec, found.n_frames) == ("dhav", "h264", SECONDS * FPS)
    assert found.duration_s == pytest.approx(SECONDS)
    assert found.fps == pytest.approx(FPS)
    assert found.recorded_at == dav_files.BEGAN.isoformat(), "no zone: the recorder's is not known"


def test_pictures_are_found_by_time_anywhere(film: Path, tmp_path: Path) -> None:
    recorded = dav_files.write_dav(film, tmp_path / "a.dav")
    for start_s in (0.0, 1.48, 3.9, 5.0):
        assert decoding.numbers(recorded, start_s, start_s + 0.4) == decoding.numbers(
            film, start_s, start_s + 0.4
        )


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_alaw", "pcm_mulaw"])
def test_the_copy_keeps_pictures_and_the_recorders_sound(film: Path, tmp_path: Path, codec: str) -> None:
    recorded = dav_files.write_dav(film, tmp_path / "a.dav", sound=codec)
    assert decoding.probe(recorded).audio_state == "audible"
    copy, n_samples = muxing.dub(recorded, tmp_path / "out")
    assert (copy.name, n_samples) == ("a.dav.mkv", SECONDS * 44_100)
    muxing.check(recorded, copy, n_samples)
    kept, _, rate = muxing.decode_track(copy, 2)
    t = np.arange(SECONDS * dav_files.SOUND_RATE) / dav_files.SOUND_RATE
    wanted = 0.5 * 32767 * np.sin(2 * np.pi * 440 * t)
    assert rate == dav_files.SOUND_RATE
    assert np.corrcoef(kept[0][: len(t)], wanted)[0, 1] > 0.99


def test_a_pause_of_the_recorder_is_no_still(film: Path, tmp_path: Path) -> None:
    later = dav_files.BEGAN + timedelta(hours=1)
    parts = [dav_files.write_dav(film, tmp_path / name, began=began, sound="pcm_alaw")
             for name, began in (("1.dav", dav_files.BEGAN), ("2.dav", later))]  # fmt: skip
    joined = tmp_path / "a.dav"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    found = decoding.probe(joined)
    assert found.duration_s == pytest.approx(2 * SECONDS)
    assert has_leaps(found.note)


def test_a_torn_recording_is_as_long_as_what_is_there(film: Path, tmp_path: Path) -> None:
    whole = dav_files.write_dav(film, tmp_path / "a.dav", sound="pcm_alaw")
    found = decoding.probe(media_files.truncated(whole, tmp_path / "torn.dav", 0.5))
    assert found.duration_s == pytest.approx(SECONDS / 2, abs=0.5)
    assert found.fps == pytest.approx(FPS)
    torn = tmp_path / "middle.dav"
    data = whole.read_bytes()
    torn.write_bytes(data[: len(data) // 3] + b"\x55" * 400 + data[len(data) // 3 + 400 :])
    assert decoding.probe(torn).duration_s == pytest.approx(SECONDS, abs=0.5)
    copy, n_samples = muxing.dub(torn, tmp_path / "out")
    assert muxing.read(copy).sound.shape[1] == n_samples

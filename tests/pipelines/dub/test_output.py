"""The film to listen with, of a sequence of pictures: its pictures, its sound, and its record."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from jobs import cli
from tests.support import media_files, picture_files
from tests.support.dubbing import only_track, quickly

NAME = "scan_{0000000-0000035}.dpx"
GAP = (10, 11)


@pytest.mark.parametrize(("kind", "suffix", "codec"), [("mp4", ".mp4", "h264"), ("ffv1", ".mkv", "ffv1")])
def test_a_film_to_listen_with(
    kind: str, suffix: str, codec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    picture_files.write_run(scans, (k for k in range(36) if k not in GAP))
    row = quickly(scans, out, "--fps", "18", "--proxy", kind)[NAME]
    assert (row["status"], row["output"]) == ("dubbed", f"{NAME}.wav")
    film = out / f"{NAME}{suffix}"
    with av.open(str(film)) as opened:
        video = opened.streams.video[0]
        assert video.codec_context.name == codec
        shown = [(float(f.time), f.to_ndarray(format="rgb24")) for f in opened.decode(video)]
    numbers = picture_files.numbers_of(np.stack([picture for _, picture in shown]))
    assert numbers == [k for k in range(36) if k not in GAP]
    assert [time for time, _ in shown] == pytest.approx([k / 18 for k in numbers], abs=0.001)
    sound = only_track(film)
    assert sound.shape[1] == pytest.approx(2 * 44_100, abs=1023)
    if kind == "ffv1":
        assert np.array_equal(sound, only_track(out / f"{NAME}.wav"))
    record = json.loads((out / "_v2a" / "provenance" / f"{row['video_id']}.proxy.json").read_text())
    assert record["output"] == film.name and record["converted"] == [f"its pictures, as {kind}"]
    assert cli.main(["verify", str(film)]) == 0, capsys.readouterr().out


def test_other_films_get_none(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    media_files.write_video(tmp_path / "films" / "a.mkv")
    quickly(tmp_path / "films", tmp_path / "out", "--proxy", "mp4")
    files = [path.name for path in (tmp_path / "out").iterdir() if path.is_file()]
    assert files == ["a.mkv"]

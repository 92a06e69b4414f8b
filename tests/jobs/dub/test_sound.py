"""`v2a dub` and sound: what is there already, loudness, codecs, and sound files instead of films."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
from scipy.signal import resample_poly

from jobs.common.verb import WrongUsage
from pipelines.dub import track_plan
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.item import Item
from pipelines.mux import remux
from pipelines.provenance import sidecar
from tests.support.dubbing import (
    RATE,
    codecs,
    film,
    noise,
    only_track,
    quickly,
    report,
    titles,
    track,
    v2a_dub,
)

pytestmark = pytest.mark.timeout(600)

MIXED, REPLACED = track_plan.TITLES["mix"], track_plan.TITLES["replace-silent-parts"]


def with_a_gap(seconds: float, gap: tuple[float, float], channels: int = 1, rate: int = RATE) -> np.ndarray:
    sound = noise(seconds, 0.4, channels, rate)
    sound[:, round(gap[0] * rate) : round(gap[1] * rate)] = 3
    return sound


def test_silent_parts_are_dubbed_alone(
    ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    own = {
        "gap.mkv": with_a_gap(4.0, (1.5, 3.2), channels=2, rate=48_000),
        "gap.avi": with_a_gap(4.0, (0.0, 1.7)),
    }
    film(archive / "gap.mkv", own["gap.mkv"], 4.0, "flac", 48_000)
    film(archive / "gap.avi", own["gap.avi"], 4.0)
    film(archive / "loud.mkv", noise(3.0), 3.0, "flac")
    film(archive / "mute.mkv", None, 2.0)
    before = {path: path.read_bytes() for path in archive.iterdir()}
    options = ["--existing", "replace-silent-parts", "--segment-s", "1"]
    assert v2a_dub(archive, out, *options) == 0
    rows = report(out)
    assert rows["loud.mkv"]["status"] == "skipped" and rows["loud.mkv"]["reason"] == "has sound throughout"
    assert rows["mute.mkv"]["status"] == "dubbed" and rows["mute.mkv"]["treatment"] == ""
    assert titles(out / "mute.mkv") == [remux.TITLE]
    for name, gap in (("gap.mkv", (1.5, 3.2)), ("gap.avi", (0.0, 1.7))):
        row, sound = rows[name], own[name]
        rate = 48_000 if name == "gap.mkv" else RATE
        assert row["status"] == "dubbed" and row["treatment"] == "replace-silent-parts"
        assert row["heard_s"] == pytest.approx(gap[1] - gap[0], abs=0.03)
        # AVI names no tracks that FFmpeg reads back as such: the first one is the new one.
        made = track(out / name, REPLACED)
        first, last = round(gap[0] * rate), round(gap[1] * rate)
        assert made.shape == sound.shape
        assert np.array_equal(made[:, :first], sound[:, :first])
        assert np.array_equal(made[:, last:], sound[:, last:])
        assert np.abs(made[:, first + rate // 4 : last - rate // 4]).max() > 300
        side = json.loads((out / "_v2a" / "provenance" / f"{row['video_id']}.json").read_text())
        assert side["track"]["treatment"]["existing"] == "replace-silent-parts"
    assert {path: path.read_bytes() for path in archive.iterdir()} == before
    assert set(titles(out / "gap.mkv")) == {REPLACED, ""}  # the film's own track is still there


def test_where_nothing_is_heard_nothing_is_looked_at(tmp_path: Path) -> None:
    from jobs.dub import DubConfig
    from jobs.dub.config import SoundOptions
    from jobs.dub.preflight import make_job
    from pipelines.archive import scan
    from pipelines.dub import decode
    from pipelines.dub import plan as dub_plan
    from pipelines.dub.manifest import ManifestRow
    from pipelines.dub.plan import make_plan, wants_silence
    from pipelines.sandbox.decoder import Sandbox
    from pipelines.soundtrack.silence import find
    from tests.support.toy_generators import NOISE, NoiseGenerator

    film(tmp_path / "archive" / "gap.mkv", with_a_gap(12.0, (5.2, 6.4)), 12.0, "flac")
    config = DubConfig(
        str(tmp_path / "archive"), str(tmp_path / "out"), model=NOISE, segment_s=1.0,
        sound=SoundOptions(existing="replace-silent-parts"),
    )  # fmt: skip
    job = make_job(config)
    with Sandbox() as sandbox:
        [video] = scan.scan(config.archive, sandbox)
        assert wants_silence(video, "replace-silent-parts", ManifestRow())
        silence = find(video, -60.0, sandbox)
        plan = make_plan(job, [video], "silent", silences={video["video_id"]: silence})
        needed = [task.segment.index for task in plan.tasks if not task.needless]
        assert 0 < len(needed) <= 4 < len(plan.tasks)
        seen = [decode.decode_task(task, job, sandbox) for task in plan.tasks]
        assert [item.task.segment.index for item in seen if item.arrays] == needed
        made = Dubber(job).generate([Item.from_table(i.to_table())[0] for i in seen])
    # What is generated is what would have been generated for the whole film.
    whole = dub_plan.plan_file(job, video, "gap.mkv", "gap.mkv.mkv")
    again = Dubber(job).generate([decode.decode_task(whole[needed[1]], job, Sandbox())])
    assert np.array_equal(again[0].arrays["sound"], made[needed[1]].arrays["sound"])
    assert not made[0].arrays["sound"].any() and NoiseGenerator.recipe.window_s == 1.0


def test_mixing_and_loudness(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    own = noise(4.0, 0.05, channels=2)
    film(archive / "talk.mkv", own, 4.0, "flac")
    film(archive / "mute.mkv", None, 4.0)
    with pytest.raises(WrongUsage, match="--only all"):
        quickly(archive, out, "--existing", "mix")
    options = ["--only", "all", "--existing", "mix"]
    quickly(archive, out, *options, "--mix-gain", "-6")
    made = track(out / "talk.mkv", MIXED)
    assert made.shape == own.shape and titles(out / "talk.mkv") == [MIXED, ""]
    added = made.astype(int) - own
    assert np.abs(added[0] - added[1]).max() <= 1 and np.abs(added).max() > 100  # mono, put into both
    with pytest.raises(WrongUsage, match=r"mix_gain: -6\.0 there, None now"):
        quickly(archive, out, *options)

    loud = tmp_path / "loud"
    rows = quickly(archive, loud, *options, "--mix-gain", "6", "--loudness", "-23")
    for name, title in (("talk.mkv", MIXED), ("mute.mkv", remux.TITLE)):
        real = track(loud / name, title) / 32768
        assert pyloudnorm.Meter(RATE).integrated_loudness(real.T) == pytest.approx(-23, abs=0.5)
        assert 20 * np.log10(np.abs(resample_poly(real, 8, 1, axis=1)).max()) <= -1
        assert rows[name]["sound_lufs"] == pytest.approx(-23, abs=0.3)
        assert rows[name]["sound_true_peak_dbtp"] <= -1
    assert rows["talk.mkv"]["treatment"] == "mix, generated +6 dB, -23 LUFS"


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        ("aac", {"a.mp4": "aac", "b.mov": "aac", "c.avi.mkv": "aac", "d.mkv": "aac"}),
        ("flac", {"a.mp4": "flac", "b.mov.mkv": "flac", "c.avi.mkv": "flac", "d.mkv": "flac"}),
        ("opus", {"a.mp4": "opus", "b.mov.mkv": "opus", "c.avi.mkv": "opus", "d.mkv": "opus"}),
        ("pcm", {"a.mp4.mov": "pcm_s16le", "b.mov": "pcm_s16le", "c.avi": "pcm_s16le", "d.mkv": "pcm_s16le"}),
    ],
)
def test_a_codec_that_a_container_does_not_hold_takes_another(
    tmp_path: Path, codec: str, expected: dict[str, str]
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    for name in ("a.mp4", "b.mov", "c.avi", "d.mkv"):
        film(archive / name, None, 0.6)
    quickly(archive, out, "--audio-codec", codec, "--channels", "stereo")
    names = {path.name: codecs(path)[0] for path in out.iterdir() if path.is_file()}
    assert {name: {"opus": "opus", "libopus": "opus"}.get(c, c) for name, c in names.items()} == expected
    assert all(len(only_track(out / name)) == 2 for name in expected)
    # Samples of what was coded with loss are kept, for v2a redub; of what was not, they are in the film.
    kept = sorted((out / "_v2a").glob("sound/*.flac"))
    assert len(kept) == (4 if codec in ("aac", "opus") else 0)
    for path in kept:
        sound = only_track(path)
        side = json.loads((out / "_v2a" / "provenance" / f"{path.stem}.json").read_text())
        digest = hashlib.sha256(np.ascontiguousarray(sound.T).tobytes()).hexdigest()
        assert digest == side["track"]["samplesSha256"]


def test_an_old_film_that_holds_no_such_codec_is_a_failed_row(tmp_path: Path) -> None:
    from tests.support.media_files import write_video

    write_video(tmp_path / "archive.flv", codec="flv", duration_s=0.5)
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive.flv").rename(tmp_path / "archive" / "old.flv")
    row = quickly(tmp_path / "archive", tmp_path / "out", "--audio-codec", "flac")["old.flv"]
    assert (row["stage"], row["error_class"]) == ("plan", "ContainerCannotHold")
    assert "flv does not hold flac sound; it holds aac" in row["message"]


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_sound_files_instead_of_films(tmp_path: Path, kind: str) -> None:
    from jobs import verify
    from pipelines.provenance import signing

    archive, out, whole = tmp_path / "archive", tmp_path / "out", tmp_path / "whole"
    film(archive / "sub" / "reel.mp4", None, 2.0)
    signer = signing.make_test_certificate(tmp_path / "keys")
    keys = ["--sign-key", signer.key, "--sign-cert", signer.certificate]
    quickly(archive, out, "--sidecar", kind, *keys)
    quickly(archive, whole, "--audio-codec", "flac")
    made = out / "sub" / f"reel.mp4.{kind}"
    assert np.array_equal(only_track(made), track(whole / "sub" / "reel.mp4", remux.TITLE))
    assert only_track(made).shape == (1, 2 * RATE)
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and "_v2a" not in p.parts}
    assert files == {f"sub/{made.name}"} | ({f"sub/{made.name}.c2pa"} if kind == "flac" else set())
    config = verify.VerifyConfig((str(made),), source=str(archive / "sub" / "reel.mp4"))
    found = verify.check(str(made), config).verdict
    assert found.passed, found
    assert found.states | {"picture": "sound-only"} == found.states
    assert (found.states["film"], found.states["records"], found.states["source"]) == (
        "unchanged", "agree", "unchanged",
    )  # fmt: skip
    assert sidecar.SOURCE_TYPE.encode() in made.read_bytes()
    # One sample changed is found.
    data = bytearray(made.read_bytes())
    data[len(data) // 2 if kind == "wav" else -20] ^= 1
    made.write_bytes(data)
    assert verify.run(verify.VerifyConfig((str(made),))) == 1
    with pytest.raises(WrongUsage, match="sidecar: "):
        quickly(archive, out, *keys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--loudness", "23"], "--loudness is in LUFS"),
        (["--mix-gain", "3"], "--existing mix"),
        (["--silence-dbfs", "3"], "below 0 dBFS"),
        (["--sidecar", "wav", "--audio-codec", "aac"], "leave out --audio-codec aac"),
        (["--keep-top", "2"], "--keep-top must be from 1 to the number of --candidates (1)"),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    (tmp_path / "archive").mkdir()
    assert v2a_dub(tmp_path / "archive", tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out" / "_v2a").exists()


def test_unknown_choices_name_the_valid_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        v2a_dub(tmp_path, tmp_path / "out", "--audio-codec", "mp3")
    assert stopped.value.code == 2
    assert "opus" in capsys.readouterr().err

"""`python -m benchmarks.real_footage` on small films, and once through `v2a dub`."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import real_clips, real_footage, real_page
from benchmarks.real_clips import RealClip
from pipelines.sandbox.decoder import Sandbox
from tests.support.dubbing import RATE, film
from tests.support.media_files import write_sound
from tests.support.toy_generators import NoiseGenerator, reference
from v2a_models.encoders.sound_classes import SOUND_CLASSES
from v2a_models.metrics.recorded import RecordedFigures
from v2a_models.recipe import Recipe, View

SECONDS = 4.0
FLASHES = [(7, 19, 40), (11, 15, 32), (5, 27, 36)]
"""Numbers of the bright pictures of each film, at 12 per second."""


def bursts(times_s: Sequence[float], seconds: float = SECONDS) -> np.ndarray:
    """int16 [1, n]: a short burst of noise at each time."""
    sound = np.zeros(round(seconds * RATE))
    burst = np.random.default_rng(0).uniform(-0.5, 0.5, RATE // 5) * np.exp(-np.arange(RATE // 5) / 2000)
    for time_s in times_s:
        part = sound[round(time_s * RATE) :][: len(burst)]
        part += burst[: len(part)]
    return (32767 * sound).astype(np.int16)[None]


def flashing(path: Path, pictures: Sequence[int], late_s: float = 0.0, level: float = 1.0) -> Path:
    """A dark film with bright pictures, and a burst at each of them, `late_s` later."""
    sound = (level * bursts([number / 12 + late_s for number in pictures])).astype(np.int16)
    return film(path, sound, SECONDS, brightness=flashes(pictures))


def flashes(pictures: Sequence[int]) -> Callable[[int], int]:
    """Brightness of the pictures of a film."""
    return lambda number: 220 if number in pictures else 20


class FlashGenerator(NoiseGenerator):
    """Makes a burst of noise wherever the picture becomes much brighter."""

    name = "flash"
    recipe = Recipe(
        "flash", window_s=2.0, overlap_s=0.4, semantic=None, sync=None, frames=View(25, 32, 32),
        sample_rate=16_000, waveform=True,
    )  # fmt: skip

    def generate_from_frames(self, frames: Mapping[str, Any], seeds: Sequence[int], **sampling: Any) -> Any:
        rows = []
        for pictures in frames["frames"]:
            light = pictures.float().mean((1, 2, 3))
            sound = torch.zeros(1, self.recipe.window)
            for number in torch.nonzero(light[1:] - light[:-1] > 60).flatten().tolist():
                start = 640 * (number + 1)
                n = min(3200, self.recipe.window - start)
                sound[0, start : start + n] = 0.5 * torch.exp(-torch.arange(n) / 800) * (torch.rand(n) - 0.5)
            rows.append(sound)
        return torch.stack(rows)


def compared(
    folder: Path, made: Mapping[str, Path], look: real_footage.Look | None = None
) -> tuple[list[RealClip], RecordedFigures | None]:
    """Clips of a folder, compared with films that stand for the dubbed ones."""
    with Sandbox() as sandbox:
        clips = real_clips.find_clips(folder, None, sandbox)
        for clip in clips:
            clip.dubbed = made.get(clip.name)
        return clips, real_footage.compare(clips, folder, sandbox, look)


def test_perfect_sound_has_f1_one_at_the_same_level(tmp_path: Path) -> None:
    true = {f"{k}.mkv": flashing(tmp_path / f"true/{k}.mkv", each) for k, each in enumerate(FLASHES)}
    clips, figures = compared(tmp_path / "true", true)
    assert figures is not None and not any(clip.reason for clip in clips)
    assert [each.f1.value for each in figures.onsets] == [1, 1, 1]
    assert figures.onsets[1].wrong.value < 0.6 and figures.level_db.value == figures.near_silence.value == 0


def test_silence_is_near_silence(tmp_path: Path) -> None:
    flashing(tmp_path / "true/a.mkv", FLASHES[0])
    silent = film(tmp_path / "a.mkv", np.zeros((1, round(SECONDS * RATE)), np.int16), SECONDS)
    clips, figures = compared(tmp_path / "true", {"a.mkv": silent})
    assert figures is not None and figures.near_silence.value == 1
    assert "| near silence, of the seconds with audible sound | 100 % |" in real_footage.table(figures)
    assert "one clip has no wrong clips" in real_footage.table(figures)
    assert clips[0].score is not None and clips[0].score.near_silent_s == clips[0].score.audible_s > 0


def test_a_delay_counts_at_200_but_not_at_100_ms(tmp_path: Path) -> None:
    flashing(tmp_path / "true/a.mkv", FLASHES[0])
    late = flashing(tmp_path / "a.mkv", FLASHES[0], late_s=0.15, level=0.5)
    clips, figures = compared(tmp_path / "true", {"a.mkv": late})
    assert figures is not None
    end = 1  # both sounds end softly, which counts as an onset
    hits = [clip.score.hits(tolerance_s) for clip in clips if clip.score for tolerance_s in (0.05, 0.1, 0.2)]
    assert hits == [end, end, 3 + end]
    assert figures.onsets[2].f1.value == 1 and figures.level_db.value == pytest.approx(-6, abs=0.2)


def test_the_films_own_track_is_first_and_the_generated_one_last(tmp_path: Path) -> None:
    one, two = (flashing(tmp_path / f"{k}.mkv", FLASHES[k]) for k in range(2))
    both = tmp_path / "true/both.mkv"
    both.parent.mkdir()
    with av.open(str(one)) as first, av.open(str(two)) as second, av.open(str(both), "w") as out:
        streams = [*first.streams, *second.streams.audio]
        copies = {stream: out.add_stream_from_template(stream, opaque=True) for stream in streams}
        for packet in [*first.demux(), *second.demux(audio=0)]:
            if packet.dts is not None:
                packet.stream = copies[packet.stream]
                out.mux(packet)
    clips, _ = compared(both.parent, {"both.mkv": both})
    expected = [[number / 12 for number in FLASHES[k]] for k in range(2)]
    assert clips[0].score is not None
    assert clips[0].score.true_onsets[:3] == pytest.approx(expected[0], abs=0.03)
    assert clips[0].score.generated_onsets[:3] == pytest.approx(expected[1], abs=0.03)


def test_sounds_that_pictures_promise_are_named() -> None:
    look = real_footage.expected_sounds()
    assert look is not None
    seen = look(np.zeros((3, 224, 224, 3), np.uint8))
    assert sum(seen.values()) == pytest.approx(1, abs=1e-3) and {"nothing", "dog", "waves"} <= set(seen)


def test_what_is_seen_stands_beside_each_clip(tmp_path: Path) -> None:
    true = flashing(tmp_path / "true/a.mkv", FLASHES[0])

    def look(frames: np.ndarray) -> dict[str, float]:
        assert frames.shape == (8, 224, 224, 3) and frames.dtype == np.uint8
        return {"dog": 0.25, "drum": 0.75}

    clips, _ = compared(tmp_path / "true", {"a.mkv": true}, look)
    assert clips[0].seen == {"dog": 0.25, "drum": 0.75}
    assert real_footage.listing(clips).endswith("| drum 75 % |  |")


def test_the_class_that_is_heard_is_compared_with_the_true_one(tmp_path: Path) -> None:
    made = {
        f"{k}.mkv": flashing(tmp_path / f"true/{k}.mkv", each, level=1 / (k + 1))
        for k, each in enumerate(FLASHES)
    }

    def hear(sound: np.ndarray) -> str:
        return "drum" if np.abs(sound).max() > 0.4 else "dog"

    with Sandbox() as sandbox:
        clips = real_clips.find_clips(tmp_path / "true", None, sandbox)
        for clip, label in zip(clips, ("drum", "drum", "dog"), strict=True):
            clip.dubbed, clip.label = made[clip.name], label
        real_footage.compare(clips, tmp_path / "true", sandbox, hear=hear)
    assert [clip.heard for clip in clips] == ["drum", "dog", "dog"] == [clip.heard_true for clip in clips]
    assert (
        "Of 3 clips with a true class, 2 are heard as it, 2 by their true sound"
        in real_footage.class_line(clips)
    )
    assert "on the wrong clips 33 %" in real_footage.class_line(clips)
    assert "|  | dog, not drum |" in real_footage.listing(clips)
    assert real_footage.class_line(clips[:0]) == ""


def test_the_bundled_classifier_hears_a_class_of_its_own() -> None:
    hear = real_footage.heard_class()
    for seconds in (0.2, 1.0, 9.0):
        assert hear(np.zeros(round(seconds * RATE), np.float32)) in {"nothing", *SOUND_CLASSES}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,class\na,dog\n", "columns clip and class"),
        ("clip,class\na,unicorn\n", "unknown classes unicorn; known: .*dog"),
    ],
)
def test_a_table_of_classes_that_cannot_be_used_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    table = tmp_path / "classes.csv"
    table.write_text(text)
    with pytest.raises(SystemExit):
        real_footage.main([str(tmp_path), "--classes", str(table), "--out", str(tmp_path.parent / "out")])
    assert re.search(reason, capsys.readouterr().err)


def packets(path: Path) -> list[tuple[float, bytes]]:
    """Times and contents of the pictures of a film that has no sound."""
    with av.open(str(path)) as opened:
        assert not opened.streams.audio
        [stream] = opened.streams.video
        return [(float(p.pts * stream.time_base), bytes(p)) for p in opened.demux() if p.pts is not None]


def test_copies_have_every_packet_and_no_sound(tmp_path: Path) -> None:
    source, copy = flashing(tmp_path / "a.mkv", FLASHES[0]), tmp_path / "silent/a.mkv"
    real_clips.copy_without_sound(source, copy)
    assert len(packets(copy)) == 48
    assert packets(copy) == packets(
        film(tmp_path / "mute.mkv", None, SECONDS, brightness=flashes(FLASHES[0]))
    )
    changed = copy.stat().st_ctime_ns
    real_clips.copy_without_sound(source, copy)
    assert copy.stat().st_ctime_ns == changed
    copy.write_bytes(b"")  # a torn copy has another time than its source
    real_clips.copy_without_sound(source, copy)
    assert len(packets(copy)) == 48


def bad_clips(folder: Path) -> dict[str, str]:
    """Clips that cannot be compared, and a part of the reason of each."""
    film(folder / "mute.mkv", None, 1.0)
    film(folder / "silent.mkv", np.zeros((1, RATE), np.int16), 1.0)
    (folder / "torn|.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and no more")
    (folder / "notes.txt").write_text("not a clip")
    write_sound(folder / "only.wav", 1.0)
    return {
        "mute.mkv": "no sound track",
        "silent.mkv": "silent sound",
        r"torn\|.mp4": "Invalid data",
        "only.wav": "sound without a picture",
    }


def test_clips_that_cannot_be_compared_are_rows_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = bad_clips(tmp_path / "clips")
    out = tmp_path / "out"
    assert real_footage.main([str(tmp_path / "clips"), "--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "0 of 4 clips of clips compared" in told and "No clip could be compared." in told
    for name, reason in reasons.items():
        assert re.search(rf"^\| {re.escape(name)} \| {reason}", told, re.M)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone"], "no folder gone"),
        (["empty"], "no clips in empty"),
        (["empty", "--out", "empty/out"], "must lie outside"),
        (["empty/inner", "--out", "empty"], "must lie outside"),
        (["empty", "--limit", "0"], "--limit must be at least 1"),
    ],
)
def test_wrong_usage_is_told(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "empty/inner").mkdir(parents=True)
    (tmp_path / "empty/notes.txt").write_text("not a clip")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        real_footage.main(words)
    assert caught.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("code", [1, 2])
def test_a_dub_that_fails_is_told(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One failed film is a row with the reason; a command that did not run ends with its exit code."""
    flashing(tmp_path / "clips/a.mkv", FLASHES[0])

    def fake_dub(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        assert command[2] == "jobs.dub" and Path(command[3], "a.mkv").exists()
        report = Path(command[4], "_v2a", "report.parquet")
        report.parent.mkdir(parents=True)
        row = {"path": "a.mkv", "status": "failed", "output": "", "reason": "", "message": "disk\nfull"}
        pq.write_table(pa.Table.from_pylist([row]), report)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", fake_dub)
    clips = [RealClip("a.mkv", SECONDS), RealClip("gone.mkv", SECONDS)]
    if code == 2:
        with pytest.raises(SystemExit) as caught:
            real_clips.dub_clips(clips, tmp_path / "clips", tmp_path / "out", "mini", 0)
        assert caught.value.code == 2
        return
    real_clips.dub_clips(clips, tmp_path / "clips", tmp_path / "out", "mini", 0)
    assert [clip.failed for clip in clips] == [True, True]
    assert clips[0].reason == "not dubbed: disk full" and clips[1].reason.startswith("no silent copy: ")


def test_a_model_that_looks_is_far_above_chance(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The whole way: copies, `v2a dub`, figures, page; and a film that lacks sound beside them."""
    folder, out = tmp_path / "clips", tmp_path / "out"
    for k, pictures in enumerate(FLASHES):
        flashing(folder / f"<{k}>.mkv", pictures)
    film(folder / "mute.mkv", None, 1.0)
    options = ["--out", str(out), "--model", reference(FlashGenerator), "--limit", "2"]
    assert real_footage.main([str(folder), *options]) == 0
    told = capfd.readouterr().out
    figures = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", told, re.M))
    assert float(figures["onset F1 ±100 ms"]) == 1 and float(figures["on the wrong clips ±100 ms"]) < 0.7
    assert "2 of 2 clips of clips compared" in told and figures["<1>.mkv"] == "4.0"
    page = (out / "real_footage.html").read_text()
    films = re.findall(r'<video [^>]*src="data:video/mp4;base64,([^"]+)"', page)
    assert len(films) == 6 and "&lt;0&gt;.mkv" in page and "<0>" not in page
    assert all(url.startswith("data:") for url in re.findall(r'(?:src|href)="([^"]+)"', page))
    assert "Content-Security-Policy" in page and " style=" not in page
    for number, content in enumerate(films):
        (tmp_path / f"{number}.mp4").write_bytes(base64.b64decode(content))
        with av.open(str(tmp_path / f"{number}.mp4")) as one:
            codecs = [stream.codec_context.name for stream in one.streams]
            assert codecs == ["h264", "aac"] and one.duration == pytest.approx(4e6, rel=0.03)


def test_ticks_stand_where_onsets_are() -> None:
    strip = real_page.drawn("True", np.ones(22_050), np.array([0.25, 0.5, 1.2]), {1}, 1.0)
    half = real_page.COLUMNS // 2
    assert strip["hits"] == f"M{half:.1f} 0V56" and strip["misses"] == f"M{half / 2:.1f} 0V56"
    assert (strip["n_onsets"], strip["n_hits"]) == (2, 1)
    assert strip["wave"].startswith("M0,0.0L1,0.0") and strip["wave"].endswith("0,56.0Z")

"""`v2a synth`: the corpus on disk."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import synth
from pipelines import synthfoley
from pipelines.synthfoley import mp4


def digests(root: Path) -> dict[str, str]:
    files = [p for p in root.rglob("*") if p.is_file() and "_v2a" not in p.parts]
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def corpus(ray_session, tmp_path_factory) -> Path:
    """Four clips of two seconds, made by two workers."""
    out = tmp_path_factory.mktemp("synth") / "corpus"
    assert synth.run(synth.SynthConfig(str(out), clips=4, seconds=2.0, seed=7)) == 0
    return out


def test_files_and_events_agree(corpus):
    table = pq.read_table(corpus / "events.parquet")
    assert table.schema.equals(mp4.EVENTS_SCHEMA)
    files = sorted(p.relative_to(corpus).as_posix() for p in corpus.rglob("*.mp4"))
    scenes = [synthfoley.make_scene(7, index, 2.0) for index in range(4)]
    assert files == sorted(f"{s.split}/{s.label}/{s.label}_{s.index:05d}.mp4" for s in scenes)
    rows = table.to_pylist()
    assert {row["clip"] for row in rows} <= set(files)
    assert len(rows) == sum(len(scene.events) for scene in scenes)
    for row in rows:
        events = scenes[row["index"]].events
        assert (row["onset_s"], row["strength"]) in {(e.onset_s, e.strength) for e in events}
        assert row["clip"].startswith(f"{row['split']}/{row['class']}/") and row["duration_s"] == 2.0


def test_the_bytes_do_not_depend_on_the_workers(corpus):
    # In one process, without Ray, is one worker: every clip again, in another order.
    written = digests(corpus)
    for index in reversed(range(4)):
        scene = synthfoley.make_scene(7, index, 2.0)
        again = hashlib.sha256(mp4.encode(scene)).hexdigest()
        assert written[mp4.clip_path(scene)] == again


def test_the_same_command_resumes(corpus, ray_session, monkeypatch):
    before = digests(corpus)
    lost = next(corpus.rglob("*.mp4"))
    lost.unlink()
    (corpus / "events.parquet").unlink()
    kept = {p: p.stat().st_mtime_ns for p in corpus.rglob("*.mp4")}
    half = lost.parent / ".v2a-tmp-1-abc-x.mp4"
    half.write_bytes(b"half")
    assert synth.run(synth.SynthConfig(str(corpus), clips=4, seconds=2.0, seed=7)) == 0
    assert digests(corpus) == before and not half.exists()
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in kept.items())


def test_another_corpus_or_foreign_files_are_left_alone(corpus, tmp_path, capsys):
    before = digests(corpus)
    for other in ({"seed": 8}, {"seconds": 3.0}, {"strip_sound": True}, {"clips": 3}):
        config = synth.SynthConfig(**{"out": str(corpus), "clips": 4, "seconds": 2.0, "seed": 7, **other})
        assert synth.run(config) == 2
        assert "choose another folder" in capsys.readouterr().err
    assert digests(corpus) == before
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    assert synth.run(synth.SynthConfig(str(tmp_path), clips=2)) == 2
    assert "holiday.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "limit"),
    [
        ({"clips": 0}, "must be at least 1"),
        ({"seconds": 0.5}, "must be at least 1"),
        ({"seed": -1}, "from 0 to 9223372036854775807"),
        ({"num_workers": 0}, "must be at least 1"),
    ],
)
def test_wrong_options_are_refused_with_the_limit(tmp_path, wrong, limit, capsys):
    assert synth.run(synth.SynthConfig(str(tmp_path / "out"), **wrong)) == 2
    assert limit in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_out_that_cannot_be_written_is_wrong_usage(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert synth.run(synth.SynthConfig(str(tmp_path / "file"))) == 2
    assert "file" in capsys.readouterr().err


def test_a_storage_error_on_the_way_stops_with_the_command_that_resumes(ray_session, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    config = synth.SynthConfig(str(out), clips=3, seconds=1.0)
    synth.claim(config)
    (out / "train").write_text("in the way")
    (out / "val").write_text("in the way")
    (out / "test").write_text("in the way")
    assert synth.run(config) == 1
    said = capsys.readouterr().err
    assert "cannot be written" in said and f"v2a synth {out} --clips 3 --seconds 1.0" in said


def test_a_clip_decodes_to_its_scene():
    scene = synthfoley.make_scene(1, 0, 2.0, label="drum", width=320, height=240, fps=30000 / 1001)
    with av.open(io.BytesIO(mp4.encode(scene))) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec.name, audio.codec.name) == ("h264", "aac")
        assert (video.width, video.height, audio.rate) == (320, 240, 44100)
        assert float(video.average_rate) == pytest.approx(30000 / 1001)
        frames, sound = [], []
        for frame in container.decode(video, audio):
            if isinstance(frame, av.VideoFrame):
                frames.append((float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24")))
            elif frame.pts >= 0:
                sound.append(frame.to_ndarray()[0])
    times = synthfoley.frame_times(scene)
    assert [t for t, _ in frames] == pytest.approx(list(times), abs=1e-3)
    assert np.abs(frames[20][1].astype(int) - synthfoley.render_frames(scene, times[20:21])[0]).mean() < 8
    heard, made = np.concatenate(sound), synthfoley.render_sound(scene)
    n = min(len(heard), len(made))
    assert n > 1.9 * 44100
    assert np.corrcoef(heard[:n], made[:n])[0, 1] > 0.9


def test_stripped_clips_have_the_same_picture_and_no_track():
    scene = synthfoley.make_scene(1, 3, 1.0, width=320, height=240)

    def pictures(data: bytes) -> list[bytes]:
        with av.open(io.BytesIO(data)) as container:
            return [bytes(packet) for packet in container.demux(video=0) if packet.size]

    stripped = mp4.encode(scene, strip_sound=True)
    with av.open(io.BytesIO(stripped)) as container:
        assert not container.streams.audio
    assert pictures(stripped) == pictures(mp4.encode(scene))


def test_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="even"):
        mp4.encode(synthfoley.make_scene(1, 3, 1.0, width=321, height=240))


def test_the_resuming_command_is_quoted():
    config = synth.SynthConfig("my films", clips=3, strip_sound=True, num_workers=2)
    assert synth.command(config) == "v2a synth 'my films' --clips 3 --strip-sound --num-workers 2"


@pytest.mark.parametrize(
    "stamp", ["[1]", '{"seed": 0, "seconds": 2.0, "strip_sound": false, "clips": null}', "[" * 99999]
)
def test_a_damaged_record_of_the_corpus_is_wrong_usage(stamp: str, tmp_path: Path) -> None:
    (tmp_path / "_v2a").mkdir()
    (tmp_path / "_v2a" / "synth.json").write_text(stamp)
    assert synth.run(synth.SynthConfig(str(tmp_path), clips=1, seconds=2.0)) == 2

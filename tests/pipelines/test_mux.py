"""The copy: picture bit for bit, everything kept, the new track named, exact and in sync."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media as makers
import numpy as np
import psutil
import pytest
from av.stream import Disposition

from pipelines import containers, decode, media, mux, mux_io, storage

RATE = 44_100
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "media"
CLICK = 24_000


def clicks(n_samples: int, at_s: float, channels: int = 1) -> np.ndarray:
    """Silence but for a click of 32 samples: int16 [channels, n]."""
    sound = np.zeros((channels, n_samples), np.int16)
    start = round(at_s * RATE)
    sound[:, start : start + 32] = CLICK
    return sound


@dataclass
class Facts:
    """What a reader finds in a dubbed file."""

    sound: np.ndarray
    """Of the generated track, float [channels, n]."""
    rate: int
    sound_start_s: float
    length: float | None
    """Samples that the container announces for the track."""
    picture_start_s: float
    n_pictures: int
    titles: list[str]
    defaults: list[bool]
    """Of the sound tracks, in order."""
    kinds: list[str]
    metadata: dict[str, str]
    codec: str

    @property
    def click_s(self) -> float:
        """Time of the click, with the first picture at zero."""
        return (
            int(np.argmax(np.abs(self.sound[0]) > 0.3)) / self.rate
            + self.sound_start_s
            - self.picture_start_s
        )


def title_of(stream: Any) -> str:
    return stream.metadata.get("title") or stream.metadata.get("handler_name", "")


def decode_track(path: Path, stream_index: int) -> tuple[np.ndarray, float, int]:
    with av.open(str(path)) as film:
        frames = list(film.decode(film.streams[stream_index]))
        blocks = []
        for frame in frames:
            block = frame.to_ndarray()
            if frame.format.is_packed:
                block = block.reshape(-1, frame.layout.nb_channels).T
            scale = {"int16": 2.0**15, "int32": 2.0**31}.get(block.dtype.name, 1.0)
            blocks.append(block / scale)
        return (
            np.concatenate(blocks, axis=1),
            float(frames[0].pts * frames[0].time_base),
            frames[0].sample_rate,
        )


def picture_times(path: Path, most: int = 1_000_000) -> list[float]:
    """Times of the pictures that decode, in order."""
    times: list[float] = []
    with av.open(str(path)) as film:
        video = next(s for s in film.streams.video if not media.is_attached(s))
        for packet in film.demux(video):
            with contextlib.suppress(av.InvalidDataError):  # one bad picture is not the end of a film
                times += [float(frame.pts * frame.time_base) for frame in packet.decode()]
            if len(times) >= most:
                break
    return times


def read(path: Path, most: int = 1_000_000) -> Facts:
    """Decode a file as a player would: all of the new sound and at least `most` pictures."""
    with av.open(str(path)) as film:
        audio = list(film.streams.audio)
        titles = [title_of(stream) for stream in audio]
        track = audio[titles.index(mux.TITLE)]
        index = track.index
        length = None if track.duration is None else float(track.duration * track.time_base * RATE)
        defaults = [bool(stream.disposition & Disposition.default) for stream in audio]
        kinds = [stream.type for stream in film.streams]
        codec = track.codec_context.name
        facts = dict(film.metadata)
    pictures = picture_times(path, most)
    sound, start_s, rate = decode_track(path, index)
    return Facts(
        sound, rate, start_s, length, pictures[0], len(pictures), titles, defaults, kinds, facts, codec
    )


def dub(source: Path, folder: Path, at_s: float = 0.5, channels: int = 1, **more: Any) -> tuple[Path, int]:
    """Mux a click into a copy of `source` under its proper name; (copy, samples)."""
    with source.open("rb") as file:
        probe = decode.probe(file)
    n_samples = round(probe.duration_s * RATE)
    name = mux.output_name(source.name, container=probe.container, video_codec=probe.video_codec)
    folder.mkdir(exist_ok=True)
    mux.mux(
        str(source),
        [clicks(n_samples, at_s, channels)],
        folder / name,
        n_samples=n_samples,
        video_start_s=probe.video_start_s,
        channels=channels,
        **more,
    )
    return folder / name, n_samples


def check(source: Path, copy: Path, n_samples: int, at_s: float = 0.5) -> Facts:
    """All that holds for every copy."""
    facts = read(copy)
    nal_units = source.suffix in (".ts", ".flv")
    assert mux.video_digest(str(copy), nal_units=nal_units) == mux.video_digest(
        str(source), nal_units=nal_units
    )
    with av.open(str(source)) as film:
        kept = [s.type for s in film.streams if s.type in ("video", "audio")]
    assert facts.n_pictures == len(picture_times(source))
    assert sorted(k for k in facts.kinds if k in ("video", "audio")) == sorted([*kept, "audio"])
    assert facts.titles.count(mux.TITLE) == 1
    assert facts.click_s == pytest.approx(at_s, abs=0.003)
    lead = 0
    if facts.codec == "flac":
        assert facts.sound.shape[1] == n_samples
    elif facts.codec == "pcm_s16le":
        lead = max(0, round(facts.picture_start_s * RATE))
        assert facts.sound.shape[1] == n_samples + lead
    elif facts.codec == "opus":
        assert abs(facts.sound.shape[1] - n_samples * 48_000 / RATE) <= 2
    else:
        # Whole frames of 1024 samples; the edit list gives the exact end, and the exact start where the
        # picture starts with the file.
        late = round((facts.picture_start_s) * RATE) > 0
        extra = facts.sound.shape[1] - n_samples
        assert 0 <= extra < 1024 + (1024 if late else 0)
        assert facts.length is not None
        assert facts.length == pytest.approx(n_samples + (1024 if late else 0), abs=1)
    return facts


CASES: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "upper.MP4": {},
    "b-frames.mp4": {"bframes": 2},
    "silent-track.mp4": {"sound": "silent"},
    "two-tracks.mp4": {"sound": ("silent", "silent")},
    "late.mp4": {"start_s": 0.37, "sound": "silent"},
    "ntsc.mov": {"fps": Fraction(30_000, 1001)},
    "rotated.mov": {"rotation": 90, "sound": "silent"},
    "pixels.mp4": {"aspect": Fraction(16, 11)},
    "variable.mp4": {"times_s": [0, 0.04, 0.3, 0.31, 0.6, 0.95, 1.2]},
    "variable.mkv": {"times_s": [0, 0.04, 0.3, 0.31, 0.6, 0.95, 1.2]},
    "plain.mkv": {"bframes": 2, "sound": ("silent", "empty")},
    "late.mkv": {"start_s": 1.25, "sound": "silent"},
    "plain.webm": {"codec": "libvpx-vp9"},
    "silent-track.webm": {"codec": "libvpx", "sound": "silent", "rate": 48_000},
    "plain.avi": {"codec": "mpeg4"},
    "silent-track.avi": {"codec": "mpeg4", "sound": "silent"},
    "film.flv": {},
    "broadcast.ts": {"codec": "mpeg2video", "sound": "silent", "audio_codec": "mp2"},
    "avc.ts": {"bframes": 2, "sound": "silent"},
}


@pytest.mark.parametrize("name", CASES)
def test_copy_of_every_container(tmp_path: Path, name: str) -> None:
    source = makers.write_video(tmp_path / name, duration_s=1.2, **CASES[name])
    before = source.read_bytes()
    copy, n_samples = dub(source, tmp_path / "out")
    facts = check(source, copy, n_samples)
    assert source.read_bytes() == before
    # The new track is the one that players choose; AVI knows no default but the first.
    chosen = [True] + [False] * (len(facts.titles) - 1) if source.suffix == ".avi" else facts.defaults
    assert chosen == [title == mux.TITLE for title in facts.titles]
    assert [p.name for p in copy.parent.iterdir()] == [copy.name]  # no temporary file stays


def test_container_is_kept_where_it_can_name_a_track() -> None:
    mp4, mkv = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
    for path, container, codec, expected in [
        ("a/b.mp4", mp4, "h264", "a/b.mp4"),
        ("b.M4V", mp4, "h264", "b.M4V"),
        ("b.mov", mp4, "prores", "b.mov"),
        ("b.mkv", mkv, "h264", "b.mkv"),
        ("b.webm", mkv, "vp9", "b.webm"),
        ("b.webm", mkv, "h264", "b.webm.mkv"),
        ("b.avi", "avi", "mpeg4", "b.avi"),
        ("b.flv", "flv", "h264", "b.flv.mkv"),
        ("b.flv", "flv", "flv1", "b.flv"),  # which Matroska does not take
        ("b.wmv", "asf", "wmv3", "b.wmv"),
        ("b.dv", "dv", "dvvideo", "b.dv.mov"),
        ("b.mp4", mkv, "h264", "b.mp4.mkv"),  # named by its content, not by its suffix
        ("b.3gp", mp4, "mpeg4", "b.3gp.mkv"),
        ("b.3gp", mp4, "h263", "b.3gp.mov"),
        ("no suffix", "mpegts", "h264", "no suffix.mkv"),
    ]:
        assert mux.output_name(path, container=container, video_codec=codec) == expected


@pytest.mark.parametrize("container", ["mov,mp4", "avi", "matroska,webm", "flv", "mpegts", "", "asf"])
def test_every_output_name_has_a_container(container: str) -> None:
    for name in (*makers.ODD_NAMES, ".mp4", "a.", "mkv", "x.webm", "x.avi", "x.tar.gz"):
        path = mux.output_name(name, container=container, video_codec="h264")
        assert path in (name, f"{name}.mkv")
        containers.container_of(path)


def test_stereo_and_other_rates(tmp_path: Path) -> None:
    source = makers.write_video(tmp_path / "a.mkv", duration_s=1)
    sound = np.random.default_rng(0).integers(-9000, 9000, (2, 16_000)).astype(np.int16)
    out = tmp_path / "out.mkv"
    result = mux.mux(
        str(source),
        iter(np.array_split(sound, 7, axis=1)),
        out,
        n_samples=16_000,
        video_start_s=0.0,
        channels=2,
        sample_rate=16_000,
    )
    written = result.container, result.audio_codec, result.n_samples, result.size
    assert written == ("matroska", "flac", 16_000, out.stat().st_size)
    with av.open(str(out)) as film:
        index = film.streams.audio[0].index
    heard, _, rate = decode_track(out, index)
    assert rate == 16_000
    assert np.array_equal(np.rint(heard * 2**15), sound)


STEREO = {"a.mp4": "libx264", "a.mov": "libx264", "a.mkv": "libx264", "a.webm": "libvpx-vp9", "a.avi": "mpeg4",
          "a.flv": "flv", "a.wmv": "wmv2"}  # fmt: skip


@pytest.mark.parametrize("name", STEREO)
def test_stereo_in_every_container(tmp_path: Path, name: str) -> None:
    source = makers.write_video(tmp_path / name, codec=STEREO[name], duration_s=2)
    left = 12_000 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    sound = np.stack([left, np.zeros_like(left)]).astype(np.int16)
    out = tmp_path / "out" / name
    out.parent.mkdir()
    mux.mux_in_child(str(source), [sound], out, n_samples=2 * RATE, video_start_s=0.0, channels=2)
    with av.open(str(out)) as film:
        index = film.streams.audio[0].index
    heard, _, rate = decode_track(out, index)
    assert heard.shape[0] == 2 and abs(heard.shape[1] - 2 * rate) < 4096
    middle = heard[:, rate // 2 : rate]
    assert middle[0].std() == pytest.approx(12_000 / 2**15 / 2**0.5, rel=0.05)
    assert middle[1].std() < 0.01


@pytest.mark.parametrize(("name", "codec"), [("a.flv", "flv"), ("a.wmv", "wmv2")])
def test_old_codecs_stay_where_only_their_container_takes_them(tmp_path: Path, name: str, codec: str) -> None:
    source = makers.write_video(tmp_path / name, codec=codec, fps=25, duration_s=2)
    copy, n_samples = dub(source, tmp_path / "out", tags={"comment": "Synthetic sound"})
    assert copy.name == name
    assert mux.video_digest(str(copy)) == mux.video_digest(str(source))
    with av.open(str(copy)) as film:
        assert film.metadata["comment"] == "Synthetic sound"
        pictures = [frame.time for frame in film.decode(video=0)]
    with av.open(str(copy)) as film:
        index = film.streams.audio[0].index
    heard, start_s, rate = decode_track(copy, index)
    click_s = int(np.argmax(np.abs(heard[0]) > 0.3)) / rate + start_s - pictures[0]
    assert click_s == pytest.approx(0.5, abs=0.004)
    assert n_samples <= heard.shape[1] < n_samples + 3 * 2048


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.webm"])
def test_same_input_same_bytes(tmp_path: Path, name: str) -> None:
    codec = {".avi": "mpeg4", ".webm": "libvpx-vp9"}.get(Path(name).suffix, "libx264")
    source = makers.write_video(tmp_path / name, codec=codec, sound="silent", rate=48_000)
    first, _ = dub(source, tmp_path / "one")
    second, _ = dub(source, tmp_path / "two")
    assert first.read_bytes() == second.read_bytes()


def test_an_audible_track_stays_the_default_and_first(tmp_path: Path) -> None:
    source = makers.write_video(tmp_path / "a.mp4", sound=("audible", "silent"))
    copy, n_samples = dub(source, tmp_path / "out", default=False)
    facts = check(source, copy, n_samples)
    assert facts.titles.index(mux.TITLE) == 2
    assert facts.defaults[0] and not facts.defaults[2]


def test_kept_sound_is_bit_for_bit(tmp_path: Path) -> None:
    source = makers.write_video(tmp_path / "a.mov", sound="audible", bframes=2)

    def digest(path: Path) -> list[bytes]:
        with av.open(str(path)) as film:
            old = next(s for s in film.streams.audio if title_of(s) != mux.TITLE)
            return [bytes(packet) for packet in film.demux(old)]

    copy, _ = dub(source, tmp_path / "out", default=False)
    assert digest(copy) == digest(source)


def test_rotation_pixel_aspect_and_codec_tag_survive(tmp_path: Path) -> None:
    source = makers.write_video(tmp_path / "a.mov", rotation=90, aspect=Fraction(16, 11))
    copy, _ = dub(source, tmp_path / "out")
    for path in (source, copy):
        with av.open(str(path)) as film:
            video = film.streams.video[0]
            assert video.sample_aspect_ratio == Fraction(16, 11)
            assert video.codec_tag == "avc1"
        with path.open("rb") as file:
            probe = decode.probe(file)
        assert (probe.rotation, probe.width, probe.height) == (90, 64, 140)


def film_with_extras(path: Path, subtitle: str) -> Path:
    """A film with subtitles, chapters, metadata and, in Matroska, an attachment."""
    with av.open(str(path), "w") as out:
        out.metadata.update({"title": "Ein Film", "comment": "shot on 9.5 mm"})
        video: Any = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        text: Any = out.add_mux_stream(subtitle)
        text.metadata["language"] = "deu"
        if path.suffix == ".mkv":
            out.add_attachment("notes.txt", "text/plain", b"reel 3")
        out.set_chapters(
            [
                {
                    "id": 1,
                    "start": 0,
                    "end": 500,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": "One"},
                },
                {
                    "id": 2,
                    "start": 500,
                    "end": 1000,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": "Two"},
                },
            ]
        )
        out.start_encoding()
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(makers.numbered(number, 64, 48), format="rgb24")
            frame.pts = number
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        packet = av.Packet(b"Guten Tag" if subtitle == "subrip" else b"\0\x09Guten Tag")
        packet.stream, packet.time_base = text, Fraction(1, 1000)
        packet.pts = packet.dts = 200
        packet.duration = 400
        out.mux(packet)
    return path


@pytest.mark.parametrize(("name", "subtitle"), [("a.mkv", "subrip"), ("a.mp4", "mov_text")])
def test_subtitles_chapters_attachments_and_metadata_stay(tmp_path: Path, name: str, subtitle: str) -> None:
    source = film_with_extras(tmp_path / name, subtitle)
    copy, n_samples = dub(source, tmp_path / "out", tags={"comment": "Synthetic sound", "v2a": "mini"})
    facts = check(source, copy, n_samples)
    with av.open(str(copy)) as film:
        texts = [bytes(p) for p in film.demux(film.streams.subtitles[0]) if p.size]
        assert any(b"Guten Tag" in text for text in texts)
        assert film.streams.subtitles[0].metadata["language"] in ("deu", "ger")
        assert [c["metadata"]["title"] for c in film.chapters()] == ["One", "Two"]
        if name.endswith(".mkv"):
            assert [(a.name, a.data) for a in film.streams.attachments] == [("notes.txt", b"reel 3")]
    tags = {key.lower(): value for key, value in facts.metadata.items()}
    assert tags["title"] == "Ein Film"
    assert tags["comment"] == "shot on 9.5 mm\nSynthetic sound"
    assert tags["v2a"] == "mini"


def test_a_cover_picture_stays(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    film = makers.write_video(tmp_path / "film.mp4")
    cover = makers.write_video(tmp_path / "cover.mkv", codec="mjpeg", pix_fmt="yuvj420p", duration_s=0.04)
    with av.open(str(film)) as one, av.open(str(cover)) as two, av.open(str(source), "w") as out:
        copies = {one: out.add_stream_from_template(one.streams.video[0], opaque=True)}
        copies[two] = out.add_stream_from_template(two.streams.video[0], opaque=True)
        copies[two].disposition = Disposition.attached_pic
        for part, copy in copies.items():
            for packet in part.demux(video=0):
                if packet.dts is not None:
                    packet.stream = copy
                    out.mux(packet)
    copy, _ = dub(source, tmp_path / "out", tags={"comment": "Synthetic sound"})
    assert read(copy).metadata["comment"] == "Synthetic sound"

    def pictures(path: Path) -> list[bytes]:
        with av.open(str(path)) as film:
            stream = next(s for s in film.streams.video if media.is_attached(s))
            return [bytes(packet) for packet in film.demux(stream) if packet.size]

    assert pictures(source) == pictures(copy) != []


def test_a_cut_off_film_is_copied_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = makers.write_video(tmp_path / "whole.mkv", duration_s=2)
    source = makers.truncated(whole, tmp_path / "cut.mkv", 0.7)
    copy, n_samples = dub(source, tmp_path / "out", at_s=0.1)
    check(source, copy, n_samples, at_s=0.1)


def test_sound_is_taken_as_a_stream_in_step_with_the_picture(tmp_path: Path) -> None:
    source = makers.write_video(tmp_path / "a.mkv", duration_s=4, gop=5)
    n_samples, seen = 4 * RATE, []

    def sound() -> Iterator[np.ndarray]:
        for _ in range(0, n_samples, 441):
            seen.append((tmp_path / "size").exists())
            yield np.zeros((1, 441), np.int16)

    mux.mux(str(source), sound(), tmp_path / "out.mkv", n_samples=n_samples, video_start_s=0.0)
    assert len(seen) == 400
    with av.open(str(tmp_path / "out.mkv")) as film:
        latest, spread = {}, 0.0
        for packet in film.demux():
            if packet.dts is not None:
                latest[packet.stream_index] = float(packet.dts * packet.time_base)
                if len(latest) == 2:
                    spread = max(spread, abs(latest[0] - latest[1]))
    assert spread < 0.5  # interleaved


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        ([np.zeros((1, 100), np.int16)], "ends after 100"),
        ([np.zeros((1, RATE), np.int16)] * 2, "more than"),
        ([np.zeros((2, RATE), np.int16)], r"int16 \[1, n\]"),
        ([np.zeros((1, RATE), np.float32)], "float32"),
    ],
)
def test_sound_that_is_not_as_announced_is_refused(tmp_path: Path, sound: Any, words: str) -> None:
    source = makers.write_video(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=words):
        mux.mux(str(source), sound, tmp_path / "out.mp4", n_samples=RATE, video_start_s=0.0)
    assert not (tmp_path / "out.mp4").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_a_codec_that_the_container_cannot_hold(tmp_path: Path) -> None:
    source = makers.write_video(tmp_path / "a.mkv", codec="ffv1", sound="silent")
    with pytest.raises(mux.MuxFailed) as caught:
        mux.mux(str(source), [clicks(RATE, 0.5)], tmp_path / "out.webm", n_samples=RATE, video_start_s=0.0)
    assert caught.value.error_class == "ContainerCannotHold"
    assert caught.value.stage == "mux"
    assert not (tmp_path / "out.webm").exists()


@pytest.mark.parametrize("when", ["at once", "later", "at the end"])
def test_a_full_disk_is_a_storage_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    source = makers.write_video(tmp_path / "a.mp4", duration_s=2)
    out = tmp_path / "out" / "out.mp4"
    out.parent.mkdir()
    write = mux_io.Sink.write
    calls = 0

    def full(self: mux_io.Sink, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if when == "at once" or (when == "later" and calls > 1) or (when == "at the end" and b"moov" in data):
            self.error = self.error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise self.error
        return write(self, data)

    monkeypatch.setattr(mux_io.Sink, "write", full)
    with pytest.raises(storage.StorageError, match="No space left on device"):
        mux.mux(str(source), [clicks(2 * RATE, 0.5)], out, n_samples=2 * RATE, video_start_s=0.0)
    assert list(out.parent.iterdir()) == []


def test_an_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    source = makers.write_video(tmp_path / "a.mp4")
    for run in (mux.mux, mux.mux_in_child):
        with pytest.raises(storage.StorageError, match="No such file or directory"):
            run(
                str(source),
                [clicks(RATE, 0.5)],
                tmp_path / "no" / "out.mp4",
                n_samples=RATE,
                video_start_s=0.0,
            )


# ---- in a child


@pytest.mark.parametrize("name", ["a.mp4", "b.mkv"])
def test_the_child_writes_the_same_bytes(tmp_path: Path, name: str) -> None:
    source = makers.write_video(tmp_path / name, sound="silent")
    sound = [clicks(RATE, 0.5, 2)[:, k::1][:, :441] for k in range(0, RATE, 441)]
    facts = {"n_samples": RATE, "video_start_s": 0.0, "channels": 2, "tags": {"comment": "é ✓"}}
    here = mux.mux(str(source), sound, tmp_path / f"here-{name}", **facts)
    there = mux.mux_in_child(str(source), iter(sound), tmp_path / f"there-{name}", **facts)
    assert here == there
    assert (tmp_path / f"here-{name}").read_bytes() == (tmp_path / f"there-{name}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 3


def test_what_a_file_does_in_the_child_is_a_failed_mux(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(makers.hls("/etc/passwd"))
    with pytest.raises(mux.MuxFailed) as caught:
        mux.mux_in_child(
            str(source), [clicks(RATE, 0.5)], tmp_path / "o.mp4", n_samples=RATE, video_start_s=0.0
        )
    assert caught.value.error_class and caught.value.message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_too_little_memory_is_a_failed_mux(tmp_path: Path) -> None:
    source = makers.write_video(tmp_path / "a.mp4")
    with pytest.raises(mux.MuxFailed) as caught:
        mux.mux_in_child(
            str(source),
            [clicks(RATE, 0.5)],
            tmp_path / "o.mp4",
            n_samples=RATE,
            video_start_s=0.0,
            memory_mb=1,
        )
    assert caught.value.error_class in ("MuxerOutOfMemory", "MuxerCrashed")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_errors_of_the_sound_come_through(tmp_path: Path) -> None:
    source = makers.write_video(tmp_path / "a.mp4")

    def sound() -> Iterator[np.ndarray]:
        yield np.zeros((1, 1000), np.int16)
        raise storage.StorageNotFound("a part has gone")

    with pytest.raises(storage.StorageNotFound, match="a part has gone"):
        mux.mux_in_child(str(source), sound(), tmp_path / "o.mp4", n_samples=RATE, video_start_s=0.0)
    with pytest.raises(ValueError, match="ends after 1000"):
        mux.mux_in_child(
            str(source),
            [np.zeros((1, 1000), np.int16)],
            tmp_path / "o.mp4",
            n_samples=RATE,
            video_start_s=0.0,
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


@pytest.mark.parametrize(
    ("blow", "expected", "stall_s"),
    [(signal.SIGSEGV, "MuxerCrashed", 120.0), (signal.SIGSTOP, "MuxerTimeout", 2.0)],
)
def test_a_child_that_dies_or_hangs_is_a_failed_mux(
    tmp_path: Path, blow: int, expected: str, stall_s: float
) -> None:
    source = makers.write_video(tmp_path / "a.mp4", duration_s=30, fps=2)
    others = {child.pid for child in psutil.Process().children()}

    def sound() -> Iterator[np.ndarray]:
        (child,) = [c for c in psutil.Process().children() if c.pid not in others]
        yield np.zeros((1, RATE), np.int16)
        child.send_signal(blow)
        yield np.zeros((1, 29 * RATE), np.int16)

    with pytest.raises(mux.MuxFailed) as caught:
        mux.mux_in_child(
            str(source), sound(), tmp_path / "o.mp4", n_samples=30 * RATE, video_start_s=0.0, stall_s=stall_s
        )
    assert caught.value.error_class == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_a_missing_source_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(storage.StorageError):
        mux.mux_in_child(
            str(tmp_path / "gone.mp4"),
            [clicks(RATE, 0.5)],
            tmp_path / "o.mp4",
            n_samples=RATE,
            video_start_s=0.0,
        )


# ---- footage of the world


def real_files() -> list[Any]:
    files = [*sorted(SHARED.glob("archive/*")), *sorted(SHARED.glob("av/*.mp4"))]
    if not files:
        return [pytest.param(None, marks=pytest.mark.skip(reason="../shared/media is not on this machine"))]
    return [pytest.param(path, id=path.name) for path in files]


@pytest.mark.parametrize("source", real_files())
def test_real_footage(tmp_path: Path, source: Path) -> None:
    try:
        with source.open("rb") as file:
            probe = decode.probe(file)
    except decode.DecodeFailed as error:
        pytest.skip(f"not a film: {error}")
    at_s = min(0.5, probe.duration_s / 2)
    copy, _ = dub(source, tmp_path / "out", at_s=at_s)
    assert mux.video_digest(str(copy)) == mux.video_digest(str(source))
    facts = read(copy, most=1)  # the rest of the pictures are the same packets
    assert facts.click_s == pytest.approx(at_s, abs=0.003)
    assert facts.titles.count(mux.TITLE) == 1
    with av.open(str(source)) as film:
        assert len(facts.titles) == len(film.streams.audio) + 1

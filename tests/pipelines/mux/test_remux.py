"""The copy: picture bit for bit, everything kept, the new track named, exact and in sync."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from pipelines.media import container as media_container
from pipelines.media import video as media_video
from pipelines.media.errors import DecodeFailed
from pipelines.mux import child, containers, packet_hashes, remux
from pipelines.mux.track import Track
from tests.support import SHARED, media_files
from tests.support.muxing import RATE, check, decode_track, dub, read, title_of

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
    source = media_files.write_video(tmp_path / name, duration_s=1.2, **CASES[name])
    before = source.read_bytes()
    copy, n_samples = dub(source, tmp_path / "out")
    facts = check(source, copy, n_samples)
    assert source.read_bytes() == before
    # The new track is the one that players choose; AVI knows no default but the first.
    chosen = [True] + [False] * (len(facts.titles) - 1) if source.suffix == ".avi" else facts.defaults
    assert chosen == [title == remux.TITLE for title in facts.titles]
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
        ("b.3gp", mp4, "mpeg4", "b.3gp.mov"),
        ("b.mkv", mp4, "h264", "b.mkv.mov"),
        ("b.3gp", mp4, "h263", "b.3gp.mov"),
        ("no suffix", "mpegts", "h264", "no suffix.mkv"),
    ]:
        assert remux.output_name(path, container=container, video_codec=codec) == expected


@pytest.mark.parametrize("container", ["mov,mp4", "avi", "matroska,webm", "flv", "mpegts", "", "asf"])
def test_every_output_name_has_a_container(container: str) -> None:
    for name in (*media_files.ODD_NAMES, ".mp4", "a.", "mkv", "x.webm", "x.avi", "x.tar.gz"):
        path = remux.output_name(name, container=container, video_codec="h264")
        assert path in (name, f"{name}.mov" if "mov" in container else f"{name}.mkv")
        containers.container_of(path)


def test_stereo_and_other_rates(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mkv", duration_s=1)
    sound = np.random.default_rng(0).integers(-9000, 9000, (2, 16_000)).astype(np.int16)
    out = tmp_path / "out.mkv"
    result = remux.mux(
        str(source),
        iter(np.array_split(sound, 7, axis=1)),
        out,
        Track(n_samples=16_000, video_start_s=0.0, channels=2, sample_rate=16_000),
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
    source = media_files.write_video(tmp_path / name, codec=STEREO[name], duration_s=2)
    left = 12_000 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    sound = np.stack([left, np.zeros_like(left)]).astype(np.int16)
    out = tmp_path / "out" / name
    out.parent.mkdir()
    child.mux_in_child(str(source), [sound], out, Track(n_samples=2 * RATE, video_start_s=0.0, channels=2))
    with av.open(str(out)) as film:
        index = film.streams.audio[0].index
    heard, _, rate = decode_track(out, index)
    assert heard.shape[0] == 2 and abs(heard.shape[1] - 2 * rate) < 4096
    middle = heard[:, rate // 2 : rate]
    assert middle[0].std() == pytest.approx(12_000 / 2**15 / 2**0.5, rel=0.05)
    assert middle[1].std() < 0.01


@pytest.mark.parametrize(("name", "codec"), [("a.flv", "flv"), ("a.wmv", "wmv2")])
def test_old_codecs_stay_where_only_their_container_takes_them(tmp_path: Path, name: str, codec: str) -> None:
    source = media_files.write_video(tmp_path / name, codec=codec, fps=25, duration_s=2)
    copy, n_samples = dub(source, tmp_path / "out", tags={"comment": "Synthetic sound"})
    assert copy.name == name
    assert packet_hashes.video_digest(str(copy)) == packet_hashes.video_digest(str(source))
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
    source = media_files.write_video(tmp_path / name, codec=codec, sound="silent", rate=48_000)
    first, _ = dub(source, tmp_path / "one")
    second, _ = dub(source, tmp_path / "two")
    assert first.read_bytes() == second.read_bytes()


def test_an_audible_track_stays_the_default_and_first(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mp4", sound=("audible", "silent"))
    copy, n_samples = dub(source, tmp_path / "out", default=False)
    facts = check(source, copy, n_samples)
    assert facts.titles.index(remux.TITLE) == 2
    assert facts.defaults[0] and not facts.defaults[2]


def test_kept_sound_is_bit_for_bit(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mov", sound="audible", bframes=2)

    def digest(path: Path) -> list[bytes]:
        with av.open(str(path)) as film:
            old = next(s for s in film.streams.audio if title_of(s) != remux.TITLE)
            return [bytes(packet) for packet in film.demux(old)]

    copy, _ = dub(source, tmp_path / "out", default=False)
    assert digest(copy) == digest(source)


def test_rotation_pixel_aspect_and_codec_tag_survive(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mov", rotation=90, aspect=Fraction(16, 11))
    copy, _ = dub(source, tmp_path / "out")
    for path in (source, copy):
        with av.open(str(path)) as film:
            video = film.streams.video[0]
            assert video.sample_aspect_ratio == Fraction(16, 11)
            assert video.codec_tag == "avc1"
        with path.open("rb") as file:
            probe = media_video.probe(file)
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
            frame = av.VideoFrame.from_ndarray(media_files.numbered(number, 64, 48), format="rgb24")
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


def test_a_last_picture_without_a_length_is_shown_in_mov(tmp_path: Path) -> None:
    options: dict[str, Any] = {"codec": "cinepak", "pix_fmt": "rgb24", "container_format": "wtv"}
    source = media_files.write_video(tmp_path / "a.wtv", duration_s=0.2, **options)
    copy, _ = dub(source, tmp_path / "out", at_s=0.1)
    assert copy.suffix == ".mov" and read(copy).n_pictures == 5


def test_a_cover_picture_stays(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    film = media_files.write_video(tmp_path / "film.mp4")
    cover = media_files.write_video(
        tmp_path / "cover.mkv", codec="mjpeg", pix_fmt="yuvj420p", duration_s=0.04
    )
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
            stream = next(s for s in film.streams.video if media_container.is_attached(s))
            return [bytes(packet) for packet in film.demux(stream) if packet.size]

    assert pictures(source) == pictures(copy) != []


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
            probe = media_video.probe(file)
    except DecodeFailed as error:
        pytest.skip(f"not a film: {error}")
    at_s = min(0.5, probe.duration_s / 2)
    copy, _ = dub(source, tmp_path / "out", at_s=at_s)
    assert packet_hashes.video_digest(str(copy)) == packet_hashes.video_digest(str(source))
    facts = read(copy, most=1)  # the rest of the pictures are the same packets
    assert facts.click_s == pytest.approx(at_s, abs=0.003)
    assert facts.titles.count(remux.TITLE) == 1
    with av.open(str(source)) as film:
        assert len(facts.titles) == len(film.streams.audio) + 1

"""Films as archives have them: damaged in the middle, with headers that lie, of odd rates, shapes and lengths."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.dub import track_plan
from pipelines.mux import packet_hashes, remux
from tests.support.dubbing import RATE, film, noise, quickly, report, titles, track, v2a_dub
from tests.support.media_files import numbered, truncated, write_video

pytestmark = pytest.mark.timeout(600)


def damaged(source: Path, path: Path, first: float, last: float, fill: int | None = None) -> Path:
    """An mp4 file of which a stretch of the data, as shares of it, is noise, or nothing but one value."""
    data = bytearray(source.read_bytes())
    at = data.index(b"mdat") + 4
    size = int.from_bytes(data[at - 8 : at - 4], "big") - 8
    start, stop = at + int(first * size), at + int(last * size)
    noisy = np.random.default_rng(0).bytes(stop - start)
    data[start:stop] = noisy if fill is None else bytes([fill]) * (stop - start)
    path.write_bytes(data)
    source.unlink()
    return path


def lying(source: Path, path: Path, times: int) -> Path:
    """An mp4 file that announces to be `times` as long as it is."""
    data = bytearray(source.read_bytes())
    for box, offset in ((b"mvhd", 4 + 16), (b"tkhd", 4 + 20), (b"mdhd", 4 + 16)):
        at = data.index(box) + offset
        data[at : at + 4] = (times * int.from_bytes(data[at : at + 4], "big")).to_bytes(4, "big")
    path.write_bytes(data)
    source.unlink()
    return path


def resized(path: Path) -> Path:
    """Half a second of 96 x 64, then as much of 48 x 80, in one track."""
    with av.open(str(path), "w") as out:
        stream: Any = None
        for k, size in enumerate(((96, 64), (48, 80))):
            encoder: Any = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = *size, "yuvj420p"
            encoder.time_base = Fraction(1, 20)
            if stream is None:
                stream = out.add_stream("mjpeg", rate=20)
                stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p"
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(numbered(number, *size), format="rgb24")
                frame = frame.reformat(format="yuvj420p")
                frame.pts, frame.time_base = 10 * k + number, Fraction(1, 20)
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    packet.pts = packet.dts = 10 * k + number
                    packet.time_base = Fraction(1, 20)
                    out.mux(packet)
    return path


def test_odd_films_are_dubbed_to_their_exact_length(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    write_video(archive / "slow.mkv", duration_s=5, fps=1)
    write_video(archive / "fast.mkv", duration_s=1, fps=240)
    write_video(archive / "single.mkv", times_s=[0.0])
    write_video(archive / "portrait.mkv", size=(48, 96))
    write_video(archive / "turned.mov", rotation=90)
    write_video(archive / "large.mkv", duration_s=0.2, size=(3840, 2160), codec="mpeg4")
    write_video(archive / "short sound.mkv", duration_s=2, sound="silent", sound_s=0.5)
    write_video(archive / "long sound.mkv", duration_s=1, sound="silent", sound_s=3)
    write_video(archive / "late sound.mkv", duration_s=2, sound="silent", sound_start_s=1.5)
    resized(archive / "resized.mkv")
    lying(write_video(archive / "plain.mp4", duration_s=2), archive / "lying.mp4", 30)
    truncated(write_video(archive / "whole.mkv", duration_s=4), archive / "cut off.mkv", 0.6)
    (archive / "whole.mkv").unlink()
    lengths = {"slow.mkv": 5.0, "fast.mkv": 1.0, "single.mkv": 0.04, "portrait.mkv": 1.0, "turned.mov": 1.0,
               "large.mkv": 0.2, "short sound.mkv": 2.0, "long sound.mkv": 1.0, "late sound.mkv": 2.0,
               "resized.mkv": 1.0, "lying.mp4": 2.0}  # fmt: skip
    rows = quickly(archive, out)
    assert {row["status"] for row in rows.values()} == {"dubbed"}, rows
    for name, row in rows.items():
        n_samples = round(row["duration_s"] * RATE)
        if name in lengths:
            assert row["duration_s"] == pytest.approx(lengths[name], abs=0.005), name
        else:
            assert 0.5 < row["duration_s"] < 4
        assert packet_hashes.video_digest(str(out / row["output"])) == packet_hashes.video_digest(
            str(archive / name)
        )
        if name.endswith(".mkv"):
            assert track(out / name, remux.TITLE).shape == (1, n_samples), name
    assert (rows["portrait.mkv"]["width"], rows["portrait.mkv"]["height"]) == (48, 96)
    assert (rows["turned.mov"]["width"], rows["turned.mov"]["height"]) == (64, 96)


def black(number: int, width: int, height: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def test_card(number: int, width: int, height: int) -> np.ndarray:
    """Eight bars of colour that stand still."""
    bars = np.arange(width) * 8 // width
    colours = np.array([[255 * (bar >> bit & 1) for bit in (1, 2, 0)] for bar in range(7, -1, -1)], np.uint8)
    return np.broadcast_to(colours[bars], (height, width, 3)).copy()


test_card.__test__ = False  # type: ignore[attr-defined]


def cartoon(number: int, width: int, height: int) -> np.ndarray:
    """A disc with an outline that hops over a plain floor."""
    y, x = np.mgrid[:height, :width]
    hop = abs(np.sin(number / 4)) * height / 3
    distance = np.hypot(x - width / 2, y - (height * 0.7 - hop))
    picture = np.full((height, width, 3), (120, 190, 250), np.uint8)
    picture[y > height * 0.85] = (90, 160, 70)
    picture[distance < height / 6] = 0
    picture[distance < height / 7] = (240, 60, 40)
    return picture


ODD_PICTURES: dict[str, dict[str, Any]] = {
    "black.mp4": dict(picture=black),
    "test card.mkv": dict(picture=test_card),
    "cartoon.mp4": dict(picture=cartoon, fps=12),
    "grey at 16 fps.avi": dict(codec="mjpeg", pix_fmt="yuvj420p", fps=16, size=(160, 120)),
    "grey.mkv": dict(codec="ffv1", pix_fmt="gray", fps=16),
    "cctv at 5 fps.mp4": dict(fps=5, size=(352, 288)),
    "one picture.mp4": dict(duration_s=0.04),
    "portrait.mp4": dict(rotation=90, size=(192, 108), fps=Fraction(30000, 1001)),
    "portrait, not rotated.mp4": dict(size=(108, 192)),
}


def test_the_bundled_model_dubs_pictures_of_every_kind(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for name, options in ODD_PICTURES.items():
        write_video(archive / name, **{"duration_s": 1.0, **options})
    rows = quickly(archive, tmp_path / "out", "--model", "mini", "--precision", "float32")
    assert {path: row["status"] for path, row in rows.items()} == dict.fromkeys(ODD_PICTURES, "dubbed")
    for path, row in rows.items():
        heard = track(tmp_path / "out" / row["output"], remux.TITLE)
        assert heard.shape[1] == pytest.approx(row["duration_s"] * RATE, abs=1024), path  # an AAC frame


def test_the_good_parts_of_a_damaged_film_are_dubbed_and_the_damage_is_listed(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    for name in ("plain.mp4", "worse.mp4", "worst.mp4"):
        write_video(archive / name, duration_s=12.0, fps=12)
    damaged(archive / "plain.mp4", archive / "middle.mp4", 0.35, 0.65)
    damaged(archive / "worse.mp4", archive / "most.mp4", 0.25, 1.0, fill=255)
    damaged(archive / "worst.mp4", archive / "all.mp4", 0.0, 1.0)
    rows = quickly(archive, out, "--segment-s", "1", "--audio-codec", "flac")
    assert (rows["all.mp4"]["status"], rows["all.mp4"]["error_class"]) == ("failed", "InvalidData")
    row = rows["middle.mp4"]
    assert row["status"] == "dubbed", row
    # Older pictures stand in where those before are good; where there is nothing but damage it is silent.
    said, times = row["reason"].split(": ")
    assert said == "damaged, last good frame held"
    first, last = (float(word) for word in times.removesuffix(" s").split(" to "))
    assert 3.0 < first < 5.5 and 6.5 < last < 9.0
    sound = track(out / "middle.mp4", remux.TITLE)[0]
    assert len(sound) == 12 * RATE
    assert (np.abs(sound.reshape(12, RATE)).max(axis=1) > 100).all()
    assert packet_hashes.video_digest(str(out / "middle.mp4")) == packet_hashes.video_digest(
        str(archive / "middle.mp4")
    )
    row = rows["most.mp4"]
    assert row["status"] == "dubbed" and "damaged, no decodable frame, so silent: " in row["reason"]
    assert "packets cannot be decoded" in row["reason"]
    heard = np.abs(track(out / "most.mp4", remux.TITLE)[0].reshape(12, RATE)).max(axis=1) > 100
    assert heard[:2].all() and not heard[-2:].any()


def test_sound_that_ends_before_the_picture_is_silent_there(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    own = noise(1.5, 0.3)
    film(archive / "short.mkv", own, 4.0, "flac")
    film(archive / "long.mkv", noise(5.0, 0.3), 2.0, "flac")
    rows = quickly(archive, out, "--existing", "replace-silent-parts", "--segment-s", "1")
    assert rows["long.mkv"]["reason"] == "has sound throughout"
    made = track(out / "short.mkv", track_plan.TITLES["replace-silent-parts"])
    assert made.shape == (1, 4 * RATE) and np.array_equal(made[:, : round(1.5 * RATE)], own)
    assert np.abs(made[:, 2 * RATE :]).max() > 100
    assert len(titles(out / "short.mkv")) == 2


def mute(path: Path, fill: int | None = None, codec: str | None = None) -> Path:
    """A film with an audible track of which no packet decodes: all of them are noise, or one byte over and over."""
    plain = write_video(path.with_name("plain" + path.suffix), sound="audible", audio_codec=codec)
    data = bytearray(plain.read_bytes())
    with av.open(str(plain)) as opened:
        for packet in opened.demux(opened.streams.audio):
            if packet.size:
                content = bytes(packet)
                noisy = np.random.default_rng(0).bytes(len(content))
                at = data.index(content)
                data[at : at + len(content)] = noisy if fill is None else bytes([fill]) * len(content)
    path.write_bytes(data)
    plain.unlink()
    return path


def unknown_codec(path: Path) -> Path:
    """A Matroska film with a sound track of a codec that does not exist."""
    data = write_video(path, sound="audible").read_bytes()
    assert data.count(b"A_FLAC") == 1
    path.write_bytes(data.replace(b"A_FLAC", b"A_FLOC"))
    return path


MUTE = ("noise.mp4", "zeros.mkv", "unknown.mkv")


def without_samples(archive: Path) -> Path:
    """Films whose sound track gives no sample: three that cannot be decoded, and one that is empty."""
    archive.mkdir()
    mute(archive / "noise.mp4")
    mute(archive / "zeros.mkv", fill=0)
    unknown_codec(archive / "unknown.mkv")
    write_video(archive / "empty.mkv", sound="empty")
    write_video(archive / "none.mkv")
    return archive


@pytest.mark.usefixtures("ray_session")
def test_films_whose_sound_track_gives_no_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, out = without_samples(tmp_path / "archive"), tmp_path / "out"
    assert v2a_dub(archive, out, "--dry-run") == 0
    assert "has sound (it cannot" in " ".join(capsys.readouterr().out.split())
    assert v2a_dub(archive, out) == 0
    assert "(3 with sound; --only all includes those)" in " ".join(capsys.readouterr().out.split())
    rows = report(out)
    for name in MUTE:
        row = rows[name]
        assert (row["status"], row["reason"]) == ("skipped", "has sound (it cannot be decoded)"), row
        assert (row["audio_state"], row["peak_dbfs"]) == ("audible", None)
    for name in ("empty.mkv", "none.mkv"):
        assert rows[name]["status"] == "dubbed" and track(out / name, remux.TITLE).shape == (1, RATE)


def test_sound_that_cannot_be_decoded_is_kept_and_never_taken_for_silence(tmp_path: Path) -> None:
    archive = without_samples(tmp_path / "archive")
    rows = quickly(archive, tmp_path / "all", "--only", "all")
    assert {row["status"] for row in rows.values()} == {"dubbed"}, rows
    for name in MUTE[:2]:  # FFmpeg cannot copy what it has no name for
        kept, made = titles(tmp_path / "all" / name)
        assert made == remux.TITLE != kept
    for options, message in (
        (
            ("--only", "all", "--existing", "mix"),
            "its sound track cannot be decoded, so nothing can be mixed",
        ),
        (("--existing", "replace-silent-parts"), "the sound track "),
    ):
        rows = quickly(archive, tmp_path / options[-1], *options)
        for name in MUTE:
            row = rows[name]
            assert (row["status"], row["stage"]) == ("failed", "sound"), row
            assert row["message"].startswith(message) and row["error_class"] in (
                "InvalidData",
                "UnknownCodec",
            )
        assert {rows[name]["status"] for name in ("empty.mkv", "none.mkv")} == {"dubbed"}


def test_a_track_of_several_that_cannot_be_decoded_is_not_silence(tmp_path: Path) -> None:
    """The one that players choose is the one that is mixed with."""
    archive = tmp_path / "archive"
    archive.mkdir()
    plain = write_video(tmp_path / "plain.mkv", sound=("silent", "audible"), audio_codec="pcm_s16le")
    data = plain.read_bytes()
    (archive / "two.mkv").write_bytes(data.replace(b"A_PCM/INT/LIT", b"A_PCM/INT/LOT", 1))
    row = quickly(archive, tmp_path / "out", "--only", "all", "--existing", "mix")["two.mkv"]
    assert (row["status"], row["error_class"]) == ("failed", "UnknownCodec"), row

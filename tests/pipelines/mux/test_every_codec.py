"""Whatever FFmpeg encodes and a container of films holds is copied, or decoded to the same samples and told."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.codec import Codec

from pipelines.media import video as media_video
from pipelines.media.errors import DecodeFailed
from pipelines.mux import packet_hashes, remux
from pipelines.mux.track import Track
from tests.support import media_files
from tests.support.muxing import RATE, decode_track, title_of

CONTAINERS = {
    ".mp4": ("mp4", "libx264"), ".mov": ("mov", "libx264"), ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx"), ".avi": ("avi", "mpeg4"), ".flv": ("flv", "flv"), ".ts": ("mpegts", "mpeg2video"),
    ".vob": ("vob", "mpeg2video"), ".ogv": ("ogg", None), ".wmv": ("asf", "wmv2"), ".mxf": ("mxf", "mpeg2video"),
    ".nut": ("nut", "mpeg4"), ".rm": ("rm", "rv10"), ".wtv": ("wtv", "mpeg2video"), ".3gp": ("3gp", "mpeg4"),
    ".dv": ("dv", None), ".y4m": ("yuv4mpegpipe", None), ".ivf": ("ivf", None),
}  # fmt: skip
"""Muxer by suffix, and the pictures beside a sound that is tried; None where no sound is."""

USUAL = {
    *(
        "aac",
        "ac3",
        "eac3",
        "libopus",
        "vorbis",
        "flac",
        "libmp3lame",
        "mp2",
        "alac",
        "pcm_s16le",
        "pcm_s16be",
    ),
    *(
        "pcm_mulaw",
        "pcm_alaw",
        "pcm_bluray",
        "pcm_dvd",
        "pcm_s24le",
        "adpcm_ima_wav",
        "adpcm_ms",
        "adpcm_swf",
    ),
    *("adpcm_yamaha", "wmav1", "wmav2", "nellymoser", "libopencore_amrnb", "g726", "real_144", "dfpwm"),
    *(
        "huffyuv",
        "ffvhuff",
        "utvideo",
        "ffv1",
        "v210",
        "v410",
        "r210",
        "dnxhd",
        "prores_ks",
        "cinepak",
        "qtrle",
    ),
    *(
        "msmpeg4",
        "msmpeg4v2",
        "wmv1",
        "wmv2",
        "flashsv",
        "svq1",
        "rpza",
        "mjpeg",
        "jpeg2000",
        "dvvideo",
        "cfhd",
    ),
    *(
        "h261",
        "h263",
        "flv",
        "mpeg1video",
        "mpeg2video",
        "mpeg4",
        "libvpx",
        "libvpx-vp9",
        "rawvideo",
        "magicyuv",
    ),
    *("tiff", "rv10", "rv20", "snow", "dirac", "zmbv", "png", "ljpeg", "asv1", "amv"),
}
"""Encoders that are tried without `-m slow`, each in the first container that takes it."""

REFUSED = {("flashsv2", ".flv"), ("gif", ".nut")}
"""Encoder and container of what no container of a copy holds (docs/limits.md)."""

_NOT_FILMS = {
    *(
        "a64multi",
        "a64multi5",
        "alias_pix",
        "wrapped_avframe",
        "vnull",
        "anull",
        "xface",
        "fits",
        "comfortnoise",
    ),
    *("libx265", "libsvtav1", "hdr", "phm", "pfm", "pcm_s64be", "pcm_s64le"),
}
"""Encoders of no film, large ones that tests of their own use, and samples that PyAV does not give NumPy."""

_HARDWARE = ("_amf", "_nvenc", "_qsv", "_v4l2m2m")

_SIZES = ((96, 64), (176, 144), (720, 576), (1280, 720))

_FORMATS = ("yuv420p", "yuv422p", "yuvj420p", "yuv422p10le", "rgb24", "bgr24", "gray", "rgb555le", "pal8")


def encoders(kind: str) -> Iterator[str]:
    """FFmpeg's names of the encoders of pictures ("video") or sound ("audio")."""
    for name in sorted(av.codecs_available - _NOT_FILMS):
        if name.endswith(_HARDWARE):
            continue
        try:
            codec = Codec(name, "w")
        except (ValueError, av.FFmpegError):
            continue
        if codec.type == kind and codec.name == name:
            yield name


def pictures_film(path: Path, codec: str) -> bool:
    """Write a film of five pictures; False if the container or the encoder takes none of the usual forms."""
    known = [fmt.name for fmt in Codec(codec, "w").video_formats or []] or ["yuv420p"]
    formats = [*(name for name in _FORMATS if name in known), *known][:3]
    for size, fmt in itertools.product(_SIZES, dict.fromkeys(formats)):
        try:
            muxer = CONTAINERS[path.suffix][0]
            options: dict[str, Any] = {"container_format": muxer, "duration_s": 0.2, "size": size}
            media_files.write_video(path, codec=codec, pix_fmt=fmt, **options)
            return True
        except (av.FFmpegError, ValueError, TypeError):
            continue
    return False


def sound_film(path: Path, codec: str) -> bool:
    """Write a film with a tone; False as `pictures_film`."""
    muxer, pictures = CONTAINERS[path.suffix]
    rates = Codec(codec, "w").audio_rates or [48_000, 44_100, 8000]
    wanted = [rate for rate in (48_000, 44_100, 8000, 16_000) if rate in rates] or rates[:1]
    for rate, channels in itertools.product(wanted if pictures else (), (2, 1)):
        try:
            options: dict[str, Any] = {"container_format": muxer, "duration_s": 0.4, "codec": pictures}
            options["size"] = (176, 144) if pictures == "rv10" else (96, 64)
            media_files.write_video(
                path, sound="audible", audio_codec=codec, rate=rate, channels=channels, **options
            )
            return True
        except (av.FFmpegError, ValueError, TypeError, KeyError):
            continue
    return False


def copied(source: Path) -> tuple[Path, remux.MuxResult] | None:
    """The copy as a dub makes it, in Matroska if its own container refuses; None for what v2a cannot read."""
    try:
        with source.open("rb") as file:
            probe = media_video.probe(file)
    except DecodeFailed:
        return None
    n = round(probe.duration_s * RATE)
    name = remux.output_name(source.name, container=probe.container, video_codec=probe.video_codec)
    for number, output in enumerate(dict.fromkeys((name, f"{source.name}.mkv"))):
        copy = source.parent / f"{number}-{output}"
        try:
            return copy, remux.mux(
                str(source), [np.zeros((1, n), np.int16)], copy, Track(n, probe.video_start_s)
            )
        except remux.MuxFailed as error:
            failed = error
    raise failed


def n_pictures(path: Path) -> int:
    """Packets of pictures that a player shows."""
    with av.open(str(path)) as film:
        return sum(1 for packet in film.demux(film.streams.video[0]) if packet.size and not packet.is_discard)


@functools.cache
def cases(kind: str, is_slow: bool) -> list[Any]:
    found = []
    for codec in encoders(kind):
        if is_slow or codec in USUAL:
            found.append(pytest.param(codec, is_slow, marks=[pytest.mark.slow] if is_slow else [], id=codec))
    return found


@pytest.mark.parametrize(("codec", "everywhere"), [*cases("video", False), *cases("video", True)])
def test_pictures(tmp_path: Path, codec: str, everywhere: bool) -> None:
    done = 0
    for suffix in CONTAINERS:
        source = tmp_path / f"film{suffix}"
        if (codec, suffix) in REFUSED or not pictures_film(source, codec):
            continue
        if (result := copied(source)) is None:
            continue
        copy, facts = result
        assert n_pictures(copy) == n_pictures(source), suffix
        same = [packet_hashes.video_digest(str(path), nal_units=True) for path in (source, copy)]
        assert same[0] == same[1], suffix
        assert not [told for told in facts.dropped if "umid" not in told and "colour" not in told], suffix
        done += 1
        if not everywhere:
            break
    if not done:
        pytest.skip("no container of films takes it")


@pytest.mark.parametrize(("codec", "everywhere"), [*cases("audio", False), *cases("audio", True)])
def test_sound(tmp_path: Path, codec: str, everywhere: bool) -> None:
    done = 0
    for suffix in CONTAINERS:
        source = tmp_path / f"film{suffix}"
        if not sound_film(source, codec) or (result := copied(source)) is None:
            continue
        copy, facts = result
        with av.open(str(source)) as film:
            if not film.streams.audio or film.streams.audio[0].codec_context is None:
                continue
            before = film.streams.audio[0].index
        with av.open(str(copy)) as film:
            after = [s.index for s in film.streams.audio if title_of(s) != remux.TITLE or suffix == ".flv"][
                -1
            ]
        try:
            old = decode_track(source, before)[0]
        except (av.FFmpegError, ValueError, KeyError):
            continue  # a source that FFmpeg wrote and cannot decode, or samples that NumPy does not have
        heard = [old, decode_track(copy, after)[0]]
        n = min(sound.shape[1] for sound in heard)
        assert n and abs(heard[0].shape[1] - heard[1].shape[1]) <= 2048, suffix
        np.testing.assert_array_equal(heard[0][:, :n], heard[1][:, :n], err_msg=suffix)
        assert facts.dropped == (), suffix
        done += 1
        if not everywhere:
            break
    if not done:
        pytest.skip("no container of films takes it")


@pytest.mark.parametrize(("codec", "suffix"), sorted(REFUSED))
def test_what_is_refused_says_why(tmp_path: Path, codec: str, suffix: str) -> None:
    source = tmp_path / f"film{suffix}"
    assert pictures_film(source, codec)
    with pytest.raises(remux.MuxFailed, match=f"matroska does not hold {codec}") as failed:
        copied(source)
    assert failed.value.error_class == "ContainerCannotHold"

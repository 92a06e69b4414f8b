"""Allow-lists of formats."""

from __future__ import annotations

from pathlib import Path

import av
from av.codec import Codec

from pipelines.media.formats import DECODERS, PICTURES
from tests.support import media_files
from tests.support.decoding import failure, probe


def test_every_name_is_a_decoder() -> None:
    names = DECODERS.split(",")
    assert len(names) == len(set(names))
    for name in names:
        assert Codec(name, "r").is_decoder
    assert all(Codec(name, "r").type == "video" for name in PICTURES)


def test_what_films_are_made_of_is_allowed() -> None:
    wanted = {
        "h264",
        "hevc",
        "av1",
        "vp9",
        "mpeg2video",
        "mjpeg",
        "prores",
        "dnxhd",
        "ffv1",
        "jpeg2000",
        "v210",
        "dvvideo",
    }
    assert wanted <= PICTURES
    assert {"aac", "mp2", "ac3", "opus", "vorbis", "flac", "pcm_s24le", "pcm_mulaw"} <= set(
        DECODERS.split(",")
    )
    assert not {"smackvid", "binkvideo", "ansi", "ultimotion", "h264_cuvid", "xbin"} & set(
        DECODERS.split(",")
    )
    assert "smackvid" in av.codecs_available


def test_a_codec_of_a_game_is_not_decoded(tmp_path: Path) -> None:
    path = media_files.write_video(
        tmp_path / "a.avi", duration_s=0.2, codec="zmbv", pix_fmt="bgr0", size=(64, 48)
    )
    assert probe(path).video_codec == "zmbv"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"ZMBV", b"ULTI"))  # Ultimotion, which FFmpeg could decode
    error = failure(path)
    assert (error.error_class, error.stage) == ("ForbiddenFormat", "probe")
    assert "ultimotion" in error.message

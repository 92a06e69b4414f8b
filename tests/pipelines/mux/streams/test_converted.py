"""Sound that no container holds is decoded to the same samples, at the same times, and the result says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.mux import child, remux
from pipelines.mux.packet_hashes import Hasher
from pipelines.mux.track import Track
from tests.support import media_files
from tests.support.muxing import RATE, decode_track, picture_times, title_of

CASES: dict[str, dict[str, Any]] = {
    "dvd.vob": {"codec": "mpeg2video", "audio_codec": "pcm_dvd", "rate": 48_000, "channels": 2},
    "avchd.m2ts": {"audio_codec": "pcm_bluray", "rate": 48_000, "channels": 2, "container_format": "mpegts"},
    "web.flv": {"codec": "flv", "audio_codec": "nellymoser"},
    "old.mov": {"audio_codec": "adpcm_ima_qt", "channels": 2},
}


@pytest.mark.parametrize("name", CASES)
def test_samples_and_times_stay(tmp_path: Path, name: str) -> None:
    options = {"container_format": "vob"} if name.endswith(".vob") else {}
    source = media_files.write_video(tmp_path / name, sound="audible", **(options | CASES[name]))
    copy = tmp_path / "out.mkv"
    sound = [np.zeros((1, RATE), np.int16)]
    start_s = picture_times(source, 1)[0]
    result = child.mux_in_child(str(source), sound, copy, Track(RATE, start_s))
    with av.open(str(source)) as film:
        before = film.streams.audio[0].index
    with av.open(str(copy)) as film:
        after = next(s.index for s in film.streams.audio if title_of(s) != remux.TITLE)
        assert film.streams[after].codec_context.name.startswith("pcm_")
    old, old_start_s, old_rate = decode_track(source, before)
    new, new_start_s, new_rate = decode_track(copy, after)
    np.testing.assert_array_equal(old, new)
    apart = (new_start_s - picture_times(copy, 1)[0]) - (old_start_s - start_s)
    assert old_rate == new_rate and abs(apart) < 0.002
    [told] = result.converted
    assert "decoded to pcm_" in told and "the same samples" in told and result.dropped == ()
    with av.open(str(copy)) as film:  # `v2a verify` finds the track by the hash of its packets
        hasher = Hasher(film.streams)
        for packet in film.demux(film.streams[after]):
            if packet.size:
                hasher.update(packet, packet.stream)
        assert result.digests.kept[0] in hasher.of("audio")


def test_a_container_for_which_there_is_a_better_one_does_not_decode(tmp_path: Path) -> None:
    source = media_files.write_video(
        tmp_path / "a.flv", sound="audible", audio_codec="nellymoser", codec="flv"
    )
    with pytest.raises(remux.MuxFailed, match="cannot hold") as failed:
        remux.mux(str(source), [np.zeros((1, RATE), np.int16)], tmp_path / "a.mp4", Track(RATE, 0.0))
    assert failed.value.error_class == "ContainerCannotHold"

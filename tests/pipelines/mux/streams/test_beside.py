"""Streams that a copy cannot hold lie beside it: every packet, as FFmpeg reads it in the source."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.mux import child, remux
from pipelines.mux.streams import beside, left_out
from pipelines.mux.track import Track
from tests.support.muxing import RATE
from tests.support.odd_streams import payloads, write_film

SILENCE = np.zeros((1, RATE), np.int16)


def kept(source: Path, name: str, strict: bool = False) -> tuple[Path, remux.MuxResult]:
    """The file beside a copy of that name, and the result."""
    out = source.parent / "out"
    out.mkdir(exist_ok=True)
    other = out / (name + source.suffix)
    return other, child.mux_in_child(
        str(source), [SILENCE], out / name, Track(RATE, 0.0, strict=strict), beside=other
    )


@pytest.mark.parametrize("with_times", [False, True])
def test_streams_of_a_broadcast_lie_in_a_transport_stream(tmp_path: Path, with_times: bool) -> None:
    source = write_film(tmp_path / "a.ts", ["klv", "timed_id3", "dvb_teletext"], sound="audible")
    if with_times:  # as AVCHD and Blu-ray have them
        data = source.read_bytes()
        source.write_bytes(b"".join(b"time" + data[at : at + 188] for at in range(0, len(data), 188)))
    other, result = kept(source, "a.mkv", strict=True)
    for kind in ("data", "subtitle"):
        assert payloads(other, kind) == payloads(source, kind) != []
    assert payloads(other, "video") in ([], [[]]) and other.stat().st_size == result.beside
    assert other.stat().st_size < source.stat().st_size
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    assert len(result.dropped) == 3
    for entry in result.dropped:
        assert entry.endswith(f"kept in {other.name}, sha256 {digest}") and left_out.is_kept(entry)
        assert left_out.sha256_in(entry) == digest


@pytest.mark.parametrize("codec", ["bin_data", "ttml"])
def test_tracks_of_mp4_lie_in_an_mp4(tmp_path: Path, codec: str) -> None:
    source = write_film(tmp_path / "a.mp4", [codec], sound="audible")
    other, result = kept(source, "a.mkv", strict=True)
    kind = "data" if codec == "bin_data" else "subtitle"
    assert payloads(other, kind) == payloads(source, kind) != []
    assert payloads(other, "video") == [] and len(result.dropped) == 1


def test_a_copy_that_holds_all_has_no_file_beside_it(tmp_path: Path) -> None:
    source = write_film(tmp_path / "a.mp4", ["bin_data"])
    other, result = kept(source, "b.mp4")
    assert (result.dropped, result.beside) == ((), 0)
    assert [path.name for path in other.parent.iterdir()] == ["b.mp4"]


def test_what_is_not_kept_still_fails_strictly() -> None:
    told = "data stream 1: no; kept in a.ts, sha256 " + 64 * "0"
    left_out.check_strict([told], "matroska")
    with pytest.raises(remux.MuxFailed, match="stream 2"):
        left_out.check_strict(
            [told, "data stream 2: no", "data stream 3: no; kept in a.ts, sha256 00"], "matroska"
        )


def packet(number: int, payload: bytes = b"") -> bytes:
    return (b"G" + (number | 0x4000).to_bytes(2, "big") + b"\x10" + payload).ljust(188, b"\xff")


@given(
    st.lists(st.sampled_from([0x21, 0x100, 0x101, 0x1FFF]), min_size=8, max_size=40), st.binary(max_size=300)
)
def test_packets_are_chosen_by_their_number(numbers: list[int], junk: bytes) -> None:
    table = packet(0, b"\0\0\xb0\x0d\0\1\xc1\0\0\0\1\xe0\x21\0\0\0\0")
    source = table * 5 + b"".join(map(packet, numbers)) + junk.replace(b"G", b"")
    output = io.BytesIO()
    written = beside.write_streams(io.BytesIO(source), output, "mpegts", {0x100}, lambda: None)
    wanted = table * 5 + b"".join(packet(n) for n in numbers if n in (0x21, 0x100))
    assert output.getvalue() == wanted
    assert written == (len(wanted) if 0x100 in numbers else 0)


@given(st.binary(max_size=600), st.sampled_from(["mpegts", "mov,mp4", "avi", "matroska,webm"]))
def test_noise_gives_nothing(data: bytes, name: str) -> None:
    assert beside.write_streams(io.BytesIO(data), io.BytesIO(), name, {1}, lambda: None) == 0

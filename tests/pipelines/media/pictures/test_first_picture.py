"""The first picture of a film, found among the packets that are read anyway."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.media import container
from pipelines.media.errors import DecodeFailed
from pipelines.media.pictures.first_picture import FirstPicture
from tests.support.media_files import write_video


def test_it_is_decoded_once_and_kept(tmp_path: Path) -> None:
    film = write_video(tmp_path / "a.mp4", size=(48, 32), duration_s=1.0)
    with film.open("rb") as file, container.opened(file) as opened:
        video = container.video_stream(opened, "probe")
        first = FirstPicture(video)
        packets = list(container.packets(opened, [video]))
        for packet in packets:
            first.offer(packet)
        frame = first.frame()
        assert (frame.width, frame.height) == (48, 32) and first.frame() is frame
        assert first.packet == bytes(packets[0]) and first.n_packets < len(packets)


def test_without_a_picture_the_reason_is_given(tmp_path: Path) -> None:
    film = write_video(tmp_path / "a.mp4", size=(48, 32), duration_s=1.0)
    with (
        film.open("rb") as file,
        container.opened(file) as opened,
        pytest.raises(DecodeFailed, match="no frames"),
    ):
        FirstPicture(container.video_stream(opened, "probe")).frame()

"""Report of `v2a dub` on the generated sound: flagged stretches, contact sheets, and costs."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.dub import decode, finish, part_reader
from pipelines.media.errors import DecodeFailed
from pipelines.reports import costs
from tests.jobs.test_redub import v2a_redub
from tests.support.dubbing import film, noise, quickly, report, v2a_dub
from tests.support.media_files import write_video
from tests.support.toy_generators import NoiseGenerator, reference, toy_checkpoint
from v2a_models.checkpoint import load_generator

pytestmark = pytest.mark.timeout(600)

BLACK, GREY, WHITE = 0, 120, 255


class Plain(NoiseGenerator):
    """Silence where the picture is black, clipping where it is white, noise elsewhere."""

    name = "plain"

    def generate_from_frames(self, frames: Mapping[str, Any], seeds: Sequence[int], **sampling: Any) -> Any:
        made = super().generate_from_frames(frames, seeds, **sampling)
        for k in range(len(seeds)):
            light = float(frames["sync"][k].float().mean())
            if light < 16:
                made[k] = 0
            elif light > 240:
                made[k] = made[k].sign()
        return made


PLAIN = ("--model", reference(Plain))


def shaded(path: Path, shots: list[tuple[float, int]], **more: Any) -> Path:
    """A film of grey shots: seconds and brightness."""
    ends = np.cumsum([seconds for seconds, _ in shots])

    def picture(number: int, width: int, height: int) -> np.ndarray:
        shot = int(np.searchsorted(ends, number / 25, side="right"))
        return np.full((height, width, 3), shots[min(shot, len(shots) - 1)][1], np.uint8)

    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, duration_s=float(ends[-1]), picture=picture, **more)


def stretches(row: dict[str, Any]) -> list[tuple[str, float, float]]:
    return [(flag["what"], flag["start_s"], flag["end_s"]) for flag in row["flags"]]


def test_what_clips_and_what_is_silent_is_flagged(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    shaded(archive / "odd.mkv", [(2, GREY), (4, BLACK), (2, GREY), (1, WHITE), (2, GREY)])
    shaded(archive / "fine.mkv", [(3, GREY)])
    rows = quickly(archive, out, *PLAIN)
    (silent, clipped) = stretches(rows["odd.mkv"])
    assert silent == ("near silence", pytest.approx(2.0, abs=0.9), pytest.approx(6.0, abs=0.9))
    assert clipped == ("clipping", pytest.approx(8.0, abs=0.9), pytest.approx(9.0, abs=0.9))
    assert rows["odd.mkv"]["n_flags"] == 2
    assert rows["fine.mkv"]["flags"] == [] and rows["fine.mkv"]["n_flags"] == 0
    assert report(out)["odd.mkv"]["flags"] == rows["odd.mkv"]["flags"]

    # Another sound for a part: what was flagged in it is gone, or found again.
    assert v2a_redub(out, "odd.mkv", "--start", "7", "--end", "10", "--seed", "8", *PLAIN) == 0
    assert len(stretches(report(out)["odd.mkv"])) == 2
    assert v2a_redub(out, "odd.mkv", "--start", "5", "--end", "10", "--seed", "8", *GREY_MODEL) == 0
    [left] = stretches(report(out)["odd.mkv"])
    assert left == ("near silence", silent[1], 5.0) and report(out)["odd.mkv"]["n_flags"] == 1


class Grey(NoiseGenerator):
    """The same model by its name; noise everywhere."""

    name = "plain"


GREY_MODEL = ("--model", reference(Grey))


def test_silence_that_is_wanted_is_not_flagged(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    shaded(archive / "out.mkv", [(9, GREY)])
    (tmp_path / "films.csv").write_text("path,start_s,end_s\nout.mkv,4,6\n")
    rows = quickly(archive, out, "--manifest", tmp_path / "films.csv", *PLAIN)
    assert rows["out.mkv"]["flags"] == [] and rows["out.mkv"]["heard_s"] == 2


def test_the_films_own_sound_is_not_flagged(tmp_path: Path) -> None:
    own = noise(9.0, 0.4)
    own[:, 44_100:44_200] = 32_767
    own[:, 4 * 44_100 : 7 * 44_100] = 0
    film(tmp_path / "archive" / "gap.mkv", own, 9.0, "flac")
    quickly(tmp_path / "archive", tmp_path / "out", "--existing", "replace-silent-parts", *PLAIN)
    assert report(tmp_path / "out")["gap.mkv"]["flags"] == []


def test_parts_that_cannot_be_seen_are_not_flagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shaded(tmp_path / "archive" / "torn.mkv", [(9, GREY)])
    whole: Any = decode._decode_into

    def torn(item: Any, *rest: Any) -> None:
        if item.task.segment.index == 1:
            raise DecodeFailed("InvalidData", "nothing but noise", "decode")
        whole(item, *rest)

    monkeypatch.setattr(decode, "_decode_into", torn)
    row = quickly(tmp_path / "archive", tmp_path / "out", "--segment-s", "3", *PLAIN)["torn.mkv"]
    assert row["status"] == "dubbed" and "damaged, no decodable frame, so silent" in row["reason"]
    assert row["flags"] == []


@pytest.mark.parametrize(("static", "flagged"), [("silence", False), ("ambience", False), ("generate", True)])
def test_still_footage_may_be_silent_unless_it_is_made_like_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, static: str, flagged: bool
) -> None:
    """A model that makes nothing but silence, on a film in which nothing moves."""
    model = toy_checkpoint(tmp_path / "toy")
    shaded(tmp_path / "archive" / "still.mkv", [(5, GREY)])

    def mute() -> Any:
        generator: Any = load_generator(model)
        whole = generator.codec.decode
        monkeypatch.setattr(generator.codec, "decode", lambda *args, **more: whole(*args, **more) * 0)
        return generator

    options = ["--model", reference(mute), "--static", static, "--batch-size", "4"]
    row = quickly(tmp_path / "archive", tmp_path / "out", *options)["still.mkv"]
    assert row["sound_peak_dbfs"] == -120 and bool(row["static_s"]) != flagged
    assert [what for what, *_ in stretches(row)] == (["near silence"] if flagged else [])

    part = ["--start", "1", "--end", "4", "--seed", "8"]
    assert v2a_redub(tmp_path / "out", "still.mkv", *part, *options[:2]) == 0
    row = report(tmp_path / "out")["still.mkv"]
    assert {what for what, *_ in stretches(row)} == ({"near silence"} if flagged else set())


def test_films_longer_than_their_card_have_a_contact_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (finish, decode, part_reader):
        monkeypatch.setattr(module, "CARD_S", 3.0)
    archive, out = tmp_path / "archive", tmp_path / "out"
    shaded(archive / "long.mkv", [(4, GREY), (4, WHITE)])
    shaded(archive / "short.mkv", [(2, GREY)])
    rows = quickly(archive, out, "--segment-s", "2", *PLAIN)
    assert rows["short.mkv"]["contact_sheet"] == ""
    sheet = rows["long.mkv"]["contact_sheet"]
    assert sheet == f"_v2a/cards/{rows['long.mkv']['video_id']}.sheet.webp"
    pixels = np.asarray(Image.open(io.BytesIO((out / sheet).read_bytes())).convert("L"))
    assert pixels.shape[1] == 1200
    # Frames of both shots: the card, of the first seconds, has one only.
    assert np.mean(abs(pixels.astype(int) - GREY) < 8) > 0.2 and np.mean(pixels > 245) > 0.05
    card = np.asarray(Image.open(out / rows["long.mkv"]["card"]).convert("L"))[:76]
    assert np.mean(card > 245) < 0.01


def test_prices_are_told_before_and_after_and_decide_nothing(
    ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    shaded(archive / "a.mkv", [(3, GREY)])
    (archive / "broken.mkv").write_bytes(b"not a film")
    words = [archive, out, "--price-core-hour", "36"]
    assert v2a_dub(*words, "--dry-run") == 0
    assert (
        "Cost: about 0.02, 24.00 an hour of footage" in capsys.readouterr().out
    )  # 1.5 x real time is the guess
    assert v2a_dub(*words) == 1
    said = " ".join(capsys.readouterr().out.split())
    row = report(out)["a.mkv"]
    assert f"Work: {row['core_seconds']:,.0f} core-seconds for 0:03 of footage." in said
    assert f"Cost: {costs.money(row['core_seconds'] / 100)}," in said
    facts = json.loads((out / "_v2a" / "summary.json").read_text())
    assert facts["cost"] == pytest.approx(row["core_seconds"] / 100)
    assert facts["cost_per_hour"] == pytest.approx(facts["cost"] * 1200) and facts["price_core_hour"] == 36
    # Another price, and none, is the same output: nothing is made again. Now the rate is known.
    shaded(archive / "b.mkv", [(6, GREY)])
    assert v2a_dub(archive, out, "--price-core-hour", "72", "--dry-run") == 0
    rate = row["core_seconds"] / 3 / 50
    said = capsys.readouterr().out
    assert "at the rate so far" in said and f"Cost: about {costs.money(6 * rate)}," in said
    (archive / "b.mkv").unlink()
    assert v2a_dub(archive, out) == 1
    said = capsys.readouterr().out
    assert "1 already dubbed" in said and "Cost" not in said


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_what_is_no_price_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str) -> None:
    (tmp_path / "archive").mkdir()
    assert v2a_dub(tmp_path / "archive", tmp_path / "out", "--price-gpu-hour", value) == 2
    assert "--price-gpu-hour" in capsys.readouterr().err

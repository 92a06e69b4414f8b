"""Two waves of windows over films: the same sound however they are cut and batched, in-painted between fixed codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.archive import scan
from pipelines.dub import decode, finish, plan, segment_windows
from pipelines.dub.generate import two_wave
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.generate.token_canvas import TokenCanvas
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob, DubTask
from pipelines.dub.state import State
from pipelines.sandbox.decoder import Sandbox
from tests.support.stereo import in_stereo, thing_film
from tests.support.toy_generators import reference, toy_checkpoint
from v2a_models import grid, longform, pcm
from v2a_models.checkpoint import load_generator
from v2a_models.longform import Layout, decided

LAYOUT = Layout.of(17_640, 3_528, 25, 0.6)
"""Windows of 0.4 s, two from border to border."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toy_checkpoint(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def shots(path: Path, lengths: list[tuple[int, bool]], fps: int = 25) -> Path:
    """A film of shots of so many pictures, each still or moving."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("mpeg4", rate=fps)
        video.width, video.height, video.pix_fmt, video.bit_rate = 64, 64, "yuv420p", 4_000_000
        number = 0
        for length, moves in lengths:
            shapes = np.kron(rng.integers(20, 235, (16, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)
            for k in range(length):
                picture = np.roll(shapes, k if moves else 0, 1)[:64, :64]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                out.mux(video.encode(frame))
                number += 1
        out.mux(video.encode(None))
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    """Scan rows of: a moving film of 3 s; one with a hard cut at 1.2 s; one of which the middle is still; one in which
    nothing moves and whose last segment is the window that it shares alone."""
    root = tmp_path_factory.mktemp("archive")
    shots(root / "moving.mkv", [(75, True)])
    shots(root / "cut.mkv", [(30, True), (45, True)])
    shots(root / "still.mkv", [(25, True), (150, False), (25, True)])
    shots(root / "title.mkv", [(24, False)])
    return {row["path"]: row for row in scan.scan(str(root), sandbox)}


def make_job(out: Path, model: str, **changes: Any) -> DubJob:
    recipe = load_generator(model).recipe
    plain = DubJob(
        out=str(out), model=model, model_name="toy", model_sha256="0" * 64, recipe=recipe.digest, seed=0,
        rate=recipe.sample_rate, channels=1, window=recipe.window, overlap=0, views=recipe.views, batch_size=2,
        windows_per_segment=LAYOUT.windows, version="0", run_id="run", layout=LAYOUT,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def tasks_of(job: DubJob, video: dict[str, Any]) -> list[DubTask]:
    return plan.plan_file(job, video, video["path"], video["path"])


def made(job: DubJob, tasks: list[DubTask], sandbox: Sandbox, together: int = 1) -> list[Item]:
    """Items with sound, generated so many at a time."""
    dubber, found = Dubber(job), list[Item]()
    for at in range(0, len(tasks), together):
        items = [decode.decode_task(task, job, sandbox) for task in tasks[at : at + together]]
        found += dubber.generate([Item.from_table(item.to_table())[0] for item in items])
    assert not [item.failure for item in found if item.failure]
    return found


def sound(items: list[Item]) -> np.ndarray:
    assert not [item.failure for item in items if item.failure]
    return np.concatenate([item.arrays["sound"] for item in items], 1)


def canvases_of(job: DubJob, video: dict[str, Any], sandbox: Sandbox) -> list[TokenCanvas]:
    """Canvases of a film's segments after both waves."""
    found: list[TokenCanvas] = []

    class Watched(two_wave.TwoWaveGenerator):
        def _finish(self, canvas: TokenCanvas) -> None:
            found.append(canvas)
            super()._finish(canvas)

    generator: Any = load_generator(job.model)
    items = [decode.decode_task(task, job, sandbox) for task in tasks_of(job, video)]
    Watched(job, generator, "cpu").generate(items)
    assert not [item.failure for item in items if item.failure]
    return found


def test_the_track_has_every_sample_whatever_the_batch_and_the_company(
    tmp_path: Path, model: str, films: dict[str, dict[str, Any]], sandbox: Sandbox
) -> None:
    video = films["cut.mkv"]
    job = make_job(tmp_path, model)
    tasks = tasks_of(job, video)
    assert len(tasks) > 3
    drawn = [window for one in canvases_of(job, video, sandbox) for window in one.windows]
    assert len({window.samples for window in drawn}) > 1
    whole = sound(made(job, tasks, sandbox))
    assert whole.shape == (1, grid.samples(video["duration_s"])) and np.abs(whole).max() > 0
    for batch_size, together in ((1, 1), (3, len(tasks)), (2, 3)):
        other = dataclasses.replace(job, batch_size=batch_size)
        assert np.array_equal(sound(made(other, tasks, sandbox, together)), whole)
    assert np.array_equal(sound(made(job, tasks[::-1], sandbox)[::-1]), whole)


def test_neighbours_decide_the_window_between_them_alike(
    tmp_path: Path, model: str, films: dict[str, dict[str, Any]], sandbox: Sandbox
) -> None:
    for name in ("moving.mkv", "cut.mkv", "still.mkv", "title.mkv"):
        canvases = canvases_of(make_job(tmp_path, model), films[name], sandbox)
        for left, right in pairwise(canvases):
            first, stop = LAYOUT.kept(LAYOUT.border(right.segment_frames.index))
            ours, theirs = (
                side.codes[
                    ..., first - side.segment_frames.decided[0] : stop - side.segment_frames.decided[0]
                ]
                for side in (left, right)
            )
            assert ours.shape[-1] == LAYOUT.window - 2 * LAYOUT.edge and np.array_equal(ours, theirs)


def test_a_film_sounds_as_if_its_codegram_were_decoded_in_one_go(
    tmp_path: Path, model: str, films: dict[str, dict[str, Any]], sandbox: Sandbox
) -> None:
    import torch

    job, video = make_job(tmp_path, model), films["moving.mkv"]
    canvases = canvases_of(job, video, sandbox)
    codes = np.concatenate(
        [
            c.codes[0][
                :,
                c.segment_frames.start - c.segment_frames.decided[0] : c.segment_frames.stop
                - c.segment_frames.decided[0],
            ]
            for c in canvases
        ],
        1,
    )
    # The last window reaches behind the film's end, and is heard by the codec.
    last = canvases[-1]
    codes = np.concatenate(
        [codes, last.codes[0][:, last.segment_frames.stop - last.segment_frames.decided[0] :]], 1
    )
    codec: Any = load_generator(model).codec  # type: ignore[attr-defined]
    whole = codec.decode(torch.from_numpy(codes)[None])[0, 0].clamp(-1, 1).numpy()
    track = sound(made(job, tasks_of(job, video), sandbox))[0]
    assert np.abs(pcm.quantise(whole)[: len(track)].astype(int) - track).max() <= 1


def test_the_second_wave_is_in_painted_between_the_first(
    tmp_path: Path, model: str, films: dict[str, dict[str, Any]], sandbox: Sandbox
) -> None:
    """The canvas holds the codes that a window was in-painted around: given the same, the model gives the same."""
    import torch

    job = make_job(tmp_path, model)
    [canvas, *_] = canvases_of(job, films["moving.mkv"], sandbox)
    generator: Any = load_generator(model)
    second = [window for window in canvas.windows if window.wave == 1]
    assert second
    for window in second:
        assert decided(window, canvas.windows)
        item = decode.decode_task(canvas.item.task, job, sandbox)
        frames = {
            name: torch.from_numpy(np.stack([_pictures(item, job, window, name)] * 2)) for name in job.views
        }
        known, mask = (torch.from_numpy(np.stack([array] * 2)) for array in canvas.decided(window, 0))
        from v2a_models.seeds import window_seed

        seed = window_seed(0, item.task.video_id, window.number)
        with torch.inference_mode():
            again = generator.draw(
                generator.features(frames), seeds=[seed] * 2, known_codes=known, known_mask=mask
            )[0, 0].numpy()
        place = slice(window.keep[0] - window.start, window.keep[1] - window.start)
        there = slice(
            window.keep[0] - canvas.segment_frames.decided[0],
            window.keep[1] - canvas.segment_frames.decided[0],
        )
        assert np.array_equal(again[:, place], canvas.codes[0][:, there])


def _pictures(item: Item, job: DubJob, window: Any, name: str) -> np.ndarray:
    return segment_windows.pictures(item, job, window, name)


def test_windows_end_at_a_cut_unless_scenes_are_off(
    tmp_path: Path, model: str, films: dict[str, dict[str, Any]], sandbox: Sandbox
) -> None:
    cut = LAYOUT.frame(30)
    for scenes in (True, False):
        canvases = canvases_of(make_job(tmp_path, model, scenes=scenes), films["cut.mkv"], sandbox)
        kept = {w.shot[0] for c in canvases for w in c.windows} - {
            c.segment_frames.decided[0] for c in canvases
        }
        assert kept == ({cut} if scenes else set())
    job = make_job(tmp_path, model)
    n_cuts = [item.facts.scenes for item in made(job, tasks_of(job, films["cut.mkv"]), sandbox)]
    assert sum(n_cuts) == 1


def counting(model: str, drawn: list[int]) -> Any:
    """The generator of `model`; each of its draws adds to `drawn`."""
    generator: Any = load_generator(model)
    draw = generator.draw

    def counted(*given: Any, **options: Any) -> Any:
        drawn.append(1)
        return draw(*given, **options)

    generator.draw = counted
    return generator


def test_where_nothing_moves_one_ambience_repeats(
    tmp_path: Path, model: str, films: dict[str, dict[str, Any]], sandbox: Sandbox
) -> None:
    video, figures = films["still.mkv"], {}
    for static in ("generate", "ambience", "silence"):
        drawn: list[int] = []
        load = reference(lambda drawn=drawn: counting(model, drawn))
        job = make_job(tmp_path, model, static=static, batch_size=1)
        dubber = Dubber(dataclasses.replace(job, model=load))
        items = [decode.decode_task(task, job, sandbox) for task in tasks_of(job, video)]
        # Pictures at which nobody looks do not travel.
        assert any("sync" not in item.arrays for item in items) == (static != "generate")
        track = sound(dubber.generate(items))
        found = [item.facts for item in items]
        still = [span for facts in found for span in facts.still]
        figures[static] = len(drawn), track[0], sum(b - a for a, b in still)
    assert figures["generate"][2] == 0 and 4 < figures["ambience"][2] == figures["silence"][2] < 6
    assert figures["silence"][0] < figures["ambience"][0] == figures["silence"][0] + 2
    assert figures["ambience"][0] < 0.6 * figures["generate"][0]
    inside = slice(grid.samples(2.0), grid.samples(6.0))
    assert not figures["silence"][1][inside].any() and figures["silence"][1].any()
    period = longform.loop(LAYOUT).length * grid.HOP
    ambience = figures["ambience"][1][inside]
    assert ambience.any() and np.array_equal(ambience[period:], ambience[:-period])


def test_a_film_of_one_still_window_is_made_as_it_is(tmp_path: Path, model: str, sandbox: Sandbox) -> None:
    shots(tmp_path / "in" / "title.mkv", [(8, False)])
    [video] = scan.scan(str(tmp_path / "in"), sandbox)
    job = make_job(tmp_path / "out", model)
    [item] = [decode.decode_task(task, job, sandbox) for task in tasks_of(job, video)]
    assert not item.still_windows


def test_alternatives_are_in_painted_between_their_own_neighbours(
    tmp_path: Path, model: str, films: dict[str, dict[str, Any]], sandbox: Sandbox
) -> None:
    job = make_job(tmp_path, model, candidates=3, keep_top=2)
    canvases = canvases_of(job, films["moving.mkv"], sandbox)
    for one in canvases:
        assert one.codes.shape[0] == 2 and not np.array_equal(one.codes[0], one.codes[1])
    tracks = sound(made(job, tasks_of(job, films["moving.mkv"]), sandbox))
    assert len(tracks) == 2 and not np.array_equal(tracks[0], tracks[1])


def test_segments_of_a_stereo_film_meet_as_if_it_were_placed_in_one_go(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    import torch

    from v2a_models.stereo import motion, panning

    mono = toy_checkpoint(tmp_path / "mono", window_s=1.2)
    stereo = in_stereo(mono, tmp_path / "stereo")
    layout = Layout.of(grid.samples(1.2), grid.samples(0.12), 25, 2.0)
    job = make_job(tmp_path, mono, layout=layout, windows_per_segment=layout.windows)
    thing_film(tmp_path / "in" / "to and fro.mkv", lambda t: np.sin(1.7 * t), 5.0)
    shots(tmp_path / "in" / "everything.mkv", [(125, True)])
    widest = {}
    for video in scan.scan(str(tmp_path / "in"), sandbox):
        middle = sound(made(job, tasks_of(job, video), sandbox))
        items = made(dataclasses.replace(job, model=stereo, channels=2), tasks_of(job, video), sandbox)
        assert len(items) > 1 and sound(items).shape == (2, middle.shape[1])
        [pictures] = sandbox.decode_views(video["uri"], [job.views["sync"]], 0.0, 5.0)
        place = motion.place(pictures[None], 25)
        widest[video["path"]] = place[..., 0].min(), place[..., 0].max(), place[..., 1].max()
        mid = torch.from_numpy(middle / pcm.SYMMETRIC_SCALE).float()
        whole = panning.stereo(mid, place, fps=25, rate=job.rate)[0].numpy()
        # Segments see the last picture held behind the film's end: half a picture before it, places begin to differ.
        inner = slice(-grid.samples(0.04))
        assert np.abs(pcm.quantise(whole).astype(int) - sound(items))[:, inner].max() <= 2
    low, high, spread = widest["to and fro.mkv"]
    assert low < -0.5 < 0.5 < high and widest["everything.mkv"][2] > 0.5 > 0.1 > spread


def test_the_report_lists_the_facts(
    tmp_path: Path, model: str, films: dict[str, dict[str, Any]], sandbox: Sandbox
) -> None:
    job, rows = make_job(tmp_path, model), []
    for name in ("still.mkv", "cut.mkv"):
        for item in made(job, tasks_of(job, films[name]), sandbox):
            rows.append(finish.finish_item(item, job))
    still, cut = (row for row in rows if row)
    assert cut["scenes"] == 1
    assert 4 < still["static_s"] < 6 and still["static"].startswith("ambience: 1.")
    assert cut["static_s"] == 0 and cut["static"] == ""
    for row in (still, cut):
        jumps = [seam["jump"] for seam in row["seams"]]
        assert 1 <= len(jumps) <= 5 and jumps == sorted(jumps, reverse=True)
        assert all(0 < seam["at_s"] < row["duration_s"] for seam in row["seams"])
    assert not State(str(tmp_path)).segments_done(still["video_id"])


def test_a_window_that_fails_fails_its_film_alone(
    tmp_path: Path, model: str, films: dict[str, dict[str, Any]], sandbox: Sandbox
) -> None:
    job = make_job(tmp_path, model, batch_size=1)
    tasks = [tasks_of(job, films[name])[0] for name in ("moving.mkv", "cut.mkv")]
    items = [decode.decode_task(task, job, sandbox) for task in tasks]
    items[0].arrays["sync"] = items[0].arrays["sync"][:3]
    bad, good = Dubber(job).generate(items)
    assert bad.failure is not None and "pictures too few" in bad.failure.message and "sound" not in bad.arrays
    assert good.failure is None and good.arrays["sound"].any()

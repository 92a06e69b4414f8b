"""Results of a segment: windows, failures, and retries of storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipelines import retry, storage
from pipelines.archive.scan import scan
from pipelines.extract import recipes, stages
from pipelines.extract import windows as extract_windows
from pipelines.extract.job import ExtractJob
from pipelines.extract.recipes import TEMPLATES
from pipelines.extract.stages import Encoder, Window, decode_segment
from pipelines.extract.windows import Clip
from pipelines.media.errors import DecodeFailed
from pipelines.reports import store_page
from pipelines.sandbox.decoder import Sandbox
from pipelines.store import summary, tables
from pipelines.store.store import Store
from tests.support import beats_file, media_files
from tests.support.toy_generators import write_video
from v2a_models.encoders import published
from v2a_models.encoders.shapes import feature_shapes
from v2a_models.recipe import Recipe, View

RAW = replace(TEMPLATES["raw"], window_s=2.0, frames=View(5, 16, 12), sample_rate=8000, channels=1)
JOB = ExtractJob(store="/nowhere", recipe=RAW, files={})


def plan(root: Path, recipe: Recipe, sandbox: Sandbox) -> list[Clip]:
    return extract_windows.plan(
        [r for r in scan(str(root), sandbox) if r["status"] == "ok"], recipe, None, (1, 0, 0)
    )


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(threads=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve and a half seconds with sound, numbered pictures at 5 fps."""
    root = tmp_path_factory.mktemp("film")
    media_files.write_video(root / "film.mp4", duration_s=12.6, fps=5, sound="audible")
    return root


@pytest.mark.parametrize("overlap_s", [0.0, 0.4])
def test_windows_hold_their_own_pictures_and_sound(film: Path, sandbox: Sandbox, overlap_s: float) -> None:
    job = replace(JOB, recipe=replace(RAW, overlap_s=overlap_s))
    clips = plan(film, job.recipe, sandbox)
    windows = list(decode_segment(clips, job, sandbox))
    assert [window.clip for window in windows] == clips
    for window in windows:
        assert window.failure is None and not window.left_out
        numbers = [media_files.number_of(picture) for picture in window.arrays["frames"]]
        first = round(window.clip.start_s * 5)
        assert numbers == [min(first + k, 62) for k in range(10)], "the last picture is held after the end"
        sound = window.arrays["sound"]
        assert sound.shape == (1, 16_000)
        heard = round(window.clip.duration_s * 8000)
        assert np.abs(sound[:, : heard - 800]).max() > 10_000
        assert not sound[:, heard + 800 :].any(), "nothing is heard after the end"


def test_a_window_is_the_same_however_few_are_asked_for(film: Path, sandbox: Sandbox) -> None:
    clips = plan(film, RAW, sandbox)
    every = list(decode_segment(clips, JOB, sandbox))
    for wanted in ([3], [0, 2], [5], [1, 2, 4]):
        for window in decode_segment([clips[k] for k in wanted], JOB, sandbox):
            expected = every[window.clip.index].arrays
            assert window.arrays.keys() == expected.keys()
            assert all(np.array_equal(window.arrays[name], expected[name]) for name in expected)


def test_a_row_survives_the_way_between_stages(film: Path, sandbox: Sandbox) -> None:
    (window, *_) = decode_segment(plan(film, RAW, sandbox), JOB, sandbox)
    (back,) = Window.from_table(window.to_table(stages.FRAMES), stages.FRAMES)
    assert back.clip == window.clip
    assert all(np.array_equal(back.arrays[name], window.arrays[name]) for name in window.arrays)
    failed = Window(window.clip, stages.Failure("decode", "InvalidData", "broken"))
    (back,) = Window.from_table(failed.to_table(stages.FEATURES), stages.FEATURES)
    assert back == failed


def test_pixels_and_samples_need_no_encoder(film: Path, sandbox: Sandbox) -> None:
    window = next(decode_segment(plan(film, RAW, sandbox), JOB, sandbox))
    frames, sound = window.arrays["frames"], window.arrays["sound"]
    (row,) = [
        w for t in Encoder(JOB)(window.to_table(stages.FRAMES)) for w in Window.from_table(t, stages.FEATURES)
    ]
    assert np.array_equal(row.arrays["frames"], frames)
    assert np.array_equal(row.arrays["waveform"], sound)


def test_features_of_the_sound_are_a_column(film: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    """A small BEATs, in a file of the published layout, from decoding to the page of the store."""
    weights = beats_file.save(tmp_path / "weights" / beats_file.FILE, encoder_layers=1)
    audio = recipes.Encoder("audio", beats_file.NAME, "")
    template = recipes.Template(replace(RAW, channels=2, encoders=(audio,)), {"audio": str(weights)})
    recipe, files = recipes.resolve(template, {}, None)
    job = ExtractJob(store="/nowhere", recipe=recipe, files=files)
    windows = list(decode_segment(plan(film, recipe, sandbox), job, sandbox))
    encoder, rows = Encoder(job), []
    for window in [windows[0], windows[-1]]:
        (table,) = encoder(window.to_table(stages.FRAMES))
        rows += Window.from_table(table, stages.FEATURES)
    kind = tables.schema(recipe, feature_shapes(recipe))
    records: list[dict[str, Any]] = [
        asdict(row.clip) | row.arrays | {"mask": np.ones(10, np.uint8)} for row in rows
    ]
    store = Store(str(tmp_path / "store"))
    store.write_identity(job.identity())
    store.write_rows(tables.table(records, kind), "train")

    with torch.inference_mode():
        heard = torch.from_numpy(np.stack([row.arrays["waveform"] for row in rows])).float().mean(1) / 32768
        expected = published.load_audio(beats_file.NAME, weights, recipe.sample_rate)(heard)
    held = pq.read_table(store.files()[0].uri)["audio"].combine_chunks().to_numpy_ndarray()
    assert held.shape == (2, 13, 768) and held.dtype == np.float16 and heard.abs().max() > 0.3
    assert np.allclose(held, expected.numpy(), rtol=5e-3, atol=5e-3)
    assert not np.allclose(held[0, -1], held[1, -1], rtol=0.1, atol=0.1), (
        "sound, and the silence after the end"
    )

    facts = summary.gather(store, n_samples=1)
    assert facts is not None and not facts.problems
    assert "float16 [13, 768]" in {column.text for column in facts.columns if column.name == "audio"}
    told = dict(summary.made_with(facts))
    assert told["sound"].endswith("samples kept, and as features")
    assert told["audio encoder"].startswith(beats_file.NAME)
    (clip,) = store_page.clips(store, facts)
    (look,) = [look for look in clip["arrays"] if look["name"] == "audio"]
    assert look["image"].startswith("data:image/png") and not look["warn"]


def test_silence_and_still_pictures_are_left_out_on_request(tmp_path: Path, sandbox: Sandbox) -> None:
    media_files.write_video(tmp_path / "quiet.mp4", duration_s=2.0, fps=5, sound="quiet")
    clips = plan(tmp_path, RAW, sandbox)
    (window,) = decode_segment(clips, replace(JOB, silence_dbfs=-50.0), sandbox)
    assert window.left_out == "silence" and not window.arrays
    (window,) = decode_segment(clips, replace(JOB, silence_dbfs=-80.0), sandbox)
    assert not window.left_out and window.arrays
    (window,) = decode_segment(clips, replace(JOB, static_below=250.0), sandbox)
    assert window.left_out == "static picture"


class Troubled:
    """A sandbox whose storage fails a number of times before it answers."""

    def __init__(self, sandbox: Sandbox, errors: Sequence[Exception]) -> None:
        self.sandbox, self.errors = sandbox, list(errors)

    def decode_sound(self, *arguments: Any, **options: Any) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return self.sandbox.decode_sound(*arguments, **options)

    def iter_views(self, *arguments: Any) -> Any:
        return self.sandbox.iter_views(*arguments)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    asked: list[float] = []
    monkeypatch.setattr(stages.time, "sleep", asked.append)
    return asked


def test_storage_is_asked_again_with_growing_pauses(film: Path, sandbox: Sandbox, waits: list[float]) -> None:
    clips = plan(film, RAW, sandbox)
    troubled: Any = Troubled(sandbox, [storage.StorageError("503 SlowDown")] * (retry.EXTRACTION.tries - 1))
    windows = list(decode_segment(clips, JOB, troubled))
    assert [window.clip for window in windows] == clips and all(window.arrays for window in windows)
    assert len(waits) == retry.EXTRACTION.tries - 1
    assert all(0.5 * 2**k <= wait <= 1.5 * 2**k for k, wait in enumerate(waits))


def test_what_storage_holds_back_is_put_off_and_not_called_bad(
    film: Path, sandbox: Sandbox, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(stages, "report_progress", lambda ledger, **facts: told.append(facts))
    clips = plan(film, RAW, sandbox)
    troubled: Any = Troubled(sandbox, [storage.StorageError("timeout")] * retry.EXTRACTION.tries)
    assert list(decode_segment(clips, JOB, troubled)) == []
    assert told == [{"put_off": [clip.clip_id for clip in clips], "reason": "timeout"}]


@pytest.mark.parametrize(
    ("error", "stage", "name"),
    [
        (storage.StorageNotFound("gone"), "storage", "StorageNotFound"),
        (storage.StorageDenied("no permission"), "storage", "StorageDenied"),
        (DecodeFailed("InvalidData", "broken", "sound"), "sound", "InvalidData"),
        (RuntimeError("surprise"), "decode", "RuntimeError"),
    ],
)
def test_every_window_of_a_bad_file_fails_with_the_reason(
    film: Path, sandbox: Sandbox, waits: list[float], error: Exception, stage: str, name: str
) -> None:
    clips = plan(film, RAW, sandbox)
    troubled: Any = Troubled(sandbox, [error])
    windows = list(decode_segment(clips, JOB, troubled))
    assert [window.clip for window in windows] == clips and not waits
    for window in windows:
        assert window.failure is not None and not window.arrays
        assert (window.failure.stage, window.failure.error_class) == (stage, name)
    row = stages.failure_row(clips[0], windows[0].failure)  # type: ignore[arg-type]
    assert row["path"] == "film.mp4" and row["stage"] == stage


def test_an_encoder_that_fails_on_one_window_loses_only_that(film: Path, sandbox: Sandbox) -> None:
    windows = list(decode_segment(plan(film, RAW, sandbox), JOB, sandbox))[:3]
    encoder = Encoder(JOB)
    whole = encoder._encode

    def broken(chunk: list[Window]) -> dict[str, np.ndarray]:
        if chunk[0].clip.index == 1:
            raise ValueError("not this one")
        return whole(chunk)

    encoder._encode = broken  # type: ignore[method-assign]
    import pyarrow as pa

    batch = pa.concat_tables([window.to_table(stages.FRAMES) for window in windows])
    rows = [w for t in encoder(batch) for w in Window.from_table(t, stages.FEATURES)]
    assert [bool(row.arrays) for row in rows] == [True, False, True]
    assert rows[1].failure is not None and rows[1].failure.stage == "encode"


def test_a_file_whose_sound_cannot_be_decoded_fails(tmp_path: Path, sandbox: Sandbox) -> None:
    write_video(tmp_path / "a.mp4", 3.0, sound=0.5)
    (clip, *_) = plan(tmp_path, RAW, sandbox)
    (tmp_path / "a.mp4").write_bytes(b"not a video any more" * 100)
    (window,) = decode_segment([clip], JOB, sandbox)
    assert window.failure is not None and window.failure.error_class == "NotAVideo"

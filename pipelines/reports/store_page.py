"""Page of a feature store: its facts, and a few clips with picture, sound and stored arrays.

Picture and sound are decoded from the archive again, through the sandbox. If that fails, the page shows the stored
arrays alone and the reason. The page is one file that loads nothing.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipelines import storage
from pipelines.archive import scan
from pipelines.media.errors import DecodeFailed, first_line
from pipelines.reports import film_card, pages
from pipelines.sandbox.decoder import Sandbox, View
from pipelines.store import summary
from pipelines.store.store import Store
from pipelines.store.summary import Facts, Row
from v2a_models import grid
from v2a_models.recipe import Recipe

CLIP_THUMBS = 12
CLASSES_SHOWN = 40
FEATURES_SHOWN = 64
"""Maximum of rows in a picture of features; of more dimensions it shows every n-th."""

PATIENCE_S = 30.0
LOST_AFTER = 2
"""Number of storage errors after which the archive counts as out of reach."""

_COOL, _DARK, _WARM = (96, 200, 235), (15, 17, 22), (252, 160, 90)


class Missing(Exception):
    """Picture and sound of a window cannot be decoded; the message has the reason."""


# ---- the clips


def clips(store: Store, facts: Facts) -> list[dict[str, Any]]:
    """Values for the page by sample of `facts.samples`. Raises StorageError only if the store is out of reach."""
    videos = {str(row["video_id"]): row for row in store.scan()}
    page_clips = []
    lost: list[str] = []
    # By file, so that each is opened once; shown in the order chosen.
    arrays = read_arrays(facts.samples)
    with Sandbox(threads=1, timeout_s=PATIENCE_S) as sandbox:
        for row in facts.samples:
            held = arrays[row.clip_id]
            clip = _facts_of(row, facts.recipe)
            try:
                if len(lost) >= LOST_AFTER:
                    raise Missing(f"the archive is unreachable ({lost[-1]})")
                clip |= _from_archive(row, videos.get(row.video_id), facts.recipe, sandbox, lost)
            except Missing as why:
                clip["why"] = str(why)
            if isinstance(held, str):
                clip["fault"] = held
            else:
                clip["arrays"] = [
                    picture for name in held if (picture := _array_picture(name, held[name], facts.recipe))
                ]
                if "mask" in held:
                    clip["mask"] = f"{int(held['mask'].sum())} of {held['mask'].size} cells hold footage"
            page_clips.append(clip)
    return page_clips


def read_arrays(rows: Sequence[Row]) -> dict[str, dict[str, np.ndarray] | str]:
    """Stored arrays by clip and column; in place of the arrays a text where they cannot be read.

    Holds one row group of one file at a time.
    """
    arrays: dict[str, dict[str, np.ndarray] | str] = {}
    for uri in dict.fromkeys(row.uri for row in rows):
        rows_of_file = [row for row in rows if row.uri == uri]
        try:
            with storage.reading(uri) as opened, pq.ParquetFile(opened, pre_buffer=False) as file:
                ends = np.cumsum([file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)])
                for group in sorted(
                    {int(np.searchsorted(ends, row.at, side="right")) for row in rows_of_file}
                ):
                    names = [column.name for column in summary.array_columns(file.schema_arrow)]
                    held = file.read_row_group(group, columns=names, use_threads=False)
                    begin = int(ends[group]) - held.num_rows
                    for row in rows_of_file:
                        if begin <= row.at < ends[group]:
                            arrays[row.clip_id] = {n: _array(held[n], row.at - begin) for n in names}
        except (storage.StorageError, pa.ArrowException, IndexError) as error:
            for row in rows_of_file:
                arrays.setdefault(row.clip_id, f"{row.file}: {first_line(error)}")
    return arrays


def _array(column: pa.ChunkedArray, at: int) -> np.ndarray:
    """One row of a tensor column, copied so that the rest of the row group can go."""
    chunk = next(part for part in column.slice(at, 1).chunks if len(part))
    return chunk.storage.flatten().to_numpy(zero_copy_only=False).reshape(chunk.type.shape).copy()


def _facts_of(row: Row, recipe: Recipe) -> dict[str, Any]:
    length = f"{row.duration_s:.3g} s"
    if row.duration_s < recipe.window_s - 1e-6:
        length += f" of a window of {recipe.window_s:g} s"
    facts = {"label": row.label, "text": row.text, "path": row.path, "split": row.split, "length": length}
    return facts | {"clip_id": row.clip_id, "start": f"{row.start_s:.2f}".rstrip("0").rstrip(".") + " s"}


def _from_archive(
    row: Row, video: Mapping[str, Any] | None, recipe: Recipe, sandbox: Sandbox, lost: list[str]
) -> dict[str, Any]:
    """Card and sound of a window, from its video. Raises Missing; adds to `lost` if storage fails."""
    if video is None:
        raise Missing("the latest run did not find this file: it was removed or changed")
    uri = str(video["uri"])
    try:
        info = storage.stat_file(uri, row.path)
        if scan.video_id(row.path, info.size, info.version) != row.video_id:
            raise Missing(f"{uri} has changed since")
        frames = strip(sandbox, uri, row, video, recipe.window_s)
    except storage.StorageNotFound as error:
        raise Missing(f"{uri} no longer exists") from error
    except storage.StorageError as error:
        lost.append(first_line(error))
        raise Missing(first_line(error)) from error
    except DecodeFailed as error:
        raise Missing(f"{uri} cannot be read: {error.error_class}: {error.message}") from error
    except ValueError as error:
        raise Missing(f"the row has no valid time span in {uri}: {error}") from error
    sound, why = np.zeros((1, 0), np.float32), ""
    try:
        sound = sandbox.decode_sound(
            uri, row.start_s, row.start_s + row.duration_s, origin_s=video["video_start_s"], channels=1
        )
    except (storage.StorageError, DecodeFailed) as error:
        why = f"the sound cannot be read: {first_line(error)}"
    image = film_card.draw_card(frames, sound, grid.SAMPLE_RATE, recipe.window_s)
    return {"card": picture_url(image, "WEBP"), "why": why, "audio": audio_url(sound) if sound.size else None}


def strip(sandbox: Sandbox, uri: str, row: Row, video: Mapping[str, Any], window_s: float) -> np.ndarray:
    """uint8 [THUMBS, h, w, 3] at the middles of equal stretches of a window; black after its footage ends."""
    step_s = window_s / CLIP_THUMBS
    width = round(film_card.STRIP * (video["width"] or 1) / (video["height"] or 1))
    view = View(1 / step_s, min(max(width, 8), 4 * film_card.STRIP), film_card.STRIP)
    from_s = row.start_s + min(step_s / 2, row.duration_s / 2)
    [frames] = sandbox.decode_views(uri, [view], from_s, row.start_s + row.duration_s)
    held = frames[:CLIP_THUMBS]
    return np.concatenate([held, np.zeros((CLIP_THUMBS - len(held), *held.shape[1:]), np.uint8)])


# ---- the arrays


def _array_picture(name: str, array: np.ndarray, recipe: Recipe) -> dict[str, Any] | None:
    """A stored array as a picture with a line about it."""
    picture: dict[str, Any] = {"name": name, "shape": f"{array.dtype} {list(array.shape)}", "warn": ""}
    if name == "codes":
        image, facts, warn = codegram(array)
        return picture | {
            "image": picture_url(image),
            "height": 10 * array.shape[0],
            "facts": facts,
            "warn": warn,
        }
    if name in ("semantic", "sync", "audio"):
        image, facts, warn = features(array)
        return picture | {"image": picture_url(image), "height": 96, "facts": facts, "warn": warn}
    silence = np.zeros(1, np.float32)
    if name == "frames":
        few = array[np.linspace(0, len(array) - 1, min(CLIP_THUMBS, len(array))).round().astype(int)]
        image = film_card.draw_card(few, silence, grid.SAMPLE_RATE, recipe.window_s)
        image = image.crop((0, 0, film_card.WIDTH, film_card.STRIP))
        spread = float(np.diff(array.astype(np.int16), axis=0).__abs__().mean()) if len(array) > 1 else 0.0
        warn = "every picture is the same" if len(array) > 1 and not spread else ""
        picture |= {
            "image": picture_url(image, "WEBP"),
            "facts": f"change from one to the next {spread:.3g} of 255",
        }
        return picture | {"height": film_card.STRIP, "warn": warn}
    if name == "waveform":
        image = film_card.draw_card(
            np.zeros((0, 1, 1, 3), np.uint8), array, recipe.sample_rate, recipe.window_s
        )
        top = film_card.STRIP + film_card.GAP
        image = image.crop((0, top, film_card.WIDTH, top + film_card.WAVE))
        warn = "" if array.any() else "nothing but silence"
        facts = f"{array.shape[0]} channel{'s' if array.shape[0] > 1 else ''} at {recipe.sample_rate} Hz"
        picture |= {"image": picture_url(image, "WEBP"), "facts": facts}
        return picture | {"height": film_card.WAVE, "warn": warn}
    return None


def codegram(codes: np.ndarray) -> tuple[Image.Image, str, str]:
    """Tokens [codebooks, frames] as a picture of that size, a line about them, and what is wrong with them."""
    size = 1 << max(1, int(codes.max(initial=1)).bit_length())
    level = np.sqrt((codes.astype(np.float32) + 1) / size)
    distinct = [len(np.unique(row)) for row in codes]
    facts = f"different tokens per codebook: {', '.join(map(str, distinct))}"
    warn = "one and the same token throughout" if max(distinct, default=0) <= 1 else ""
    return _painted(2 * level - 1), facts, warn


def features(array: np.ndarray) -> tuple[Image.Image, str, str]:
    """Features [steps, dimensions] as a picture (time to the right, FEATURES_SHOWN dimensions at most), a line
    about them, and what is wrong with them."""
    values = array.astype(np.float32)
    broken = int((~np.isfinite(values)).sum())
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    spread = float(values.std())
    moving = float(np.sqrt(values.var(axis=0).mean())) / spread if spread > 0 else 0.0
    facts = f"mean {values.mean():.3g}, spread {spread:.3g}, of which {moving:.0%} over time"
    every = -(-values.shape[1] // FEATURES_SHOWN)
    if every > 1:
        facts += f"; one in {every} dimensions shown"
    warn = ""
    if broken:
        warn = f"{broken:,} of {values.size:,} values are not finite"
    elif spread == 0:
        warn = "one and the same value throughout"
    elif moving < 1e-3 and len(values) > 1:
        warn = "no change over time"
    centred = values - np.median(values)
    scale = float(np.quantile(np.abs(centred), 0.98)) or 1.0
    return _painted(centred.T[::every] / scale), facts, warn


def _painted(level: np.ndarray) -> Image.Image:
    """Values from -1 (cool) over 0 (dark) to 1 (warm) as a picture of the same size."""
    ramp = np.array([_COOL, _DARK, _WARM], np.float32)
    at = np.clip(level, -1, 1)
    pixels = np.stack([np.interp(at, (-1, 0, 1), ramp[:, c]) for c in range(3)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def picture_url(image: Image.Image, kind: str = "PNG") -> str:
    """The picture as a data: address. PNG keeps single cells sharp, WEBP is small for what was filmed."""
    sink = io.BytesIO()
    image.save(sink, kind, **({"quality": 80, "method": 4} if kind == "WEBP" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(sink.getvalue()).decode()}"


def audio_url(sound: np.ndarray) -> str:
    """Sound (float32 [1, n] at 44.1 kHz) as a data: address: AAC in MP4, which every browser plays."""
    sink = io.BytesIO()
    mono = np.clip(np.nan_to_num(sound), -1, 1).astype(np.float32)
    with av.open(sink, "w", format="mp4") as container:
        stream: Any = container.add_stream("aac", rate=grid.SAMPLE_RATE, layout="mono")
        stream.bit_rate = 96_000
        frame = av.AudioFrame.from_ndarray(mono, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = grid.SAMPLE_RATE, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return f"data:audio/mp4;base64,{base64.b64encode(sink.getvalue()).decode()}"


# ---- the page


def render_store(facts: Facts, page_clips: Sequence[Mapping[str, Any]]) -> str:
    """The page as text: HTML with everything in it. `page_clips`: as returned by `clips`."""
    common = facts.labels.most_common(CLASSES_SHOWN)
    return pages.render(
        "store.html.j2",
        size_text=summary.size_text,
        facts=facts,
        split_seconds={name: split.seconds for name, split in facts.splits.items()},
        made_with=summary.made_with(facts),
        classes=common,
        more_classes=len(facts.labels) - len(common),
        most=common[0][1] if common else 1,
        n_labelled=sum(facts.labels.values()),
        n_left_out=sum(facts.left_out.values()),
        n_failed=sum(group.count for group in facts.failures),
        clips=page_clips,
        card_height=film_card.HEIGHT,
        window_s=facts.recipe.window_s,
    )

"""Generate stage for models that in-paint: two waves of windows (`v2a_models.longform`), then the codec.

    first wave -> second wave between it -> codec -> samples -> [left and right]

Still windows, and those between them, are not generated: they get one seamless ambience, generated once from the film's
first picture, or silence.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.dub.generate.batches import add_captions, batches, billed
from pipelines.dub.generate.token_canvas import TokenCanvas, WindowTask, merged
from pipelines.dub.item import FIRST, Item
from pipelines.dub.job import DubJob
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.dub.segment_windows import pictures
from pipelines.soundtrack.mixing import Seconds
from v2a_models import grid, longform, pcm
from v2a_models.longform import FrameSpan
from v2a_models.metrics import seams

if TYPE_CHECKING:
    import torch

    from v2a_models.generator import Generator

RAMP_S = 0.05
"""Length of the ramps into silent stretches and out of them."""

AMBIENCES = 8
"""Ambiences that an actor caches, one for each film: a film has many segments, but few films are in progress."""

WAVEFORMS = 6
"""Decoded pieces that an actor caches. An ambience repeats whole pieces, with shorter ones at the ends of segments
in between."""


class TwoWaveGenerator:
    """Generates windows of items in two waves, in batches of exactly `job.batch_size`, filled with repeats."""

    def __init__(self, job: DubJob, generator: Generator, device: str) -> None:
        assert job.layout is not None and generator.codec is not None
        self.job, self.generator, self.device, self.layout = job, generator, device, job.layout
        self.codec = generator.codec
        self.ambiences: OrderedDict[tuple[str, int, str], np.ndarray] = OrderedDict()
        self.waveforms: OrderedDict[tuple[bytes, FrameSpan], np.ndarray] = OrderedDict()
        """Samples of the pieces decoded last, by codes and span: those of an ambience come again and again."""

    def generate(self, items: Sequence[Item]) -> None:
        """Set the sound of every item, or its failure."""
        canvases = [TokenCanvas(item, self.layout) for item in items]
        for canvas in canvases:
            if canvas.ambient:
                with billed([canvas.item], self.device):
                    canvas.repeat(self._loop(canvas.item))
        for wave in (0, 1):
            todo = [
                task for canvas in canvases if not canvas.item.failure for task in canvas.to_generate(wave)
            ]
            for batch in batches(todo, self.job, lambda task: task.window.samples):
                going = [task for task in batch if not task.item.failure]
                if going:
                    with billed([task.item for task in going], self.device):
                        self._draw(going)
        for canvas in canvases:
            if not canvas.item.failure:
                with billed([canvas.item], self.device):
                    self._finish(canvas)

    # generating

    def _draw(self, tasks: Sequence[WindowTask]) -> None:
        import torch

        job = self.job
        filled = [*tasks, *[tasks[-1]] * (job.batch_size - len(tasks))]
        seeds = [self._seed(task.item, task.window.number) for task in filled]
        frames = {
            name: self._stack([pictures(task.item, job, task.window, name) for task in filled])
            for name in job.views
        }
        with torch.inference_mode():
            batch = self.generator.features(frames)
            self._caption(tasks, batch)
            tokens = self._tracks(filled, batch, seeds)
        for task, codes in zip(tasks, tokens, strict=False):
            task.canvas.put(task.window, codes)

    def _seed(self, item: Item, number: int) -> int:
        from v2a_models.seeds import window_seed  # loads torch: not in workers that only decode

        return window_seed(item.task.seed(self.job), item.task.video_id, number)

    def _tracks(self, tasks: Sequence[WindowTask], batch: Any, seeds: list[int]) -> np.ndarray:
        """Codes of a batch of windows: int64 [tasks, tracks, codebooks, window.size]."""
        job, window = self.job, tasks[0].window
        options = job.options(tasks[0].item.task.overrides) | {"length": window.size}
        if window.wave == 0:
            return self.generator.draw(batch, seeds=seeds, **options).cpu().numpy()
        # Each track is in-painted between its own neighbours; alternatives split the candidates of one track.
        tracks = []
        for track in range(job.keep_top):
            decided = [task.canvas.decided(task.window, track) for task in tasks]
            codes, mask = (self._stack([pair[k] for pair in decided]) for k in (0, 1))
            candidates = job.candidates if track == 0 else max(1, job.candidates // job.keep_top)
            inpainting = options | {
                "keep": 1,
                "candidates": candidates,
                "known_codes": codes,
                "known_mask": mask,
            }
            track_seeds = seeds if track == 0 else [_track_seed(seed, track) for seed in seeds]
            tracks.append(self.generator.draw(batch, seeds=track_seeds, **inpainting)[:, 0].cpu().numpy())
        return np.stack(tracks, 1)

    def _stack(self, arrays: Sequence[np.ndarray]) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.stack(arrays)).to(self.device)

    def _caption(self, tasks: Sequence[WindowTask], batch: Any) -> None:
        job = self.job
        if job.captions:
            spans: list[Seconds | None] = []
            for task in tasks:
                first, stop = task.canvas.within(task.window.keep)
                needed = first < stop and (job.subtitles or not (task.item.facts.captions or any(spans)))
                spans.append((self._seconds(first), self._seconds(stop)) if needed else None)
            add_captions(self.generator, batch, [task.item for task in tasks], spans)

    def _seconds(self, frame: int) -> float:
        return grid.seconds(frame * grid.HOP, self.job.rate)

    # still stretches

    def _loop(self, item: Item) -> np.ndarray:
        """Codes [tracks, codebooks, n] of the sound of still stretches, cached by film, seed and texts."""
        texts = json.dumps(self.job.texts(item.task.overrides))
        key = (item.task.video_id, item.task.seed(self.job), texts)
        if key not in self.ambiences:
            self.ambiences[key] = self._silence() if self.job.static == "silence" else self._ambience(item)
        self.ambiences.move_to_end(key)
        while len(self.ambiences) > AMBIENCES:
            self.ambiences.popitem(last=False)
        return self.ambiences[key]

    def _ambience(self, item: Item) -> np.ndarray:
        import torch

        job, size_s = self.job, grid.seconds(self.job.window, self.job.rate)
        still = {
            name: np.repeat(item.arrays[name + FIRST], grid.frame_count(size_s, view.fps), 0)
            for name, view in job.views.items()
        }
        options = job.options(item.task.overrides)
        with torch.inference_mode():
            # A full batch as always, so that the arithmetic is the same.
            batch = self.generator.features(
                {name: self._stack([frames] * job.batch_size) for name, frames in still.items()}
            )
            draw = self.generator.draw
            seeds = [self._seed(item, -1)] * job.batch_size
            first_call = draw(batch, seeds=seeds, **options)[0].cpu().numpy()
            loop = longform.loop(self.layout)
            known, mask = np.zeros_like(first_call), np.zeros(first_call.shape, bool)
            for here, there in loop.known:
                known[..., slice(*here)], mask[..., slice(*here)] = first_call[..., slice(*there)], True
            closing = []
            for track in range(job.keep_top):
                fixed = {"known_codes": known[track], "known_mask": mask[track]}
                rows = {name: self._stack([array] * job.batch_size) for name, array in fixed.items()}
                seeds = [self._seed(item, -2 - track)] * job.batch_size
                closing.append(draw(batch, seeds=seeds, **{**options, "keep": 1, **rows})[0, 0].cpu().numpy())
        return np.concatenate(
            [first_call[..., slice(*loop.kept)], np.stack(closing)[..., slice(*loop.closing)]], -1
        )

    def _silence(self) -> np.ndarray:
        import torch

        length = longform.loop(self.layout).length
        codes = self.codec.encode(torch.zeros(1, 1, length * grid.HOP, device=self.device)).cpu().numpy()
        return np.repeat(codes, self.job.keep_top, 0)

    # to samples

    def _finish(self, canvas: TokenCanvas) -> None:
        item, job = canvas.item, self.job
        sound = self._stereo(canvas) if job.channels == 2 else self._decoded(canvas, 0)
        if job.static == "silence":
            sound = sound * _gain(canvas, sound.shape[1], job.rate)
        item.arrays["sound"] = pcm.quantise(sound)
        joins = [
            (left.keep[1] - canvas.segment_frames.start) * grid.HOP
            for left, right in pairwise(canvas.windows)
            if left.shot == right.shot and not (left in canvas.ambient and right in canvas.ambient)
        ]
        start_s = self._seconds(canvas.segment_frames.start)
        worst = seams.worst(sound[: job.channels].mean(0), joins, job.rate)
        jumps = tuple((start_s + grid.seconds(at, job.rate), jump) for at, jump in worst)
        item.facts += canvas.facts() + SegmentFacts(seams=jumps)

    def _stereo(self, canvas: TokenCanvas) -> np.ndarray:
        """Samples of the segment, left and right, float32 [tracks * 2, n].

        They are placed by the segment's pictures as a whole, which hold those that its neighbours see at the borders.
        """
        import torch

        from v2a_models.stereo import motion, panning

        job, item, first = self.job, canvas.item, canvas.segment_frames
        fps, pictures = job.views[job.fastest].fps, item.arrays.get(job.fastest)
        place = torch.zeros(1, 1, 2) if pictures is None else motion.place(pictures[None], fps)
        past = min(grid.codec_frames(panning.memory(job.rate)), first.start - first.decided[0])
        with torch.inference_mode():
            sound = panning.stereo(
                torch.from_numpy(self._decoded(canvas, past)), place, fps=fps, rate=job.rate,
                start=item.task.segment.start - grid.samples(item.decoded_from_s, job.rate), past=past * grid.HOP,
            )  # fmt: skip
        return sound.flatten(0, 1).numpy()

    def _decoded(self, canvas: TokenCanvas, past: int) -> np.ndarray:
        """Samples of the segment and of `past` codec frames before it, float32 [tracks, n].

        Pieces lie on a grid of the film and are as long as an ambience, so that its pieces are equal and found in the
        cache.
        """
        frames, piece = canvas.segment_frames, longform.loop(self.layout).length
        start, segment = frames.start - past, canvas.item.task.segment
        edges = [start, *range(-(-(start + 1) // piece) * piece, frames.stop, piece), frames.stop]
        sound = np.concatenate([self._piece(canvas, span) for span in pairwise(edges)], 1)
        return sound[:, : segment.stop - start * grid.HOP]

    def _piece(self, canvas: TokenCanvas, span: FrameSpan) -> np.ndarray:
        import torch

        first, last = canvas.segment_frames.decided
        margin = self.codec.receptive_radius
        start, stop = max(first, span[0] - margin), min(last, span[1] + margin)
        codes = canvas.codes[..., start - first : stop - first]
        if canvas.item.task.part is not None:
            codes = codes.clip(0)  # undecided codes outside of the part: their sound is not used
        if codes.size == 0 or codes.min() < 0:
            raise ValueError(f"codec frames {start} to {stop} of the film were not decided")
        inside = span[0] - start, span[1] - start
        key = codes.tobytes(), inside
        if key not in self.waveforms:
            with torch.inference_mode():
                sound = self.generator.decode(
                    torch.from_numpy(codes).to(self.device), codes.shape[-1] * grid.HOP
                )
            samples = slice(inside[0] * grid.HOP, inside[1] * grid.HOP)
            self.waveforms[key] = sound[:, 0, samples].cpu().numpy()
        self.waveforms.move_to_end(key)
        while len(self.waveforms) > WAVEFORMS:
            self.waveforms.popitem(last=False)
        return self.waveforms[key]


def _track_seed(seed: int, track: int) -> int:
    from v2a_models.selection import candidate_seed

    return candidate_seed(seed, 1_000_000 * track)


def _gain(canvas: TokenCanvas, n: int, rate: int) -> np.ndarray:
    """Gain that silences still stretches, with ramps inside their ends: float32 [n]."""
    ramp, gain = grid.samples(RAMP_S, rate), np.ones(n, np.float32)
    for first, stop in merged([window.keep for window in canvas.ambient]):
        # A stretch up to the end of the canvas continues in the next segment, which is silent there too.
        a, b = ((frame - canvas.segment_frames.start) * grid.HOP for frame in (first, stop))
        at = np.arange(n)
        down = np.ones(n) if first == canvas.segment_frames.decided[0] else np.clip((at - a) / ramp, 0, 1)
        up = np.ones(n) if stop == canvas.segment_frames.decided[1] else np.clip((b - at) / ramp, 0, 1)
        gain *= np.where((at >= a) & (at < b), 1 - np.minimum(down, up), 1).astype(np.float32)
    return gain

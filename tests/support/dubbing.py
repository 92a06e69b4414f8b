"""`v2a dub` on small films through its real command line, with generators that need no weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq

from jobs import cli, dub
from jobs.common.checks import selected
from jobs.dub import console, driver, preflight
from pipelines.archive import scan
from pipelines.dub import decode, finish, manifest, state
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.manifest import ManifestRow
from pipelines.dub.plan import make_plan, wants_silence
from pipelines.sandbox.decoder import shared_sandbox
from pipelines.soundtrack import silence
from tests.support.muxing import title_of
from tests.support.toy_generators import NOISE

RATE = 44_100


def parse(*arguments: str | Path) -> dub.DubConfig:
    """Configuration of `v2a dub ARGUMENTS`, with a generator that needs no weights unless a model is given."""
    words = [str(word) for word in arguments]
    return cli.parse(dub.DubConfig, words + ["--model", NOISE] * ("--model" not in words), "v2a dub")


def v2a_dub(*arguments: str | Path) -> int:
    """`v2a dub ARGUMENTS`; the exit code. Records nothing in MLflow."""
    return dub.run(parse(*arguments, "--tracking-uri", "off"))


def quickly(*arguments: str | Path) -> dict[str, dict[str, Any]]:
    """The same without Ray: the command line, its checks, the plan and all stages, in this process. Report rows by
    path. Raises WrongUsage."""
    config = parse(*arguments)
    requests = preflight.read_manifest(config)
    config, selection = selected(config, config.out, manifest.rates(requests))
    selection.joins.insert(0, manifest.joins(requests))
    preflight.preflight(config)
    job = preflight.make_job(config, requests)
    preflight.check_identity(config, job)
    sandbox = shared_sandbox()
    tables = selection.films(
        selection, lambda infos: (scan.to_table([scan.scan_file(info, sandbox)]) for info in infos)
    )
    scanned = [row for table in tables for row in table.to_pylist()]
    requests = manifest.resolved(requests, scanned)
    policy = job.treatment
    silences = {
        video["video_id"]: silence.find(video, policy.silence_dbfs, sandbox)
        for video in scanned
        if wants_silence(video, policy.existing, requests.get(video["path"], ManifestRow()), job.max_hours)
    }
    plan = make_plan(
        job,
        scanned,
        config.only,
        restart=config.restart,
        requests=requests,
        silences=silences,
        selection=selection,
    )
    state.State(config.out).write_config(driver.saved_settings(config, job))
    dubber = Dubber(job)
    for task in plan.tasks:
        [item] = dubber.generate([decode.decode_task(task, job, sandbox)])
        if (row := finish.finish_item(item, job)) is not None:
            plan.rows[task.video_id] = row
    table = [*(plan.rows[video_id] for video_id in plan.order), *plan.others]
    console.write_report(config.out, table, {"out": config.out})
    return {row["path"]: row for row in table}


def report(out: Path) -> dict[str, dict[str, Any]]:
    """Rows of the report by path."""
    return {row["path"]: row for row in pq.read_table(out / "_v2a" / "report.parquet").to_pylist()}


def film(
    path: Path,
    sound: np.ndarray | None = None,
    seconds: float = 3.0,
    codec: str = "pcm_s16le",
    rate: int = RATE,
    brightness: Callable[[int], int] = lambda k: (k * 29) % 256,
) -> Path:
    """Grey pictures at 12 per second, each as bright as its number asks for, with the sound int16 [channels, n] coded
    by `codec`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("mpeg4", rate=12)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = None
        if sound is not None:
            audio = out.add_stream(codec, rate=rate)
            audio.codec_context.layout = "mono" if len(sound) == 1 else "stereo"
        for k in range(round(seconds * 12)):
            picture = np.full((48, 64, 3), brightness(k), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 12)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if sound is not None:
            for at in range(0, sound.shape[1], 1024):
                block = np.ascontiguousarray(sound[:, at : at + 1024].T.reshape(1, -1))
                frame = av.AudioFrame.from_ndarray(block, format="s16", layout=audio.codec_context.layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
                out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return path


def track(path: Path, title: str) -> np.ndarray:
    """The sound of the track of that title as it decodes: int16 [channels, n]."""
    with av.open(str(path)) as opened:
        [stream] = [s for s in opened.streams.audio if title_of(s) == title]
        return _decoded(opened, stream)


def only_track(path: Path) -> np.ndarray:
    """The same of a sound file."""
    with av.open(str(path)) as opened:
        return _decoded(opened, opened.streams.audio[0])


def titles(path: Path) -> list[str]:
    with av.open(str(path)) as opened:
        return [title_of(stream) for stream in opened.streams.audio]


def codecs(path: Path) -> list[str]:
    with av.open(str(path)) as opened:
        return [stream.codec_context.name for stream in opened.streams.audio]


def _decoded(opened: Any, stream: Any) -> np.ndarray:
    blocks = []
    resampler = None
    for packet in opened.demux(stream):
        with contextlib.suppress(av.InvalidDataError):
            for frame in packet.decode():
                resampler = resampler or av.AudioResampler("s16p", frame.layout, frame.sample_rate)
                blocks += [part.to_ndarray() for part in resampler.resample(frame)]
    return np.concatenate(blocks, axis=1)


def noise(
    seconds: float, level: float = 0.3, channels: int = 1, rate: int = RATE, seed: int = 0
) -> np.ndarray:
    """int16 [channels, n]"""
    wave = np.random.default_rng(seed).uniform(-1, 1, (channels, round(seconds * rate)))
    return np.rint(level * 32767 * wave).astype(np.int16)

"""One part of a dubbed film again, from another seed; every other sample stays as it was.

    samples of the old track ────────────────────────────────┐
    windows that reach into the part -> generated, treated ──┴─> old outside, new inside, ramps inside the ends
                                                                  -> in the place of the old track

The old samples come out of the film where its track is coded without loss, and out of OUT/_v2a/sound where it is not;
their sha256 is held against the sidecar's. Gains are those of the first dubbing: a part that is louder or softer than
before must not move the level of the rest.

A kill leaves the old film or the new one. What belongs to the new one (sidecar, report row, samples) is written down
before it gets its name, and is taken over by the next `v2a redub` of that film if the kill came in between.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import storage
from pipelines.dub import decode, plan, segments
from pipelines.dub import track as film_track
from pipelines.dub.generate.crossfade import Dubber
from pipelines.dub.job import DubJob, DubTask
from pipelines.dub.seal import Proof, Sealer
from pipelines.dub.state import Part, State
from pipelines.mux import audio_file, child, containers
from pipelines.mux.packet_hashes import Digests
from pipelines.mux.track import MuxResult
from pipelines.provenance import inspection
from pipelines.provenance.sidecar import facts_of, tags_of
from pipelines.sandbox.decoder import shared_sandbox
from pipelines.soundtrack import flags, mixing
from pipelines.soundtrack.levels import Meter
from pipelines.soundtrack.mixing import AudioFormat, Envelope, Gains, Seconds
from pipelines.storage import hashing

WINDOWS = 8
"""Of a segment that is generated at a time."""


class RedubError(Exception):
    """The part cannot be made again; the message says what to do."""


@dataclass(frozen=True)
class Dubbed:
    """A film as an earlier run left it."""

    row: dict[str, Any]
    side: dict[str, Any]

    @property
    def video_id(self) -> str:
        return str(self.row["video_id"])

    @property
    def output(self) -> str:
        return str(self.row["output"])

    @property
    def made(self) -> AudioFormat:
        return AudioFormat(**self.side["track"]["treatment"]["made"])

    @property
    def gains(self) -> list[Gains]:
        return [Gains(**g) for g in self.side["track"]["treatment"]["gains"]]


def find(out: str, name: str, rows: Iterable[dict[str, Any]]) -> Dubbed:
    """The film that is called `name`: as it is in OUT, as in the archive, or by its place on this machine.

    rows: of the report. Raises RedubError.
    """
    names = {name}
    if storage.is_remote(out) == storage.is_remote(name):
        root, full = (
            place if storage.is_remote(place) else storage.local_path(place) for place in (out, name)
        )
        root = root.rstrip("/") + "/"
        names |= {full.removeprefix(root)} if full.startswith(root) else set()
    found = [row for row in rows if {row["output"], row["path"]} & names and row["status"] == "dubbed"]
    if len(found) != 1:
        raise RedubError(
            f"{name} is not a dubbed file of {out}; give its path as in the report, such as sub/reel.mp4"
        )
    state = State(out)
    resume(state, found[0]["video_id"])
    row = state.read_row(found[0]["video_id"]) or found[0]
    try:
        side = json.loads(storage.read_bytes(state.uri("provenance", f"{row['video_id']}.json")))
    except (storage.StorageNotFound, ValueError) as error:
        raise RedubError(f"the sidecar of {name} is gone, which knows how it was made: {error}") from error
    if "samplesSha256" not in side["track"]:
        raise RedubError(
            f"{name} was dubbed before v2a kept what redubbing needs: dub it again with --restart"
        )
    return Dubbed(row, side)


def check(film: Dubbed, job: DubJob, span: Seconds, spans: Iterable[Seconds] | None) -> None:
    """Raises RedubError if the model is another one, or the part is not in the film."""
    made = film.side["generator"]
    for what, there, now in (
        ("weights (sha256)", made["sha256"], job.model_sha256),
        ("recipe", made["recipe"], job.recipe),
    ):
        if there != now:
            raise RedubError(
                f"the film was dubbed by the model {made['model']!r} with {what} {there}, and {job.model_name!r} has "
                f"{now}: give that model with --model, or dub the film again with v2a dub --restart"
            )
    if job.streams:
        raise RedubError(
            f"{job.model_name!r} goes on from its own past: a part of it cannot be made again alone"
        )
    duration_s = float(film.row["duration_s"])
    if not 0 <= span[0] < span[1] <= duration_s + 0.05:
        raise RedubError(
            f"--start {span[0]:g} and --end {span[1]:g} must lie in this order in the film, which lasts "
            f"{duration_s:.3f} s"
        )
    if spans is not None and not any(a < span[1] and b > span[0] for a, b in spans):
        raise RedubError("no generated sound is heard there: the film's own sound, or silence, was wanted")


def redub(
    film: Dubbed, video: dict[str, Any], job: DubJob, span: Seconds, load: Callable[[str], Any]
) -> dict[str, Any]:
    """Make a part again; the film's new report row.

    video: scan row of the original; job: as the film was dubbed, but for seed and texts of the part.
    Raises RedubError, DecodeFailed (MuxFailed) for what a file causes, StorageError.
    """
    state, job = State(job.out), replace(job, keep_top=1)
    if job.layout is None:  # where windows know nothing of each other, shorter segments are as good
        job = replace(job, windows_per_segment=WINDOWS)
    seen = _look(film, job)
    video = video | {"video_id": film.video_id}
    tasks = plan.plan_file(job, video, film.output, film.output, asked={}, spans=[span])
    tasks = [replace(task, asked={"seed": job.seed}, part=span) for task in tasks]
    work = f"{film.video_id}.redub"
    state.drop_parts(work)
    _generate(tasks, job, load, work)
    try:
        _write(film, tasks, job, span, seen, work)
    finally:
        state.drop_parts(work)
    return _take_over(state, film.video_id)


def _look(film: Dubbed, job: DubJob) -> inspection.Inspection:
    """The dubbed file as it is. Raises RedubError if that is not what was made."""
    seen = inspection.inspect(storage.join(job.out, film.output))
    if seen.sha256 != film.side.get("outputSha256"):
        raise RedubError(
            f"{film.output} is not, byte for byte, what was dubbed: v2a verify says what was changed; "
            "dub it again with v2a dub --restart"
        )
    return seen


def _generate(tasks: list[DubTask], job: DubJob, load: Callable[[str], Any], work: str) -> None:
    """The segments that reach into the part, into the state folder. Raises RedubError."""
    state, dubber = State(job.out), Dubber(job, load)
    for task in tasks:
        if task.needless:
            continue
        [item] = dubber.generate([decode.decode_task(task, job, shared_sandbox())])
        if item.failure is not None:
            raise RedubError(f"{item.failure.stage}: {item.failure.error_class}: {item.failure.message}")
        state.write_part(work, task.segment.index, Part(item.arrays["sound"], facts=item.facts))


def _sounds(tasks: list[DubTask], job: DubJob, work: str, still: list[Seconds]) -> Iterator[np.ndarray]:
    """int16 [channels, n] of every segment: silence where nothing was generated. `still` takes what does not move."""
    for task in tasks:
        if task.needless:
            yield np.zeros((job.channels, task.segment.stop - task.segment.start), np.int16)
        else:
            part = State(job.out).read_part(work, task.segment.index)
            still += part.facts.still
            yield part.sound


def patched(
    old: Iterable[np.ndarray], new: Iterable[np.ndarray], span: Seconds, made: AudioFormat
) -> Iterator[np.ndarray]:
    """int16 [channels, n]: the old samples outside of the span, the new ones inside, with ramps inside its ends."""
    shape, position = Envelope([span], made), 0
    for before, after in zip(mixing.cut(old), mixing.cut(new), strict=True):
        weight = shape.at(position, before.shape[1])
        change = (after.astype(np.float32) - before) * weight
        position += before.shape[1]
        yield (before + np.rint(change).astype(np.int32)).astype(np.int16)


def _old(film: Dubbed, job: DubJob, seen: inspection.Inspection, start_s: float) -> Iterator[np.ndarray]:
    """The samples of the old track, int16 [channels, n]. Raises RedubError if they are not what was coded."""
    made, place, track = film.made, storage.join(job.out, film.output), 0
    if _lossless(film):
        track = seen.sound.index(film.side["packets"]["generated"])
    else:
        place, start_s = State(job.out).sound_uri(film.video_id), 0.0
        if not storage.exists(place):
            raise RedubError(
                f"the track of {film.output} is coded with loss and its samples were not kept (--no-keep-sound): "
                "dub the film again with v2a dub --restart"
            )
    samples = audio_file.Samples()
    found = shared_sandbox().iter_sound(place, made.n_samples, made.rate, made.channels, start_s, track)
    yield from samples.watch((mixing.quantised(block) for block in found), made.channels)
    if samples.sha256 != film.side["track"]["samplesSha256"]:
        raise RedubError(f"the samples in {place} are not those that were dubbed: dub the film again")


def _lossless(film: Dubbed) -> bool:
    how = film.side["track"]["treatment"]
    if how["sidecar"] != "none":
        return True
    return containers.container_of(film.output).coded(how["audio_codec"]).codec in containers.LOSSLESS


def _write(
    film: Dubbed, tasks: list[DubTask], job: DubJob, span: Seconds, seen: inspection.Inspection, work: str
) -> None:
    """The new film, or sound file, in the place of the old one, and what belongs to it in the state folder."""
    state, how, destination = State(job.out), job.treatment, storage.join(job.out, film.output)
    sidecar = how.sidecar != "none"
    start_s = 0.0 if sidecar else shared_sandbox().probe(destination).video_start_s
    making = film_track.making(tasks[0], job, state)
    made, c = making.made, making.made.channels
    still: list[Seconds] = []
    parts = segments.join(_sounds(tasks, job, work, still), job.overlap)
    fresh = film_track.blocks(making, how, parts, film.gains[:1])
    # Both the old samples and the film's own sound come out of one sandbox: the new track is made first, and kept.
    with ExitStack() as stack:
        scratch = stack.enter_context(storage.Pending(state.uri("parts", work, "new.flac")))
        with audio_file.Writer(Path(scratch.path), "flac", made.rate, c) as writer:
            for block in fresh:
                writer.feed(block)
            writer.close()
        new = audio_file.read(Path(scratch.path))
        samples, meter, proof = audio_file.Samples(), Meter(), Proof()
        fresh_only = mixing.meet([span], [(0.0, making.duration_s)] if making.spans is None else making.spans)
        watcher = meter.flags = flags.Watcher(made.rate, fresh_only, lambda: still)
        sound = patched(_old(film, job, seen, start_s), new, span, made)
        sound = meter.watch(samples.watch(sound, c), c)
        kept: tuple[storage.Pending, audio_file.Writer] | None = None
        if not _lossless(film):
            pending = stack.enter_context(storage.Pending(_next(state, film.video_id, "flac")))
            writer = stack.enter_context(audio_file.Writer(Path(pending.path), "flac", made.rate, c))
            kept, sound = (pending, writer), audio_file.passing(sound, writer, c)

        def seal(path: Path, digests: Digests) -> None:
            if kept is not None:
                kept[1].close()
                kept[0].commit()
            proof.source_sha256 = film.side["sourceSha256"]
            proof.facts = _facts(film, tasks, job, span, digests, samples.sha256)
            Sealer(job.out, job.version, job.sign_key, job.sign_cert).seal(path, film.output, proof)
            _write_down(state, film, job, span, path, proof, meter, watcher)

        if sidecar:
            tags = tags_of(_facts(film, tasks, job, span, Digests(), ""))
            file = stack.enter_context(storage.Pending(destination))
            with audio_file.Writer(Path(file.path), how.sidecar, made.rate, c, tags) as out:
                for block in sound:
                    out.feed(block)
                digest = out.close()
            seal(Path(file.path), Digests(generated=digest))
            file.commit()
        else:
            _mux(film, job, span, tasks, making, sound, seen, start_s, destination, seal, stack)


def _mux(
    film: Dubbed,
    job: DubJob,
    span: Seconds,
    tasks: list[DubTask],
    making: film_track.TrackPlan,
    sound: Iterable[np.ndarray],
    seen: inspection.Inspection,
    start_s: float,
    destination: str,
    seal: Callable[[Path, Digests], None],
    stack: ExitStack,
) -> None:
    local = destination
    if storage.is_remote(destination):
        local = stack.enter_context(storage.Pending(destination)).path
    was = Digests.from_json(film.side["packets"])

    def with_names(path: Path, result: MuxResult) -> None:
        found = result.digests
        rest = Counter(found.kept) - Counter(was.alternatives)
        kept = tuple(digest for digest in was.kept if digest in rest)
        seal(path, Digests(found.video, kept, found.generated, was.alternatives))

    child.mux_in_child(
        destination,
        sound,
        local,
        n_samples=making.made.n_samples,
        video_start_s=start_s,
        channels=making.made.channels,
        sample_rate=making.made.rate,
        title=making.title,
        tags=tags_of(_facts(film, tasks, job, span, Digests(), "")),
        old_comment=tags_of(film.side)["comment"],
        codec=job.treatment.audio_codec,
        replaces=seen.sound.index(was.generated),
        seal=with_names,
    )
    if storage.is_remote(destination):
        storage.put_atomic(local, destination)


def _facts(
    film: Dubbed, tasks: list[DubTask], job: DubJob, span: Seconds, digests: Digests, samples_sha256: str
) -> dict[str, Any]:
    """The sidecar of the new film: the old one's, and what was made again."""
    facts = facts_of(film.side)
    heard = [task.segment for task in tasks if not task.needless]
    edit: dict[str, Any] = {"start_s": span[0], "end_s": span[1], "seed": job.seed}
    edit |= job.texts({})
    first, stop = heard[0].first_window, heard[-1].first_window + heard[-1].n_windows
    edit["windows"] = {
        "first": first,
        "number": stop - first,
    }  # C2PA's library takes lists of small numbers for bytes
    track = facts["track"] | {"samplesSha256": samples_sha256}
    return facts | {
        "packets": digests.to_json(),
        "track": track,
        "edits": [*facts.get("edits", []), edit],
        "software": {"name": "v2a", "version": job.version},
    }


def _next(state: State, video_id: str, suffix: str) -> str:
    return state.uri("redub", f"{video_id}.{suffix}")


def _write_down(
    state: State,
    film: Dubbed,
    job: DubJob,
    span: Seconds,
    path: Path,
    proof: Proof,
    meter: Meter,
    watcher: flags.Watcher,
) -> None:
    """What belongs to the new film, before it gets its name."""
    again = f"{span[0]:g} to {span[1]:g} s again (seed {job.seed})"
    row = film.row | {
        "treatment": ", ".join(part for part in (film.row.get("treatment"), again) if part),
        "output_size": path.stat().st_size,
        "output_sha256": proof.output_sha256,
        "signer": proof.signer,
        "sound_peak_dbfs": meter.peak_dbfs,
        "sound_rms_dbfs": meter.rms_dbfs,
        **flags.remade(film.row, span, watcher),
        # How windows meet inside of the part was not measured.
        "seams": [seam for seam in film.row.get("seams") or [] if not span[0] <= seam["at_s"] <= span[1]],
    }
    if proof.manifest:
        storage.write_atomic(_next(state, film.video_id, "c2pa"), proof.manifest)
    waiting = {"row": row, "record": proof.record(film.output)}
    storage.write_atomic(_next(state, film.video_id, "json"), json.dumps(waiting).encode())


def resume(state: State, video_id: str) -> None:
    """Take over, or forget, what a killed redub of this film had written down."""
    try:
        waiting = json.loads(storage.read_bytes(_next(state, video_id, "json")))
    except (storage.StorageNotFound, ValueError):
        return
    with storage.reading(storage.join(state.out, waiting["row"]["output"])) as file:
        there = hashing.sha256(file)
    if there == waiting["row"]["output_sha256"]:
        _take_over(state, video_id)
    else:
        _forget(state, video_id)


def _take_over(state: State, video_id: str) -> dict[str, Any]:
    """Put what was written down where it belongs; the row. Doing it twice, or half and again, is harmless."""
    waiting = json.loads(storage.read_bytes(_next(state, video_id, "json")))
    sound, manifest = _next(state, video_id, "flac"), _next(state, video_id, "c2pa")
    if storage.exists(sound):
        storage.copy(sound, state.sound_uri(video_id))
    if storage.exists(manifest):
        state.write_manifest(video_id, storage.read_bytes(manifest))
    state.write_provenance(video_id, waiting["record"])
    state.write_row(waiting["row"])
    _forget(state, video_id)
    return dict(waiting["row"])


def _forget(state: State, video_id: str) -> None:
    # The list of what is waiting goes last: until then everything can be done again.
    for suffix in ("flac", "c2pa", "json"):
        storage.delete(_next(state, video_id, suffix), missing_ok=True)

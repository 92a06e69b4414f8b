"""Names of the files that a dub writes for a film: unique, and no longer than the storage of OUT takes."""

from __future__ import annotations

from typing import Any

from pipelines import storage
from pipelines.dub.job import DubJob
from pipelines.mux import audio_file, containers
from pipelines.provenance import signing

SRT_SUFFIX = ".srt"
"""Added to the name of a dubbed film whose container holds no subtitles."""


def output_names(job: DubJob, video: dict[str, Any], used_names: set[str]) -> tuple[str, str]:
    """Unique paths of the output and of its Matroska fallback, relative to OUT. Raises ValueError as
    `preferred_output` does."""
    video_id, path = video["video_id"], video["path"]
    preferred = preferred_output(job, video)
    output = unique_output(preferred, video_id, used_names, most_bytes(job, path, preferred))
    if job.treatment.sidecar != "none":
        return output, output
    preferred = f"{path}.mkv"
    return output, unique_output(preferred, video_id, used_names, most_bytes(job, path, preferred))


def preferred_output(job: DubJob, video: dict[str, Any]) -> str:
    """Path of the film's copy, or of its sound file, relative to OUT. Raises ValueError if no container holds both its
    picture and the requested codec."""
    policy = job.treatment
    if policy.sidecar != "none":
        return f"{video['path']}.{policy.sidecar}"
    name = containers.output_name(
        video["path"],
        container=video["container"],
        video_codec=video["video_codec"],
        audio_codec=policy.audio_codec,
    )
    containers.container_of(name).coded(policy.audio_codec)
    return name


def most_bytes(job: DubJob, path: str, output: str) -> int | None:
    """Most bytes for the name of a film's output, with room for the suffixes of files beside it; None if the film's own
    name is too long already, which only its owner can change."""
    folder, _, _ = output.rpartition("/")
    limit = storage.name_limit(storage.join(job.out, folder))
    if len(path.rpartition("/")[2].encode()) > limit:
        return None
    is_sound_file = job.treatment.sidecar != "none"
    number = len(audio_file.numbered(output, job.keep_top)) - len(output) if is_sound_file else 0
    added = [0]
    if job.sign_key and not signing.embeds(output):
        added.append(len(signing.BESIDE))
    if job.subtitles and has_srt_file(output, job):
        added.append(len(SRT_SUFFIX))
    return limit - number - max(added)


def unique_output(preferred: str, video_id: str, used_names: set[str], most: int | None = None) -> str:
    """An output name that no other file of the archive has, such as `a.mp4.mkv`, which may be the name of a film.

    Its last component is cut to `most` bytes. Adds the name to `used_names`.
    """
    folder, slash, name = preferred.rpartition("/")
    too_long = most is not None and len(name.encode()) > most
    if preferred.casefold() in used_names or too_long:
        stem, dot, suffix = name.rpartition(".")
        end = f".{video_id}{dot}{suffix}"
        if most is not None:
            stem = stem.encode()[: max(0, most - len(end.encode()))].decode(errors="ignore")
        name = stem + end
    output = folder + slash + name
    used_names.add(output.casefold())
    return output


def has_srt_file(output: str, job: DubJob) -> bool:
    """True if captions become a file beside `output`, since it holds no subtitles."""
    return job.treatment.sidecar != "none" or not containers.container_of(output).subtitles


def subtitles_at(output: str, job: DubJob) -> str:
    """Place of the captions of a film with subtitles: a file relative to OUT, or "track" in the film itself."""
    return output + SRT_SUFFIX if has_srt_file(output, job) else "track"

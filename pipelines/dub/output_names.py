"""Names of the files that a dub writes for a film: unique, and such as the storage of OUT takes."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

from pipelines import storage
from pipelines.dub.job import DubJob
from pipelines.mux import audio_file, containers
from pipelines.mux.streams import proxy
from pipelines.mux.streams.beside import SUFFIXES, suffix_of
from pipelines.provenance import signing

SRT_SUFFIX = ".srt"
"""Added to the name of a dubbed film whose container holds no subtitles."""

LEFT_OUT_SUFFIXES = tuple(sorted(set(SUFFIXES.values())))
"""Added to the name of a dubbed film for the file of streams that it cannot hold."""

_APART = "-films"
"""Added to the name of a user's folder that is called like v2a's own."""


class UsedNames:
    """Names of outputs so far, and of the folders that outputs will lie in.

    Names that one file system or another takes for the same count as one: those that differ only in case, in how
    characters are composed, or in dots and spaces at their ends. safe: makes names legal in OUT.
    """

    def __init__(self, safe: storage.SafeNames | None = None) -> None:
        self._safe = safe
        self._taken: set[str] = set()
        self._reserved: dict[str, str] = {}
        """video_id of the film to which an earlier run gave a name."""
        self._folders: set[str] = set()

    def legal(self, name: str) -> str:
        """The output `name`, or the one that it has where the file system of OUT refuses it."""
        return self._safe.path(name) if self._safe is not None else name

    def take(self, name: str) -> None:
        self._taken.add(name_key(name))

    def reserve(self, name: str, video_id: str) -> None:
        self._reserved.setdefault(name_key(name), video_id)

    def add_folder(self, name: str) -> None:
        """Add the folders that the output `name` lies in: no other output may take their place."""
        parts = name_key(name).split("/")[:-1]
        self._folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))

    def free(self, name: str, video_id: str) -> bool:
        key = name_key(name)
        theirs = self._reserved.get(key, video_id) != video_id
        return not (theirs or key in self._taken or key in self._folders)


def name_key(name: str) -> str:
    """The name as the least discerning file system sees it."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return "/".join(part.rstrip(" .") for part in folded.split("/"))


def used_names(
    job: DubJob,
    videos: Iterable[dict[str, Any]],
    row_of: Callable[[str], dict[str, Any] | None],
    tries: bool = False,
) -> UsedNames:
    """Names to begin with: the folders of all films, and those outputs of earlier runs whose name another film of the
    archive (scan rows) would like.

    row_of: report row of a finished film by video_id, or None. Raises StorageError if it does. tries: try whether the
    file system of OUT takes unusual names (`storage.SafeNames`).
    """
    used, claimed, rivals = UsedNames(storage.SafeNames(job.out, tries)), dict[str, str](), set[str]()
    for video in videos:
        if video["status"] != "ok":
            continue
        with contextlib.suppress(ValueError, TypeError, AttributeError):  # the plan says why
            for output in (preferred_output(job, video), fallback_output(video)):
                used.add_folder(used.legal(output))
                for name in files_of(job, used.legal(output)):
                    first = claimed.setdefault(name_key(name), video["video_id"])
                    if first != video["video_id"]:
                        rivals |= {first, video["video_id"]}
    for video_id in sorted(rivals):
        row = row_of(video_id)
        if row is not None and row.get("status") == "dubbed" and row.get("output"):
            used.reserve(str(row["output"]), video_id)
            with contextlib.suppress(ValueError):  # a container of another release
                for name in files_of(job, str(row["output"])):
                    used.reserve(name, video_id)
    return used


def output_names(job: DubJob, video: dict[str, Any], used: UsedNames) -> tuple[str, str]:
    """Unique paths of the output and of its Matroska fallback, relative to OUT. Raises ValueError as
    `preferred_output` does."""
    path = used.legal(path_in_out(video["path"]))

    def unique(preferred: str) -> str:
        most = most_bytes(job, path, preferred)
        return unique_output(preferred, video["video_id"], used, most, lambda output: files_of(job, output))

    output = unique(used.legal(preferred_output(job, video)))
    if audio_file.is_sound_file(output):
        return output, output
    return output, unique(used.legal(fallback_output(video)))


def files_of(job: DubJob, output: str) -> list[str]:
    """Names of all files that a film with that output may have: further tracks, manifests and captions."""
    is_sound = audio_file.is_sound_file(output)
    names = [audio_file.numbered(output, k) for k in range(1, job.keep_top + 1)] if is_sound else [output]
    names += [proxy_name(output, job)] if job.proxy != "none" and is_sound else []
    beside = [name + signing.BESIDE for name in names if job.sign_key and not signing.embeds(name)]
    if job.keep_left_out and not is_sound:
        beside += [output + suffix for suffix in LEFT_OUT_SUFFIXES]
    return names + beside + ([output + SRT_SUFFIX] if job.subtitles and has_srt_file(output, job) else [])


def proxy_name(output: str, job: DubJob) -> str:
    """Path of the film to listen with, beside the sound file of a sequence of pictures."""
    return output.rpartition(".")[0] + proxy.PROXY_SUFFIXES[job.proxy]


def path_in_out(path: str) -> str:
    """Path of a film in OUT: that in the archive, but apart from v2a's own records there."""
    name = storage.original_name(path)
    first, slash, rest = name.partition("/")
    return first + _APART + slash + rest if name_key(first) == storage.PRIVATE_FOLDER else name


def fallback_output(video: dict[str, Any]) -> str:
    """Path of a film in Matroska, which holds almost everything."""
    return f"{path_in_out(video['path'])}.mkv"


def preferred_output(job: DubJob, video: dict[str, Any]) -> str:
    """Path of the film's copy, or of its sound file, relative to OUT. Raises ValueError if no container holds both its
    picture and the requested codec."""
    policy, path = job.policy(video), path_in_out(video["path"])
    if policy.sidecar != "none":
        return f"{path}.{policy.sidecar}"
    name = containers.output_name(
        path,
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
    limit, own = storage.name_limit(storage.join(job.out, folder)), len(path.rpartition("/")[2].encode())
    if own > limit:
        return None
    if not storage.is_remote(job.out):  # exFAT counts characters, and reports the bytes that they could have
        limit = min(limit, max(storage.NAME_BYTES, own))
    is_sound = audio_file.is_sound_file(output)
    number = len(audio_file.numbered(output, job.keep_top)) - len(output) if is_sound else 0
    added = [0]
    if job.sign_key and not signing.embeds(output):
        added.append(len(signing.BESIDE))
    if job.subtitles and has_srt_file(output, job):
        added.append(len(SRT_SUFFIX))
    if job.keep_left_out and not is_sound:
        added += map(len, LEFT_OUT_SUFFIXES)
    return limit - number - max(added)


def unique_output(
    preferred: str,
    video_id: str,
    used: UsedNames,
    most: int | None = None,
    files: Callable[[str], list[str]] = lambda output: [output],
) -> str:
    """An output name that no other film of the archive has, such as `a.mp4.mkv`, which may be the name of a film.

    Its last component is cut to `most` bytes. files: names of all files of an output; adds them to `used`.
    """
    folder, slash, name = preferred.rpartition("/")
    too_long = most is not None and len(name.encode()) > most
    if too_long or not all(used.free(each, video_id) for each in files(preferred)):
        stem, dot, suffix = name.rpartition(".")
        end = f".{video_id}{dot}{suffix}"
        if most is not None:
            stem = stem.encode()[: max(0, most - len(end.encode()))].decode(errors="ignore")
        name = stem + end
    output = folder + slash + name
    for each in files(output):
        used.take(each)
    return output


def has_srt_file(output: str, job: DubJob) -> bool:
    """True if captions become a file beside `output`, since it holds no subtitles."""
    return audio_file.is_sound_file(output) or not containers.container_of(output).subtitles


def left_out_at(output: str, job: DubJob, container: str) -> str:
    """Place, relative to OUT, of the streams that a copy cannot hold; empty if they are not kept.

    container: FFmpeg's demuxer of the film.
    """
    suffix = suffix_of(container) if job.keep_left_out and not audio_file.is_sound_file(output) else ""
    return output + suffix if suffix else ""


def subtitles_at(output: str, job: DubJob) -> str:
    """Place of the captions of a film with subtitles: a file relative to OUT, or "track" in the film itself."""
    return output + SRT_SUFFIX if has_srt_file(output, job) else "track"

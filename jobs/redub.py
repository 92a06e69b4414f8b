"""`v2a redub OUT FILE --start 61 --end 70 --seed 8`: regenerate the sound of one part of a dubbed film."""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from jobs import dub
from jobs.cli import DONE, command_line
from jobs.common import registry
from jobs.common.checks import at_least
from jobs.common.options import SandboxLevel
from jobs.common.verb import Stopped, WrongUsage, run_verb
from jobs.dub.config import FilmOptions, SoundOptions
from jobs.dub.preflight import check_signer, make_job

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.dub.job import DubJob
    from pipelines.redub.dubbed import Dubbed


@dataclass
class RedubConfig:
    """Regenerate the sound of one part of a dubbed film from another seed, and leave the rest unchanged.

    Outside of --start and --end, every sample stays the same (before coding: AAC and Opus re-code a little around the
    part). At both ends, within the part, old and new sound crossfade for 50 ms. Picture and other tracks are copied
    packet by packet. The model must be the one that dubbed the film, and the original must still be in its archive.
    Sidecar, manifest and report list what was redubbed.
    """

    out: Positional[str]
    """Output folder or s3:// prefix of an earlier `v2a dub`."""
    file: Positional[str]
    """The film, as in the report (sub/reel.mp4), or its path."""
    start: float
    """Start of the part, in seconds from the film's first picture."""
    end: float
    """End of the part, in seconds."""
    seed: int
    """Random seed of the new sound; the same seed gives the same sound."""
    prompt: str | None = None
    """Sound to generate in the part, for models that follow text; by default as the film was dubbed."""
    negative: str | None = None
    """Sound to avoid in the part."""
    model: str | None = None
    """Folder of the model, if it has moved. It must be the same model. A model that was given as
    package.module:name must be named again."""
    archive: str | None = None
    """Archive of the originals, if it has moved."""
    sign_key: str | None = None
    """Private key (PEM file), as for `v2a dub`. A signed film must be signed again."""
    sign_cert: str | None = None
    """Certificate chain of that key (PEM file)."""
    sandbox: SandboxLevel = "auto"


def run(config: RedubConfig) -> int:
    """Redub a part; the exit code: 0 done, 1 it failed and the film is unchanged, 2 wrong usage."""
    command = command_line("redub", config, positional=("out", "file"))
    return run_verb("redub", command, lambda console: _run(config, console), config.sandbox)


def _run(config: RedubConfig, console: Console) -> int:
    from pipelines import storage
    from pipelines.dub.state import State
    from pipelines.media.errors import DecodeFailed
    from pipelines.redub import dubbed, redub

    at_least(config, start=0, end=0)
    started, span = time.perf_counter(), (config.start, config.end)
    state = State(config.out)
    kept_config = state.read_config()
    if kept_config is None and state.begun():
        raise WrongUsage(f"the settings of {config.out} are lost: run v2a dub again, which writes them again")
    if kept_config is None:
        raise WrongUsage(f"{config.out} is not an output folder of v2a dub")
    try:
        film = dubbed.find(config.out, config.file, report_rows(config.out))
        job = job_of(config, film, kept_config)
        spans = state.read_request(film.video_id).get("spans")
        dubbed.check(film, job, span, spans)
    except dubbed.RedubError as error:
        raise WrongUsage(str(error)) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise WrongUsage(
            f"the records of {config.out} are damaged ({type(error).__name__}: {error}): dub {config.file} again with "
            "v2a dub --restart"
        ) from error
    if film.sidecar.get("signer") and not job.sign_key:
        raise WrongUsage(f"{film.output} was signed: pass --sign-key and --sign-cert to sign the new file")
    storage.check_writable(config.out)
    video = original(config, film, kept_config)
    try:
        row = redub.redub(film, video, job, span)
    except (dubbed.RedubError, DecodeFailed) as error:
        raise Stopped(f"{film.output} is unchanged: {error}") from error
    _report(config.out, row)
    place = storage.join(config.out, film.output)
    console.print(
        f"{place}: regenerated {config.start:g} to {config.end:g} s with seed {config.seed} "
        f"in {time.perf_counter() - started:.0f} s; all other samples are unchanged.",
        markup=False,
    )
    return DONE


def report_rows(out: str) -> list[dict[str, Any]]:
    """Rows of the report. Raises RedubError if there is none."""
    import pyarrow as pa

    from pipelines import storage
    from pipelines.arrow_rows import read_parquet
    from pipelines.media.errors import first_line
    from pipelines.redub.dubbed import RedubError
    from pipelines.reports import dub_rows

    try:
        data = storage.read_bytes(storage.join(out, storage.PRIVATE_FOLDER, "report.parquet"))
    except storage.StorageNotFound as error:
        raise RedubError(f"{out} has no report yet: run v2a dub to completion first") from error
    try:
        return read_parquet(data, dub_rows.REPORT_SCHEMA).to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise RedubError(
            f"the report of {out} is damaged ({first_line(error)}): run v2a dub again, which writes it again"
        ) from error


def job_of(config: RedubConfig, film: Dubbed, kept_config: dict[str, Any]) -> DubJob:
    """The job that dubbed the film, with the part's seed and texts. Raises WrongUsage."""
    from pipelines.soundtrack import mixing
    from v2a_models.object_reference import is_reference

    generator, policy = film.sidecar["generator"], film.policy
    model = config.model or kept_config.get("model_place") or generator["model"]
    if not config.model and is_reference(model):
        raise WrongUsage(
            f"the film was dubbed by the Python object {model}. v2a does not run code that only a file names: "
            f"add --model {model} if you trust it"
        )
    film = kept_config.get("film", {"joins": "crossfade"})
    if not isinstance(film, dict) or film.keys() - {item.name for item in dataclasses.fields(FilmOptions)}:
        raise WrongUsage(f"{config.out} has other settings of films than this version knows: {film}")
    texts = {name: getattr(config, name) for name in ("prompt", "negative")}
    texts = {name: generator.get(name, "") if text is None else text for name, text in texts.items()}
    dub_config = dub.DubConfig(
        archive=kept_config["archive"],
        out=config.out,
        model=registry.resolve(model, None),
        seed=config.seed,
        batch_size=kept_config["batch_size"],
        precision=kept_config["precision"],
        candidates=generator["candidates"],
        sign_key=config.sign_key,
        sign_cert=config.sign_cert,
        sound=SoundOptions(keep_sound=True),
        # The same windows; outputs of releases without a choice were crossfaded.
        segment_s=kept_config.get("segment_s", dub.DubConfig.segment_s),
        film=FilmOptions(**film),
        **texts,
    )
    check_signer(dub_config)
    job = make_job(dub_config)
    return dataclasses.replace(
        job, treatment=mixing.MixPolicy(**{name: policy[name] for name in mixing.NAMES})
    )


def original(config: RedubConfig, film: Dubbed, kept_config: dict[str, Any]) -> dict[str, Any]:
    """Scan row of the film in the archive. Raises WrongUsage if it is not the one that was dubbed."""
    from pipelines import storage
    from pipelines.archive import picture_runs, scan
    from pipelines.sandbox.decoder import shared_sandbox

    root = config.archive or kept_config["archive"]
    uri, paths = storage.uri_of(root, film.row["path"]), film.row.get("parts") or [film.row["path"]]
    try:
        # The pictures of a sequence and the parts of a film are found again by their names.
        places = {path: storage.source_uri(storage.uri_of(root, path), "") for path in paths}
        info = storage.joined_info([storage.stat_file(place, path) for path, place in places.items()])
        rate = str(film.sidecar.get("sourceRate", ""))
        info = picture_runs.at_rate(info, storage.parse_rate(rate) if rate else None)
        row = scan.scan_file(info, shared_sandbox())
    except storage.StorageError as error:
        raise WrongUsage(f"original not found ({error}); give its location with --archive") from error
    if row["status"] != "ok":
        raise WrongUsage(f"the original {uri} can no longer be read: {row['error_class']}: {row['error']}")
    if row["sha256"] != film.sidecar["sourceSha256"]:
        raise WrongUsage(f"the original {uri} has changed since it was dubbed")
    return row


def _report(out: str, row: dict[str, Any]) -> None:
    from pipelines.dub.state import State
    from pipelines.reports import dub_page, dub_rows

    rows = [row if old["video_id"] == row["video_id"] else old for old in report_rows(out)]
    facts = State(out).read_summary() or {"out": out}
    names = dub_rows.REPORT_SCHEMA.names
    dub_page.write(out, [{name: old.get(name) for name in names} for old in rows], facts)


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["redub", *sys.argv[1:]]))

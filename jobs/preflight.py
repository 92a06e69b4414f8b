"""What can be wrong with a dub job before it starts, and what decides its sound."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.cli import version
from jobs.verb import WrongUsage, differences

if TYPE_CHECKING:
    from jobs.dub import DubConfig
    from pipelines.dub import Job
    from pipelines.wishes import Wish
    from v2a_models.recipe import Recipe


def preflight(config: DubConfig) -> None:
    """Everything that can be wrong before anything starts. Raises WrongUsage with the fix."""
    from pipelines import storage
    from pipelines.parts import State

    if config.num_workers is not None and config.num_workers < 1:
        raise WrongUsage(f"--num-workers must be at least 1, not {config.num_workers}")
    if config.batch_size < 1:
        raise WrongUsage(f"--batch-size must be at least 1, not {config.batch_size}")
    if config.candidates < 1:
        raise WrongUsage(f"--candidates must be at least 1, not {config.candidates}")
    if not 1 <= config.keep_top <= min(config.candidates, MOST_TRACKS):
        raise WrongUsage(
            f"--keep-top must be from 1 to the number of --candidates ({config.candidates}) and at most "
            f"{MOST_TRACKS}, not {config.keep_top}"
        )
    how = config.sound.treatment()
    if how.existing == "mix" and config.only == "silent":
        raise WrongUsage(
            "--existing mix is for films that have sound, and --only silent leaves them out: add --only all"
        )
    if not config.segment_s > 0:
        raise WrongUsage(f"--segment-s must be more than 0 seconds, not {config.segment_s}")
    config.film.check()
    check_signer(config)
    try:
        check_places(config.archive, config.out, "OUT", writes=not config.dry_run)
        if State(config.out).read_config() is None:
            check_not_foreign(config.out, "OUT")
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error


MOST_TRACKS = 7
"""Tracks that are resampled together (`pipelines.resampling`)."""


def read_wishes(config: DubConfig) -> dict[str, Wish]:
    """What the manifest asks for, by path. Raises WrongUsage."""
    from pipelines import storage, wishes

    if config.manifest is None:
        return {}
    try:
        return wishes.read(config.manifest)
    except (wishes.WishError, storage.StorageError) as error:
        raise WrongUsage(f"cannot follow --manifest: {error}") from error


def signer_of(config: DubConfig) -> tuple[str, str]:
    """(path of the key, path of the certificate) by option or environment; empty where nothing is to be signed.

    Raises WrongUsage if there is only one of the two.
    """
    key = config.sign_key or os.environ.get("V2A_SIGN_KEY", "")
    cert = config.sign_cert or os.environ.get("V2A_SIGN_CERT", "")
    if bool(key) != bool(cert):
        given, missing = ("key", "certificate") if key else ("certificate", "key")
        raise WrongUsage(
            f"signing takes a key and its certificate, and there is only a {given}; give the {missing} too "
            "(--sign-key and --sign-cert, or V2A_SIGN_KEY and V2A_SIGN_CERT), or neither. "
            "For trying out: v2a verify --make-test-certificate FOLDER"
        )
    return _full_path(key), _full_path(cert)


def _full_path(path: str) -> str:
    # A key itself, given by mistake, is refused by `signing.load` and must stay recognisable until then.
    return (
        path if not path or path.lstrip().startswith("-----") else os.path.abspath(os.path.expanduser(path))
    )


def check_signer(config: DubConfig) -> None:
    """Raises WrongUsage if files are to be signed and cannot be."""
    key, cert = signer_of(config)
    if key:
        from pipelines import signing

        try:
            signing.check(signing.Signer(key, cert))
        except signing.SigningError as error:
            raise WrongUsage(f"cannot sign: {error}") from error


def check_places(archive: str, out: str, name: str, writes: bool) -> None:
    """Raises WrongUsage or StorageError unless `archive` can be read, and `out` (called `name`) lies apart from
    it and can be written."""
    from pipelines import storage

    storage.check_readable(archive)
    if storage.is_within(archive, out):
        raise WrongUsage(f"{name} lies inside ARCHIVE ({out} in {archive}); choose a folder outside")
    if storage.is_within(out, archive):
        raise WrongUsage(f"ARCHIVE lies inside {name} ({archive} in {out}); choose another {name}")
    if writes:
        storage.check_writable(out)


def check_not_foreign(out: str, name: str) -> None:
    """Raises WrongUsage if `out` holds files, which are not ours: they might be overwritten."""
    from pipelines import storage

    if not storage.exists(out):
        return
    for info in storage.list_tree(out):
        if not info.problem and not info.path.rpartition("/")[2].startswith("."):
            raise WrongUsage(
                f"{name} ({out}) holds files that v2a did not make, such as {info.path}; choose an empty folder"
            )


@dataclass(frozen=True)
class Described:
    """What a job must know of a generator."""

    recipe: Recipe
    name: str
    sha256: str
    streams: bool
    context_frames: int
    follows_text: bool = False
    paints: bool = False
    negative: str = ""
    """What is not to be heard where nobody says."""


def described(generator: Any) -> Described:
    """Of a generator in memory."""
    facts = generator.recipe, generator.name, generator.sha256, generator.streams, generator.context_frames
    follows, paints = (bool(getattr(generator, name, False)) for name in ("follows_text", "paints"))
    return Described(*facts, follows_text=follows, paints=paints)


def describe_checkpoint(model: str) -> Described:
    """The same of a checkpoint on disk, without loading torch: the weights are for the workers.

    Raises CheckpointError, with the choices if there is none.
    """
    from v2a_models.checkpoint_files import (
        CheckpointError,
        checked_sha256,
        find_checkpoint,
        paints,
        read_config,
    )
    from v2a_models.recipe import Recipe
    from v2a_models.vatt.language import check_adapter, usual_negative

    folder = find_checkpoint(model)
    config = read_config(folder)
    check_adapter(config)
    if not config.get("makes_sound", True):
        raise CheckpointError(
            f"{folder} has learnt to rebuild pictures only: train its decoder to sound with "
            f"v2a train {config['system']} STORE --start {folder} --set stage=2 --out NEW"
        )
    return Described(
        recipe=Recipe.from_dict(config["recipe"]),
        name=str(config["name"]),
        sha256=checked_sha256(folder, config),
        streams=bool(config.get("streams", False)),
        context_frames=int(config.get("context_frames", 0)),
        follows_text=bool(config.get("follows_text", False)),
        paints=paints(config),
        negative=usual_negative(config),
    )


def scav_sha256(model: str, load: Callable[[str], Any] | None) -> str:
    """sha256 of what chooses among a model's candidates (of a generator made by `load`: of the model itself).

    Raises ValueError if it has nothing to choose with, CheckpointError if that is damaged.
    """
    from v2a_models.checkpoint_files import CheckpointError, find_checkpoint, read_config, sha256

    if load is not None:
        generator = load(model)
        found = generator.sha256 if getattr(generator, "scav", None) is not None else ""
    else:
        folder = find_checkpoint(model)
        config = read_config(folder)
        found = str(config.get("scav_sha256", "")) if config.get("scav") else ""
        if found and sha256(folder / "scav.safetensors") != found:
            raise CheckpointError(
                f"{folder}/scav.safetensors is truncated or belongs to another model; copy it again"
            )
    if not found:
        raise ValueError("it has no SCAV to choose among candidates with; leave --candidates out")
    return found


def make_job(
    config: DubConfig, load: Callable[[str], Any] | None, wishes: dict[str, Wish] | None = None
) -> Job:
    """Settings of the stages. Raises WrongUsage if there is no such model, or if it cannot follow what is asked for.

    `load` makes the generator, if it is not to be found on disk by `config.model`.
    """
    from pipelines.dub import Job

    try:
        model = describe_checkpoint(config.model) if load is None else described(load(config.model))
        cut = cutting(model, config.segment_s, config.film.joins)
        check_texts(config, model, load, wishes or {})
        judge = scav_sha256(config.model, load) if config.candidates > 1 else ""
    except (OSError, ValueError, KeyError) as error:
        raise WrongUsage(f"cannot use the model {config.model!r}: {error}") from error
    sign_key, sign_cert = signer_of(config)
    return Job(
        out=full_address(config.out),
        model=config.model,
        model_name=model.name,
        model_sha256=model.sha256,
        recipe=model.recipe.digest,
        seed=config.seed,
        rate=model.recipe.sample_rate,
        channels=model.recipe.channels,
        views=model.recipe.views,
        batch_size=config.batch_size,
        precision=resolve_precision(config.precision),
        candidates=config.candidates,
        scav_sha256=judge,
        prompt=config.prompt.strip(),
        negative=(model.negative if config.negative is None else config.negative).strip(),
        captions=model.follows_text,
        subtitles=config.captions,
        scenes=config.film.scenes == "on",
        static=config.film.static,
        motion_level=config.film.motion_level,
        **cut,
        sign_key=sign_key,
        sign_cert=sign_cert,
        treatment=config.sound.treatment(),
        keep_top=config.keep_top,
        keep_sound=config.sound.keep_sound,
        version=version(),
        run_id=uuid.uuid4().hex[:12],
    )


def check_texts(
    config: DubConfig, model: Described, load: Callable[[str], Any] | None, wishes: dict[str, Wish]
) -> None:
    """Raises ValueError for a prompt that the model cannot follow or cannot read: no film is begun with it."""
    if config.captions and not model.follows_text:
        raise ValueError(
            "it has no words: leave --captions out, or take a model that has, such as one of v2a train vatt"
        )
    asked = [(config.prompt, config.negative, ""), *((w.prompt, w.negative, p) for p, w in wishes.items())]
    texts = {text.strip(): path for *pair, path in reversed(asked) for text in pair if text and text.strip()}
    if not texts:
        return
    if not model.follows_text:
        where = next(iter(texts.values()))
        leave = (
            f"its prompt and negative for {where!r} in the manifest" if where else "--prompt and --negative"
        )
        raise ValueError(
            f"it follows no text: leave {leave} out, or take a model that does, such as one of v2a train vatt"
        )
    from v2a_models.checkpoint import load_generator

    generator: Any = (load or load_generator)(config.model)
    for text, path in texts.items():
        try:
            generator.converter.check([text])
        except ValueError as error:
            raise ValueError(f"{path} in the manifest: {error}" if path else str(error)) from error
    negative = any(text and text.strip() for _, text, _ in asked)
    if negative and generator.settings.sampling.guidance == 1:
        raise ValueError("it is sampled without guidance, so that a negative prompt would do nothing")


def cutting(model: Described, segment_s: float, joins: str = "auto") -> dict[str, Any]:
    """How a job cuts films for a model, as fields of a `Job`. Raises ValueError for a recipe that cannot be dubbed, and
    for joins that the model cannot make."""
    from pipelines import segments
    from v2a_models import grid, longform

    recipe = model.recipe
    if not recipe.views:
        raise ValueError(f"its recipe {recipe.name!r} looks at no pictures")
    if joins == "two-wave" and not model.paints:
        raise ValueError(
            "it makes no codec tokens that could be painted between others: leave --joins two-wave out"
        )
    if model.paints and joins != "crossfade":
        fps = max(view.fps for view in recipe.views.values())
        layout = longform.Layout.of(recipe.window, recipe.overlap, fps, segment_s, recipe.sample_rate)
        return dict(window=recipe.window, overlap=0, windows_per_segment=layout.windows, layout=layout)
    if not model.streams:
        per_segment = segments.windows_per_segment(
            segment_s, recipe.window, recipe.overlap, recipe.sample_rate
        )
        return dict(window=recipe.window, overlap=recipe.overlap, windows_per_segment=per_segment)
    frame = grid.samples_per_frame(recipe.view("frames").fps, recipe.sample_rate)
    return dict(
        window=segments.whole_frames(segment_s, frame, recipe.sample_rate), overlap=0, windows_per_segment=1,
        streams=True, frame=frame, context=frame * model.context_frames,
    )  # fmt: skip


def resolve_precision(wanted: str) -> str:
    """float32 or bfloat16, what this machine's hardware is good at where `wanted` is "auto"."""
    import torch

    from v2a_models.generator import best_precision

    return best_precision("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def full_address(place: str) -> str:
    """The full address of an archive or an output folder."""
    from pipelines import storage

    return place if storage.is_remote(place) else storage.local_path(place)


def full_model(model: str) -> str:
    """Where a model is, from any folder: a name stays a name."""
    return os.path.abspath(model) if os.path.isdir(model) else model


def check_identity(config: DubConfig, job: Job) -> None:
    """Raises WrongUsage if OUT was made with other settings, unless all is to be done again."""
    from pipelines import storage
    from pipelines.dub import CUTS, TEXTS
    from pipelines.parts import State
    from pipelines.treatment import NAMES

    state = State(config.out)
    if config.restart and not config.dry_run:
        state.clear()
    before = state.read_config()
    if not config.dry_run:
        storage.sweep_temporaries(config.out)
    if before is None or config.restart:
        return
    now = job.identity() | {"archive": full_address(config.archive)}
    # These are named only where there are any.
    optional = (*CUTS, "selection", "captions", "signed", "keep_top", *NAMES, *TEXTS)
    if differing := differences(before, dict.fromkeys(optional) | now):
        raise WrongUsage(
            f"OUT ({config.out}) was made with other settings:\n{differing}\n"
            "Use those, or choose another OUT, or add --restart to do everything again."
        )
    if before.get("windows_per_segment") != job.windows_per_segment and not config.dry_run:
        state.clear_parts()  # the film is cut elsewhere now: what was begun does not fit

"""What can be wrong with a comparison before it starts, and what decides its result."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jobs.common.checks import check_not_foreign, full_address, resolve_precision
from jobs.common.models import ModelInfo, checkpoint_info
from jobs.common.verb import WrongUsage, differences
from pipelines import storage

if TYPE_CHECKING:
    from jobs.compare.config import CompareConfig
    from pipelines.scoring.clips import Row
    from v2a_models.recipe import Recipe

STATE_FILE = "compare.json"


@dataclass(frozen=True)
class Model:
    """One model of a comparison."""

    slug: str
    """Name of its folder."""
    given: str
    """As on the command line."""
    folder: str
    sha256: str
    parameters: float
    """Millions, of the generator without its encoders."""
    codec: bool
    """Whether it has a codec."""
    from_archive: bool
    """Whether its recipe is another than the store's, so that its pictures are decoded from the archive."""


@dataclass
class ComparePlan:
    """A comparison that can start."""

    out: str
    store: str
    archive: str
    rows: list[Row]
    models: list[Model]
    window: int
    """Samples of a clip at 44.1 kHz."""
    kept_rate: int
    """Samples per second of the true sounds in the store; 0 if it keeps none."""
    codec: str
    """Checkpoint with the codec that gives the baseline of that name, and decodes the store's codes; empty if no model
    has one."""
    fps: dict[str, float]
    """Pictures per second of each film."""
    facts: dict[str, dict[str, Any]]
    """What the table of events says of each film, by its path without ending."""
    missing: dict[str, str]
    """Networks that cannot be had, and why."""
    networks: list[str]
    precision: str


def prepare(config: CompareConfig) -> ComparePlan:
    """Everything that can be wrong, checked. Raises WrongUsage with what to change."""
    try:
        return _prepare(config)
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error


def _prepare(config: CompareConfig) -> ComparePlan:
    from jobs.common.checks import weights
    from jobs.evaluate.tables import read_events
    from pipelines.scoring import clips
    from pipelines.scoring.summary import reachable
    from pipelines.store.store import Store, StoreError
    from v2a_models import grid
    from v2a_models.metrics.catalogue import BY_NAME
    from v2a_models.metrics.networks.sources import NETWORKS

    if not config.models:
        raise WrongUsage("name at least one model: v2a compare mini OTHER --store STORE --out DIR")
    for name, least in dict(clips=1, batch_size=1, listen=0, num_workers=1).items():
        value = getattr(config, name)
        if value is not None and value < least:
            raise WrongUsage(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    if config.promote and (config.promote not in BY_NAME or BY_NAME[config.promote].group == "cost"):
        choices = ", ".join(name for name, m in BY_NAME.items() if m.group != "cost")
        raise WrongUsage(f"--promote takes one of {choices}, not {config.promote!r}")
    unknown = [name for name in config.networks if name not in NETWORKS]
    if unknown:
        raise WrongUsage(f"no network {unknown[0]!r}: choose from {', '.join(NETWORKS)}")
    out, store = full_address(config.out), full_address(config.store)
    archive = full_address(config.archive) if config.archive else ""
    for name, place in (("STORE", store), ("ARCHIVE", archive)):
        if place and (storage.is_within(place, out) or storage.is_within(out, place)):
            raise WrongUsage(f"--out ({out}) and {name} ({place}) must lie apart")
    if archive:
        storage.check_readable(archive)
    try:
        recipe = Store(store).recipe()
        rows = clips.spread(clips.rows_of(Store(store), config.split), config.clips)
    except (StoreError, ValueError, OSError) as error:
        raise WrongUsage(str(error)) from error
    if not rows:
        raise WrongUsage(f"{store} has no rows in its split {config.split!r}: choose another --split")
    models = [_model(given, recipe, config) for given in config.models]
    kept_rate = recipe.sample_rate if recipe.waveform else 0
    codec = codec_of(models)
    # Without an archive all models are fed from the store, so that the codec of any is the store's.
    if not archive and not kept_rate and not (codec and recipe.encoder("codec")):
        raise WrongUsage(f"{store} holds no sound that these models can decode: name its --archive")
    twice = {m.slug for m in models if [n.slug for n in models].count(m.slug) > 1}
    if twice:
        raise WrongUsage(f"two models are called {', '.join(sorted(twice))}: rename a folder")
    state = read_state(out)
    identity = {
        "store": store, "split": config.split, "clips": config.clips, "seed": config.seed, "archive": archive,
        "recipe": recipe.digest,
    }  # fmt: skip
    if state is None:
        check_not_foreign(out, "--out")
    elif differing := differences(state["identity"], identity):
        raise WrongUsage(
            f"--out ({out}) holds another comparison:\n{differing}\nUse those, or choose another --out."
        )
    storage.check_writable(out)
    known = state["models"] if state else {}
    for model in models:
        if known.get(model.slug, model.sha256) != model.sha256:
            raise WrongUsage(
                f"--out ({out}) holds sounds of another model called {model.slug}: choose another --out"
            )
    content = {"identity": identity, "models": known | {m.slug: m.sha256 for m in models}}
    storage.write_atomic(
        storage.join(out, storage.PRIVATE_FOLDER, STATE_FILE), json.dumps(content, indent=2).encode()
    )
    events = config.events
    if events is None and archive and storage.exists(storage.join(archive, "events.parquet")):
        events = storage.join(archive, "events.parquet")
    available, missing = reachable(config.networks, weights(config.weights), config.download)
    return ComparePlan(
        out=out, store=store, archive=archive, rows=rows, models=models, window=grid.samples(recipe.window_s),
        kept_rate=kept_rate, codec=codec,
        fps={row["path"]: float(row["fps"] or 0) for row in Store(store).scan() if "fps" in row},
        facts=read_events(events) if events else {}, missing=missing, networks=available,
        precision=resolve_precision(config.precision),
    )  # fmt: skip


def read_state(out: str) -> dict[str, Any] | None:
    """What OUT compares; None if nothing. Raises WrongUsage if that cannot be read."""
    uri = storage.join(out, storage.PRIVATE_FOLDER, STATE_FILE)
    try:
        found = json.loads(storage.read_bytes(uri))
        return {"identity": dict(found["identity"]), "models": dict(found["models"])}
    except storage.StorageNotFound:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise WrongUsage(f"{uri} is damaged ({error}); choose another --out") from error


def _model(given: str, recipe: Any, config: CompareConfig) -> Model:
    from jobs.common import registry
    from v2a_models.checkpoint import load_generator

    folder = registry.resolve(given, config.tracking_uri)
    try:
        described = checkpoint_info(folder)
        generator = load_generator(folder)
        from_archive = looks_at_archive(described, generator.columns, recipe, config.archive)
    except (OSError, ValueError, KeyError) as error:
        raise WrongUsage(f"cannot use the model {given!r}: {error}") from error
    parameters = sum(p.numel() for p in generator.task().parameters()) / 1e6
    called = given.removeprefix(registry.PREFIX) if given != folder else given.rstrip("/").rpartition("/")[2]
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", called).strip("-.")
    codec = generator.codec is not None
    return Model(slug or "model", given, folder, described.sha256, parameters, codec, from_archive)


def looks_at_archive(model: ModelInfo, columns: Sequence[str], recipe: Recipe, archive: str | None) -> bool:
    """Whether a model has to look at the films themselves, since the store (of `recipe`) does not hold what it is fed
    with (`columns`). Raises ValueError if it cannot.
    """
    from v2a_models.systems import recipe_difference

    theirs = model.recipe
    if model.streams:  # takes a clip of any length
        theirs = replace(theirs, window_s=recipe.window_s, overlap_s=recipe.overlap_s)
    differs = recipe_difference(theirs, recipe)
    held = {role for role in ("semantic", "sync") if recipe.encoder(role)} | (
        {"frames"} & recipe.views.keys()
    )
    lacking = sorted(({"semantic", "sync", "frames"} & set(columns)) - held)
    if not differs and not lacking:
        return False
    if theirs.window_s != recipe.window_s:
        raise ValueError(
            f"it makes windows of {theirs.window_s:g} s, and the clips of this store last {recipe.window_s:g} s"
        )
    if not archive:
        raise ValueError(
            f"it was trained on another recipe than this store's ({differs or f'which lacks {lacking}'}): name the "
            "store's --archive, and its pictures are decoded from there"
        )
    return True


def codec_of(models: Sequence[Model]) -> str:
    """Folder of the first model that has a codec, rather of one fed from the store, whose codec is the store's; empty
    if none has any."""
    ordered = sorted(models, key=lambda model: model.from_archive)
    return next((model.folder for model in ordered if model.codec), "")

"""Checks of a comparison before it starts, and its plan and recorded state."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jobs.common.checks import at_least, check_not_foreign, full_address, network_weights, resolve_precision
from jobs.common.models import ModelInfo, checkpoint_info
from jobs.common.verb import WrongUsage, differences
from pipelines import storage
from pipelines.scoring.job import BASELINES

if TYPE_CHECKING:
    from jobs.compare.config import CompareConfig
    from pipelines.scoring.clips import Row
    from v2a_models.recipe import Recipe

STATE_FILE = "compare.json"


@dataclass(frozen=True)
class Model:
    """Model of a comparison."""

    slug: str
    """Name of its folder."""
    argument: str
    """Name on the command line."""
    folder: str
    sha256: str
    parameters: float
    """Millions of parameters of the generator, without its encoders."""
    codec: bool
    """True for a model with a codec."""
    from_archive: bool
    """True for another recipe than the store's, so that pictures are decoded from the archive."""


@dataclass
class ComparePlan:
    """Comparison that passed its checks."""

    out: str
    store: str
    archive: str
    rows: list[Row]
    models: list[Model]
    window: int
    """Samples of a clip at 44.1 kHz."""
    stored_rate: int
    """Sampling rate (Hz) of the true sounds in the store; 0 if it keeps none."""
    codec: str
    """Checkpoint whose codec serves as a baseline and decodes the store's codes; empty if no model has one."""
    fps: dict[str, float]
    """Frame rate of each film."""
    facts: dict[str, dict[str, Any]]
    """Facts of each film from the table of events, by its path without extension."""
    missing: dict[str, str]
    """Reasons by network that is not available."""
    networks: list[str]
    precision: str


def prepare(config: CompareConfig) -> ComparePlan:
    """Check a configuration and plan its comparison. Raises WrongUsage, with the fix."""
    from pipelines.scoring.event_tables import EventTableError

    try:
        return _prepare(config)
    except (storage.StorageError, EventTableError) as error:
        raise WrongUsage(str(error)) from error


def _prepare(config: CompareConfig) -> ComparePlan:
    from pipelines.scoring import clips
    from pipelines.scoring.event_tables import read_events
    from pipelines.scoring.summary import available_networks
    from pipelines.store.store import Store, StoreError
    from v2a_models import grid
    from v2a_models.metrics.catalogue import BY_NAME
    from v2a_models.metrics.networks.sources import NETWORKS

    if not config.models:
        raise WrongUsage("give at least one model: v2a compare mini OTHER --store STORE --out DIR")
    at_least(config, clips=1, batch_size=1, listen=0, num_workers=1)
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
            raise WrongUsage(f"--out ({out}) and {name} ({place}) must be apart, neither inside the other")
    if archive:
        storage.check_readable(archive)
    try:
        recipe = Store(store).recipe()
        rows = clips.spread(clips.rows_of(Store(store), config.split), config.clips)
    except (StoreError, ValueError, OSError) as error:
        raise WrongUsage(str(error)) from error
    if not rows:
        raise WrongUsage(f"{store} has no rows in its split {config.split!r}: choose another --split")
    models = [_model(argument, recipe, config) for argument in config.models]
    stored_rate = recipe.sample_rate if recipe.waveform else 0
    codec = codec_of(models)
    # Without an archive every model is fed from the store, so that any codec is the store's.
    if not archive and not stored_rate and not (codec and recipe.encoder("codec")):
        raise WrongUsage(f"{store} holds no audio that these models can decode: pass --archive")
    twice = {m.slug for m in models if [n.slug for n in models].count(m.slug) > 1}
    if twice:
        raise WrongUsage(f"two models have the name {', '.join(sorted(twice))}: rename a folder")
    identity = {
        "store": store, "split": config.split, "clips": config.clips, "seed": config.seed, "archive": archive,
        "recipe": recipe.digest,
    }  # fmt: skip
    _claim(out, identity, models)
    events = config.events
    if events is None and archive and storage.exists(storage.join(archive, "events.parquet")):
        events = storage.join(archive, "events.parquet")
    available, missing = available_networks(config.networks, network_weights(config.weights), config.download)
    return ComparePlan(
        out=out, store=store, archive=archive, rows=rows, models=models, window=grid.samples(recipe.window_s),
        stored_rate=stored_rate, codec=codec,
        fps={row["path"]: float(row["fps"] or 0) for row in Store(store, mends=False).scan() if "fps" in row},
        facts=read_events(events) if events else {}, missing=missing, networks=available,
        precision=resolve_precision(config.precision),
    )  # fmt: skip


def _claim(out: str, identity: dict[str, Any], models: Sequence[Model]) -> None:
    """Record identity and models in OUT. Raises WrongUsage if it holds something else."""
    state = read_state(out)
    if state is None:
        check_not_foreign(out, "--out")
    elif differing := differences(state["identity"], identity):
        raise WrongUsage(
            f"--out ({out}) holds another comparison:\n{differing}\nUse the same settings, or choose another --out."
        )
    storage.check_writable(out)
    before = state["models"] if state else {}
    for model in models:
        if before.get(model.slug, model.sha256) != model.sha256:
            raise WrongUsage(
                f"--out ({out}) holds sounds of another model called {model.slug}: choose another --out"
            )
    content = {"identity": identity, "models": before | {m.slug: m.sha256 for m in models}}
    storage.write_atomic(
        storage.join(out, storage.PRIVATE_FOLDER, STATE_FILE), json.dumps(content, indent=2).encode()
    )


def read_state(out: str) -> dict[str, Any] | None:
    """Recorded identity and models of OUT; None where there are none. Raises WrongUsage for a damaged record."""
    uri = storage.join(out, storage.PRIVATE_FOLDER, STATE_FILE)
    try:
        state = storage.read_object(uri)
        return {"identity": dict(state["identity"]), "models": dict(state["models"])}
    except storage.StorageNotFound:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise WrongUsage(f"{uri} is damaged ({error}); choose another --out") from error


def _model(argument: str, recipe: Any, config: CompareConfig) -> Model:
    from jobs.common import registry
    from v2a_models.checkpoint import load_generator

    folder = registry.resolve(argument, config.tracking_uri)
    try:
        info = checkpoint_info(folder)
        generator = load_generator(folder)
        from_archive = needs_archive(info, generator.columns, recipe, config.archive)
    except (OSError, ValueError, KeyError) as error:
        raise WrongUsage(f"cannot use the model {argument!r}: {error}") from error
    parameters = sum(p.numel() for p in generator.task().parameters()) / 1e6
    called = (
        argument.removeprefix(registry.PREFIX)
        if argument != folder
        else argument.rstrip("/").rpartition("/")[2]
    )
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", called).strip("-.") or "model"
    slug = f"model-{slug}" if slug in BASELINES else slug  # its sounds must not lie among those of a baseline
    codec = generator.codec is not None
    return Model(slug, argument, folder, info.sha256, parameters, codec, from_archive)


def needs_archive(model: ModelInfo, columns: Sequence[str], recipe: Recipe, archive: str | None) -> bool:
    """True for a model whose input `columns` are not in a store of `recipe`, so that it needs the films themselves.

    Raises ValueError where there is no archive, or windows differ in length.
    """
    from v2a_models.systems import recipe_difference

    theirs = model.recipe
    if model.streams:  # takes clips of any length
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
            f"it generates {theirs.window_s:g} s windows, but this store's clips are {recipe.window_s:g} s long"
        )
    if not archive:
        raise ValueError(
            f"it was trained on another recipe than this store's ({differs or f'which lacks {lacking}'}): pass "
            "the store's --archive to decode its input from the films"
        )
    return True


def codec_of(models: Sequence[Model]) -> str:
    """Folder of the first model with a codec, preferring those fed from the store; empty if none has one.

    A model that is fed from the store shares the store's codec.
    """
    ordered = sorted(models, key=lambda model: model.from_archive)
    return next((model.folder for model in ordered if model.codec), "")

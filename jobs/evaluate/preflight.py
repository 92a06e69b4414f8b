"""Check the configuration of an evaluation, and match the clips and captions to score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobs.common.checks import at_least, full_address, network_weights
from jobs.common.verb import WrongUsage

if TYPE_CHECKING:
    from jobs.evaluate.config import EvaluateConfig
    from pipelines.scoring.job import Clip


def system_name(pred: str) -> str:
    """Name of the system whose sounds lie in the folder `pred`: that of the folder, unless a baseline has it."""
    from pipelines.scoring.job import BASELINES

    name = full_address(pred).rstrip("/").rpartition("/")[2]
    return f"pred-{name}" if name in ("", *BASELINES) else name


def preflight(config: EvaluateConfig) -> None:
    """Check a configuration. Raises WrongUsage, with the fix."""
    from pipelines import storage
    from v2a_models.checkpoint_files import find_checkpoint
    from v2a_models.metrics.networks.sources import NETWORKS

    unknown = [name for name in config.networks if name not in NETWORKS]
    if unknown:
        raise WrongUsage(f"no network {unknown[0]!r}: choose from {', '.join(NETWORKS)}")
    network_weights(config.weights)
    at_least(config, num_workers=1, fps=0)
    try:
        if config.codec != "none":
            find_checkpoint(config.codec)
        for folder in (config.pred, config.ref):
            storage.check_readable(folder)
            if storage.is_within(folder, config.out):
                raise WrongUsage(f"--out ({config.out}) must be outside {folder}")
            check_export(config, folder)
        storage.check_writable(config.out)
        if config.export:
            storage.check_writable(config.export)
    except (storage.StorageError, ValueError) as error:
        raise WrongUsage(str(error)) from error


def check_export(config: EvaluateConfig, folder: str) -> None:
    """Raises WrongUsage if the sounds that --export writes would lie in `folder`, and replace those that are scored."""
    from pipelines import storage
    from pipelines.scoring.job import REFERENCE

    for system in (system_name(config.pred), REFERENCE) if config.export else ():
        place = storage.join(str(config.export), system)
        if storage.is_within(folder, place) or storage.is_within(place, folder):
            raise WrongUsage(f"--export writes to {place}, and {folder} is scored: choose another folder")


def find_clips(config: EvaluateConfig, name: str) -> tuple[list[Clip], list[str]]:
    """Clips that both folders hold, and notes on the others. Raises WrongUsage."""
    from jobs.common.score_table import listed
    from pipelines.scoring import event_tables, sound_folder
    from pipelines.scoring import job as scoring_job
    from v2a_models.metrics.baselines import other_clips

    try:
        pred, ref = sound_folder.list_sounds(config.pred), sound_folder.list_sounds(config.ref)
        events = event_tables.read_events(config.events) if config.events else {}
    except (sound_folder.SoundError, event_tables.EventTableError) as error:
        raise WrongUsage(str(error)) from error
    common = sorted(pred.keys() & ref.keys())
    notes = []
    for side, lacking in (("PRED lacks", ref.keys() - pred.keys()), ("REF lacks", pred.keys() - ref.keys())):
        if lacking:
            notes.append(f"{side} {len(lacking)} clips: {listed(sorted(lacking))}")
    if not common:
        raise WrongUsage(f"{config.pred} and {config.ref} have no clip in common (files are matched by name)")
    if notes and not config.allow_missing:
        raise WrongUsage(
            "\n".join([*notes, f"--allow-missing scores the {len(common)} clips that both hold"])
        )
    facts = [events.get(clip, {}) for clip in common]
    others = other_clips([fact.get("label", "") for fact in facts])
    clips = [
        scoring_job.Clip(
            clip,
            ref[clip],
            {name: pred[clip]},
            ref[common[other]],
            fps=config.fps,
            film="" if ref[clip].lower().endswith(sound_folder.PICTURELESS) else ref[clip],
            **fact,
        )
        for clip, fact, other in zip(common, facts, others, strict=True)
    ]
    return clips, notes


def find_captions(
    config: EvaluateConfig, texts: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Captions of the system by clip, and the true captions. Raises WrongUsage, StorageError."""
    from pipelines.scoring.event_tables import EventTableError, read_captions

    if not config.captions:
        if config.true_captions:
            raise WrongUsage("--true-captions needs --captions, the system's own")
        return {}, {}
    true = {clip: [text] for clip, text in texts.items() if text}
    try:
        captions = {clip: written[0] for clip, written in read_captions(config.captions).items()}
        if config.true_captions:
            true = read_captions(config.true_captions)
    except EventTableError as error:
        raise WrongUsage(str(error)) from error
    if not captions.keys() & true.keys() & texts.keys():
        raise WrongUsage(
            f"no clip has a caption both in {config.captions} and in "
            f"{config.true_captions or 'the table of events'}: give the true ones with --true-captions"
        )
    return captions, true

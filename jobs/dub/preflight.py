"""Validate a dub configuration and build its DubJob."""

from __future__ import annotations

import math
import os
import uuid
from typing import TYPE_CHECKING

from jobs.cli import version
from jobs.common.checks import (
    at_least,
    check_not_foreign,
    check_places,
    full_address,
    is_narrow,
    resolve_precision,
)
from jobs.common.models import ModelInfo, model_info, scav_sha256, window_settings
from jobs.common.verb import WrongUsage, differences

if TYPE_CHECKING:
    from jobs.dub.config import DubConfig, FilmOptions, PriceOptions, SoundOptions
    from pipelines.dub.job import DubJob
    from pipelines.dub.manifest import ManifestRow
    from pipelines.reports.costs import Prices
    from pipelines.soundtrack.mixing import MixPolicy

MOST_TRACKS = 7
"""Most tracks that `pipelines.soundtrack.resampling` resamples together."""

SUMMARISED = ("model", "model_sha256", "seed")
"""Settings that summary.json repeats."""

LOUDEST, SOFTEST = -5.0, -60.0
"""Bounds of --loudness in LUFS."""


def preflight(config: DubConfig) -> None:
    """Raises WrongUsage, with the fix, for anything wrong with the configuration."""
    from pipelines import storage
    from pipelines.dub.state import State

    at_least(config, num_workers=1, batch_size=1, candidates=1, max_hours_per_file=0)
    if not 1 <= config.keep_top <= min(config.candidates, MOST_TRACKS):
        raise WrongUsage(
            f"--keep-top must be from 1 to the number of --candidates ({config.candidates}) and at most "
            f"{MOST_TRACKS}, not {config.keep_top}"
        )
    policy = mix_policy(config.sound)
    if policy.existing == "mix" and config.only == "silent":
        raise WrongUsage(
            "--existing mix is for films that have sound, and --only silent leaves them out: add --only all"
        )
    if not config.segment_s > 0:
        raise WrongUsage(f"--segment-s must be more than 0 seconds, not {config.segment_s}")
    check_film(config.film)
    check_signer(config)
    try:
        check_places(config.archive, config.out, "OUT", writes=not config.dry_run, narrow=is_narrow(config))
        state = State(config.out, mends=not config.dry_run)
        if not config.dry_run:
            state.make_way()
        if state.read_config() is None and not state.begun():
            check_not_foreign(config.out, "OUT")
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error


def mix_policy(sound: SoundOptions) -> MixPolicy:
    """The sound options as the pipeline takes them. Raises WrongUsage for options that contradict each other."""
    from pipelines.soundtrack.mixing import MixPolicy

    if sound.loudness is not None and not SOFTEST <= sound.loudness <= LOUDEST:
        raise WrongUsage(
            f"--loudness is in LUFS, from {SOFTEST:g} to {LOUDEST:g}, such as -23, not {sound.loudness:g}"
        )
    if sound.mix_gain and sound.existing != "mix":
        raise WrongUsage("--mix-gain needs --existing mix; for the level of a separate track, use --loudness")
    if not -60 <= sound.mix_gain <= 60:
        raise WrongUsage(f"--mix-gain is in dB, from -60 to 60, not {sound.mix_gain:g}")
    if not -120 < sound.silence_dbfs < 0:
        raise WrongUsage(f"--silence-dbfs is a level below 0 dBFS, such as -50, not {sound.silence_dbfs:g}")
    if sound.sidecar != "none" and sound.audio_codec != "auto":
        raise WrongUsage(
            f"--sidecar {sound.sidecar} already sets the codec: leave out --audio-codec {sound.audio_codec}"
        )
    return MixPolicy(
        existing=sound.existing,
        loudness=sound.loudness,
        mix_gain=sound.mix_gain,
        silence_dbfs=sound.silence_dbfs,
        channels={"auto": 0, "mono": 1, "stereo": 2}[sound.channels],
        audio_codec=sound.audio_codec,
        sidecar=sound.sidecar,
    )


def check_film(film: FilmOptions) -> None:
    """Raises WrongUsage for a motion level that no picture can have."""
    if not 0 <= film.motion_level <= 255:
        raise WrongUsage(f"--motion-level is from 0 to 255, not {film.motion_level:g}")


def prices(price: PriceOptions) -> Prices:
    """The prices as the report takes them. Raises WrongUsage for a negative or infinite one."""
    from pipelines.reports.costs import Prices

    for name in ("price_core_hour", "price_gpu_hour"):
        value = getattr(price, name)
        if value is not None and not 0 <= value < math.inf:
            raise WrongUsage(
                f"--{name.replace('_', '-')} is the price of an hour, such as 0.04, not {value:g}"
            )
    return Prices(price.price_core_hour, price.price_gpu_hour)


def read_manifest(config: DubConfig) -> dict[str, ManifestRow]:
    """Rows of the manifest by path; empty without a manifest. Raises WrongUsage."""
    from pipelines import storage
    from pipelines.dub import manifest

    if config.manifest is None:
        return {}
    try:
        return manifest.read(config.manifest)
    except (manifest.ManifestError, storage.StorageError) as error:
        raise WrongUsage(f"cannot use --manifest: {error}") from error


def signer_of(config: DubConfig) -> tuple[str, str]:
    """Paths of the signing key and its certificate, by option or environment; empty without signing.

    Raises WrongUsage if only one of the two is given.
    """
    key = config.sign_key or os.environ.get("V2A_SIGN_KEY", "")
    cert = config.sign_cert or os.environ.get("V2A_SIGN_CERT", "")
    if bool(key) != bool(cert):
        missing = "certificate" if key else "key"
        raise WrongUsage(
            f"signing needs both a key and its certificate; the {missing} is missing "
            "(--sign-key and --sign-cert, or V2A_SIGN_KEY and V2A_SIGN_CERT). "
            "To try it out: v2a verify --make-test-certificate FOLDER"
        )
    return _full_path(key), _full_path(cert)


def _full_path(path: str) -> str:
    # `signing.load` refuses a key that is given instead of its path, and has to recognise it.
    return (
        path if not path or path.lstrip().startswith("-----") else os.path.abspath(os.path.expanduser(path))
    )


def check_signer(config: DubConfig) -> None:
    """Raises WrongUsage for a key or certificate that cannot sign."""
    key, cert = signer_of(config)
    if key:
        from pipelines.provenance import signing

        try:
            signing.check_signer(signing.Signer(key, cert))
        except signing.SigningError as error:
            raise WrongUsage(f"cannot sign: {error}") from error


def make_job(config: DubConfig, requests: dict[str, ManifestRow] | None = None) -> DubJob:
    """Settings of the stages. Raises WrongUsage if the model does not exist or does not support the options."""
    from pipelines.dub.job import DubJob

    try:
        model = model_info(config.model)
        cut = window_settings(model, config.segment_s, config.film.joins)
        check_texts(config, model, requests or {})
        ranker = scav_sha256(config.model) if config.candidates > 1 else ""
    except (OSError, ValueError, KeyError) as error:
        raise WrongUsage(f"cannot use the model {config.model!r}: {error}") from error
    sign_key, sign_cert = signer_of(config)
    return DubJob(
        out=full_address(config.out),
        model=config.model,
        model_name=model.name,
        model_sha256=model.sha256,
        level=model.level,
        recipe=model.recipe.digest,
        seed=config.seed,
        rate=model.recipe.sample_rate,
        channels=model.recipe.channels,
        views=model.recipe.views,
        batch_size=config.batch_size,
        precision=resolve_precision(config.precision),
        candidates=config.candidates,
        scav_sha256=ranker,
        prompt=config.prompt.strip(),
        negative=(model.negative if config.negative is None else config.negative).strip(),
        captions=model.writes_captions,
        subtitles=config.captions,
        scenes=config.film.scenes == "on",
        static=config.film.static,
        motion_level=config.film.motion_level,
        **cut,
        sign_key=sign_key,
        sign_cert=sign_cert,
        treatment=mix_policy(config.sound),
        keep_top=config.keep_top,
        max_hours=config.max_hours_per_file,
        keep_sound=config.sound.keep_sound,
        keep_left_out=config.left_out == "keep",
        strict=config.strict,
        proxy=config.proxy,
        version=version(),
        run_id=uuid.uuid4().hex[:12],
    )


def check_texts(config: DubConfig, model: ModelInfo, requests: dict[str, ManifestRow]) -> None:
    """Raises ValueError for prompts that the model does not support or cannot tokenise."""
    if config.captions and not model.writes_captions:
        raise ValueError(
            "it writes no captions: drop --captions, or use a model that does, such as --model vatt-mini"
        )
    prompts = [
        (config.prompt, config.negative, ""),
        *((w.prompt, w.negative, p) for p, w in requests.items()),
    ]
    texts = {
        text.strip(): path for *pair, path in reversed(prompts) for text in pair if text and text.strip()
    }
    if not texts:
        return
    if not model.follows_text:
        where = next(iter(texts.values()))
        drop = f"the prompt and negative of {where!r} in the manifest" if where else "--prompt and --negative"
        raise ValueError(
            f"it takes no text prompts: drop {drop}, or use a model that does, such as --model vatt-mini"
        )
    from v2a_models.object_reference import load_model

    generator = load_model(config.model)
    for text, path in texts.items():
        try:
            generator.check_prompt(text)
        except ValueError as error:
            raise ValueError(f"{path} in the manifest: {error}" if path else str(error)) from error
    negative = any(text and text.strip() for _, text, _ in prompts)
    if negative and not generator.guided:
        raise ValueError("it samples without guidance, so a negative prompt has no effect")


def check_identity(config: DubConfig, job: DubJob) -> None:
    """Raises WrongUsage if OUT was made with other settings, unless with --restart."""
    from pipelines import storage
    from pipelines.dub.job import CUTTING_KEYS, TEXTS
    from pipelines.dub.state import State
    from pipelines.soundtrack.mixing import NAMES

    state = State(config.out, mends=not config.dry_run)
    if config.restart and not config.dry_run:
        state.clear()
    before = state.read_config()
    if not config.dry_run:
        storage.sweep_temporaries(config.out)
    if config.restart or (before is None and not state.begun()):
        return
    now = job.identity() | {"archive": full_address(config.archive)}
    # These are stored only if they are set.
    optional = (*CUTTING_KEYS, "selection", "captions", "signed", "keep_top", "proxy", *NAMES, *TEXTS)
    compared = dict.fromkeys(optional) | now
    lost = before is None
    if before is None:
        # The latest report names the most important ones.
        before = {name: value for name, value in state.read_summary().items() if name in SUMMARISED}
        compared = {name: compared[name] for name in before}
        storage.notice(
            f"the settings of {config.out} are lost: its finished films stay, and the others are begun again"
        )
    if differing := differences(before, compared):
        raise WrongUsage(
            f"OUT ({config.out}) was made with other settings:\n{differing}\n"
            "Use the same settings, choose another OUT, or add --restart to start over."
        )
    if (lost or before.get("windows_per_segment") != job.windows_per_segment) and not config.dry_run:
        state.clear_parts()  # begun segments have other borders, or unknown settings

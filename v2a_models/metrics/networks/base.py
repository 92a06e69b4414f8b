"""Published networks that scores listen with: what they are, where their weights lie, and how they are loaded.

Nothing is imported or read before `load`, and nothing is downloaded unless that is asked for. A network that
cannot be had raises `Unavailable` with the whole reason, which is what a table prints beside its "n/a".
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from v2a_models.encoders import published

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from v2a_models.metrics.networks.sight import Watcher
    from v2a_models.metrics.networks.text import BertScore

EXTRA = "uv pip install 'v2a[metrics]'"


class Unavailable(Exception):
    """A network that cannot be had here; the message is the whole reason, and says what to do."""


@dataclass(frozen=True)
class Heard:
    """What a network makes of one sound."""

    embedding: np.ndarray
    """float32 (D,), or (T, D) where the network gives one per stretch of time."""
    probabilities: np.ndarray | None = None
    """float32 (C,), sums to 1: softmax of the class logits, as IS and KLD take them. None: no classes."""


class Network(Protocol):
    """A network on its device, in evaluation mode."""

    name: str
    rate: int
    """Hz, of the sounds it takes."""
    dims: int
    """D of its embeddings."""
    classes: tuple[str, ...] | None
    """Names of the probabilities. None: it has none, or its package does not name them (AudioSet's 527)."""
    sha256: str
    """Of the weights file."""

    def hear(self, sounds: Tensor) -> list[Heard]:
        """Mono float sounds (B, N) in [-1, 1] at `rate`, each heard by itself: B answers.

        A sound shorter than the network can take is heard with silence after it. Raises ValueError for another
        shape or type, or sounds without a sample.
        """
        ...


@dataclass(frozen=True)
class Source:
    """A network as a person would have to find it."""

    title: str
    licence: str
    """Of the weights."""
    source: str
    """URL of the page or file where a person gets them."""
    package: str = ""
    """Module of the extra `metrics` that has the class; empty where the project itself does."""
    files: tuple[str, ...] = ()
    """Names of the weights as published, the usual ones first; any of them loads."""
    rate: int = 0
    """Hz of the usual weights."""
    url: str = ""
    """What `download` fetches as the first of the files; empty: it cannot."""
    sha256: str = ""
    """First hex digits of the first file's, where the publisher gives them."""
    cached: tuple[str, ...] = ()
    """Where packages that download the files keep them, relative to the home directory."""
    hub: str = ""
    """Hugging Face repository; the weights are then a folder, called like its last part."""
    reason: str = ""
    """Why it is not offered; empty: it is."""
    hears: bool = True
    """Whether it hears sounds (`load`)."""
    sees: bool = False
    """Whether it sees pictures (`load_watcher`, or `load` if it does both)."""


_HUB = "https://huggingface.co/"
_TORCH_HUB = ".cache/torch/hub/checkpoints/"
_VGGISH = "vggish-10086976.pth"
_PASST = "passt-s-f128-p16-s10-ap.476-swa.pt"
_CNN14 = ("Cnn14_16k_mAP=0.438.pth", "Cnn14_mAP=0.431.pth")
_BEATS = published.get("beats-iter3-plus-as2m", "audio")

NETWORKS: dict[str, Source] = {
    "foley": Source(
        title="event classifier of the bundled checkpoint, trained on SynthFoley",
        licence="Apache-2.0",
        source="this package",
        rate=44_100,
    ),
    "scav": Source(
        title="SCAV of the bundled checkpoint, trained on SynthFoley (2407.05782)",
        licence="Apache-2.0",
        source="this package",
        rate=44_100,
        sees=True,
    ),
    "vggish": Source(
        title="VGGish (1609.09430), of FAD (1812.08466)",
        package="torchvggish",
        files=(_VGGISH,),
        rate=16_000,
        source=f"https://github.com/harritaylor/torchvggish/releases/download/v0.1/{_VGGISH}",
        url=f"https://github.com/harritaylor/torchvggish/releases/download/v0.1/{_VGGISH}",
        licence="Apache-2.0",
        sha256="10086976",  # in the file's name, by torch.hub's rule
        cached=(_TORCH_HUB + _VGGISH,),
    ),
    "panns": Source(
        title="PANNs Cnn14 (1912.10211)",
        package="panns_inference",
        # av-benchmark, and so the published FD_PANNs, take the one for 16 kHz; panns_inference downloads the
        # one for 32 kHz.
        files=_CNN14,
        rate=16_000,
        source="https://zenodo.org/records/3987831",
        url="https://zenodo.org/records/3987831/files/Cnn14_16k_mAP%3D0.438.pth?download=1",
        licence="CC-BY-4.0",
        cached=tuple(f"panns_data/{file}" for file in _CNN14),
    ),
    "passt": Source(
        title="PaSST-S SWA (2110.05069)",
        package="hear21passt",
        files=(_PASST,),
        rate=32_000,
        source=f"https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset/{_PASST}",
        url=f"https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset/{_PASST}",
        licence="Apache-2.0",
        cached=(_TORCH_HUB + _PASST,),
    ),
    "beats": Source(
        title="BEATs iter3+ (2212.09058)",
        files=(_BEATS.file,),
        rate=16_000,
        source=_BEATS.source,
        licence=_BEATS.licence,
    ),
    "clap": Source(
        title="LAION-CLAP (2211.06687), the transformers port",
        package="transformers",
        files=("larger_clap_general",),
        rate=48_000,
        source=_HUB + "laion/larger_clap_general",
        licence="Apache-2.0",
        hub="laion/larger_clap_general",
    ),
    "wav2clip": Source(
        title="Wav2CLIP (2110.11499), in the space of OpenAI's CLIP ViT-B/32",
        package="wav2clip",
        files=("Wav2CLIP.pt",),
        rate=16_000,
        source="https://github.com/descriptinc/lyrebird-wav2clip/releases/download/v0.1.0-alpha/Wav2CLIP.pt",
        url="https://github.com/descriptinc/lyrebird-wav2clip/releases/download/v0.1.0-alpha/Wav2CLIP.pt",
        licence="MIT",
        cached=(_TORCH_HUB + "Wav2CLIP.pt",),
    ),
    "clip": Source(
        title="CLIP ViT-B/32 of OpenAI (2103.00020), in whose space Wav2CLIP hears",
        files=("vit_base_patch32_clip_224.openai/open_clip_model.safetensors",),
        source=_HUB + "timm/vit_base_patch32_clip_224.openai/blob/main/open_clip_model.safetensors",
        url=_HUB + "timm/vit_base_patch32_clip_224.openai/resolve/main/open_clip_model.safetensors",
        licence="MIT",
        cached=(".cache/v2a/weights/vit_base_patch32_clip_224.openai/open_clip_model.safetensors",),
        hears=False,
        sees=True,
    ),
    "bertscore": Source(
        title="RoBERTa-large (1907.11692), of BertScore (1904.09675)",
        package="bert_score",
        files=("roberta-large",),
        source=_HUB + "FacebookAI/roberta-large",
        licence="MIT",
        hub="FacebookAI/roberta-large",
        hears=False,
    ),
    "imagebind": Source(
        title="ImageBind (2305.05665)",
        source="https://github.com/facebookresearch/ImageBind",
        licence="CC-BY-NC-SA-4.0",
        reason="there is no well-kept package of it, and its weights exclude commercial use",
    ),
    "synchformer": Source(
        title="Synchformer (2401.16423), of DeSync",
        source="https://github.com/v-iashin/Synchformer",
        licence="MIT",
        reason="there is no well-kept package of it",
    ),
    "sparsesync": Source(
        title="SparseSync (2210.07055), of SS",
        source="https://github.com/v-iashin/SparseSync",
        licence="MIT",
        reason="there is no well-kept package of it (its visual trunk alone, which recipes load, finds no offsets)",
    ),
}
"""Networks by the name that `--weights NAME=FILE` takes; those with a `reason` only have that."""


def load(
    name: str,
    files: Mapping[str, str] | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Network:
    """A network of `NETWORKS` that hears, or `mini` for `foley`.

    files: weights by network name, a path each (`foley`, `scav`: a checkpoint by name or path); those not named are
    looked for in $V2A_WEIGHTS and in the caches of the packages that download them. download: fetch a file that is
    not there. Files are read without running code in them.

    Raises Unavailable: no package, no weights, weights of something else. ValueError: unknown name, of the network
    or in `files`; or one that hears nothing (`load_bertscore`, `load_watcher`).
    """
    name = "foley" if name == "mini" else name
    given = _given(name, files)
    if not NETWORKS[name].hears:
        raise ValueError(f"{name} hears nothing: load_bertscore() or load_watcher() gives it")
    if NETWORKS[name].reason:
        raise Unavailable(not_offered(name))
    from v2a_models.metrics.networks import sight, sound, text

    if name == "foley":
        return sound.Foley(given or "mini", device)
    if name == "scav":
        return sight.Scav(given or "mini", device)
    return _made(name, {**sound.MAKERS, "clap": text.Clap}, given, download, device)


def load_bertscore(
    files: Mapping[str, str] | None = None, *, download: bool = False, device: torch.device | str = "cpu"
) -> BertScore:
    """The reader behind BertScore; arguments and errors as `load`."""
    from v2a_models.metrics.networks.text import BertScore

    given = _given("bertscore", files)
    return _made("bertscore", {"bertscore": BertScore}, given, download, device)


def load_watcher(
    files: Mapping[str, str] | None = None, *, download: bool = False, device: torch.device | str = "cpu"
) -> Watcher:
    """The network `clip`, which only sees; arguments and errors as `load`."""
    from v2a_models.metrics.networks.sight import ClipFrames

    return _made("clip", {"clip": ClipFrames}, _given("clip", files), download, device)


def reach(name: str, files: Mapping[str, str] | None = None, *, download: bool = False) -> Any:
    """A network of any kind, by whichever of the loaders gives it; arguments and errors as `load`."""
    loaders: dict[str, Callable[..., Any]] = {"bertscore": load_bertscore, "clip": load_watcher}
    if name in loaders:
        return loaders[name](files, download=download)
    return load(name, files, download=download)


def _given(name: str, files: Mapping[str, str] | None) -> str | None:
    unknown = [each for each in (name, *(files or {})) if each not in NETWORKS]
    if unknown:
        raise ValueError(f"no network {unknown[0]!r}: choose one of {list(NETWORKS)}")
    return (files or {}).get(name)


def _made(
    name: str,
    makers: Mapping[str, Callable[..., Any]],
    given: str | None,
    download: bool,
    device: torch.device | str,
) -> Any:
    source = NETWORKS[name]
    path = _ready(name, source, given, download)
    try:
        return makers[name](path, device)
    except published.WeightsError as error:
        raise Unavailable(f"{path} does not hold {source.title}: {error}; {how_to_get(name)}") from error
    except ImportError as error:  # one that the package asks for, or the package breaks on another's version
        raise Unavailable(f"{source.title}: {source.package} does not import ({error}): {EXTRA}") from error


def not_offered(name: str) -> str:
    """Why a network is not offered; empty if it is."""
    source = NETWORKS[name]
    where = f"(published at {source.source}, licence: {source.licence})"
    return f"{source.title}: {source.reason} {where}" if source.reason else ""


def how_to_get(name: str) -> str:
    """Where a network's weights are published, under which licence, and how to name them."""
    source = NETWORKS[name]
    file = source.files[0]
    what = f"the folder {file}" if source.hub else " or ".join(source.files)
    return (
        f"get {what} from {source.source} (licence: {source.licence}), then name it with "
        f"--weights {name}=PATH/{file} or put it into the folder that ${published.FOLDER} names"
    )


def _ready(name: str, source: Source, given: str | None, download: bool) -> Path:
    """The weights, if the package is there too: a person is told of both at once."""
    reasons = []
    if source.package and importlib.util.find_spec(source.package) is None:
        reasons.append(f"the package {source.package} is not installed: {EXTRA}")
    path = Path(given) if given is not None else next(_found(source), None)
    if path is None and download and not reasons:
        path = _fetched(name, source)
    if path is None:
        reasons.append(f"its weights are not on this machine: {how_to_get(name)}")
    elif not path.exists():
        reasons.append(f"--weights {name}={given}: there is no such file; {how_to_get(name)}")
    elif path.is_dir() != bool(source.hub):
        kind = "folder" if source.hub else "file"
        reasons.append(f"{path} is no {kind}; {how_to_get(name)}")
    elif given is None and source.sha256 and path.name == source.files[0]:
        try:
            published.check(path, source.sha256)
        except published.WeightsError as error:
            reasons.append(f"{error}; {how_to_get(name)}")
    if reasons:
        raise Unavailable(f"{source.title}: {'; '.join(reasons)}")
    assert path is not None
    return path


def _found(source: Source) -> Iterator[Path]:
    """Places where the weights are, best first."""
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
    """Downloads the weights to where they will be found again."""
    folder = os.environ.get(published.FOLDER)
    try:
        if source.hub:
            from huggingface_hub import snapshot_download

            kept = ["*.json", "*.txt", "*.safetensors", "*.bin"]
            return Path(snapshot_download(source.hub, allow_patterns=kept))
        if not source.url:
            raise OSError("its publisher has no plain address for it")
        place = Path(folder) / source.files[0] if folder else Path.home() / source.cached[0]
        place.parent.mkdir(parents=True, exist_ok=True)
        import torch

        # Written beside and renamed when complete; refused if the sha256 is another one.
        torch.hub.download_url_to_file(
            source.url, str(place), hash_prefix=source.sha256 or None, progress=False
        )
        return place
    except Exception as error:  # no network, a proxy's page, a full disk: whatever it is, the score is n/a
        raise Unavailable(f"{source.title}: the download failed ({error}); {how_to_get(name)}") from error

"""Catalogue of the published networks: licence, origin and file names of their weights. Imports none of them."""

from __future__ import annotations

from dataclasses import dataclass

from v2a_models.encoders import published


@dataclass(frozen=True)
class Source:
    """Published network, with what you need to find it."""

    title: str
    licence: str
    """Licence of the weights."""
    source: str
    """URL of the weights or of their page."""
    package: str = ""
    """Package of the extra `metrics` with the class; empty if the project has it."""
    files: tuple[str, ...] = ()
    """File names of the weights as published, the usual one first; any of them loads."""
    rate: int = 0
    """Sample rate of the usual weights in Hz."""
    url: str = ""
    """URL from which `download` fetches the first file; empty if it cannot."""
    sha256: str = ""
    """First hex digits of the first file's SHA-256; empty if not published."""
    cached: tuple[str, ...] = ()
    """Paths used by packages that download the files, relative to the home directory."""
    hub: str = ""
    """Hugging Face repository; the weights are then a folder named like its last part."""
    reason: str = ""
    """Reason why the network is not offered; empty if it is."""
    takes_audio: bool = True
    """True if it takes sounds (`load`)."""
    takes_frames: bool = False
    """True if it takes frames (`load_visual`, or `load` if it takes both)."""


_HUB = "https://huggingface.co/"
_TORCH_HUB = ".cache/torch/hub/checkpoints/"
_VGGISH = "vggish-10086976.pth"
_PASST = "passt-s-f128-p16-s10-ap.476-swa.pt"
_CNN14_FILES = ("Cnn14_16k_mAP=0.438.pth", "Cnn14_mAP=0.431.pth")
_BEATS = published.get("beats-iter3-plus-as2m", "audio")

NETWORKS: dict[str, Source] = {
    "foley": Source(
        title="event classifier of the bundled checkpoint",
        licence="Apache-2.0",
        source="this package",
        rate=44_100,
    ),
    "scav": Source(
        title="SCAV of the bundled checkpoint (2407.05782)",
        licence="Apache-2.0",
        source="this package",
        rate=44_100,
        takes_frames=True,
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
        # av-benchmark, and so the published FD_PANNs, use the 16 kHz weights; panns_inference downloads those
        # for 32 kHz.
        files=_CNN14_FILES,
        rate=16_000,
        source="https://zenodo.org/records/3987831",
        url="https://zenodo.org/records/3987831/files/Cnn14_16k_mAP%3D0.438.pth?download=1",
        licence="CC-BY-4.0",
        cached=tuple(f"panns_data/{file}" for file in _CNN14_FILES),
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
        title="CLIP ViT-B/32 of OpenAI (2103.00020), whose embedding space Wav2CLIP shares",
        files=("vit_base_patch32_clip_224.openai/open_clip_model.safetensors",),
        source=_HUB + "timm/vit_base_patch32_clip_224.openai/blob/main/open_clip_model.safetensors",
        url=_HUB + "timm/vit_base_patch32_clip_224.openai/resolve/main/open_clip_model.safetensors",
        licence="MIT",
        cached=(".cache/v2a/weights/vit_base_patch32_clip_224.openai/open_clip_model.safetensors",),
        takes_audio=False,
        takes_frames=True,
    ),
    "bertscore": Source(
        title="RoBERTa-large (1907.11692), of BertScore (1904.09675)",
        package="bert_score",
        files=("roberta-large",),
        source=_HUB + "FacebookAI/roberta-large",
        licence="MIT",
        hub="FacebookAI/roberta-large",
        takes_audio=False,
    ),
    "imagebind": Source(
        title="ImageBind (2305.05665)",
        source="https://github.com/facebookresearch/ImageBind",
        licence="CC-BY-NC-SA-4.0",
        reason="no maintained package provides it, and its weights exclude commercial use",
    ),
    "synchformer": Source(
        title="Synchformer (2401.16423), of DeSync",
        source="https://github.com/v-iashin/Synchformer",
        licence="MIT",
        reason="no maintained package provides it",
    ),
    "sparsesync": Source(
        title="SparseSync (2210.07055), of SS",
        source="https://github.com/v-iashin/SparseSync",
        licence="MIT",
        reason="no maintained package provides it (its visual trunk alone, which recipes load, finds no offsets)",
    ),
}
"""Networks by the name used in `--weights NAME=FILE`. Those with a `reason` cannot be loaded."""


def not_offered(name: str) -> str:
    """Reason why a network is not offered; empty if it is."""
    source = NETWORKS[name]
    where = f"(published at {source.source}, licence: {source.licence})"
    return f"{source.title}: {source.reason} {where}" if source.reason else ""


def how_to_get(name: str) -> str:
    """Instructions to get a network's weights: origin, licence and option."""
    source = NETWORKS[name]
    file = source.files[0]
    what = f"the folder {file}" if source.hub else " or ".join(source.files)
    return (
        f"get {what} from {source.source} (licence: {source.licence}), then name it with "
        f"--weights {name}=PATH/{file} or put it into the folder that ${published.FOLDER} names"
    )

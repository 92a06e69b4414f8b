"""Audio networks of FAD, FD, IS, KLD, NS and WC.

Each takes its class from the package that maintains it and its weights from a file. If the intended use of a package
would download, print or change the process, only its network class is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2a_models import checkpoint
from v2a_models.checkpoint_files import CheckpointError, find_checkpoint
from v2a_models.encoders import published, state_dicts
from v2a_models.encoders.beats import RATE as BEATS_RATE
from v2a_models.encoders.shapes import BEATS_DIM
from v2a_models.metrics.networks.audio_network import AudioNetwork, module_of, part_of
from v2a_models.metrics.networks.base import Network, Unavailable

AUDIOSET_CLASSES = 527

_CNN14 = {257: (16_000, 512, 160, 8_000), 513: (32_000, 1024, 320, 14_000)}
"""Rate, window, hop and highest frequency (Hz) by the number of bins of the mel filter bank."""


class Foley(AudioNetwork):
    """Event classifier of a checkpoint; the bundled one knows the classes of sound, and silence. The embedding is the
    input of the last layer (mean and maximum over time)."""

    name, rate, shortest = "foley", 44_100, 16 * 512  # four halvings of the time axis, of frames of 512

    def __init__(self, name_or_path: str, device: torch.device | str = "cpu") -> None:
        """Raises Unavailable for a missing checkpoint, or one without a classifier."""
        try:
            file = find_checkpoint(name_or_path) / "classifier.safetensors"
            classifier, classes = checkpoint.load_classifier(name_or_path)
            digest = published.check(file)
        except (CheckpointError, KeyError, published.WeightsError) as error:
            raise Unavailable(f"event classifier (--weights foley={name_or_path}): {error}") from error
        self.classes = tuple(classes)
        self.dims = classifier.head.in_features
        self.head = classifier.head.to(device)
        classifier.head = nn.Identity()  # type: ignore[assignment]
        super().__init__(classifier, device, digest)

    def forward(self, sounds: Tensor) -> tuple[Tensor, Tensor | None]:
        pooled = self.net(sounds)
        return pooled, self.head(pooled)


class VGGish(AudioNetwork):
    """torchvggish's VGGish without PCA and quantiser, which FAD does not use: embeddings (T, 128) after the last ReLU,
    one per whole 0.96 s; the rest at the end is dropped. Framing is in float64, as in the package."""

    name, rate, dims = "vggish", 16_000, 128
    shortest = 95 * 160 + 400  # 96 frames of 25 ms, 10 ms apart

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError for damaged or unsuitable weights."""
        package = module_of("torchvggish.torchvggish")
        self.examples = module_of("torchvggish.vggish_input").waveform_to_examples
        state, _ = state_dicts.read_state(path)
        net = package.VGG(package.make_layers(), postprocess=False)
        state_dicts.fill(net, state)
        super().__init__(net, device, published.check(path))

    def forward(self, sounds: Tensor) -> tuple[Tensor, None]:
        rows = [self.examples(row, self.rate) for row in sounds.cpu().double().numpy()]
        hidden = self.net(torch.cat(rows).detach().to(self.device))
        return hidden.unflatten(0, (len(rows), -1)), None


class Panns(AudioNetwork):
    """PANNs Cnn14: embeddings (2048,), the input of its last layer, and AudioSet's 527 classes.

    Weights of both published rates load; the rate is read from the file. The network itself outputs a sigmoid per
    class; IS and KLD use a softmax of the same logits (av-benchmark), and so does `probabilities`.
    """

    name, dims = "panns", 2048

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError for damaged or unsuitable weights."""
        state, _ = state_dicts.read_state(path)
        bands = state.get("logmel_extractor.melW")
        if bands is None or len(bands) not in _CNN14:
            raise published.WeightsError("it has no mel bands (logmel_extractor.melW) of 257 or 513 bins")
        self.rate, window, hop, highest = _CNN14[len(bands)]
        self.shortest = 32 * hop  # five halvings of the time axis
        # The package's own __init__ downloads labels with wget.
        package = part_of("panns_inference", "models")
        net = package.Cnn14(self.rate, window, hop, 64, 50, highest, AUDIOSET_CLASSES)
        state_dicts.fill(net, state)
        super().__init__(net, device, published.check(path))

    def forward(self, sounds: Tensor) -> tuple[Tensor, Tensor | None]:
        embedding = self.net(sounds)["embedding"]
        # Inverting the sigmoid would round large logits.
        return embedding, self.net.fc_audioset(embedding)  # type: ignore[operator]


class Passt(AudioNetwork):
    """PaSST: embeddings (768,), the mean of its two tokens, and AudioSet's 527 classes as a softmax (as av-benchmark).

    Sounds over 10 s are processed like scenes in hear21passt: in windows of 10 s, 2.5 s apart, with averaged embeddings
    and logits.
    """

    name, rate, dims = "passt", 32_000, 768
    shortest = 16 * 320 + 1  # one patch, and one sample for the pre-emphasis

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError for damaged or unsuitable weights."""
        passt: Any = module_of("hear21passt.models.passt")
        mels = module_of("hear21passt.models.preprocess")
        wrapper = module_of("hear21passt.wrapper")
        passt.first_RUN = False  # else its first call prints every shape
        state, _ = state_dicts.read_state(path)
        depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        # As get_model("passt_s_swa_p16_128_ap476") builds it, which would download and print.
        net = passt.PaSST(img_size=(128, 998), stride=(10, 10), depth=depth, distilled=True)
        state_dicts.fill(net, state)
        # fmax: its default for None, without the message.
        mel = mels.AugmentMelSTFT(fmax=15_000, fmin_aug_range=10, fmax_aug_range=2000)
        super().__init__(
            wrapper.PasstBasicWrapper(mel=mel, net=net, mode="all"), device, published.check(path)
        )

    def forward(self, sounds: Tensor) -> tuple[Tensor, Tensor | None]:
        with warnings.catch_warnings():
            # Its mel bands use deprecated functions, its patches warn of every sound that is not 10 s long.
            warnings.simplefilter("ignore")
            both = self.net.get_scene_embeddings(sounds)  # type: ignore[operator]
        logits, embedding = both.split([AUDIOSET_CLASSES, self.dims], 1)
        return embedding, logits


class Beats(AudioNetwork):
    """BEATs (`encoders.beats.BeatsEncoder`): embeddings (T, 768), 6.25 a second."""

    name, rate, dims = "beats", BEATS_RATE, BEATS_DIM

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError for damaged or unsuitable weights."""
        net = published.load_audio("beats-iter3-plus-as2m", path, self.rate)
        super().__init__(net, device, published.check(path))

    def forward(self, sounds: Tensor) -> tuple[Tensor, None]:
        return self.net(sounds), None


class Wav2Clip(AudioNetwork):
    """Wav2CLIP: embeddings (512,), not normalised, compared by cosine with each other (WC) or with CLIP ViT-B/32 frame
    embeddings (CC)."""

    name, rate, dims, shortest = "wav2clip", 16_000, 512, 512

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError for damaged or unsuitable weights."""
        package = module_of("wav2clip.model.encoder")
        state, _ = state_dicts.read_state(path)
        net = package.ResNetExtractor(scenario="supervise")
        net.transform = package.MLPLayers()
        parts = {"audio_encoder": "encoder", "audio_transform": "transform"}
        own = {}
        for key, value in state.items():
            part, _, rest = key.partition(".")
            if part in parts:  # an image part, if any, is CLIP
                own[f"{parts[part]}.{rest}"] = value
        state_dicts.fill(net, own)
        super().__init__(net, device, published.check(path))

    def forward(self, sounds: Tensor) -> tuple[Tensor, None]:
        # One by one, since it normalises the spectrograms of a batch jointly.
        return torch.cat([self.net(row[None]) for row in sounds]), None


MAKERS: dict[str, Callable[[Path, torch.device | str], Network]] = {
    "vggish": VGGish,
    "panns": Panns,
    "passt": Passt,
    "beats": Beats,
    "wav2clip": Wav2Clip,
}

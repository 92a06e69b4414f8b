"""Networks with a text side: CLAP, which hears sounds and reads captions, and the reader behind BertScore.

Their weights are folders of Hugging Face's layout. Nothing is fetched and no code of a folder is run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from v2a_models.encoders import published, state_dicts
from v2a_models.metrics.networks.listener import Listener, module_of

WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_COMPUTED = ("position_ids", "token_type_ids", "relative_position_index")
"""Last parts of keys of what follows from the configuration; which of them a file has depends on its age."""


class Clap(Listener):
    """LAION-CLAP: unit embeddings of sounds and of captions in one space, for the CLAP score (their cosine).

    It takes 10 s. A shorter sound is repeated, as its extractor does; a longer one is heard in the fewest pieces of
    10 s that cover it, evenly spaced, and their mean is scaled to 1 again (the extractor would take a random piece,
    and the score be another each time).
    """

    name, rate = "clap", 48_000

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError: a file is missing, damaged, or of something else."""
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
            # Not its from_pretrained, which makes up what a file lacks.
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
            # Nothing is left to truncate; "rand_trunc" also says that it is not the model that fuses pieces.
            inputs = self.extractor(
                pieces, truncation="rand_trunc", sampling_rate=self.rate, return_tensors="pt"
            )
            total += self._unit(self.net.get_audio_features(**inputs.to(self.device)))  # type: ignore[operator]
        return torch.nn.functional.normalize(total, dim=-1), None

    @torch.inference_mode()
    def embed_text(self, captions: Sequence[str]) -> np.ndarray:
        """Unit embeddings of captions: float32 (B, D); what is over the reader's longest text is cut off."""
        if not captions:
            return np.zeros((0, self.dims), np.float32)
        longest = self.longest
        inputs = self.tokenizer(
            list(captions), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return self._unit(self.net.get_text_features(**inputs.to(self.device))).cpu().numpy()  # type: ignore[operator]

    @staticmethod
    def _unit(features: object) -> Tensor:
        # transformers 5 wraps the vectors, 4 gave them.
        vectors = getattr(features, "pooler_output", features)
        assert isinstance(vectors, Tensor)
        return torch.nn.functional.normalize(vectors.float(), dim=-1)


class BertScore:
    """BertScore (1904.09675) by the package bert_score, without its idf weights and its rescaling.

    `layer` of the reader is what the paper's search picked for RoBERTa-large; smaller readers take their last.
    """

    layer = 17

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError: a file is missing, damaged, or of something else."""
        package = module_of("bert_score")
        transformers = module_of("transformers")
        # The package reads weights by itself: only a file that cannot hold code is let near it.
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
    """The weights in a folder of Hugging Face's layout. Raises WeightsError if there are none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise published.WeightsError(f"it holds neither {' nor '.join(WEIGHTS)}")

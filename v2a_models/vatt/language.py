"""Language models for VATT: published ones from local files, or a small one with its own tokenizer.

Only safetensors and JSON files are read, no model code is run, and nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from v2a_models.checkpoint_files import CheckpointError, sha256


class ModelSource(NamedTuple):
    """Origin and licence of a published language model."""

    place: str
    licence: str


MODEL_SOURCES = {
    "google/gemma-2b": ModelSource("Hugging Face, google/gemma-2b", "Gemma Terms of Use (asks for consent)"),
    "lmsys/vicuna-7b-v1.5": ModelSource("Hugging Face, lmsys/vicuna-7b-v1.5", "Llama 2 Community License"),
}
"""Language models of the paper (Gemma-2B and Vicuna-7B, no releases named). Other causal models work as well."""

OWN = "own"
"""Name of the small model that is trained from scratch."""

SMALL: dict[str, Any] = dict(
    model_type="llama", hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=True,
)  # fmt: skip
"""Sizes of the small model, 0.9 million parameters. Ours; its only language is that of its captions."""

UNWANTED = "music, speech"
"""Default negative prompt. Models trained on web videos tend to add both to silent footage."""

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


def find_base(name: str) -> Path:
    """Folder of a language model, given as a path, a name below $V2A_WEIGHTS, or a name in the Hugging Face cache.

    Raises CheckpointError with origin and licence if it is missing.
    """
    places = [Path(name)]
    if root := os.environ.get("V2A_WEIGHTS"):
        places.append(Path(root, name))
    for place in places:
        if (place / "config.json").is_file():
            return _checked(place)
    if not Path(name).is_absolute() and name.count("/") == 1:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            return _checked(Path(snapshot_download(name, local_files_only=True)))
        except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError):
            pass
    source = MODEL_SOURCES.get(name, ModelSource("where its makers publish it", "see its model card"))
    raise CheckpointError(
        f"the language model {name!r} was not found, and v2a does not download it. Get it from {source.place} "
        f"(licence: {source.licence}), config.json, the tokenizer's files and *.safetensors, and give its folder, "
        f"or put it below $V2A_WEIGHTS as {name}"
    )


def _checked(folder: Path) -> Path:
    if not sorted(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} holds no *.safetensors: other weights files can run code when they are opened and are not read. "
            "Use a release in safetensors, or save it again with save_pretrained"
        )
    return folder


def base_digest(folder: Path) -> str:
    """SHA-256 over config.json and all weights of a language model, in hex."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    lines = "".join(f"{file.name} {sha256(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def checked_base(name: str, digest: str = "") -> tuple[Path, str]:
    """Folder of a language model and its digest. Raises CheckpointError if it is missing, or not of `digest`."""
    folder = find_base(name)
    there = base_digest(folder)
    if digest and there != digest:
        raise CheckpointError(
            f"this adapter belongs to {name} with sha256 {digest[:16]}…, and {folder} has {there[:16]}…: get the "
            "release it was trained with, or train it again on this one"
        )
    return folder, there


def check_adapter(config: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless the language model of a checkpoint (given its config.json) is present and the one
    it was trained with. Loads no weights."""
    try:
        model = config.get("model") or {}
        converter = model.get("converter") or (model.get("settings") or {}).get("converter")
        if converter and converter["base"] != OWN:
            checked_base(converter["base"], converter["base_sha256"])
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json names no language model as it should: {error!r}") from error


def base_files(config: Mapping[str, Any]) -> list[Path]:
    """Weights of the published language model that a checkpoint (given its config.json) was trained with; usually none.

    Raises CheckpointError unless it is present.
    """
    model = config.get("model") or {}
    converter = model.get("converter") or (model.get("settings") or {}).get("converter")
    if not converter or converter["base"] == OWN:
        return []
    return sorted(find_base(converter["base"]).glob("*.safetensors"))


def load_base(folder: Path) -> tuple[Any, Any]:
    """Load model and tokenizer of a folder, float32, in evaluation mode. Raises CheckpointError."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="float32"
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder} holds no usable language model: {(str(error) or repr(error)).splitlines()[0]}"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def layout(folder: Path) -> dict[str, Any]:
    """Content of a language model's config.json. Raises CheckpointError."""
    try:
        return dict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json cannot be read: {error}") from error


def new_model(sizes: dict[str, Any], vocabulary: int) -> Any:
    """Build an untrained causal model of `sizes` (fields of its transformers config, with `model_type`)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    rest = {name: value for name, value in sizes.items() if name != "model_type"}
    pad, start, end, _ = range(len(SPECIAL))
    config = AutoConfig.for_model(
        sizes["model_type"],
        vocab_size=vocabulary,
        pad_token_id=pad,
        bos_token_id=start,
        eos_token_id=end,
        **rest,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def train_tokenizer(texts: Iterable[str], size: int = 512) -> str:
    """Train a tokenizer on `texts`, as JSON: byte pairs within lower-case words, at most `size` tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789,.;:!?()/&'\"-")
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), end_of_word_suffix="</w>", show_progress=False,
        initial_alphabet=letters,
    )  # fmt: skip
    # Every letter alone and at the end of a word, so that unknown words can be spelt.
    spelt = [" ".join(letters), *(f"{a}{b}" for a, b in zip(letters, letters[1:] + letters[:1], strict=True))]
    tokenizer.train_from_iterator([*sorted(texts), *spelt], trainer)
    return tokenizer.to_str()


def own_tokenizer(text: str) -> Any:
    """Load a tokenizer of `train_tokenizer` for transformers. Raises CheckpointError for damaged JSON."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    try:
        inner = Tokenizer.from_str(text)
    except Exception as error:  # the library raises its base class only
        raise CheckpointError(f"the tokenizer in config.json is damaged: {error}") from error
    pad, start, end, unknown = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=pad, bos_token=start, eos_token=end, unk_token=unknown
    )


class TextError(ValueError):
    """Unusable prompt; the message says what to change."""


def encode(tokenizer: Any, texts: Sequence[str], limit: int) -> list[list[int]]:
    """Tokens of each text, with the start token if the tokenizer has one.

    Raises TextError for a text of more than `limit` tokens, or with words that the tokenizer cannot encode.
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    found = []
    for text in texts:
        ids = [*start, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids[len(start) :]:
            strange = [
                word
                for word in text.split()
                if tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False)["input_ids"]
            ]
            raise TextError(
                f"the prompt {text!r} has parts that the model's tokenizer does not know: "
                f"{', '.join(map(repr, strange)) or 'some characters'}; use other words or characters"
            )
        if len(ids) > limit:
            raise TextError(
                f"the prompt has {len(ids)} tokens, the model reads at most {limit}: shorten it ({text[:40]!r}...)"
            )
        found.append(ids)
    return found


def usual_negative(config: Mapping[str, Any]) -> str:
    """Default negative prompt of a checkpoint, given its config.json: UNWANTED, or nothing for a model that follows no
    text, is sampled without guidance, or lacks the words."""
    settings = config.get("model", {}).get("settings", {})
    converter = settings.get("converter")
    if not config.get("follows_text") or not converter or settings["sampling"]["guidance"] == 1:
        return ""
    if converter["base"] == OWN:
        tokenizer = own_tokenizer(converter["tokenizer"])
        # The tokenizer can spell any word; only frequent words have a token of their own.
        if any(len(tokenizer.tokenize(word)) > 1 for word in UNWANTED.split(", ")):
            return ""
    return UNWANTED

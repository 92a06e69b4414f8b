"""Language models for VATT: published ones from local files, or a small one with a tokenizer of its own.

Only safetensors and JSON are read, no code that comes with a model is run, and nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from v2a_models.checkpoint_files import CheckpointError, sha256


class Known(NamedTuple):
    """A published language model."""

    place: str
    licence: str


KNOWN = {
    "google/gemma-2b": Known("Hugging Face, google/gemma-2b", "Gemma Terms of Use (asks for consent)"),
    "lmsys/vicuna-7b-v1.5": Known("Hugging Face, lmsys/vicuna-7b-v1.5", "Llama 2 Community License"),
}
"""Those of the paper (Gemma-2B and Vicuna-7B; it names no releases). Any other causal one can be named too."""

OWN = "own"
"""Name of the small model that is trained here from nothing."""

SMALL: dict[str, Any] = dict(
    model_type="llama", hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=True,
)  # fmt: skip
"""The small model: 0.9 million parameters. Ours; it knows no language but that of its captions."""

UNWANTED = "music, speech"
"""What silent footage should not be given where nobody says anything else: models trained on videos of the web have
heard both all the time."""

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


def find_base(name: str) -> Path:
    """Folder of a language model: a path, a name below $V2A_WEIGHTS, or one in the cache of huggingface_hub.

    Raises CheckpointError that says which weights are missing, where they are to be had, and under which licence.
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
    known = KNOWN.get(name, Known("where its makers publish it", "see its model card"))
    raise CheckpointError(
        f"the language model {name!r} is not here: v2a downloads nothing. Get it from {known.place} (licence: "
        f"{known.licence}), config.json, the tokenizer's files and *.safetensors, and give its folder, or put it "
        f"below $V2A_WEIGHTS as {name}"
    )


def _checked(folder: Path) -> Path:
    if not sorted(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} holds no *.safetensors: other weights files can run code when they are opened and are not read. "
            "Take a release in safetensors, or save it again with save_pretrained"
        )
    return folder


def base_digest(folder: Path) -> str:
    """sha256 over config.json and all weights of a language model: hex."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    lines = "".join(f"{file.name} {sha256(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def checked_base(name: str, wanted: str = "") -> tuple[Path, str]:
    """Folder of a language model and its digest. Raises CheckpointError if it is missing, or not the `wanted` one."""
    folder = find_base(name)
    there = base_digest(folder)
    if wanted and there != wanted:
        raise CheckpointError(
            f"this adapter belongs to {name} with sha256 {wanted[:16]}…, and {folder} has {there[:16]}…: get the "
            "release it was trained with, or train it again on this one"
        )
    return folder, there


def check_adapter(config: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless the language model that a checkpoint (its config.json) adapts is here and the one
    it was trained on; without loading anything."""
    model = config.get("model") or {}
    converter = model.get("converter") or (model.get("settings") or {}).get("converter")
    if converter and converter["base"] != OWN:
        checked_base(converter["base"], converter["base_sha256"])


def load_base(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, float32, in evaluation mode. Raises CheckpointError."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="float32"
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder} holds no language model that can be used: {str(error).splitlines()[0]}"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def layout(folder: Path) -> dict[str, Any]:
    """What config.json of a language model says. Raises CheckpointError."""
    try:
        return dict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json cannot be read: {error}") from error


def new_model(sizes: dict[str, Any], vocabulary: int) -> Any:
    """An untrained causal model of `sizes` (fields of its transformers config, with `model_type`)."""
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
    """A tokenizer made from `texts`, as JSON: byte pairs within lower-case words, at most `size` tokens."""
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
    # Every letter alone and at the end of a word: what was not in the texts can still be spelt.
    spelt = [" ".join(letters), *(f"{a}{b}" for a, b in zip(letters, letters[1:] + letters[:1], strict=True))]
    tokenizer.train_from_iterator([*sorted(texts), *spelt], trainer)
    return tokenizer.to_str()


def own_tokenizer(text: str) -> Any:
    """The tokenizer of `train_tokenizer`, as transformers uses it. Raises CheckpointError for damaged JSON."""
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
    """A prompt that cannot be used; the message says what to change."""


def encode(tokenizer: Any, texts: Sequence[str], limit: int) -> list[list[int]]:
    """Tokens of each text, after the token that begins one where the tokenizer has it.

    Raises TextError for a text of more than `limit` tokens, with their number, and for one with parts that the
    tokenizer cannot write, naming them.
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
                f"{', '.join(map(repr, strange)) or 'some characters'}; write them in its letters"
            )
        if len(ids) > limit:
            raise TextError(
                f"the prompt has {len(ids)} tokens, the model reads at most {limit}: shorten it ({text[:40]!r}...)"
            )
        found.append(ids)
    return found


def usual_negative(config: Mapping[str, Any]) -> str:
    """The negative prompt of a checkpoint (its config.json) for which none is given: UNWANTED, or nothing where the
    model follows no text, is sampled without guidance, or knows not all the words."""
    settings = config.get("model", {}).get("settings", {})
    converter = settings.get("converter")
    if not config.get("follows_text") or not converter or settings["sampling"]["guidance"] == 1:
        return ""
    if converter["base"] == OWN:
        tokenizer = own_tokenizer(converter["tokenizer"])
        # It can spell any word; one that it has read often is a token of its own.
        if any(len(tokenizer.tokenize(word)) > 1 for word in UNWANTED.split(", ")):
            return ""
    return UNWANTED

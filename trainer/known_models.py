"""Configurations of the models that people ask for, so that a plan needs no download.

Source: each model's own config.json on the Hugging Face hub (https://huggingface.co/HUB_ID/blob/main/config.json), as far as
it decides the size of a tensor; what is not here has transformers' default. The tests compare the number of parameters with
the published one.
"""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import AutoConfig, PretrainedConfig

from trainer.embedded import EMBEDDED
from trainer.models import UnknownModel
from trainer.text_part import text_part

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class KnownModel:
    """`billions`: published number of parameters; `checkpoint`: type of the published weights, which decides the download."""

    hub_id: str
    billions: float
    checkpoint: str
    config: dict[str, Any]


def neox(hidden: int, layers: int, heads: int, vocabulary: int) -> dict[str, Any]:
    """A GPT-NeoX."""
    return {
        "model_type": "gpt_neox", "hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "vocab_size": vocabulary, "max_position_embeddings": 2048,
    }  # fmt: skip


def bloom(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    """A BLOOM."""
    return {"model_type": "bloom", "hidden_size": hidden, "n_layer": layers, "n_head": heads, "vocab_size": 250880}


def t5(hidden: int, inner: int, layers: int, heads: int, width: int, activation: str) -> dict[str, Any]:
    """A T5 v1.1: gated, with a head of its own."""
    return {
        "model_type": "t5", "d_model": hidden, "d_ff": inner, "num_layers": layers, "num_decoder_layers": layers,
        "num_heads": heads, "d_kv": width, "vocab_size": 32128, "feed_forward_proj": activation,
        "tie_word_embeddings": False, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip


def opt(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    """An OPT."""
    return {
        "model_type": "opt", "hidden_size": hidden, "word_embed_proj_dim": hidden, "ffn_dim": 4 * hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": 50272, "max_position_embeddings": 2048,
    }  # fmt: skip


def llama(
    kind: str, hidden: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int, tied: bool, **more: Any
) -> dict[str, Any]:
    """A Llama, or one of its relatives; `groups`: heads of keys and values."""
    return {
        "model_type": kind, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": groups, "vocab_size": vocabulary,
        "tie_word_embeddings": tied, **more,
    }  # fmt: skip


KNOWN = {
    "gpt-neox-20b": KnownModel("EleutherAI/gpt-neox-20b", 20.55, "float16", neox(6144, 44, 64, 50432)),
    "bloomz-3b": KnownModel("bigscience/bloomz-3b", 3.00, "float16", bloom(2560, 30, 32)),
    "bloomz-7b1": KnownModel("bigscience/bloomz-7b1", 7.07, "float16", bloom(4096, 30, 32)),
    "bloomz": KnownModel("bigscience/bloomz", 176.25, "bfloat16", bloom(14336, 70, 112)),
    "flan-t5-xl": KnownModel("google/flan-t5-xl", 2.85, "float32", t5(2048, 5120, 24, 32, 64, "gated-gelu")),
    "flan-t5-xxl": KnownModel("google/flan-t5-xxl", 11.14, "float32", t5(4096, 10240, 24, 64, 64, "gated-gelu")),
    "flan-ul2": KnownModel("google/flan-ul2", 19.59, "bfloat16", t5(4096, 16384, 32, 16, 256, "gated-silu")),
    "opt-iml-max-1.3b": KnownModel("facebook/opt-iml-max-1.3b", 1.32, "float16", opt(2048, 24, 32)),
    "opt-iml-max-30b": KnownModel("facebook/opt-iml-max-30b", 29.97, "float16", opt(7168, 48, 56)),
    "llama-3.1-8b": KnownModel(
        "meta-llama/Llama-3.1-8B-Instruct", 8.03, "bfloat16", llama("llama", 4096, 14336, 32, 32, 8, 128256, False)
    ),
    "llama-3.2-1b": KnownModel(
        "meta-llama/Llama-3.2-1B-Instruct", 1.24, "bfloat16", llama("llama", 2048, 8192, 16, 32, 8, 128256, True)
    ),
    "qwen2.5-0.5b": KnownModel(
        "Qwen/Qwen2.5-0.5B-Instruct", 0.49, "bfloat16", llama("qwen2", 896, 4864, 24, 14, 2, 151936, True)
    ),
    "qwen3-0.6b": KnownModel(
        "Qwen/Qwen3-0.6B", 0.60, "bfloat16", llama("qwen3", 1024, 3072, 28, 16, 8, 151936, True, head_dim=128)
    ),
    "qwen3-8b": KnownModel(
        "Qwen/Qwen3-8B", 8.19, "bfloat16", llama("qwen3", 4096, 12288, 36, 32, 8, 151936, False, head_dim=128)
    ),
    "qwen3-32b": KnownModel(
        "Qwen/Qwen3-32B", 32.76, "bfloat16", llama("qwen3", 5120, 25600, 64, 64, 8, 151936, False, head_dim=128)
    ),
    "mistral-7b": KnownModel(
        "mistralai/Mistral-7B-Instruct-v0.3", 7.25, "bfloat16",
        llama("mistral", 4096, 14336, 32, 32, 8, 32768, False, sliding_window=None, head_dim=128),
    ),
    "gemma-3-1b": KnownModel(
        "google/gemma-3-1b-it", 1.00, "bfloat16",
        llama("gemma3_text", 1152, 6912, 26, 4, 1, 262144, True, head_dim=256, sliding_window=512),
    ),
    "smollm2-1.7b": KnownModel(
        "HuggingFaceTB/SmolLM2-1.7B-Instruct", 1.71, "bfloat16", llama("llama", 2048, 8192, 24, 32, 32, 49152, True)
    ),
    EMBEDDED: KnownModel(
        "HuggingFaceTB/SmolLM2-135M-Instruct", 0.135, "float32", llama("llama", 576, 1536, 30, 9, 3, 49152, True)
    ),
}  # fmt: skip


class Described(NamedTuple):
    """A model's configuration, the type of its published weights, and whether it is the text model within a larger one."""

    config: PretrainedConfig
    checkpoint: str
    within: bool

    @property
    def bytes_each(self) -> int:
        """Of a number in the published weights."""
        return BYTES.get(self.checkpoint, 4)


def find_config(name: str) -> Described:
    """A model by its known name or hub id, by a config.json or its folder, or from the cache of the hub. Nothing is
    downloaded. Raises UnknownModel.
    """
    for short, known in KNOWN.items():
        if name.lower() in {short, known.hub_id.lower(), known.hub_id.split("/")[1].lower()}:
            return Described(AutoConfig.for_model(**known.config), known.checkpoint, False)
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise UnknownModel(
            f"There is no configuration of the model {name!r}: give --model a config.json, a folder that has one, or one of "
            f"{', '.join(KNOWN)}."
        ) from error
    text = text_part(config)
    if text is None:
        raise UnknownModel(
            f"{name!r} is a {config.model_type}, neither a decoder nor an encoder-decoder of T5's kind that answers in text; "
            "give --model another."
        )
    dtype = config.dtype or text.dtype or "float32"
    return Described(text, str(dtype).removeprefix("torch."), text is not config)

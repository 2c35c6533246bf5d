"""Small models of the families that people ask for, as configurations of their true architectures."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tests.tiny import save, tiny_tokenizer
from trainer.known_models import bloom, llama, neox, opt, t5

VOCABULARY = 512
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt_neox": neox(128, 3, 4, VOCABULARY),
    "bloom": {**bloom(128, 3, 4), "vocab_size": VOCABULARY},
    "t5": {**t5(128, 256, 2, 4, 32, "gated-gelu"), "vocab_size": VOCABULARY, "tie_word_embeddings": True},
    "opt": {**opt(128, 3, 4), "vocab_size": VOCABULARY},
    "llama": llama("llama", 128, 256, 3, 4, 2, VOCABULARY, False),
    "smollm2": llama("llama", 128, 256, 3, 4, 2, VOCABULARY, True),
    "smollm3": llama("smollm3", 128, 256, 4, 4, 2, VOCABULARY, True, pad_token_id=0),
    "qwen3": llama("qwen3", 128, 256, 3, 4, 2, VOCABULARY, True, head_dim=32),
    "mistral": llama("mistral", 128, 256, 3, 4, 2, VOCABULARY, False, sliding_window=None),
    "gemma3_text": llama("gemma3_text", 128, 256, 6, 4, 1, VOCABULARY, True, head_dim=32, sliding_window=64),
}


def save_family(family: str, folder: Path, seed: int = 0) -> Path:
    """A random model of the family with a tokenizer of its own; the folder."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(**{**FAMILIES[family], **ids, "bos_token_id": None})
    if config.is_encoder_decoder:
        config.decoder_start_token_id = tokenizer.pad_token_id
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return save(auto.from_config(config), tokenizer, folder)

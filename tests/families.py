"""Small models of the families that people ask for, as configurations of their true architectures."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import normalizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

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
    "qwen2": llama("qwen2", 128, 256, 3, 4, 2, VOCABULARY, True),
    "qwen3": llama("qwen3", 128, 256, 3, 4, 2, VOCABULARY, True, head_dim=32),
    "mistral": llama("mistral", 128, 256, 3, 4, 2, VOCABULARY, False, sliding_window=None),
    "gemma3_text": llama("gemma3_text", 128, 256, 6, 4, 1, VOCABULARY, True, head_dim=32, sliding_window=64),
}


END = "<|im_end|>"
# Of the real ones what decides a prompt: that they have no template, or one that asks for a mode or for the date.
BARE = {"gpt_neox", "bloom", "t5", "opt"}
THINKING = "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think></think>' }}{% endif %}"
TODAY = (
    "{%- if not date_string is defined %}\n    {%- set date_string = strftime_now('%d %b %Y') %}\n{%- endif %}\n"
    "{{- 'Today Date: ' + date_string + '\\n' }}"
)


def family_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A tiny tokenizer that has texts begin and end, and templates ask, as the family's does.

    Qwen3 thinks unless told not to, Llama 3.2 and SmolLM3 say the date, OPT's texts begin with the end token, T5's end with
    it and have no newlines.
    """
    tokenizer = tiny_tokenizer()
    if family in BARE:
        tokenizer.chat_template = None
    if family in ("qwen3", "smollm3"):
        tokenizer.chat_template += THINKING
    if family in ("llama", "smollm3"):
        tokenizer.chat_template = TODAY + tokenizer.chat_template
    inner = tokenizer.backend_tokenizer
    if family == "opt":
        tokenizer.bos_token = END
        inner.post_processor = around(tokenizer, f"{END} $A")
    if family == "t5":
        inner.normalizer = normalizers.Replace("\n", " ")
        inner.post_processor = around(tokenizer, f"$A {END}")
    return tokenizer


def around(tokenizer: PreTrainedTokenizerFast, single: str) -> processors.TemplateProcessing:
    """What puts the end token before or after each text."""
    return processors.TemplateProcessing(single=single, special_tokens=[(END, tokenizer.eos_token_id)])


def save_family(family: str, folder: Path, seed: int = 0) -> Path:
    """A random model of the family with a tokenizer of its own; the folder."""
    tokenizer = family_tokenizer(family)
    torch.manual_seed(seed)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(**{**FAMILIES[family], **ids, "bos_token_id": None})
    if config.is_encoder_decoder:
        config.decoder_start_token_id = tokenizer.pad_token_id
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return save(auto.from_config(config), tokenizer, folder)

"""Models that do something to their logits behind the head are refused, before anything is trained on them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from preferences.errors import RankloopError
from tests.tiny import save, tiny_tokenizer
from tests.trainer.make import is_one_sentence
from trainer.known_models import llama
from trainer.models import Base, load_base

CHANGING: dict[str, dict[str, Any]] = {
    "gemma2": {"final_logit_softcapping": 1.0, "head_dim": 16},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.0625},
}


def base_of(family: str, folder: Path, dtype: torch.dtype | None = None, **options: Any) -> Base:
    """A tiny model of the family."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    sizes = llama(family, 64, 128, 2, 4, 2, len(tokenizer), True, initializer_range=0.2)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = AutoConfig.for_model(**sizes, **ids, **options)
    return load_base(str(save(AutoModelForCausalLM.from_config(config), tokenizer, folder)), "none", dtype=dtype)


@pytest.mark.parametrize("family", CHANGING)
def test_logits_that_are_not_the_heads_are_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(RankloopError, match=rf"\({family}\) changes its logits behind the head") as refused:
        base_of(family, tmp_path, **CHANGING[family])
    assert is_one_sentence(str(refused.value))


def test_the_same_models_without_it_are_taken(tmp_path: Path) -> None:
    """In 16 bits on a CPU, as for a merge, nothing is tried: that would take long."""
    base_of("gemma2", tmp_path / "gemma2", head_dim=16, final_logit_softcapping=None)
    base_of("granite", tmp_path / "granite", logits_scaling=1.0)
    base_of("cohere", tmp_path / "cohere", logit_scale=1.0)
    base_of("granite", tmp_path / "other", torch.float16, logits_scaling=8.0)

"""Models that do something to their logits behind the head are refused, before anything is trained on them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from labeler.outcomes import MemoryPlan
from preferences.errors import RankloopError
from tests.tiny import save, tiny_tokenizer
from tests.trainer.make import is_one_sentence
from trainer.head import changes_logits
from trainer.known_models import llama
from trainer.models import Base, load_base
from trainer.plan import REFUSED, Plan, plan

CHANGING: dict[str, dict[str, Any]] = {
    "gemma2": {"final_logit_softcapping": 1.0, "head_dim": 16},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.0625},
}

REAL: dict[str, dict[str, Any]] = {
    "gemma2": {},
    "granite": {"logits_scaling": 8.0},
    "cohere": {},
}  # as they are published


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


@pytest.mark.parametrize("family", REAL)
def test_the_configuration_says_it_before_anything_is_loaded(family: str) -> None:
    assert changes_logits(AutoConfig.for_model(family, **REAL[family]))


@pytest.mark.parametrize(
    "family", ["gpt_neox", "bloom", "t5", "opt", "llama", "qwen3", "mistral", "gemma3", "gemma3_text"]
)
def test_of_families_that_are_taken_it_does_not(family: str) -> None:
    assert not changes_logits(AutoConfig.for_model(family))


def test_a_plan_says_it(tmp_path: Path) -> None:
    sizes = llama("granite", 64, 128, 2, 4, 2, 512, True)
    AutoConfig.for_model(**sizes, logits_scaling=8.0).save_pretrained(tmp_path / "granite")
    AutoConfig.for_model(**sizes).save_pretrained(tmp_path / "plain")
    found = [
        plan(Plan(model=str(tmp_path / name), stages=("sample",), prompt=8, response=8, limit=1))
        for name in ("granite", "plain")
    ]
    assert [one.notes for one in found] == [[REFUSED], []]
    MemoryPlan.model_validate(found[0].as_json())  # what the labeler takes from a worker on another host

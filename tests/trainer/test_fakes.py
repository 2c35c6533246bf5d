"""What stands in for data: the answers that the steps would have found."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.families import FAMILIES
from trainer import attention, fakes
from trainer.batches import Example, collate
from trainer.fake_base import CPU
from trainer.models import Base
from trainer.sharing import can_share


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "t5"])
def test_a_model_shares_rows_and_takes_the_attention_that_the_trial_would_choose(family: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**FAMILIES[family])).eval()
    base, found = Base(model, None, "tiny", "none", CPU, (1,), 0, False), []
    for ask in (fakes.shares, can_share):
        model.config._attn_implementation = "sdpa"
        found.append((ask(base), model.config._attn_implementation))
    assert found[0] == found[1]


@pytest.mark.parametrize("share", [True, False])
def test_the_longest_prompt_of_full_rows_is_known_without_their_numbers(share: bool) -> None:
    batch = collate([Example([number // 3 + 1] * 7, [5] * 4) for number in range(6)], 0, CPU, share)
    assert fakes.longest_prompt(batch) == attention.longest_prompt(batch) == 7

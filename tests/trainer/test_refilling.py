"""Rows that join a batch in the middle of decoding: the same answers in fewer steps, on models that may, and on no others."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.families import save_family
from tests.tiny import save, tiny_tokenizer
from tests.trainer.make import with_adapters
from tests.trainer.test_rollout import assert_same
from tests.trainer.test_sharing import prompts_with_prefix
from trainer.budget import sampling_budget
from trainer.decoding import DecoderSteps
from trainer.models import Quantization, load_base
from trainer.refilling import ALLOWED, Queue, can_refill
from trainer.roles import Roles
from trainer.rollout import Sample, Sampling, generate

PROMPTS = [[20 + i + 3 * j for j in range(2 + (7 * i) % 11)] for i in range(20)]
SAMPLING = Sampling(temperature=0.8, max_new_tokens=16)
BUDGET = 6 * (12 + 16)  # six of the longest rows


def save_allowed(family: str, folder: Path) -> Path:
    """A small model of the family; the folder."""
    if family != "qwen2":
        return save_family(family, folder)
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"vocab_size": len(tokenizer), "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}
    return save(Qwen2ForCausalLM(Qwen2Config(**sizes, **ids, num_key_value_heads=2)), tokenizer, folder)


def policy_on(folder: Path, quantization: Quantization = "none") -> Roles:
    """A policy that ends about every eighth token."""
    return with_adapters(replace(load_base(str(folder), quantization), stop_ids=tuple(range(2, 384, 8))), "policy")


def steps_of(roles: Roles) -> list[int]:
    """The rows of each step from now on."""
    rows: list[int] = []
    roles.base.model.get_output_embeddings().register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    return rows


def drawn(roles: Roles, refills: bool | None, prompts: Sequence[list[int]] = PROMPTS) -> list[Sample]:
    """Answers within a budget of a few rows; None: after a trial."""
    roles.refills = refills
    keys = [(7, i) for i in range(len(prompts))]
    return generate(roles, "policy", prompts, keys, SAMPLING, sampling_budget(BUDGET))


@pytest.mark.parametrize("family", ALLOWED)
def test_the_same_answers_in_fewer_steps(family: str, tmp_path: Path) -> None:
    roles = policy_on(save_allowed(family, tmp_path))
    assert roles.base.model.config.model_type == family
    rows = steps_of(roles)
    expected = drawn(roles, False)
    before = len(rows)
    assert_same(drawn(roles, None), expected)
    assert roles.refills
    assert len(rows) - before < 0.8 * before
    assert len({len(sample.ids) for sample in expected}) > 4


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_on_a_quantised_base(quantization: Quantization, llama_folder: Path) -> None:
    roles = policy_on(llama_folder, quantization)
    found = drawn(roles, None)
    assert roles.refills
    alone = drawn(roles, False)
    same = [one for one, other in zip(found, alone, strict=True) if one.ids == other.ids]
    assert len(same) > 15, "a rounding may change a token"


@pytest.mark.parametrize("family", ["t5", "bloom", "gemma3_text"])
def test_other_models_do_without(family: str, tmp_path: Path) -> None:
    """Encoders, positions made from the mask, and windows."""
    roles = policy_on(save_family(family, tmp_path))
    expected = drawn(roles, False)
    found = drawn(roles, None)
    assert roles.refills is False
    assert found == expected


def test_a_trial_on_the_first_rows_finds_out_where_joining_goes_wrong(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here positions are counted from the padding; the answers are then those of batches one after the other."""
    roles = policy_on(llama_folder)
    expected = drawn(roles, False)
    join = DecoderSteps.join

    def wrong(self: DecoderSteps, other: DecoderSteps) -> None:
        join(self, other)
        self.mask = torch.ones_like(self.mask)

    monkeypatch.setattr(DecoderSteps, "join", wrong)
    assert drawn(roles, None) == expected
    assert roles.refills is False
    assert [s.ids for s in drawn(roles, True)] != [s.ids for s in expected], "or the trial would not have mattered"


def test_nothing_is_tried_where_nothing_waits(llama_folder: Path) -> None:
    roles = policy_on(llama_folder)
    rows = steps_of(roles)
    drawn(roles, None, PROMPTS[:4])
    assert roles.refills is None and rows[0] == 4


def test_what_runs_at_once_stays_within_the_budget(llama_folder: Path) -> None:
    """Padded rows, at every step; and when the long prompts are done, short ones take more than their places."""
    roles = policy_on(llama_folder)
    seen: list[tuple[int, int]] = []
    roles.base.model.base_model.register_forward_pre_hook(
        lambda _, __, given: seen.append(tuple(given["attention_mask"].shape)), with_kwargs=True
    )
    drawn(roles, True, [[20 + i, *range(30, 69)] for i in range(2)] + [[60 + i, 90, 91] for i in range(20)])
    assert max(rows * width for rows, width in seen) <= BUDGET
    assert seen[0] == (3, 40) and max(rows for rows, _ in seen) > 3


def test_answers_to_one_prompt_join_together(llama_folder: Path) -> None:
    """So that its first pass is theirs."""
    roles = policy_on(llama_folder)
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    read: list[int] = []
    roles.base.model.base_model.register_forward_pre_hook(
        lambda _, __, given: read.extend([1] * len(given["input_ids"]) * (given["input_ids"].shape[1] > 1)),
        with_kwargs=True,
    )
    found = drawn(roles, True, prompts)
    first = len(read)
    assert_same(found, drawn(roles, False, prompts))
    assert first <= len(read) - first + 3, "hardly a prompt is read more often than in batches one after the other"


def test_what_all_prompts_begin_with_is_not_read_again_by_rows_that_join(llama_folder: Path) -> None:
    roles = policy_on(llama_folder)
    prompts, seen = prompts_with_prefix(24), []
    keys, budget = [(7, i) for i in range(24)], sampling_budget(6 * (64 + 16))
    roles.base.model.base_model.register_forward_pre_hook(
        lambda _, __, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    roles.refills = True
    found = generate(roles, "policy", prompts, keys, SAMPLING, budget)
    reads = [shape for shape in seen if shape[1] > 1]
    assert reads[0] == (1, 60) and len(reads) > 4 and max(width for _, width in reads[1:]) <= 4
    roles.refills = False
    assert_same(generate(roles, "policy", prompts, keys, SAMPLING, budget), found)


def test_out_of_memory_where_rows_join(llama_folder: Path) -> None:
    roles = policy_on(llama_folder)
    expected, failures = drawn(roles, False), iter([False] * 12 + [True])

    def fail(*_: object) -> None:
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    roles.base.model.base_model.layers[1].register_forward_hook(fail)
    assert_same(drawn(roles, True), expected)
    assert next(failures, None) is None


def test_the_queue() -> None:
    """Whole prompts, in order, as many as fit beside the widest of the live rows."""
    queue = Queue([[3, 4], [5], [6, 7, 8]], sizes=[10, 10, 5, 5, 5, 5, 4, 4, 4], tokens=40)
    assert queue.next([0, 1, 2]) == [], "one row is free, and two belong together"
    assert queue.next([0, 2]) == [3, 4]
    assert queue.next([2, 3, 4]) == [5, 6, 7, 8]
    assert queue.next([2]) == []


def test_sharded_bases_do_without(llama_folder: Path) -> None:
    """Their passes take all processes at once."""
    roles = policy_on(llama_folder)
    roles.world = replace(roles.world, sharded=True)
    with roles.routed("policy"):
        assert not can_refill(roles, PROMPTS[0], PROMPTS[1])

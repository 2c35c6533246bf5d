"""Answers that share their prompt's row have the states, and the gradients, of rows of their own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, MistralConfig, MistralForCausalLM

from tests.tiny import save, tiny_tokenizer
from tests.trainer.make import close, with_adapters
from trainer import batches
from trainer.batches import Batch, Example, collate, common_prefix
from trainer.budget import Budget, sampling_budget
from trainer.experience import Answers
from trainer.judges import Judges
from trainer.live_bytes import LiveBytes
from trainer.models import load_base
from trainer.roles import Roles
from trainer.rollout import Sampling, generate
from trainer.sharing import can_share

PROMPTS = [[20, 21, 22, 23, 24], [30, 31], [60, 61, 62]]
EXAMPLES = [Example(prompt, [40 + n, *[50 + i for i in range(n)]]) for prompt in PROMPTS for n in (3, 0, 5, 2)]


def alone(roles: Roles) -> Batch:
    """Every answer behind a prompt of its own."""
    if roles.base.is_encoder_decoder:
        shared = roles.collate(EXAMPLES)
        return replace(
            shared, input_ids=shared.input_ids[shared.rows], attention_mask=shared.attention_mask[shared.rows],
            rows=torch.arange(len(EXAMPLES)),
        )  # fmt: skip
    return collate(EXAMPLES, roles.base.pad_id, roles.base.device)


@pytest.mark.parametrize(
    ("family", "quantization"), [("llama", "none"), ("llama", "int8"), ("llama", "nf4"), ("t5", "none")]
)
def test_states_and_gradients(family: str, quantization: str, llama_folder: Path, t5_folder: Path) -> None:
    base = load_base(str({"llama": llama_folder, "t5": t5_folder}[family]), quantization)  # type: ignore[arg-type]
    roles = with_adapters(base, "policy", "value")
    roles.train_only("policy", "value")
    assert roles.shares == (family == "llama")
    found = {}
    for share in (True, False):
        batch = (roles.collate(EXAMPLES) if share else alone(roles)).repeat(2)
        assert len(batch.input_ids) == 2 * (len(PROMPTS) if share else len(EXAMPLES))
        kept = torch.arange(batch.positions.shape[1]) <= batch.lengths[:, None]
        with roles.routed("policy", "value"):
            states = roles.response_states(batch)[kept]
            parameters = [p for role in ("policy", "value") for p in roles.parameters(role)]
            weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
            found[share] = (states.detach(), *torch.autograd.grad((states * weights).sum(), parameters))
    tolerance = 1e-2 if quantization == "int8" else 1e-4  # a rounding to int8 that falls the other way
    assert all(close(one, other, tolerance) for one, other in zip(found[True], found[False], strict=True))


def test_models_that_read_masks_or_positions_in_their_own_way_are_found_out(tmp_path: Path) -> None:
    """Bloom's ALiBi is made from a two-dimensional mask; Mistral's window does not show in a short trial."""
    tokenizer = tiny_tokenizer()
    size = {"vocab_size": len(tokenizer), "hidden_size": 64, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}
    bloom = BloomForCausalLM(BloomConfig(n_layer=2, n_head=4, initializer_range=0.1, **size))
    mistral = MistralForCausalLM(
        MistralConfig(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
                      sliding_window=8, **size)
    )  # fmt: skip
    assert not can_share(load_base(str(save(bloom, tokenizer, tmp_path / "bloom")), "none"))
    assert not can_share(load_base(str(save(mistral, tokenizer, tmp_path / "mistral")), "none"))


def test_sharing_holds_less_memory(llama_folder: Path) -> None:
    """Four answers of 8 tokens to a prompt of 120: living storages of a training pass, shared and not."""
    roles = with_adapters(load_base(str(llama_folder), "none"), "policy")
    roles.train_only("policy")
    examples = [Example([20 + i % 7 for i in range(120)], [40 + n] * 8) for n in range(4)]
    peaks = {}
    for share in (True, False):
        roles.shares = share
        with LiveBytes() as live, roles.routed("policy"):
            roles.response_states(roles.collate(examples)).square().sum().backward()
        peaks[share] = live.peak
    assert peaks[True] < 0.5 * peaks[False], peaks


def prompts_with_prefix(count: int = 12) -> list[list[int]]:
    """Prompts of different lengths that all begin with the same sixty tokens."""
    beginning = [20 + i % 9 for i in range(60)]
    return [[*beginning, 100 + i, *[40 + i] * (i % 4)] for i in range(count)]


def test_what_all_prompts_begin_with() -> None:
    prompts = prompts_with_prefix()
    assert common_prefix(prompts) == 60
    assert common_prefix(prompts[:5]) == 0, "a pass of its own would cost more than it saves"
    assert common_prefix([prompts[0][:60], *prompts]) == 59, "every prompt keeps a token"
    assert common_prefix([[1, 2], [3, 4]] * 600) == 0


@pytest.mark.parametrize("samples", [1, 3])
def test_a_prefix_that_is_read_once_changes_no_state(llama_folder: Path, samples: int) -> None:
    roles = with_adapters(load_base(str(llama_folder), "none"), "policy", "value")
    examples = [Example(p, [50 + n, *[60] * n]) for p in prompts_with_prefix() for n in range(samples)]
    short = [Example(example.prompt[60:], example.response) for example in examples]
    with torch.no_grad(), roles.routed("policy", "value"):
        prefix = roles.read_prefix(examples[0].prompt[:60])
        expected = roles.response_states(roles.collate(examples).repeat(2))
        for _ in range(2):  # a cache that grew in the first pass would spoil the second
            batch = roles.collate(short).repeat(2)
            found = roles.response_states(batch, prefix)
            kept = torch.arange(batch.positions.shape[1]) <= batch.lengths[:, None]
            assert close(found[kept], expected[kept])
    assert (expected.chunk(2)[0] - expected.chunk(2)[1]).abs().max() > 0.1


def test_judging_reads_the_prefix_once(llama_folder: Path) -> None:
    roles = with_adapters(load_base(str(llama_folder), "none"), "policy", "value", heads=["value"])
    examples = [Example(prompt, [50, 51, 2]) for prompt in prompts_with_prefix()]
    mask = torch.ones(12, 3, dtype=torch.bool)
    answers = Answers([], examples, [""] * 12, [True] * 12, mask, torch.zeros(12, 3), torch.zeros(12, 3))
    seen: list[tuple[int, ...]] = []
    roles.base.model.base_model.register_forward_pre_hook(
        lambda _, __, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    judges, found = Judges(roles, "policy", "value", None, 1.0), []
    for shares in (True, False):
        roles.shares = shares
        rollout = judges.judge(answers, Budget(100_000, shares))
        found.append((rollout.reference, rollout.answers.values))
    assert seen == [(2, 60), (24, 4 + 3), (24, 64 + 3)]
    assert all(close(one, other) for one, other in zip(*found, strict=True))


def test_finding_log_probabilities_again_reads_the_prefix_once(llama_folder: Path) -> None:
    roles = with_adapters(load_base(str(llama_folder), "none"), "policy", heads=["policy"])
    examples = [Example(prompt, [50, 51, 2]) for prompt in prompts_with_prefix()]
    seen: list[tuple[int, ...]] = []
    roles.base.model.base_model.register_forward_pre_hook(
        lambda _, __, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    judges, found = Judges(roles, "policy", None, None, 1.0), []
    for shares in (True, False):
        roles.shares = shares
        found.append(judges.replay("policy", "policy", examples, Budget(100_000, shares)))
    assert seen == [(1, 60), (12, 4 + 3), (12, 64 + 3)]
    assert all(close(one, other) for one, other in zip(*found, strict=True))


def test_generation_reads_the_prefix_once(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = with_adapters(load_base(str(llama_folder), "none"), "policy")
    prompts = [prompt for prompt in prompts_with_prefix() for _ in range(2)]
    keys, sampling, found = [(0, i) for i in range(24)], Sampling(1.0, 1.0, 6), []
    seen: list[tuple[int, ...]] = []
    roles.base.model.base_model.register_forward_pre_hook(
        lambda _, __, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    for worth in (512, 10**9):
        monkeypatch.setattr(batches, "WORTH_A_PASS", worth)
        found.append(generate(roles, "policy", prompts, keys, sampling, sampling_budget(100_000)))
    assert seen[:3] == [(1, 60), (12, 4), (24, 1)]
    assert (12, 64) in seen
    assert [sample.ids for sample in found[0]] == [sample.ids for sample in found[1]]

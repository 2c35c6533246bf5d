"""Sampling against transformers' own generation, softmax, slow loops and itself in other batches."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, OPTConfig

from preferences.errors import RankloopError
from tests.tiny import save, tiny_tokenizer
from tests.trainer.make import is_one_sentence, with_adapters
from trainer import rollout
from trainer.batches import Example
from trainer.budget import sampling_budget
from trainer.decoding import DecoderSteps, EncoderDecoderSteps
from trainer.lora import routed_forward
from trainer.models import Base, load_base
from trainer.roles import Roles
from trainer.rollout import Sample, Sampling, draw, generate, nucleus, uniform_stream

PROMPTS = [[20 + i + 3 * j for j in range(1 + (5 * i) % 9)] for i in range(10)]
KEYS = [(7, i) for i in range(10)]
SAMPLING = Sampling(temperature=0.8, max_new_tokens=12)
AMPLE = sampling_budget(10_000)  # all at once


@pytest.fixture(params=["llama", "t5"])
def policy(request: pytest.FixtureRequest, llama_folder: Path, t5_folder: Path) -> Roles:
    """A policy that ends about every eighth token, of either family."""
    base = load_base(str({"llama": llama_folder, "t5": t5_folder}[request.param]), "none")
    if request.param == "t5":
        base.model.lm_head.weight.mul_(0.1)  # or it would nearly always draw its likeliest token
    return with_adapters(replace(base, stop_ids=tuple(range(2, 384, 8))), "policy")


def rolled(roles: Roles, budget: int = 10_000, sampling: Sampling = SAMPLING) -> list[Sample]:
    """Answers to all prompts."""
    return generate(roles, "policy", PROMPTS, KEYS, sampling, sampling_budget(budget))


def assert_same(found: Sequence[Sample], expected: Sequence[Sample]) -> None:
    """The same tokens, and the same log-probabilities but for rounding."""
    assert [s.ids for s in found] == [s.ids for s in expected]
    assert [s.finished for s in found] == [s.finished for s in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def recomputed(roles: Roles, role: str, samples: Sequence[Sample], temperature: float) -> tuple[Tensor, Tensor]:
    """(rows, R) log-probabilities of the drawn tokens out of one forward pass, and the mask."""
    batch = roles.collate([Example(p, s.ids) for p, s in zip(PROMPTS, samples, strict=True)])
    with torch.no_grad(), roles.routed(role):
        logits = roles.logits(roles.response_states(batch)[:, :-1]) / temperature
    logprobs = torch.log_softmax(logits, -1).gather(-1, batch.response_ids[..., None]).squeeze(-1)
    return logprobs, batch.response_mask


def test_an_answer_does_not_depend_on_its_batch(policy: Roles) -> None:
    together = rolled(policy)
    assert_same(rolled(policy, budget=1), together)
    assert_same(rolled(policy, budget=50), together)
    one = generate(policy, "policy", PROMPTS[3:4], KEYS[3:4], SAMPLING, AMPLE)
    assert_same(one, together[3:4])
    backwards = generate(policy, "policy", PROMPTS[::-1], KEYS[::-1], SAMPLING, sampling_budget(60))
    assert_same(backwards[::-1], together)


def test_other_keys_give_other_answers(policy: Roles) -> None:
    other = generate(policy, "policy", PROMPTS, [(8, i) for i in range(10)], SAMPLING, AMPLE)
    assert [s.ids for s in other] != [s.ids for s in rolled(policy)]
    same = generate(policy, "policy", [PROMPTS[0]] * 6, [(7, i) for i in range(6)], SAMPLING, AMPLE)
    assert len({tuple(s.ids) for s in same}) > 3


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_logprobs_are_those_of_a_training_pass(policy: Roles, top_p: float) -> None:
    """At the temperature, and of the whole distribution also where the nucleus cut it."""
    samples = rolled(policy, sampling=replace(SAMPLING, temperature=0.6, top_p=top_p))
    logprobs, mask = recomputed(policy, "policy", samples, 0.6)
    found = [x for s in samples for x in s.logprobs]
    assert found == pytest.approx(logprobs[mask].tolist(), abs=1e-4)
    assert len({len(s.ids) for s in samples}) > 2


@pytest.mark.parametrize("role", ["policy", "base"])
def test_a_very_small_temperature_is_greedy_generation(policy: Roles, role: str) -> None:
    """transformers' own generation, one prompt at a time, so that it never pads."""
    model, stop = policy.base.model, list(policy.base.stop_ids)
    found = generate(policy, role, PROMPTS, KEYS, Sampling(1e-6, 1.0, 12), AMPLE)
    for prompt, sample in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        with policy.routed(role):
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12,
                eos_token_id=stop, pad_token_id=policy.base.pad_id,
            )[0].tolist()  # fmt: skip
        assert sample.ids == out[1 if policy.base.is_encoder_decoder else len(prompt) :]


POSITIONED = {
    "gpt2": GPT2Config(vocab_size=384, n_positions=64, n_embd=64, n_layer=2, n_head=4, initializer_range=0.3),
    "opt": OPTConfig(
        vocab_size=384, max_position_embeddings=64, hidden_size=64, word_embed_proj_dim=64, ffn_dim=128,
        num_hidden_layers=2, num_attention_heads=4, dropout=0.0, init_std=0.3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", POSITIONED)
def test_learned_positions_are_counted_from_the_first_token(family: str, tmp_path: Path) -> None:
    """Padding before a prompt must not move it; rotary and relative positions would not notice."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(POSITIONED[family])
    base = load_base(str(save(model, tiny_tokenizer(), tmp_path)), "none")
    found = generate(Roles(base), "base", PROMPTS, KEYS, Sampling(1e-6, 1.0, 12), AMPLE)
    for prompt, sample in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        out = base.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12,
            eos_token_id=2, pad_token_id=base.pad_id,
        )  # fmt: skip
        assert sample.ids == out[0, len(prompt) :].tolist()


def test_answers_are_cut_at_their_first_end_token(policy: Roles) -> None:
    samples = rolled(policy)
    stop = set(policy.base.stop_ids)
    for sample in samples:
        assert not stop & set(sample.ids[:-1])
        assert sample.finished == (sample.ids[-1] in stop)
        assert sample.finished or len(sample.ids) == 12
        assert len(sample.logprobs) == len(sample.ids)
    assert {s.finished for s in samples} == {True, False}


def test_compaction_changes_nothing(policy: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    for kind in (DecoderSteps, EncoderDecoderSteps):
        plain = kind.keep

        def keep(self: object, rows: Tensor, plain: object = plain) -> None:
            kept.append(len(rows))
            plain(self, rows)

        monkeypatch.setattr(kind, "keep", keep)
    monkeypatch.setattr(rollout, "COMPACT_AT", 2.0)
    never = rolled(policy)
    assert not kept
    monkeypatch.setattr(rollout, "COMPACT_AT", 1e-9)
    assert_same(rolled(policy), never)
    assert len(kept) > 2
    assert kept == sorted(kept, reverse=True)
    monkeypatch.undo()
    assert_same(rolled(policy), never)


def test_progress_counts_every_row_once(policy: Roles) -> None:
    for budget in (10_000, 40):
        ended: list[int] = []
        generate(policy, "policy", PROMPTS, KEYS, SAMPLING, sampling_budget(budget), ended.append)
        assert sum(ended) == 10


def test_out_of_memory_in_the_middle_draws_the_same_answers(policy: Roles) -> None:
    """What has ended is kept, what has not is begun again in smaller batches; every answer is counted once."""
    expected, rows, ended = rolled(policy), [], []
    budget = sampling_budget(10_000)

    def fail(_: object, given: tuple[Tensor, ...], __: object) -> None:
        rows.append(len(given[0]))
        if len(rows) == 6:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    policy.base.model.get_output_embeddings().register_forward_hook(fail)
    found = generate(policy, "policy", PROMPTS, KEYS, SAMPLING, budget, ended.append)
    assert_same(found, expected)
    assert (budget.halvings, budget.tokens) == (1, 5_000)
    assert rows[6] <= 5 < rows[0] and ended == [1] * 10
    assert policy.route == ("base",)


def test_int8_ratios_are_near_1(llama_folder: Path) -> None:
    """One token at a time with a cache, against whole rows: what PPO's first ratio sees."""
    base = load_base(str(llama_folder), "int8")
    roles = with_adapters(replace(base, stop_ids=tuple(range(2, 384, 8))), "policy")
    samples = rolled(roles)
    logprobs, mask = recomputed(roles, "policy", samples, SAMPLING.temperature)
    old = torch.zeros_like(logprobs)
    for i, sample in enumerate(samples):
        old[i, : len(sample.ids)] = torch.tensor(sample.logprobs)
    assert float(((logprobs - old).exp() - 1).abs()[mask].mean()) < 2e-2


def test_decoding_multiplies_by_no_adapter(policy: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an unquantised base on a CPU the adapter is in the weights meanwhile."""
    asked: list[object] = []

    def counted(layer: object, *args: Any) -> Tensor:
        asked.append(layer)
        return routed_forward(layer, *args)

    monkeypatch.setattr("trainer.roles.routed_forward", counted)
    rolled(policy)
    assert not asked
    recomputed(policy, "policy", rolled(policy), 1.0)
    assert asked


def test_the_route_is_put_back(base: Base) -> None:
    roles = with_adapters(base, "policy")
    generate(roles, "policy", [[20]], [(0,)], Sampling(1.0, 1.0, 2), AMPLE)
    assert roles.route == ("base",)
    assert generate(roles, "policy", [], [], SAMPLING, AMPLE) == []


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    rows = 20_000
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 0.0, 1.5])
    quantiles = torch.from_numpy(np.random.default_rng(0).random(rows)).float()
    tokens, logprobs = draw(logits.expand(rows, -1), quantiles, Sampling(temperature))
    expected = scipy.special.softmax(logits.double().numpy() / temperature)
    counts = np.bincount(tokens.numpy(), minlength=8)
    assert scipy.stats.chisquare(counts, rows * expected).pvalue > 0.001
    assert np.allclose(logprobs.numpy(), np.log(expected)[tokens.numpy()], atol=1e-5)


def test_draws_in_a_nucleus_follow_what_is_left_of_the_softmax() -> None:
    rows = 20_000
    probabilities = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])
    quantiles = torch.from_numpy(np.random.default_rng(0).random(rows)).float()
    tokens, logprobs = draw(probabilities.log().expand(rows, -1), quantiles, Sampling(top_p=0.75))
    counts = np.bincount(tokens.numpy(), minlength=5)
    assert counts[[0, 2]].tolist() == [0, 0]
    left = np.array([0.4, 0.3, 0.15])
    assert scipy.stats.chisquare(counts[[1, 3, 4]], rows * left / left.sum()).pvalue > 0.001
    assert torch.allclose(logprobs.exp(), probabilities[tokens])


@pytest.mark.parametrize(("quantile", "token"), [(0.0, 1), (0.249, 1), (0.251, 3), (0.749, 3), (0.751, 4)])
def test_the_inverse_of_the_cdf(quantile: float, token: int) -> None:
    """Tokens without probability are never drawn, not even at the ends."""
    logits = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]]).log()
    assert draw(logits, torch.tensor([quantile]), Sampling())[0].tolist() == [token]


@pytest.mark.parametrize("seed", range(5))
def test_the_last_quantiles_stay_inside(seed: int) -> None:
    """The largest uniform numbers round to 1 in single precision: still a token of the nucleus, not the vocabulary's last."""
    logits = 3 * torch.randn(1, 500, generator=torch.Generator().manual_seed(seed))
    logits[0, -1] = -20.0
    inside = nucleus(torch.softmax(logits, -1), 0.9)[0] > 0
    for quantile in (1 - 2**-53, 1 - 2**-25, 1 - 2**-24):
        token = draw(logits, torch.tensor([quantile], dtype=torch.float64), Sampling(top_p=0.9))[0]
        assert inside[token]


def slow_nucleus(probabilities: list[float], top_p: float) -> list[float]:
    """Take the likeliest tokens one by one until they reach top_p."""
    kept, total = set(), 0.0
    for i in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):
        if total >= top_p:
            break
        kept.add(i)
        total += probabilities[i]
    return [p if i in kept else 0.0 for i, p in enumerate(probabilities)]


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=3), st.floats(0.01, 0.999))
def test_nucleus(seeds: list[int], top_p: float) -> None:
    rows = np.stack([np.random.default_rng(seed).dirichlet(np.full(12, 0.5)) for seed in seeds])
    found = nucleus(torch.from_numpy(rows), top_p)
    assert found.tolist() == [slow_nucleus(row, top_p) for row in rows.tolist()]


def test_the_likeliest_token_always_stays() -> None:
    assert nucleus(torch.tensor([[0.2, 0.7, 0.1]]), 1e-9).tolist() == [[0, pytest.approx(0.7), 0]]


def test_streams_depend_on_the_key_alone() -> None:
    assert uniform_stream((1, 2), 5).tolist() == uniform_stream([1, 2], 9)[:5].tolist()
    assert uniform_stream((1, 2), 5).tolist() != uniform_stream((2, 1), 5).tolist()
    assert scipy.stats.kstest(uniform_stream((3,), 2000), "uniform").pvalue > 0.001


@pytest.mark.parametrize("wrong", [(0.0, 1.0, 5), (-1.0, 1.0, 5), (1.0, 0.0, 5), (1.0, 1.1, 5), (1.0, 1.0, 0)])
def test_senseless_sampling_is_one_sentence(wrong: tuple[float, float, int]) -> None:
    with pytest.raises(RankloopError) as error:
        Sampling(*wrong)
    assert is_one_sentence(str(error.value))

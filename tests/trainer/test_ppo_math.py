"""PPO's arithmetic against slow loops, scipy and closed forms."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainer.ppo_math import (
    advantages_and_returns,
    explained_variance,
    kl_k1,
    kl_k3,
    masked_mean,
    masked_whiten,
    policy_loss,
    rloo_advantages,
    token_rewards,
    truncated_weights,
    value_loss,
)

LENGTHS = [5, 1, 3]
MASK = torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]


def random(seed: int, *shape: int) -> Tensor:
    """Normal numbers in double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


rows = st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=6), min_size=1, max_size=4)


def padded(lists: list[list[float]]) -> tuple[Tensor, Tensor]:
    """(B, R) numbers, with nonsense beyond each row's end, and the mask."""
    width = max(len(row) for row in lists)
    x = torch.tensor([row + [777.0] * (width - len(row)) for row in lists], dtype=torch.float64)
    return x, torch.arange(width)[None] < torch.tensor([len(row) for row in lists])[:, None]


@given(rows)
def test_masked_mean_is_over_tokens_not_over_rows(lists: list[list[float]]) -> None:
    flat = [x for row in lists for x in row]
    assert float(masked_mean(*padded(lists))) == pytest.approx(sum(flat) / len(flat), abs=1e-9)


@given(rows, st.booleans())
def test_whitening(lists: list[list[float]], shift_mean: bool) -> None:
    flat = np.array([x for row in lists for x in row])
    if flat.std() < 1e-2:
        return  # what the epsilon under the root is for
    x, mask = padded(lists)
    whitened = masked_whiten(x, mask, shift_mean)
    found = whitened[mask].numpy()
    assert found.std() == pytest.approx(1, abs=1e-3)
    assert found.mean() == pytest.approx(0 if shift_mean else flat.mean(), abs=1e-6)
    assert not whitened[~mask].any()


def test_whitening_of_5_6_7() -> None:
    """The literal that shows a whitening with its mean the wrong way round."""
    x, mask = torch.tensor([[5.0, 6.0, 7.0]]), torch.ones(1, 3, dtype=torch.bool)
    root = math.sqrt(1.5)
    assert masked_whiten(x, mask).tolist()[0] == pytest.approx([-root, 0, root], abs=1e-5)
    assert masked_whiten(x, mask, shift_mean=False).tolist()[0] == pytest.approx([6 - root, 6, 6 + root], abs=1e-5)


@pytest.mark.parametrize("estimate", [kl_k1, kl_k3])
def test_kl_estimates_are_unbiased(estimate: object) -> None:
    """Their expectation under the policy, over the whole vocabulary, is the divergence itself."""
    p, q = torch.log_softmax(random(0, 40), 0), torch.log_softmax(random(1, 40), 0)
    expected = scipy.stats.entropy(p.exp().numpy(), q.exp().numpy())
    assert float((p.exp() * estimate(p, q)).sum()) == pytest.approx(expected, rel=1e-9)


@given(st.floats(-10, 0), st.floats(-10, 0))
def test_k3_is_never_negative(logprob: float, reference: float) -> None:
    k3 = float(kl_k3(torch.tensor(logprob, dtype=torch.float64), torch.tensor(reference, dtype=torch.float64)))
    assert k3 >= -1e-12
    assert k3 == pytest.approx(math.exp(reference - logprob) - 1 - (reference - logprob), rel=1e-6, abs=1e-12)


def test_the_score_stands_at_each_answers_last_token() -> None:
    logprobs, reference, scores = random(0, 3, 5), random(1, 3, 5), random(2, 3)
    rewards = token_rewards(scores, logprobs, reference, MASK, beta=0.3)
    for i, length in enumerate(LENGTHS):
        for t in range(5):
            expected = -0.3 * (logprobs[i, t] - reference[i, t]) if t < length else torch.tensor(0.0)
            if t == length - 1:
                expected = expected + scores[i]
            assert float(rewards[i, t]) == pytest.approx(float(expected))
    assert (token_rewards(scores, logprobs, reference, MASK, 0.0).sum(1) - scores).abs().max() < 1e-12


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.99, 1.0)])
def test_advantages_are_discounted_sums_of_temporal_differences(gamma: float, lam: float) -> None:
    """Equation 16 of arXiv 1506.02438, term by term; what stands beyond an answer's end must not matter."""
    rewards, values = random(0, 3, 5), random(1, 3, 5)
    advantages, returns = advantages_and_returns(rewards, values, MASK, gamma, lam)
    for i, length in enumerate(LENGTHS):
        r, v = rewards[i, :length].tolist(), [*values[i, :length].tolist(), 0.0]
        deltas = [r[t] + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, length))
            assert float(advantages[i, t]) == pytest.approx(expected)
            assert float(returns[i, t]) == pytest.approx(expected + v[t])
    assert not advantages[~MASK].any()
    assert not returns[~MASK].any()


@given(rows, st.floats(0.5, 1))
def test_with_lambda_1_the_advantage_is_what_follows_minus_the_value(lists: list[list[float]], gamma: float) -> None:
    rewards, mask = padded(lists)
    values = random(3, *rewards.shape)
    advantages, returns = advantages_and_returns(rewards, values, mask, gamma, 1.0)
    for i, row in enumerate(lists):
        for t in range(len(row)):
            following = sum(gamma ** (k - t) * row[k] for k in range(t, len(row)))
            assert float(returns[i, t]) == pytest.approx(following, abs=1e-8)
            assert float(advantages[i, t]) == pytest.approx(following - float(values[i, t]), abs=1e-8)


def test_policy_loss_case_by_case() -> None:
    """The clip takes away what a ratio outside of 1 +- 0.2 would gain, never what it would lose."""
    cases = [  # ratio, advantage, loss, clipped
        (1.0, 2.0, -2.0, False),
        (1.1, 2.0, -2.2, False),
        (1.5, 2.0, -2.4, True),
        (0.5, 2.0, -1.0, False),
        (1.5, -2.0, 3.0, False),
        (0.5, -2.0, 1.6, True),
    ]
    ratios, advantages, losses, flags = zip(*cases, strict=True)
    old = random(0, 1, len(cases))
    new = (old + torch.tensor([ratios], dtype=torch.float64).log()).requires_grad_()
    loss, clipped = policy_loss(new, old, torch.tensor([advantages], dtype=torch.float64), 0.2)
    assert loss.tolist()[0] == pytest.approx(losses)
    assert clipped.tolist()[0] == list(flags)
    loss.sum().backward()
    for gradient, ratio, advantage, flag in zip(new.grad[0].tolist(), ratios, advantages, flags, strict=True):
        assert gradient == pytest.approx(0 if flag else -advantage * ratio)


def test_dual_clip_bounds_what_a_bad_token_can_cost() -> None:
    """Equation 5 of arXiv 1912.09729: min(the clipped loss, -A c) where A < 0; nothing changes elsewhere."""
    ratios, advantages = [0.5, 1.5, 2.9, 3.1, 40.0, 40.0, 0.5], [-2.0, -2.0, -2.0, -2.0, -2.0, 2.0, 2.0]
    new = torch.tensor([ratios], dtype=torch.float64).log().requires_grad_()
    old, a = torch.zeros_like(new), torch.tensor([advantages], dtype=torch.float64)
    loss, clipped = policy_loss(new, old, a, 0.2, dual_clip=3.0)
    assert loss.tolist()[0] == pytest.approx([1.6, 3.0, 5.8, 6.0, 6.0, -2.4, -1.0])
    assert clipped.tolist()[0] == [True, False, False, True, True, True, False]
    loss.sum().backward()
    assert new.grad[0].tolist() == pytest.approx([0, 3.0, 5.8, 0, 0, 0, -1.0])


def test_rloo_is_each_answers_reward_minus_the_mean_of_the_others() -> None:
    """Slow loop over section 2.4 of arXiv 2402.14740; what stands beyond an answer's end must not matter."""
    lengths = torch.tensor([5, 1, 3, 2, 4, 5])
    mask, rewards = torch.arange(5)[None] < lengths[:, None], random(4, 6, 5)
    advantages = rloo_advantages(rewards, mask, 3)
    whole = [sum(rewards[i, : lengths[i]].tolist()) for i in range(6)]
    for i in range(6):
        others = [whole[j] for j in range(i // 3 * 3, i // 3 * 3 + 3) if j != i]
        expected = whole[i] - sum(others) / 2
        assert advantages[i].tolist() == pytest.approx([expected] * int(lengths[i]) + [0] * (5 - int(lengths[i])))


def test_rloo_of_two_answers_is_their_difference_and_a_shift_of_the_prompt_changes_nothing() -> None:
    mask, rewards = torch.ones(4, 1, dtype=torch.bool), torch.tensor([[1.0], [4.0], [7.0], [5.0]])
    assert rloo_advantages(rewards, mask, 2).squeeze(1).tolist() == [-3, 3, 2, -2]
    shifted = rewards + torch.tensor([[10.0], [10.0], [-3.0], [-3.0]])
    assert rloo_advantages(shifted, mask, 2).equal(rloo_advantages(rewards, mask, 2))


@pytest.mark.parametrize("samples", [1, 4])
def test_rloo_needs_whole_groups_of_answers(samples: int) -> None:
    with pytest.raises(AssertionError, match="groups"):
        rloo_advantages(random(0, 6, 2), torch.ones(6, 2, dtype=torch.bool), samples)


def test_the_estimates_are_those_of_lm_human_preferences() -> None:
    """Its formulas (whiten, compute_rewards and the loop of PPOTrainer.loss), in numpy, on answers of full length."""
    scores, logprobs, reference, values = random(0, 4), random(1, 4, 6), random(2, 4, 6), random(3, 4, 6)
    mask, beta, lam = torch.ones(4, 6, dtype=torch.bool), 0.15, 0.95

    def whiten(x: np.ndarray, shift_mean: bool) -> np.ndarray:
        whitened = (x - x.mean()) / np.sqrt(x.var() + 1e-8)
        return whitened if shift_mean else whitened + x.mean()

    rewards = -beta * (logprobs - reference).numpy()
    rewards[:, -1] += scores.numpy()
    rewards, v = whiten(rewards, False), np.c_[values.numpy(), np.zeros(4)]
    last, columns = np.zeros(4), []
    for t in range(5, -1, -1):
        last = rewards[:, t] + v[:, t + 1] - v[:, t] + lam * last
        columns.insert(0, last)
    expected = np.stack(columns, 1)

    found = masked_whiten(token_rewards(scores, logprobs, reference, mask, beta), mask, shift_mean=False)
    advantages, returns = advantages_and_returns(found, values, mask, 1.0, lam)
    assert np.allclose(found.numpy(), rewards)
    assert np.allclose(advantages.numpy(), expected)
    assert np.allclose(returns.numpy(), expected + values.numpy())
    assert np.allclose(masked_whiten(advantages, mask).numpy(), whiten(expected, True))


def estimates(scores: Tensor, x: list[Tensor], mask: Tensor) -> list[Tensor]:
    """Everything that is computed (B, R) of a rollout, and what is summed over it; `x`: five random (B, R)."""
    old, reference, values, new, new_values = x
    rewards = token_rewards(scores, old, reference, mask, 0.1)
    advantages, returns = advantages_and_returns(rewards, values, mask, 0.99, 0.9)
    rloo = rloo_advantages(rewards, mask, 2)
    whitened = masked_whiten(advantages, mask)
    losses = [policy_loss(new, old, whitened, 0.2)[0] * mask, value_loss(new_values, values, returns, 0.2)[0] * mask]
    sums = [masked_mean(loss, mask) for loss in losses]
    return [rewards, advantages, returns, rloo, whitened, *losses, *sums]


@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=6).filter(lambda lengths: len(lengths) % 2 == 0),
    st.integers(1, 5),
    st.integers(0, 1000),
)
def test_padding_changes_nothing(lengths: list[int], more: int, seed: int) -> None:
    """Further columns, full of nonsense, leave every estimate as it was and get none of their own."""
    width, rows_ = max(lengths), len(lengths)
    x = [random(seed + i, rows_, width) for i in range(5)]
    mask = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
    wider = torch.arange(width + more)[None] < torch.tensor(lengths)[:, None]
    narrow = estimates(random(seed, rows_), x, mask)
    nonsense = [torch.where(mask, y, 50 * random(seed + 9, rows_, width)) for y in x]
    padded_ = [torch.cat([y, 50 * random(seed + 7, rows_, more)], 1) for y in nonsense]
    for found, expected in zip(estimates(random(seed, rows_), padded_, wider), narrow, strict=True):
        if found.dim() == 0:
            assert float(found) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)
            continue
        assert torch.allclose(found[:, :width] * mask, expected * mask, rtol=1e-9, atol=1e-12)
        assert not found[~wider].any()


def test_a_ratio_beyond_all_bounds_stays_finite() -> None:
    loss, _ = policy_loss(torch.tensor([[0.0]]), torch.tensor([[-500.0]]), torch.tensor([[-1.0]]), 0.2)
    assert float(loss) == pytest.approx(math.exp(20), rel=1e-5)


def test_value_loss_case_by_case() -> None:
    cases = [  # new, old, return, loss, clipped
        (1.1, 1.0, 3.0, 0.5 * 1.9**2, False),
        (1.5, 1.0, 3.0, 0.5 * 1.8**2, True),  # closer by more than the clip: counts as 1.2
        (0.0, 1.0, 3.0, 0.5 * 3.0**2, False),  # further off: the worse of the two counts
        (4.0, 1.0, 0.0, 0.5 * 4.0**2, False),
        (0.0, 1.0, 0.0, 0.5 * 0.8**2, True),
    ]
    new, old, returns, losses, flags = (list(column) for column in zip(*cases, strict=True))
    values = torch.tensor([new], requires_grad=True)
    loss, clipped = value_loss(values, torch.tensor([old]), torch.tensor([returns]), 0.2)
    assert loss.tolist()[0] == pytest.approx(losses, rel=1e-5)
    assert clipped.tolist()[0] == flags
    loss.sum().backward()
    expected = [0 if flag else v - r for v, r, flag in zip(new, returns, flags, strict=True)]
    assert values.grad[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_explained_variance_of_a_regression_is_its_r_squared() -> None:
    x, returns = random(0, 3, 5), random(1, 3, 5)
    line = scipy.stats.linregress(x[MASK].numpy(), returns[MASK].numpy())
    values = torch.where(MASK, line.slope * x + line.intercept, 1000.0)
    assert explained_variance(values, returns, MASK) == pytest.approx(line.rvalue**2)
    assert explained_variance(returns, returns, MASK) == 1
    assert explained_variance(values, torch.ones(3, 5), MASK) == 0
    assert explained_variance(-returns, returns, MASK) == pytest.approx(-3)


def test_truncated_weights_of_two_coins() -> None:
    """mu gives heads 1/2; pi gives it 9/10: the ratios are 1.8 and 0.2, and 1.8 is cut at 1.5."""
    pi, mu = torch.tensor([[0.9, 0.1, 0.9]]).log(), torch.tensor([[0.5, 0.5, 0.5]]).log()
    mask = torch.tensor([[True, True, False]])
    assert truncated_weights(pi, mu, mask, 2.0).tolist() == [pytest.approx([1.8, 0.2, 0.0])]
    assert truncated_weights(pi, mu, mask, 1.5).tolist() == [pytest.approx([1.5, 0.2, 0.0])]
    assert truncated_weights(mu, mu, mask, 2.0).tolist() == [[1.0, 1.0, 0.0]]


@given(st.integers(0, 10_000), st.floats(0.1, 3.0), st.floats(1.0, 5.0))
def test_truncated_weights_have_the_expectation_of_their_definition(seed: int, apart: float, most: float) -> None:
    """Over all tokens, E_mu[w f] is sum(min(pi, most * mu) * f): that of pi itself wherever pi / mu is at most `most`."""
    pi, mu = (torch.log_softmax(apart * random(seed + i, 1, 12), -1) for i in range(2))
    f, mask = random(seed + 2, 1, 12), torch.ones(1, 12, dtype=torch.bool)
    weights = truncated_weights(pi, mu, mask, most)
    found = float((mu.exp() * weights * f).sum())
    assert found == pytest.approx(float((torch.minimum(pi.exp(), most * mu.exp()) * f).sum()), abs=1e-9)
    if most >= float((pi - mu).exp().max()):
        assert found == pytest.approx(float((pi.exp() * f).sum()), abs=1e-9)


def test_a_weight_on_the_advantage_is_a_weight_on_the_loss() -> None:
    """So weights can be put on advantages, clipped or not, and the learner need not know of them."""
    logprobs, old, advantages = random(1, 4, 6), random(2, 4, 6), random(3, 4, 6)
    weights = random(4, 4, 6).exp()
    for dual_clip in (None, 3.0):
        plain, _ = policy_loss(logprobs, old, advantages, 0.2, dual_clip)
        weighted, _ = policy_loss(logprobs, old, advantages * weights, 0.2, dual_clip)
        assert torch.allclose(weighted, weights * plain)

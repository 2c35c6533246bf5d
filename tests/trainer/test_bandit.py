"""PPO and RLOO on a bandit whose optimum is known: the policy proportional to reference * exp(reward / beta).

Two prompts, four tokens of which 0 ends the answer, at most two tokens an answer: every answer can be listed. The policy is
a table of logits, the losses are those that train language models.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from trainer.ppo_math import (
    advantages_and_returns,
    masked_mean,
    masked_whiten,
    policy_loss,
    rloo_advantages,
    token_rewards,
    value_loss,
)

PROMPTS, TOKENS, BETA, SAMPLES, UPDATES = 2, 4, 0.5, 4, 300


def random(seed: int, *shape: int) -> Tensor:
    """Normal numbers in double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass
class Table:
    """Logits of the first token (PROMPTS, TOKENS) and of the second one, after each first (PROMPTS, TOKENS, TOKENS)."""

    first: Tensor = field(default_factory=lambda: random(0, PROMPTS, TOKENS))
    second: Tensor = field(default_factory=lambda: random(1, PROMPTS, TOKENS, TOKENS))

    def logprobs(self, prompts: Tensor, ids: Tensor) -> Tensor:
        """(B, 2) of the tokens `ids` (B, 2); the second one means nothing where the first one ends the answer."""
        first = self.first.log_softmax(-1)[prompts, ids[:, 0]]
        return torch.stack([first, self.second.log_softmax(-1)[prompts, ids[:, 0], ids[:, 1]]], 1)

    def answers(self) -> Tensor:
        """(PROMPTS, TOKENS * TOKENS) probability of each answer; [0, x] is one answer and counts at x = 0."""
        second = self.second.softmax(-1).clone()
        second[:, 0] = torch.tensor([1.0, 0, 0, 0])
        return (self.first.softmax(-1)[:, :, None] * second).flatten(1)

    def trainable(self) -> "Table":
        """A copy with gradients."""
        return Table(self.first.clone().requires_grad_(), self.second.clone().requires_grad_())


REFERENCE, REWARD = Table(), random(2, PROMPTS, TOKENS, TOKENS)
REWARD[:, 0] = REWARD[:, 0, :1]  # whatever is drawn after the end


def optimum(beta: float) -> Tensor:
    """(PROMPTS, answers) what maximises reward - beta * KL (arXiv 1909.08593, section 2.2; 2305.18290, eq. 4)."""
    weights = REFERENCE.answers() * (REWARD.flatten(1) / beta).exp()
    return weights / weights.sum(1, keepdim=True)


def distance(policy: Table, target: Tensor) -> float:
    """Total variation, of the worse prompt."""
    return float((policy.answers() - target).detach().abs().sum(1).max()) / 2


def train(step: Callable[..., Callable[[], Tensor]], parameters: list[Tensor], policy: Table) -> None:
    """Rollouts from the policy, each with four passes of `step`'s loss; the learning rate falls to 0."""
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - i / UPDATES)
    generator = torch.Generator().manual_seed(3)
    prompts = torch.arange(PROMPTS).repeat_interleave(SAMPLES).repeat(32)
    for _ in range(UPDATES):
        with torch.no_grad():
            first = torch.multinomial(policy.first.softmax(-1)[prompts], 1, generator=generator)
            second = torch.multinomial(policy.second.softmax(-1)[prompts, first[:, 0]], 1, generator=generator)
            ids = torch.cat([first, second], 1)
            mask = torch.cat([torch.ones_like(first), first], 1) > 0
            old, reference = policy.logprobs(prompts, ids), REFERENCE.logprobs(prompts, ids)
            rewards = token_rewards(REWARD[prompts, ids[:, 0], ids[:, 1]], old, reference, mask, BETA)
        loss = step(prompts, ids, mask, old, rewards)
        for _ in range(4):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        schedule.step()


def ppo(policy: Table) -> None:
    """GAE from a table of values, whitened advantages, both losses."""
    first, second = (torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in [(2,), (2, TOKENS)])

    def step(prompts: Tensor, ids: Tensor, mask: Tensor, old: Tensor, rewards: Tensor) -> Callable[[], Tensor]:
        def values() -> Tensor:
            return torch.stack([first[prompts], second[prompts, ids[:, 0]]], 1)

        before = values().detach()
        advantages, returns = advantages_and_returns(rewards, before, mask, gamma=1.0, lam=0.95)
        whitened = masked_whiten(advantages, mask)

        def loss() -> Tensor:
            surrogate, _ = policy_loss(policy.logprobs(prompts, ids), old, whitened, 0.2)
            return masked_mean(surrogate + value_loss(values(), before, returns, 0.2)[0], mask)

        return loss

    train(step, [policy.first, policy.second, first, second], policy)


def rloo(policy: Table) -> None:
    """Leave-one-out advantages of four answers a prompt, whitened as the engine does; no values."""

    def step(prompts: Tensor, ids: Tensor, mask: Tensor, old: Tensor, rewards: Tensor) -> Callable[[], Tensor]:
        advantages = masked_whiten(rloo_advantages(rewards, mask, SAMPLES), mask)
        return lambda: masked_mean(policy_loss(policy.logprobs(prompts, ids), old, advantages, 0.2)[0], mask)

    train(step, [policy.first, policy.second], policy)


@pytest.mark.parametrize("method", [ppo, rloo])
def test_it_reaches_the_known_optimum(method: Callable[[Table], None]) -> None:
    policy = REFERENCE.trainable()
    assert distance(policy, optimum(BETA)) > 0.3
    method(policy)
    assert distance(policy, optimum(BETA)) < 0.005
    assert distance(policy, optimum(2 * BETA)) > 0.1  # the weight of the penalty is what it says

"""What reference, value and reward say of a rollout, in one pass over blocks of rows, without gradients."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.batches import Batch, Example
from trainer.budget import Budget
from trainer.experience import Answers, Rollout
from trainer.logprobs import token_logprobs
from trainer.roles import Roles
from trainer.scoring import Scorer
from trainer.sharding import company
from trainer.sharing import Prefix


@dataclass(frozen=True, slots=True)
class Judges:
    """Roles that judge. `value`, `reward`: None where a run has none; `temperature`: of the rollouts."""

    roles: Roles
    reference: str
    value: str | None
    reward: Scorer | None
    temperature: float

    @torch.no_grad()
    def judge(self, answers: Answers, budget: Budget) -> Rollout:
        """One forward pass of the base a micro-batch: a block of rows each for reference, value and reward (or its members).

        Scores are the reward model's, normalised; 0 without one.
        """
        blocks = [self.reference, *([self.value] if self.value else []), *(self.reward.blocks if self.reward else ())]
        reference, values = torch.zeros_like(answers.old), torch.zeros_like(answers.values)
        scores, spread = torch.zeros(2, len(answers.examples), device=answers.old.device)

        rest, prefix = self.without_prefix(answers.examples, blocks)

        def work(rows: list[int]) -> None:
            one = self.roles.collate([rest[i] for i in rows])
            with self.roles.routed(*blocks):
                states = self.roles.response_states(one.repeat(len(blocks)), prefix).chunk(len(blocks))
            said = dict(zip(blocks, states, strict=True))
            r = one.response_ids.shape[1]
            reference[rows, :r], _ = self.logprobs(said[self.reference], one)
            if self.value:
                values[rows, :r] = self.values(self.value, said[self.value], one)
            if self.reward:
                scores[rows], spread[rows] = self.reward.judge([said[b] for b in self.reward.blocks], one.lengths)

        with company(self.roles, gradients=False):
            # By whole rows, since each has a copy of the prefix's keys and values.
            budget.each(answers.examples, len(blocks), work, gradients=False)
        self.roles.world.add(reference, values, scores, spread)
        return Rollout(answers, reference, scores, spread).with_values(values if self.value else answers.values)

    def without_prefix(self, examples: list[Example], blocks: list[str]) -> tuple[list[Example], Prefix | None]:
        """The examples without the tokens that all their prompts begin with, and these read once, if that pays and if there
        is memory for it."""
        if not self.roles.shares:
            return examples, None
        with self.roles.routed(*blocks):
            prefix = self.roles.read_common([example.prompt for example in examples])
        if prefix is None:
            return examples, None
        return [Example(example.prompt[prefix.length :], example.response) for example in examples], prefix

    @torch.no_grad()
    def replay(self, role: str, head: str | None, examples: list[Example], budget: Budget) -> tuple[Tensor, Tensor]:
        """(B, R) log-probabilities of the answers under a role, and values of its states by a head (0 without), from passes
        like those of training."""
        shape = len(examples), max(len(example.response) for example in examples)
        logprobs, values = (torch.zeros(shape, device=self.roles.base.device) for _ in range(2))
        rest, prefix = self.without_prefix(examples, [role])

        def work(rows: list[int]) -> None:
            batch = self.roles.collate([rest[i] for i in rows])
            with self.roles.routed(role):
                states = self.roles.response_states(batch, prefix)
            r = batch.response_ids.shape[1]
            logprobs[rows, :r], _ = self.logprobs(states, batch)
            if head:
                values[rows, :r] = self.values(head, states, batch)

        with company(self.roles, gradients=False):
            budget.each(examples, 1, work, gradients=False)
        self.roles.world.add(logprobs, values)
        return logprobs, values

    def logprobs(self, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(n, R) log-probabilities and entropies of a batch's response tokens from its states (n, at least R, hidden)."""
        before = states[:, : batch.response_ids.shape[1]]
        return token_logprobs(before, batch.response_ids, batch.response_mask, self.temperature, self.roles.logits)

    def values(self, head: str, states: Tensor, batch: Batch) -> Tensor:
        """(n, R) a head's values of the states before each token; 0 where there is none."""
        before = states[:, : batch.response_ids.shape[1]].float()
        said: Tensor = self.roles.heads[head](before).squeeze(-1) * batch.response_mask
        return said

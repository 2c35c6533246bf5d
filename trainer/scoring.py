"""Scores: a scalar head on the reward adapter's states, normalised so that the policy's own answers have mean 0, std 1."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from preferences.records import Prompt, Response
from trainer.adapters import WrongAdapter
from trainer.batches import Example
from trainer.budget import Budget
from trainer.models import Base
from trainer.roles import HEAD, Roles
from trainer.sharding import company

Pooling = Literal["last", "mean"]


class Scorer(ABC):
    """What scores answers: a reward model, or several on the one base. `card`: what its run recorded."""

    roles: Roles
    card: dict[str, Any]

    @property
    @abstractmethod
    def blocks(self) -> tuple[str, ...]:
        """The roles whose states it reads, a block of rows each."""

    @abstractmethod
    def each(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """(members, rows) normalised scores of each member, from each block's response states."""

    @abstractmethod
    def judge(self, states: Sequence[Tensor], lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(rows,) normalised scores and how far its members are apart (0 for one), from each block's response states."""

    @abstractmethod
    def copy_as_value(self, role: str) -> None:
        """A value role that starts as this, on the scale of normalised scores."""

    def score_all(
        self, examples: Sequence[Example], token_budget: int, on_rows: Callable[[int], object] = lambda _: None
    ) -> list[float]:
        """Normalised scores in the given order."""
        return self.judge_all(examples, token_budget, on_rows)[0]

    @torch.no_grad()
    def judge_all(
        self, examples: Sequence[Example], token_budget: int, on_rows: Callable[[int], object] = lambda _: None
    ) -> tuple[list[float], list[float]]:
        """Scores and spreads in the given order; one forward pass of the base a micro-batch, however many blocks it has."""
        scores, spreads = torch.zeros(2, len(examples))

        def work(rows: list[int], states: Sequence[Tensor], lengths: Tensor) -> None:
            found = self.judge(states, lengths)
            scores[rows], spreads[rows] = (x.float().to(scores.device) for x in found)
            on_rows(len(rows))

        self.passes(examples, token_budget, work)
        self.roles.world.add(scores, spreads)
        return scores.tolist(), spreads.tolist()

    @torch.no_grad()
    def each_all(self, examples: Sequence[Example], token_budget: int) -> list[list[float]]:
        """A list of normalised scores a member, in the given order."""
        scores = torch.zeros(len(self.blocks), len(examples))

        def work(rows: list[int], states: Sequence[Tensor], lengths: Tensor) -> None:
            scores[:, rows] = self.each(states, lengths).float().to(scores.device)

        self.passes(examples, token_budget, work)
        self.roles.world.add(scores)
        return scores.tolist()

    def passes(
        self,
        examples: Sequence[Example],
        token_budget: int,
        work: Callable[[list[int], Sequence[Tensor], Tensor], None],
    ) -> None:
        """`work` on the rows of each micro-batch of this process, each block's response states of them, and the lengths of
        their answers; where memory runs out, on smaller ones."""
        count = len(self.blocks)

        def run(rows: list[int]) -> None:
            batch = self.roles.collate([examples[i] for i in rows])
            with self.roles.routed(*self.blocks):
                states = self.roles.response_states(batch.repeat(count)).chunk(count)
            work(rows, states, batch.lengths)

        with company(self.roles, gradients=False):
            scoring_budget(self.roles, token_budget).each(examples, count, run, gradients=False)

    def score_responses(
        self, responses: Sequence[Response], prompts: Sequence[Prompt], token_budget: int
    ) -> list[float]:
        """Normalised scores of stored responses to those prompts."""
        return self.score_all(self.examples_of(responses, prompts), token_budget)

    def examples_of(self, responses: Sequence[Response], prompts: Sequence[Prompt]) -> list[Example]:
        """Stored responses to those prompts as token ids."""
        ids = {prompt.id: self.roles.base.prompt_ids(prompt.messages) for prompt in prompts}
        return [response_example(self.roles.base, ids[r.prompt], r.text, r.finish_reason == "stop") for r in responses]


def scoring_budget(roles: Roles, tokens: int) -> Budget:
    """Of the tokens of a pass without gradients, all blocks together."""
    return Budget(tokens, roles.together, roles.world, lighter=1)


@dataclass(frozen=True, slots=True)
class RewardModel(Scorer):
    """A role with a head. `mean`, `std`: of the raw scores on the training answers."""

    roles: Roles
    role: str
    mean: float
    std: float
    card: dict[str, Any]

    @staticmethod
    def load(roles: Roles, role: str, folder: Path) -> "RewardModel":
        """The reward model of a run's 'adapter' folder. Raises WrongAdapter, RankloopError."""
        card = roles.load(role, folder)
        if role not in roles.heads or "mean" not in card or "std" not in card:
            raise WrongAdapter(f"{folder} has no score head ({HEAD}); give the 'adapter' folder of a reward run.")
        roles.read(role, card.get("layer"))
        return RewardModel(roles, role, card["mean"], card["std"], card)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Its own role."""
        return (self.role,)

    @property
    def pooling(self) -> Pooling:
        """Which states of an answer the head reads."""
        pooling: Pooling = self.card.get("pooling", "last")
        return pooling

    def score(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(rows,) normalised scores from response states (rows, R + 1, hidden) and response lengths (rows,)."""
        return (raw_scores(self.roles, self.role, states, lengths, self.pooling) - self.mean) / self.std

    def each(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """It is the only member."""
        return self.score(states[0], lengths)[None]

    def judge(self, states: Sequence[Tensor], lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Its scores, and no spread."""
        scores = self.score(states[0], lengths)
        return scores, torch.zeros_like(scores)

    def copy_as_value(self, role: str) -> None:
        """A value role that starts as this reward model, on the scale of normalised scores."""
        self.roles.copy(self.role, role)
        head = self.roles.heads[role]
        with torch.no_grad():
            head.bias.sub_(self.mean).div_(self.std)
            head.weight.div_(self.std)


def last_states(states: Tensor, lengths: Tensor) -> Tensor:
    """(rows, hidden): the state after each answer's last token, from response states and response lengths (rows,)."""
    return states[torch.arange(len(states), device=states.device), lengths]


def pooled(states: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """(rows, hidden) fp32: the state after the last token, or the mean of the states after each token of the answer."""
    if pooling == "last":
        return last_states(states, lengths).float()
    after = torch.arange(states.shape[1], device=states.device)[None]
    inside = (after >= 1) & (after <= lengths[:, None])
    return (states.float() * inside[:, :, None]).sum(1) / lengths[:, None]


@torch.no_grad()
def pooled_states(
    roles: Roles, role: str, examples: Sequence[Example], pooling: Pooling, token_budget: int,
    on_rows: Callable[[int], object] = lambda _: None,
) -> Tensor:  # fmt: skip
    """(answers, hidden) fp32: the pooled states of some answers under a role; `on_rows` hears how many are done."""
    states = torch.zeros(len(examples), roles.hidden_size, device=roles.base.device)

    def work(rows: list[int]) -> None:
        batch = roles.collate([examples[i] for i in rows])
        states[rows] = pooled(roles.response_states(batch), batch.lengths, pooling)
        on_rows(len(rows))

    with company(roles, gradients=False), roles.routed(role):
        scoring_budget(roles, token_budget).each(examples, 1, work, gradients=False)
    roles.world.add(states)
    return states


def raw_scores(roles: Roles, role: str, states: Tensor, lengths: Tensor, pooling: Pooling = "last") -> Tensor:
    """(rows,) head outputs at the pooled states, before normalisation."""
    scores: Tensor = roles.heads[role](pooled(states, lengths, pooling)).squeeze(-1)
    return scores


def response_example(base: Base, prompt: list[int], text: str, finished: bool) -> Example:
    """A stored answer as token ids. A truncated one has no end token; an empty one is the end token alone."""
    return Example(prompt, base.response_ids(text, finished) or [base.stop_ids[0]])

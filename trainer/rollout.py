"""Sampling answers, each row from its own seeded stream of random numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from preferences.errors import RankloopError
from trainer.batches import Example
from trainer.budget import Budget
from trainer.decoding import start
from trainer.roles import Roles
from trainer.sharding import company

COMPACT_AT = 1 / 8  # of a batch's rows have ended: copying the cache of the others is then worth it


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn. Raises RankloopError for values that make no sense."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 96

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 < self.top_p <= 1 or self.max_new_tokens < 1:
            raise RankloopError(
                f"temperature must be above 0, top_p in (0, 1] and max_new_tokens at least 1, not {self.temperature}, "
                f"{self.top_p}, {self.max_new_tokens}."
            )


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer as token ids (with its end token if it has one), whether the model ended it itself, the log-probability of
    each token at the sampling temperature, before nucleus sampling, and what a head said of the state before it."""

    ids: list[int]
    finished: bool
    logprobs: list[float]
    values: list[float]


def uniform_stream(key: Sequence[int], length: int) -> np.ndarray:
    """`length` uniform numbers in [0, 1) that depend on the key alone."""
    return np.random.default_rng(list(key)).random(length)


def draw(logits: Tensor, quantiles: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Tokens (rows,) by inverse CDF at `quantiles` (rows,) in [0, 1), and their log-probabilities before nucleus sampling.

    `logits` (rows, vocabulary), fp32.
    """
    logprobs = torch.log_softmax(logits if sampling.temperature == 1 else logits / sampling.temperature, -1)
    probabilities = logprobs.exp()
    if sampling.top_p < 1:
        probabilities = nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:]
    targets = quantiles[:, None].to(cumulative) * total
    targets = torch.minimum(targets, total.nextafter(torch.zeros_like(total)))  # the last quantiles round up to 1
    tokens = torch.searchsorted(cumulative, targets, right=True).clamp_(max=logits.shape[-1] - 1)
    return tokens.squeeze(1), logprobs.gather(1, tokens).squeeze(1)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero outside the smallest set of likeliest tokens whose probability reaches top_p (Holtzman et al. 2020)."""
    ordered, order = probabilities.sort(-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return probabilities.masked_fill(torch.zeros_like(outside).scatter(1, order, outside), 0.0)


@torch.no_grad()
def generate(
    roles: Roles,
    role: str,
    prompts: Sequence[list[int]],
    keys: Sequence[Sequence[int]],
    sampling: Sampling,
    budget: Budget,
    on_rows: Callable[[int], object] = lambda _: None,
    head: str | None = None,
) -> list[Sample]:
    """One answer a prompt (token ids), in the given order; `keys[i]` seeds row i, so its answer does not depend on its batch.

    Equal prompts that follow each other share their first pass. Rows run in batches of prompt and answer tokens within the
    budget (`sampling_budget`), whose processes share the prompts and all get all answers; where memory runs out, those that
    have not ended are begun again in smaller ones. `on_rows` hears how many rows have just ended. `head`: whose head values
    the states (None: none).
    """
    samples: dict[int, Sample] = {}
    longest = [Example(prompt, [0] * sampling.max_new_tokens) for prompt in prompts]

    def work(part: list[int]) -> None:
        group = [i for i in part if i not in samples]  # the others had ended when memory ran out
        if not group:
            return

        def keep(row: int, sample: Sample) -> None:
            samples[group[row]] = sample
            on_rows(1)

        streams = np.stack([uniform_stream(keys[i], sampling.max_new_tokens) for i in group])
        uniforms = torch.from_numpy(streams).to(roles.base.device, torch.float32)
        _generate_batch(roles, [prompts[i] for i in group], uniforms, sampling, keep, head)

    with company(roles, gradients=False), roles.routed(role), roles.folded():
        budget.each(longest, 1, work, gradients=False)
    return budget.world.joined(samples)


def _generate_batch(
    roles: Roles, prompts: list[list[int]], uniforms: Tensor, sampling: Sampling, keep: Callable[[int, Sample], None],
    head: str | None,
) -> None:  # fmt: skip
    """`keep` gets the number and the answer of each row as it ends."""
    device, stop = roles.base.device, torch.tensor(roles.base.stop_ids, device=roles.base.device)
    steps, tokens = start(roles.base, prompts), None
    ids = torch.zeros(uniforms.shape, dtype=torch.long, device=device)
    logprobs, values = (torch.zeros(uniforms.shape, device=device) for _ in range(2))
    kept = {"ids": ids, "logprobs": logprobs, "values": values}
    rows = torch.arange(len(prompts), device=device)  # which answer each row of the batch belongs to
    alive = torch.ones_like(rows, dtype=torch.bool)
    for t in range(sampling.max_new_tokens):
        states = steps.states(tokens)
        tokens, drawn = draw(roles.logits(states), uniforms[rows, t], sampling)
        if head:
            values[rows, t] = roles.heads[head](states.float()).squeeze(-1)
        ids[rows, t], logprobs[rows, t] = tokens, drawn
        stopped = torch.isin(tokens, stop)
        ended = alive & stopped if t + 1 < sampling.max_new_tokens else alive
        if not ended.any():
            continue
        for row, finished in zip(rows[ended].tolist(), stopped[ended].tolist(), strict=True):
            keep(row, Sample(finished=finished, **{name: x[row, : t + 1].tolist() for name, x in kept.items()}))
        alive = alive & ~ended
        if not alive.any():
            return
        if (~alive).float().mean() >= COMPACT_AT:
            left = alive.nonzero().squeeze(1)
            steps.keep(left)
            rows, tokens, alive = rows[left], tokens[left], alive[left]

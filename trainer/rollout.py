"""Sampling answers, each row from its own seeded stream of random numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from preferences.errors import RankloopError
from trainer.batches import Example
from trainer.budget import Budget
from trainer.decoding import DecoderSteps, goes_on, start
from trainer.refilling import Queue
from trainer.roles import Roles
from trainer.sharding import company
from trainer.sharing import Prefix

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

    Equal prompts that follow each other share their first pass, and what all of them begin with is read once. Rows run in
    batches of prompt and answer tokens within the budget (`sampling_budget`), whose processes share the prompts and all get
    all answers; rows that end make room for the next ones. Where memory runs out, those that have not ended are begun again
    in smaller batches. `on_rows` hears how many rows have just ended. `head`: whose head values the states (None: none).
    """
    samples: dict[int, Sample] = {}
    longest = [Example(prompt, [0] * sampling.max_new_tokens) for prompt in prompts]
    own, draft = budget.own(longest), Draft(keys, sampling.max_new_tokens, roles.base.device)

    def keep(row: int, sample: Sample) -> None:
        samples[row] = sample
        on_rows(1)

    def work(part: list[int]) -> None:
        group = [i for i in part if i not in samples]  # the others have joined an earlier batch
        if group:
            waiting, sizes = sorted(set(own) - set(group) - set(samples)), list(map(len, longest))
            queue = Queue.of(roles, prompts, waiting, sizes, len(group) * max(sizes[i] for i in group))
            _generate_batch(roles, prompts, beginning, group, queue, draft, sampling, keep, head)

    with company(roles, gradients=False), roles.routed(role), roles.folded():
        beginning = roles.read_common(prompts) if prompts and goes_on(roles.base) else None
        budget.each(longest, 1, work, gradients=False)
    return budget.world.joined(samples)


class Draft:
    """Answers in the making, of at most L tokens: random numbers (n, L), and tokens, their log-probabilities and values."""

    def __init__(self, keys: Sequence[Sequence[int]], length: int, device: torch.device) -> None:
        streams = np.array([uniform_stream(key, length) for key in keys]).reshape(len(keys), length)
        self.uniforms = torch.from_numpy(streams).to(device, torch.float32)
        self.ids = torch.zeros(streams.shape, dtype=torch.long, device=device)
        self.logprobs, self.values = (torch.zeros(streams.shape, device=device) for _ in range(2))

    def sample(self, row: int, length: int, finished: bool) -> Sample:
        """An answer that is complete."""
        ids, logprobs, values = (x[row, :length].tolist() for x in (self.ids, self.logprobs, self.values))
        return Sample(ids, finished, logprobs, values)


def _generate_batch(
    roles: Roles, prompts: Sequence[list[int]], beginning: Prefix | None, group: list[int], queue: Queue, draft: Draft,
    sampling: Sampling, keep: Callable[[int, Sample], None], head: str | None,
) -> None:  # fmt: skip
    """Answers to the prompts of these numbers, and to those that the queue has for rows that become free; `keep` gets the
    number and the answer of each as it ends. `beginning`: what all prompts begin with."""
    device, stop = roles.base.device, torch.tensor(roles.base.stop_ids, device=roles.base.device)
    steps, tokens = start(roles.base, [prompts[i] for i in group], beginning), None
    rows = torch.tensor(group, device=device)  # which answer each row of the batch belongs to
    at, alive = torch.zeros_like(rows), torch.ones_like(rows, dtype=torch.bool)  # at: the place of its next token
    fresh: list[int] = []
    while True:
        states = steps.states(tokens)
        if fresh:
            assert isinstance(steps, DecoderSteps), "Rows join no others than a decoder's."
            joining = DecoderSteps(roles.base, [prompts[i] for i in fresh], beginning)
            states = torch.cat([states, joining.states(None)])
            steps.join(joining)
            rows = torch.cat([rows, torch.tensor(fresh, device=device)])
            at, alive = torch.cat([at, at.new_zeros(len(fresh))]), torch.cat([alive, alive.new_ones(len(fresh))])
            fresh = []
        tokens, drawn = draw(roles.logits(states), draft.uniforms[rows, at], sampling)
        draft.ids[rows, at], draft.logprobs[rows, at] = tokens, drawn
        if head:
            draft.values[rows, at] = roles.heads[head](states.float()).squeeze(-1)
        stopped, lengths = torch.isin(tokens, stop), at + 1
        ended = alive & (stopped | (lengths == sampling.max_new_tokens))
        at = lengths.clamp(max=sampling.max_new_tokens - 1)  # rows that have ended may stay; nobody reads them
        if not ended.any():
            continue
        for row, length, finished in zip(*(x[ended].tolist() for x in (rows, lengths, stopped)), strict=True):
            keep(row, draft.sample(row, length, finished))
        alive = alive & ~ended
        if not alive.any():
            return
        if (~alive).float().mean() >= COMPACT_AT:
            left = alive.nonzero().squeeze(1)
            steps.keep(left)
            rows, at, tokens, alive = rows[left], at[left], tokens[left], alive[left]
            fresh = queue.next(rows.tolist())

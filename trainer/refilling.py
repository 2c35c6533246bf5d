"""Rows of a decoding batch that have become free go to the next prompts (continuous batching; Orca, Yu et al., OSDI 2022):
only on models of which this is known, and after a trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from trainer.batches import Example
from trainer.decoding import DecoderSteps, RoomyLayer
from trainer.roles import Roles
from trainer.sharing import same_states

ALLOWED = ("gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3", "smollm3")  # model types that the tests go through
LATE = 4  # steps after which the second row of the trial joins


@dataclass(slots=True)
class Queue:
    """Prompts that wait for free rows. `runs`: numbers of rows with one prompt each, the longest prompts first; `sizes`: the
    tokens that each row may come to; `tokens`: what padded rows may come to together."""

    runs: list[list[int]]
    sizes: Sequence[int]
    tokens: int

    @staticmethod
    def of(
        roles: Roles, prompts: Sequence[list[int]], waiting: list[int], sizes: Sequence[int], tokens: int
    ) -> "Queue":
        """Of the rows that wait; empty where rows cannot join, which the longest and the shortest prompt show, once."""
        ordered = sorted(waiting, key=lambda i: -sizes[i])
        if ordered and roles.refills is None:
            roles.refills = can_refill(roles, prompts[ordered[0]], prompts[ordered[-1]])
        runs = [list(run) for _, run in groupby(ordered, key=prompts.__getitem__)]
        return Queue(runs if roles.refills else [], sizes, tokens)

    def next(self, live: Sequence[int]) -> list[int]:
        """The rows that fit beside the live ones, none of which has a shorter prompt; those to one prompt stay together."""
        free = self.tokens // max(self.sizes[i] for i in live) - len(live)
        taken: list[int] = []
        while self.runs and len(self.runs[0]) <= free - len(taken):
            taken += self.runs.pop(0)
        return taken


@torch.no_grad()
def can_refill(roles: Roles, one: list[int], other: list[int]) -> bool:
    """Whether a row with the second prompt, which joins one with the first while that is decoded, and the row that it joins
    have the states that whole rows have in one pass. Runs the adapter that is routed now."""
    base = roles.base
    if base.model.config.model_type not in ALLOWED or roles.world.sharded:
        return False
    examples = [Example(one, (one * 2 * LATE)[: 2 * LATE]), Example(other, (other * LATE)[:LATE])]
    tokens = [torch.tensor(example.response, device=base.device) for example in examples]
    steps, late = (DecoderSteps(base, [prompt]) for prompt in (one, other))
    if not all(isinstance(layer, RoomyLayer) for layer in steps.cache.layers):
        return False
    found: list[list[torch.Tensor]] = [[steps.states(None)[0]], [late.states(None)[0]]]
    for t in range(LATE):
        found[0].append(steps.states(tokens[0][t : t + 1])[0])
    steps.join(late)
    for t in range(LATE):
        for states, state in zip(found, steps.states(torch.stack([tokens[0][LATE + t], tokens[1][t]])), strict=True):
            states.append(state)
    whole = [roles.response_states(roles.collate([example]))[0] for example in examples]
    return same_states(base, torch.cat(whole).float(), torch.stack([x for states in found for x in states]).float())

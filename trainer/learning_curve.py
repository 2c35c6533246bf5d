"""How accuracy on held-out prompts grows with the number of rankings: cheap, by a linear probe on the untouched base."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.elements import distinct
from trainer.probe import fit_head
from trainer.ranked import Ranked
from trainer.reward_metrics import accuracy
from trainer.reward_trainer import pair_tensors
from trainer.roles import BASE, Roles
from trainer.scoring import Pooling, pooled_states

SHARES = (0.125, 0.25, 0.5, 1.0)
DRAWS = 5


@dataclass(frozen=True, slots=True)
class Point:
    """`comparisons`: how many were learned from (mean of the draws); accuracy: mean, least and greatest of the draws."""

    comparisons: float
    mean: float
    low: float
    high: float


def learning_curve(
    roles: Roles, learned: Sequence[Ranked], held: Sequence[Ranked], pooling: Pooling, l2: float, token_budget: int
) -> list[Point]:
    """Accuracy on `held` of probes fitted to the comparisons of 1/8, 1/4, 1/2 and all of the prompts."""
    examples, rows = distinct([*learned, *held])
    states = pooled_states(roles, BASE, examples, pooling, token_budget)
    own, theirs = rows[: len(learned)], rows[len(learned) :]
    prompts = sorted({r.prompt for r in learned})
    found = []
    for share in SHARES:
        count = round(share * len(prompts))
        if count < 2:
            continue
        drawn = [of_draw(learned, own, set(random.Random(i).sample(prompts, count))) for i in range(DRAWS)]
        some = [(part, where) for part, where in drawn if any(r.pairs for r in part)]
        values = [
            probe_accuracy(states, part, where, held, theirs, l2) for part, where in some[: 1 if share == 1 else None]
        ]
        if values:
            size = sum(len(part) for part, _ in some) / len(some)
            found.append(Point(size, sum(values) / len(values), min(values), max(values)))
    return found


def of_draw(
    ranked: Sequence[Ranked], rows: Sequence[list[int]], prompts: set[str]
) -> tuple[list[Ranked], list[list[int]]]:
    """The comparisons of those prompts, and their rows."""
    kept = [(r, row) for r, row in zip(ranked, rows, strict=True) if r.prompt in prompts]
    return [r for r, _ in kept], [row for _, row in kept]


def probe_accuracy(
    states: Tensor, part: Sequence[Ranked], rows: Sequence[list[int]], held: Sequence[Ranked],
    held_rows: Sequence[list[int]], l2: float,
) -> float:  # fmt: skip
    """On `held`, of a probe fitted to `part`."""
    return accuracy(held, probe_scores(states, part, rows, held_rows, l2)).value


def probe_scores(
    states: Tensor, part: Sequence[Ranked], rows: Sequence[list[int]], held_rows: Sequence[list[int]], l2: float
) -> list[list[float]]:
    """The scores that a probe fitted to `part` gives to the answers in the held rows."""
    used = sorted({i for row in rows for i in row})
    place = {i: at for at, i in enumerate(used)}
    head = nn.Linear(states.shape[1], 1, device=states.device)
    fit_head(head, states[used], pair_tensors(part, [[place[i] for i in row] for row in rows], states.device), l2)
    with torch.no_grad():
        scores = head(states).squeeze(-1).tolist()
    return [[scores[i] for i in row] for row in held_rows]

"""The benchmark of selection on made-up states: what it counts is what it says."""

import numpy as np
import pytest
import torch

from benchmarks.selection import Benchmark, Data, labels_for, replay, saved
from trainer.batches import Example
from trainer.ranked import Ranked


def made(count: int, seed: int) -> tuple[torch.Tensor, list[Ranked], list[list[int]]]:
    """Comparisons of three answers, which people order by the first of six numbers."""
    states = torch.randn(3 * count, 6, generator=torch.Generator().manual_seed(seed))
    rows = [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(count)]
    ranked = []
    for row in rows:
        order = sorted(range(3), key=lambda at, row=row: -float(states[row[at], 0]))
        pairs = [(order[0], order[1], 1.0), (order[0], order[2], 1.0), (order[1], order[2], 1.0)]
        ranked.append(Ranked(f"{seed} {row[0]}", [Example([1], [2])] * 3, ["x"] * 3, pairs, []))
    return states, ranked, rows


@pytest.mark.parametrize("strategy", ["random", "disagreement", "closeness"])
def test_more_labels_make_it_more_accurate(strategy: str) -> None:
    states, train, rows = made(60, 0)
    more, held, held_rows = made(40, 1)
    shifted = [[i + len(states) for i in row] for row in held_rows]
    data = Data(torch.cat([states, more]), train, rows, held, shifted)
    config = Benchmark(batch=10, members=3)
    curve = replay(config, data, strategy, 0, [4, 14, 24, 34])
    assert len(curve) == 4 and curve[-1] > 0.85 and curve[-1] > curve[0]
    assert replay(config, data, strategy, 0, [4])[0] == curve[0]  # all strategies begin alike


def test_labels_saved_by_hand() -> None:
    """Random reaches .7 with 30 labels, the other one with 20: two thirds. One that never does counts 25% more than all."""
    random = np.array([[0.5, 0.6, 0.7]] * 2)
    other = np.array([[0.5, 0.7, 0.8]] * 2)
    found = saved(random, other, [10, 20, 30])
    assert found["share"]["value"] == pytest.approx(2 / 3)
    assert found["gain"]["value"] == pytest.approx(0.1)
    assert saved(random, random, [10, 20, 30])["share"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert labels_for(np.array([0.5, 0.55]), 0.7, [10, 20]) == 25
    assert labels_for(np.array([0.8, 0.9]), 0.7, [10, 20]) == 10

"""The ranking loss against choix, numpy and a closed form."""

import math

import choix
import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.reward_loss import centering_loss, pairwise_loss

# (winner, loser); no item always wins, so that the maximum likelihood is finite.
WINS = [(0, 1), (0, 1), (1, 0), (1, 2), (2, 0), (0, 2), (2, 3), (3, 1), (3, 2), (3, 0), (0, 3)]


def index(pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Better and worse, as the loss takes them."""
    better, worse = zip(*pairs, strict=True)
    return torch.tensor(better), torch.tensor(worse)


def test_its_gradient_vanishes_at_choixs_bradley_terry_fit() -> None:
    fitted = choix.ilsr_pairwise(4, WINS, alpha=0.0, max_iter=1000, tol=1e-10)
    scores = torch.tensor(fitted, requires_grad=True)
    ones = torch.ones(len(WINS), dtype=torch.float64)
    pairwise_loss(scores, *index(WINS), ones, ones).backward()
    assert scores.grad.abs().max() < 1e-6
    moved = torch.tensor(fitted + np.array([0.1, 0, 0, 0]), requires_grad=True)
    pairwise_loss(moved, *index(WINS), ones, ones).backward()
    assert moved.grad.abs().max() > 1e-2


def test_a_share_is_so_many_wins_and_losses() -> None:
    """Three of four rankings say 0 > 1: with weight 4, the same as four single rankings."""
    scores = torch.tensor([0.3, -0.9], dtype=torch.float64)
    shared = pairwise_loss(scores, *index([(0, 1)]), torch.tensor([0.75]), torch.tensor([4.0]))
    ones = torch.ones(4)
    single = pairwise_loss(scores, *index([(0, 1)] * 3 + [(1, 0)]), ones, ones)
    assert float(shared) == pytest.approx(float(single))


def test_weights_and_values() -> None:
    scores, share, weight = np.array([1.0, -2.0, 0.5]), [1.0, 0.6], [1 / 3, 2.0]
    found = pairwise_loss(torch.tensor(scores), *index([(0, 1), (1, 2)]), torch.tensor(share), torch.tensor(weight))
    expected = 0.0
    for (a, b), s, w in zip([(0, 1), (1, 2)], share, weight, strict=True):
        p = 1 / (1 + math.exp(scores[b] - scores[a]))
        expected -= w * (s * math.log(p) + (1 - s) * math.log(1 - p))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_far_scores_stay_finite() -> None:
    scores = torch.tensor([-300.0, 300.0], requires_grad=True)
    loss = pairwise_loss(scores, *index([(0, 1)]), torch.tensor([0.9]), torch.tensor([1.0]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.9 * 600, rel=1e-5)
    assert scores.grad.tolist() == pytest.approx([-0.9, 0.9])


def test_centering_pulls_every_score_to_zero() -> None:
    scores = torch.tensor([3.0, -1.0], requires_grad=True)
    loss = centering_loss(scores)
    loss.backward()
    assert float(loss.detach()) == 5
    assert scores.grad.tolist() == [3, -1]

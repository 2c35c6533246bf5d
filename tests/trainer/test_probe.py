"""The linear probe against choix and scipy."""

import choix
import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor, nn

from trainer.probe import fit_head

WINS = [(0, 1), (0, 1), (1, 0), (1, 2), (2, 0), (0, 2), (2, 3), (3, 1), (3, 2), (3, 0), (0, 3)]


def pairs_of(wins: list[tuple[int, int]], weight: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the probe takes, of single rankings."""
    better, worse = torch.tensor(wins).unbind(1)
    return better, worse, torch.ones(len(wins)), torch.full((len(wins),), weight)


def test_one_state_a_response_is_plain_bradley_terry() -> None:
    """With unit vectors as states the weights are choix's strengths, under the same penalty.

    A column of the unit matrix of size n has variance 1 / n, so the penalty on standardised weights is l2 / 2 / n a strength;
    the loss is a mean over the pairs, choix's is a sum.
    """
    l2, n = 0.05, 4
    head = nn.Linear(n, 1)
    fit_head(head, torch.eye(n), pairs_of(WINS), l2)
    expected = choix.opt_pairwise(n, WINS, alpha=len(WINS) * l2 / 2 / n, method="Newton-CG", tol=1e-10)
    found = head(torch.eye(n)).detach().squeeze(1).numpy()
    assert np.allclose(found - found.mean(), expected - expected.mean(), atol=1e-3)
    assert np.abs(expected).max() > 0.1


def noisy() -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """States on unlike scales far from zero, and soft labels and weights that are not all the same."""
    rng = np.random.default_rng(0)
    states = torch.tensor(rng.normal(size=(30, 5)) * [1, 10, 0.1, 3, 1] + [5, -40, 0, 1, 2], dtype=torch.float32)
    better = torch.tensor(rng.permutation(30))
    worse = torch.tensor([(int(b) + 1) % 30 for b in better])
    share, weight = torch.tensor(rng.uniform(0.5, 1, 30)), torch.tensor(rng.uniform(0.1, 1, 30))
    return states, (better, worse, share, weight)


def test_the_fit_is_scipys() -> None:
    states, (better, worse, share, weight) = noisy()
    x = states.double().numpy()
    standard = (x - x.mean(0)) / x.std(0, ddof=1)
    difference = standard[better.numpy()] - standard[worse.numpy()]
    s, c = share.numpy(), weight.numpy() / weight.numpy().sum()

    def cross_entropy(w: np.ndarray) -> float:
        margin = difference @ w
        return float(c @ (s * np.logaddexp(0, -margin) + (1 - s) * np.logaddexp(0, margin)))

    expected = scipy.optimize.minimize(lambda w: cross_entropy(w) + 0.05 * w @ w, np.zeros(5), tol=1e-10).x
    head = nn.Linear(5, 1)
    loss = fit_head(head, states, (better, worse, share, weight), 0.1)
    assert loss == pytest.approx(cross_entropy(expected), abs=1e-4)
    scores = head(states).detach().squeeze(1).numpy()
    assert np.allclose(scores, standard @ expected, atol=1e-3)
    assert abs(scores.mean()) < 1e-4


def test_the_scale_of_the_weights_does_not_matter() -> None:
    states, (better, worse, share, weight) = noisy()
    one, two = nn.Linear(5, 1), nn.Linear(5, 1)
    fit_head(one, states, (better, worse, share, weight), 0.1)
    fit_head(two, states, (better, worse, share, 100 * weight), 0.1)
    assert torch.allclose(one(states), two(states), atol=1e-4)


def test_separable_pairs_and_constant_columns_stay_finite() -> None:
    states = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    head = nn.Linear(2, 1)
    fit_head(head, states, pairs_of([(2, 1), (1, 0), (2, 0)]), 1.0)
    low, middle, high = head(states).squeeze(1).tolist()
    assert np.isfinite([low, middle, high]).all()
    assert low < middle < high

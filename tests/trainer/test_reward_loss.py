"""The ranking losses against choix, published fits, another implementation and closed forms."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import choix
import numpy as np
import pytest
import torch
from torch import Tensor

from preferences.choices import Choices, Shape, derivatives
from trainer.reward_loss import (
    centering_loss,
    davidson_loss,
    davidson_luce_loss,
    not_acceptable_loss,
    pairwise_loss,
    plackett_luce_loss,
    rao_kupper_loss,
)

# (winner, loser); no item always wins, so that the maximum likelihood is finite.
WINS = [(0, 1), (0, 1), (1, 0), (1, 2), (2, 0), (0, 2), (2, 3), (3, 1), (3, 2), (3, 0), (0, 3)]
RANKINGS = [[0, 1, 2, 3], [3, 1, 0, 2], [2, 0, 3, 1], [1, 3, 2, 0], [0, 3, 1, 2]]


def index(pairs: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Better and worse, as the loss takes them."""
    better, worse = zip(*pairs, strict=True)
    return torch.tensor(better), torch.tensor(worse)


def bradley_terry(scores: Tensor, wins: Sequence[Sequence[int]]) -> Tensor:
    """The loss of single rankings of two."""
    ones = torch.ones(len(wins), dtype=torch.float64)
    return pairwise_loss(scores, *index(wins), ones, ones)


def plackett_luce(scores: Tensor, rankings: Sequence[Sequence[int]]) -> Tensor:
    """The loss of full or partial orders of items, given as item numbers, best first."""
    width = max(map(len, rankings))
    tiers = torch.tensor([[*range(len(r)), *[-1] * (width - len(r))] for r in rankings])
    items = torch.tensor([[*r, *[0] * (width - len(r))] for r in rankings])
    return plackett_luce_loss(scores[items], tiers, torch.ones(len(rankings), dtype=torch.float64))


def steepness(loss: Callable[[Tensor], Tensor], at: Any) -> float:
    """The largest gradient there."""
    scores = torch.tensor(np.asarray(at), dtype=torch.float64, requires_grad=True)
    loss(scores).backward()
    assert scores.grad is not None
    return float(scores.grad.abs().max())


def minimum(loss: Callable[[Tensor], Tensor], parameters: int) -> Tensor:
    """Where the loss is least."""
    at = torch.zeros(parameters, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([at], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(at)
        value.backward()
        return value

    optimizer.step(closure)
    return at.detach()


def test_its_gradient_vanishes_at_choixs_bradley_terry_fit() -> None:
    fitted = choix.ilsr_pairwise(4, WINS, alpha=0.0, max_iter=1000, tol=1e-10)
    assert steepness(lambda s: bradley_terry(s, WINS), fitted) < 1e-6
    assert steepness(lambda s: bradley_terry(s, WINS), fitted + np.array([0.1, 0, 0, 0])) > 1e-2


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


def test_a_margin_is_asked_of_those_who_prefer_the_better_one() -> None:
    """Llama 2's loss at share 1; those who prefer the other ask for no margin."""
    scores, one = torch.tensor([1.0, 0.2]), torch.ones(1)
    full = pairwise_loss(scores, *index([(0, 1)]), one, one, torch.tensor([0.5]))
    assert float(full) == pytest.approx(-math.log(1 / (1 + math.exp(-(0.8 - 0.5)))), rel=1e-5)
    part = pairwise_loss(scores, *index([(0, 1)]), torch.tensor([0.7]), one, torch.tensor([0.5]))
    expected = 0.7 * float(full) - 0.3 * math.log(1 / (1 + math.exp(0.8)))
    assert float(part) == pytest.approx(expected, rel=1e-5)


def test_far_scores_stay_finite() -> None:
    scores = torch.tensor([-300.0, 300.0], requires_grad=True)
    loss = pairwise_loss(scores, *index([(0, 1)]), torch.tensor([0.9]), torch.tensor([1.0]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.9 * 600, rel=1e-5)
    assert scores.grad.tolist() == pytest.approx([-0.9, 0.9])


@pytest.mark.parametrize(("a", "b", "tie"), [(0.0, 0.0, 0.5), (1.2, -0.3, 2.0), (-2.0, 0.5, 0.1)])
def test_davidson_and_rao_kupper_by_their_formulas(a: float, b: float, tie: float) -> None:
    """With worths p and q: Davidson (p, nu sqrt(pq), q) / sum; Rao-Kupper p / (p + theta q) and so on."""
    p, q, nu, theta = math.exp(a), math.exp(b), tie, 1 + tie
    total = p + q + nu * math.sqrt(p * q)
    davidson = [p / total, nu * math.sqrt(p * q) / total, q / total]
    win, lost = p / (p + theta * q), q / (q + theta * p)
    kupper = [win, (theta**2 - 1) * p * q / ((p + theta * q) * (q + theta * p)), lost]
    assert sum(kupper) == pytest.approx(1)
    scores, at = torch.tensor([a, b], dtype=torch.float64), index([(0, 1)])
    for outcome in range(3):
        said = torch.eye(3, dtype=torch.float64)[[outcome]]
        weight = torch.tensor([2.0])
        found = davidson_loss(scores, *at, said, weight, torch.tensor(math.log(nu), dtype=torch.float64))
        assert float(found) == pytest.approx(-2 * math.log(davidson[outcome]))
        found = rao_kupper_loss(scores, *at, said, weight, torch.tensor(math.log(theta), dtype=torch.float64))
        assert float(found) == pytest.approx(-2 * math.log(kupper[outcome]))


def test_without_ties_both_are_bradley_terry() -> None:
    scores = torch.tensor([0.7, -0.4, 0.1], dtype=torch.float64)
    first, second = index([(0, 1), (2, 1)])
    said = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]], dtype=torch.float64)
    weight = torch.ones(2, dtype=torch.float64)
    expected = bradley_terry(scores, [(0, 1), (1, 2)])
    davidson = davidson_loss(scores, first, second, said, weight, torch.tensor(-40.0))
    kupper = rao_kupper_loss(scores, first, second, said, weight, torch.tensor(1e-9, dtype=torch.float64))
    assert float(davidson) == pytest.approx(float(expected))
    assert float(kupper) == pytest.approx(float(expected), rel=1e-6)


def test_plackett_luce_is_choixs() -> None:
    fitted = choix.ilsr_rankings(4, RANKINGS, alpha=0.0, max_iter=1000, tol=1e-10)
    assert steepness(lambda s: plackett_luce(s, RANKINGS), fitted) < 1e-6
    assert steepness(lambda s: plackett_luce(s, RANKINGS), fitted + np.array([0.2, 0, 0, 0])) > 1e-2


def test_plackett_luce_by_hand() -> None:
    """Best, two in the middle that were not compared with each other, worst."""
    s = [1.0, 0.3, -0.2, -1.0]
    e = [math.exp(x) for x in s]
    found = plackett_luce_loss(torch.tensor([s]), torch.tensor([[0, 1, 1, 2]]), torch.tensor([0.5]))
    chances = [e[0] / sum(e), e[1] / (e[1] + e[3]), e[2] / (e[2] + e[3])]
    assert float(found) == pytest.approx(-0.5 * sum(map(math.log, chances)), rel=1e-6)


def test_two_items_are_bradley_terry_and_davidson() -> None:
    scores = torch.tensor([[0.4, -0.6]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    pair = bradley_terry(scores[0], [(1, 0)])
    assert float(plackett_luce_loss(scores, torch.tensor([[1, 0]]), one)) == pytest.approx(float(pair))
    log_nu = torch.tensor([0.3], dtype=torch.float64)
    for tiers, said in (([0, 1], [1.0, 0, 0]), ([0, 0], [0, 1.0, 0])):
        luce = davidson_luce_loss(scores, torch.tensor([tiers]), one, log_nu)
        davidson = davidson_loss(scores[0], *index([(0, 1)]), torch.tensor([said]), one, log_nu[0])
        assert float(luce) == pytest.approx(float(davidson))


def test_ties_of_several_as_the_statistics_have_them() -> None:
    """Loss and gradient, stage by stage, out of `preferences.choices`, which is another implementation."""
    scores, log_ties = [0.5, -0.1, 0.9, -0.7], [0.2, -0.4]
    tiers = [1, 0, 0, 2]
    given = torch.tensor([scores], dtype=torch.float64, requires_grad=True)
    strengths = torch.tensor(log_ties, dtype=torch.float64, requires_grad=True)
    loss = davidson_luce_loss(given, torch.tensor([tiers]), torch.ones(1, dtype=torch.float64), strengths)
    loss.backward()
    shape, theta = Shape(4, (2, 3)), np.array([*scores, *log_ties])
    value, gradient = 0.0, np.zeros(6)
    for left, chosen in (([0, 1, 2, 3], [1, 2]), ([0, 3], [0])):
        models = np.array([left])
        one, none = np.ones(1), np.zeros((1, len(left), 0))
        choice = Choices(models, np.isin(models, chosen), one, np.zeros(1, int), none)
        found = derivatives(choice, theta, shape if len(left) > 2 else Shape(4, (2,)))
        value += float(found.log_likelihood[0])
        for at, slope in zip(found.index[0], found.gradient[0], strict=True):
            gradient[at] += slope
    assert float(loss.detach()) == pytest.approx(-value)
    assert torch.cat([given.grad[0], strengths.grad]).tolist() == pytest.approx((-gradient).tolist())


def test_padding_has_no_part() -> None:
    scores = torch.tensor([[0.4, -0.6, 0.2, 50.0]], requires_grad=True)
    tiers, one = torch.tensor([[1, 0, 2, -1]]), torch.ones(1)
    for loss in (
        lambda s, t: plackett_luce_loss(s, t, one),
        lambda s, t: davidson_luce_loss(s, t, one, torch.zeros(2)),
    ):
        short = loss(scores[:, :3], tiers[:, :3])
        assert loss(scores, tiers).item() == pytest.approx(short.item(), rel=1e-5)
        (gradient,) = torch.autograd.grad(loss(scores, tiers), scores)
        assert gradient.isfinite().all() and gradient[0, 3] == 0


def test_all_bad_pushes_below_zero() -> None:
    scores = torch.tensor([2.0, -1.0], requires_grad=True)
    loss = not_acceptable_loss(scores, torch.tensor([0.5, 2.0]))
    loss.backward()
    p = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0)]
    assert float(loss.detach()) == pytest.approx(-0.5 * math.log(1 - p[0]) - 2 * math.log(1 - p[1]), rel=1e-5)
    assert scores.grad.tolist() == pytest.approx([0.5 * p[0], 2 * p[1]])


def test_centering_pulls_every_score_to_zero() -> None:
    scores = torch.tensor([3.0, -1.0], requires_grad=True)
    loss = centering_loss(scores)
    loss.backward()
    assert float(loss.detach()) == 5
    assert scores.grad.tolist() == [3, -1]


@pytest.mark.parametrize("name", ["pairwise-1", "pairwise-2", "rankings-1", "rankings-2", "top1-1", "top1-2"])
def test_choixs_own_cases(real_data: Path, name: str) -> None:
    """The published maximum of each is where the loss is flat; a choice of one from several is a ranking of two tiers."""
    case = json.loads((real_data / "ranking_maths" / f"choix-testcase-{name}.json").read_text())

    def loss(scores: Tensor) -> Tensor:
        if name.startswith("pairwise"):
            return bradley_terry(scores, case["data"])
        if name.startswith("rankings"):
            return plackett_luce(scores, case["data"])
        terms = [
            plackett_luce_loss(
                scores[[best, *others]][None], torch.tensor([[0, *[1] * len(others)]]), torch.ones(1).double()
            )
            for best, others in case["data"]
        ]
        return torch.stack(terms).sum()

    assert steepness(loss, case["ml_est"]) < 1e-4
    assert steepness(loss, np.array(case["ml_est"]) + 0.1 * np.eye(case["n_items"])[0]) > 1e-2


def published(folder: Path, name: str) -> dict[str, Any]:
    """A case of the published fits, its rankings as tier lists with counts."""
    document = json.loads((folder / "ranking_maths" / "plackett_luce_published.json").read_text())
    return next(case for case in document["cases"] if case["name"] == name)


@pytest.mark.parametrize("pairs", [True, False])
def test_davidsons_puddings(real_data: Path, pairs: bool) -> None:
    """Davidson 1970, example 2: worths and tie parameter, by the loss of pairs and by the loss of rankings."""
    case = published(real_data, "pudding_ties")
    rows, said, counts = [], [], []
    for ranking in case["rankings"]:
        order = ranking["order"]
        items = sorted(item for tier in order for item in tier)
        rows.append(items)
        said.append([0, 1, 0] if len(order) == 1 else [1, 0, 0] if order[0] == [items[0]] else [0, 0, 1])
        counts.append(ranking["count"])
    weight, shares = torch.tensor(counts).double(), torch.tensor(said).double()

    def loss(at: Tensor) -> Tensor:
        scores, log_nu = at[:6], at[6:]
        if pairs:
            return davidson_loss(scores, *index(rows), shares, weight, log_nu[0])
        tiers = torch.where(shares[:, 1:2] > 0, torch.zeros(1), torch.stack([shares[:, 2], shares[:, 0]], 1)).long()
        return davidson_luce_loss(scores[torch.tensor(rows)], tiers, weight, log_nu)

    found = minimum(lambda at: loss(at) + 1e-6 * at[:6].sum() ** 2, 7)
    expected = case["published"]
    assert (found[:6] - found[0]).tolist() == pytest.approx(expected["log_coef_ref_first"], abs=2e-3)
    assert float(found[6]) == pytest.approx(expected["log_tie2"], abs=2e-3)
    assert found[:6].softmax(0).tolist() == pytest.approx(expected["worth"], abs=1e-3)


def test_the_published_toy(real_data: Path) -> None:
    case = published(real_data, "toy_abc")
    wins = [[better[0] for better in ranking["order"]] for ranking in case["rankings"]]
    found = minimum(lambda at: bradley_terry(at, wins) + 1e-6 * at.sum() ** 2, 3)
    assert (found - found[0]).tolist() == pytest.approx(case["published"]["log_coef_ref_first"], abs=1e-3)

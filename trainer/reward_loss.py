"""What rankings ask of scores. Pure: tensors in, tensors out; every loss is a weighted sum of negative log-likelihoods."""

from functools import cache
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

ABSENT = -1  # the tier of a place of a padded ranking that holds no response


def pairwise_loss(
    scores: Tensor, better: Tensor, worse: Tensor, share: Tensor, weight: Tensor, margin: Tensor | float = 0.0
) -> Tensor:
    """Cross entropies of "better beats worse" under Bradley-Terry (arXiv 2203.02155, eq. 1).

    `scores` (responses,); `better`, `worse` (pairs,) index them; `share` (pairs,): the part of the rankings that put
    `better` first (1 for one ranking); `weight` (pairs,): 1 / C(K, 2) of the pair's comparison. `margin` (pairs,) is asked
    for of those who prefer `better` (Llama 2, arXiv 2307.09288, eq. 2).
    """
    gap = scores[better] - scores[worse]
    return -(weight * (share * logsigmoid(gap - margin) + (1 - share) * logsigmoid(-gap))).sum()


def davidson_loss(
    scores: Tensor, first: Tensor, second: Tensor, said: Tensor, weight: Tensor, log_nu: Tensor
) -> Tensor:
    """Cross entropies of win, tie and loss under Davidson (1970, JASA 65:317, eq. 2.2), with worths exp(scores).

    `first`, `second`, `weight` (pairs,) as above; `said` (pairs, 3): the part of the rankings that prefers the first, ties
    them, prefers the second. `log_nu`: log of the tie parameter; of two equal responses nu / (2 + nu) are tied.
    """
    half = (scores[first] - scores[second]) / 2
    logits = torch.stack([half, log_nu.expand_as(half), -half], 1)
    return -(weight[:, None] * said * logits.log_softmax(1)).sum()


def rao_kupper_loss(scores: Tensor, first: Tensor, second: Tensor, said: Tensor, weight: Tensor, eta: Tensor) -> Tensor:
    """As `davidson_loss`, under Rao and Kupper (1967, JASA 62:194): a win must exceed the threshold `eta` = log theta > 0."""
    gap = scores[first] - scores[second]
    win, loss = logsigmoid(gap - eta), logsigmoid(-gap - eta)
    tie = win + loss + 2 * eta + torch.log(-torch.expm1(-2 * eta))
    return -(weight[:, None] * said * torch.stack([win, tie, loss], 1)).sum()


def plackett_luce_loss(scores: Tensor, tiers: Tensor, weight: Tensor) -> Tensor:
    """Negative log-likelihoods of rankings under Plackett-Luce (Luce 1959; Plackett 1975, eq. 1).

    `scores`, `tiers` (rankings, K): the tier (0 is best) of each response, ABSENT for padding; `weight` (rankings,).
    Responses of one tier are not compared with each other: each is chosen from itself and the tiers below.
    """
    below = (tiers[:, None, :] > tiers[:, :, None]) & (tiers >= 0)[:, :, None]
    itself = torch.eye(tiers.shape[1], dtype=torch.bool, device=tiers.device)
    rivals = scores[:, None, :].expand(below.shape).masked_fill(~(below | itself), -torch.inf)
    lost = torch.logsumexp(rivals, 2) - scores
    return (weight * (lost * below.any(2)).sum(1)).sum()


def davidson_luce_loss(scores: Tensor, tiers: Tensor, weight: Tensor, log_ties: Tensor) -> Tensor:
    """As `plackett_luce_loss`, where a tier of several is a choice of its own (Turner et al. 2020).

    A set S of n tied ones is chosen with a probability in proportion to exp(mean score of S + t_n); `log_ties` (D - 1,):
    t_2 .. t_D, t_1 = 0. No tier may have more than D responses. Of K = 2 it is Davidson's model.
    """
    parts = subsets(tiers.shape[1], len(log_ties) + 1).to(scores.device)
    size = parts.sum(1)
    strength = torch.cat([log_ties.new_zeros(1), log_ties])[size - 1]
    utility = scores.masked_fill(tiers < 0, 0.0) @ (parts / size[:, None]).T.to(scores.dtype) + strength
    total = scores.new_zeros(())
    for tier in range(int(tiers.max()) + 1):
        left, chosen = tiers >= tier, tiers == tier
        possible = ~(parts[None] & ~left[:, None]).any(2)
        picked = (parts[None] == chosen[:, None]).all(2)
        rows = chosen.any(1)  # rankings that have so many tiers
        chance = utility.masked_fill(~possible, -torch.inf)[rows].log_softmax(1)
        total = total - (weight[rows] * chance[picked[rows]]).sum()
    return total


@cache
def subsets(items: int, largest: int) -> Tensor:
    """(subsets, items) True where an item is in: every subset of 1 .. `largest` of them."""
    chosen = [part for size in range(1, min(items, largest) + 1) for part in combinations(range(items), size)]
    return torch.tensor([[i in part for i in range(items)] for part in chosen])


def not_acceptable_loss(scores: Tensor, weight: Tensor) -> Tensor:
    """Cross entropies of "not acceptable", for which 0 is the line: those of responses that somebody called all bad."""
    return (weight * softplus(scores)).sum()


def centering_loss(scores: Tensor) -> Tensor:
    """Mean square of the scores, which keeps their zero where it is (Eisenstein et al. 2023, arXiv 2312.09244)."""
    return (scores**2).mean()

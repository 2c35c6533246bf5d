"""What rankings ask of scores. Pure: tensors in, tensors out."""

import torch
from torch import Tensor


def pairwise_loss(scores: Tensor, better: Tensor, worse: Tensor, share: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of cross entropies of "better beats worse" under Bradley-Terry (arXiv 2203.02155, eq. 1).

    `scores` (responses,); `better`, `worse` (pairs,) index them; `share` (pairs,): the part of the rankings that put
    `better` first (1 for one ranking); `weight` (pairs,): 1 / C(K, 2) of the pair's comparison.
    """
    margin = scores[better] - scores[worse]
    log_wins = torch.nn.functional.logsigmoid(margin)
    return -(weight * (share * log_wins + (1 - share) * (log_wins - margin))).sum()


def centering_loss(scores: Tensor) -> Tensor:
    """Mean square of the scores, which keeps their zero where it is (Eisenstein et al. 2023, arXiv 2312.09244)."""
    return (scores**2).mean()

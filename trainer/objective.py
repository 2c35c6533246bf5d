"""Which loss a reward run asks of the scores of comparisons, and the tie parameters that are learned with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from trainer.ranked import Order, Ranked, Said
from trainer.reward_loss import (
    ABSENT,
    centering_loss,
    davidson_loss,
    davidson_luce_loss,
    not_acceptable_loss,
    pairwise_loss,
    plackett_luce_loss,
    rao_kupper_loss,
)

Loss = Literal["pairs", "plackett-luce"]
Ties = Literal["drop", "half", "davidson", "rao-kupper"]
SoftLabels = Literal["votes", "annotator-model", "majority"]


@dataclass(frozen=True, slots=True)
class Asked:
    """The part of a reward run's options that says what is asked of scores; the docstrings of `Reward` explain each."""

    loss: Loss
    ties: Ties
    soft_labels: SoftLabels
    margin: float
    all_bad: float
    centering: float

    def inconsistencies(self) -> list[str]:
        """What does not fit together."""
        if self.loss == "pairs":
            return []
        wrong = []
        if self.ties in ("half", "rao-kupper"):
            wrong.append(f"ties {self.ties} is a model of pairs; with loss plackett-luce give drop or davidson")
        if self.soft_labels != "votes":
            wrong.append(f"soft labels {self.soft_labels} are of pairs; loss plackett-luce takes each ranking as it is")
        if self.margin:
            wrong.append("a margin is between two answers; give it with loss pairs")
        return wrong


class Objective:
    """The loss of comparisons. `parameters`: of ties, learned along; at first equal answers tie as often as in the data."""

    def __init__(self, asked: Asked, ranked: Sequence[Ranked], device: torch.device) -> None:
        self.asked = asked
        start = self.start(ranked)
        self.parameters = [nn.Parameter(torch.tensor(start, device=device))] if start else []

    def start(self, ranked: Sequence[Ranked]) -> list[float]:
        """Where the tie parameters begin: log nu, the inverse softplus of eta, or t_2 .. t_D; none if ties have no part."""
        if self.asked.ties in ("drop", "half"):
            return []
        said = [one for r in ranked for one in r.said]
        share = sum(one.tie for one in said) / max(1, len(said))
        share = min(max(share, 0.01), 0.9)
        log_nu = math.log(2 * share / (1 - share))
        if self.asked.loss == "plackett-luce":
            largest = max(
                (len(tier) for r in ranked for order in r.orders if order.ties for tier in order.tiers), default=2
            )
            return [log_nu] * (max(2, largest) - 1)
        return (
            [log_nu] if self.asked.ties == "davidson" else [math.log(math.expm1(math.log((1 + share) / (1 - share))))]
        )

    def loss(self, scores: Tensor, ranked: Sequence[Ranked], rows: Sequence[Sequence[int]]) -> Tensor:
        """Summed over comparisons, each weighing the same. `scores` (answers,); `rows`: those of each one's answers."""
        total = self.preferences(scores, ranked, rows)
        if self.asked.all_bad:
            items = [(i, r.all_bad / len(row)) for r, row in zip(ranked, rows, strict=True) if r.all_bad for i in row]
            if items:
                index, weight = columns(items, scores)
                total = total + self.asked.all_bad * not_acceptable_loss(scores[index.long()], weight)
        if self.asked.centering:  # by comparison, so that neither micro-batches nor processes change what it is
            total = (
                total + self.asked.centering * torch.stack([centering_loss(scores[list(row)]) for row in rows]).sum()
            )
        return total

    def preferences(self, scores: Tensor, ranked: Sequence[Ranked], rows: Sequence[Sequence[int]]) -> Tensor:
        """The part that the order of the answers has in the loss."""
        if self.asked.loss == "plackett-luce":
            return self.of_orders(scores, ranked, rows)
        if self.asked.ties in ("drop", "half"):
            return self.of_pairs(scores, ranked, rows)
        table = [
            (row[one.first], row[one.second], *self.voted(one, r), r.weight)
            for r, row in zip(ranked, rows, strict=True)
            for one in r.said
        ]
        if not table:
            return scores.sum() * 0
        first, second, win, tie, lost, weight = columns(table, scores)
        said, raw = torch.stack([win, tie, lost], 1), self.parameters[0][0]
        index = first.long(), second.long()
        if self.asked.ties == "davidson":
            return davidson_loss(scores, *index, said, weight, raw)
        return rao_kupper_loss(scores, *index, said, weight, softplus(raw))

    def of_pairs(self, scores: Tensor, ranked: Sequence[Ranked], rows: Sequence[Sequence[int]]) -> Tensor:
        """Bradley-Terry on the decided pairs, and on the tied ones as even if they count half."""
        table = []
        for r, row in zip(ranked, rows, strict=True):
            strength = {frozenset((one.first, one.second)): one.strength for one in r.said}
            for better, worse, share in r.pairs:
                margin = self.asked.margin * strength.get(frozenset((better, worse)), 0.0)
                hard = self.asked.soft_labels == "majority"
                table.append((row[better], row[worse], 1.0 if hard else share, r.weight, margin))
            if self.asked.ties == "half":
                table += [(row[a], row[b], 0.5, r.weight, 0.0) for a, b in r.ties]
        if not table:
            return scores.sum() * 0
        upper, lower, shares, weights, margins = columns(table, scores)
        return pairwise_loss(scores, upper.long(), lower.long(), shares, weights, margins)

    def voted(self, one: Said, ranked: Ranked) -> tuple[float, float, float]:
        """Win, tie and loss of a pair: by the votes, the plurality, or the annotator model for those who did not tie."""
        shares = (one.win, one.tie, one.loss)
        if self.asked.soft_labels == "majority":
            best = shares.index(max(shares))
            return (float(best == 0), float(best == 1), float(best == 2))
        if self.asked.soft_labels == "annotator-model" and one.tie < 1:
            found = next((p for p in ranked.pairs if {p[0], p[1]} == {one.first, one.second}), None)
            share = 0.5 if found is None else found[2] if found[0] == one.first else 1 - found[2]
            return (share * (1 - one.tie), one.tie, (1 - share) * (1 - one.tie))
        return shares

    def of_orders(self, scores: Tensor, ranked: Sequence[Ranked], rows: Sequence[Sequence[int]]) -> Tensor:
        """Plackett-Luce on each ranking; a comparison's rankings, and the K - 1 choices of each, share its weight."""
        total = scores.sum() * 0
        by_size: dict[tuple[int, bool], list[tuple[Sequence[int], list[int], float]]] = {}
        for r, row in zip(ranked, rows, strict=True):
            for order in r.orders:
                weight = 1 / len(r.orders) / (len(row) - 1)
                modelled = order.ties and self.asked.ties == "davidson"
                by_size.setdefault((len(row), modelled), []).append((row, tiers_of(order, len(row)), weight))
        for (_, modelled), group in by_size.items():
            places, tiers, weights = zip(*group, strict=True)
            tier = torch.tensor(tiers, device=scores.device)
            given = scores[torch.tensor(places, device=scores.device)], tier, scores.new_tensor(weights)
            total = total + (davidson_luce_loss(*given, self.parameters[0]) if modelled else plackett_luce_loss(*given))
        return total


def tiers_of(order: Order, items: int) -> list[int]:
    """The tier of each item; ABSENT for one that the ranking leaves out.

    Of best and worst there is the choice of the best alone: that each of the others was put over the worst is seen only of
    pairs that have the worst in them (see `preferences.contests.stages_of`), so the worst joins the others.
    """
    last = len(order.tiers) if order.ties else next((i for i, tier in enumerate(order.tiers) if len(tier) > 1), 99)
    place = {item: min(number, last) for number, tier in enumerate(order.tiers) for item in tier}
    return [place.get(item, ABSENT) for item in range(items)]


def columns(table: Sequence[Sequence[float]], like: Tensor) -> tuple[Tensor, ...]:
    """The columns of a table as tensors; whole numbers up to 2^24 stay exact in them."""
    return tuple(torch.tensor(table, dtype=torch.float32, device=like.device).unbind(1))

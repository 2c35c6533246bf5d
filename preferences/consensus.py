"""Who is right where annotators differ: each annotator's accuracy and soft labels of pairs, from the labels alone. Pure.

A one-coin model after Dawid & Skene (1979, Applied Statistics 28:20): each pair has a better response, unknown; an annotator
who puts the pair apart names it with a chance of their own, whatever the pair; a tie says nothing. Which response comes first
in a record means nothing, so the confusion is symmetric and both are as likely to be the better one. Fitted by EM.
"""

from dataclasses import dataclass

import numpy as np

from preferences.intervals import Array
from preferences.labels import NONE, UNSAID, Labels, last_of_each, pair_columns, signs_of

STEPS = 200
SMALL = 1e-6
PRIOR = (3.0, 1.0)  # pseudo-counts of right and wrong labels: who has said little is right three times in four


@dataclass(frozen=True, slots=True)
class PairLabels:
    """N labels of pairs: `unit`, `annotator` [N] as numbers from 0; `sign` [N]: +1, 0 (a tie) or -1."""

    unit: Array
    annotator: Array
    sign: Array

    def where(self, rows: Array) -> "PairLabels":
        """Only those rows; units and annotators keep their numbers."""
        return PairLabels(self.unit[rows], self.annotator[rows], self.sign[rows])


@dataclass(frozen=True, slots=True)
class Consensus:
    """`share` [units]: how likely it is that +1 is right; `accuracy` [annotators]: how often each is right."""

    share: Array
    accuracy: Array


def pair_labels(labels: Labels) -> tuple[PairLabels, Array]:
    """The labels of all compared pairs of items; of each unit [U, 3] which comparison it is of, and which items i < j."""
    labels = last_of_each(labels.where(~labels.repeat))
    first, second = pair_columns(labels.tiers.shape[1])
    signs = signs_of(labels.tiers, labels.tiers.shape[1], labels.partial)
    row, pair = np.nonzero((labels.tiers[:, first] != NONE) & (labels.tiers[:, second] != NONE) & (signs != UNSAID))
    keys = np.stack([labels.comparison[row], first[pair], second[pair]], 1)
    units, number = np.unique(keys, axis=0, return_inverse=True)
    return PairLabels(number.ravel(), labels.annotator[row], signs[row, pair]), units


def dawid_skene(labels: PairLabels, units: int, people: int, prior: tuple[float, float] = PRIOR) -> Consensus:
    """Accuracies and shares of greatest posterior; 1/2 for a unit without a label that puts it apart."""
    labels = labels.where(labels.sign != 0)
    right, wrong = prior
    made = np.bincount(labels.annotator, minlength=people)
    accuracy = np.full(people, right / (right + wrong))
    for _ in range(STEPS):
        odds = np.log(accuracy) - np.log1p(-accuracy)
        share = 1 / (1 + np.exp(-np.bincount(labels.unit, odds[labels.annotator] * labels.sign, units)))
        agreed = np.where(labels.sign > 0, share[labels.unit], 1 - share[labels.unit])
        before, accuracy = accuracy, (np.bincount(labels.annotator, agreed, people) + right) / (made + right + wrong)
        if np.abs(accuracy - before).max(initial=0) < SMALL:
            break
    return Consensus(share, accuracy)

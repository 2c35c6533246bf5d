"""Whether annotators say the same when a comparison comes back to them unmarked, shown in the reversed order. Pure."""

import numpy as np

from preferences.intervals import Array, Statistic, by_prompt, quotient, statistic
from preferences.labels import MOST, NONE, UNSAID, Labels, last_of_each, pair_columns, signs_of

NO_REPEATS = "no annotator has ranked a comparison a second time, as a hidden repeat"


def twice(labels: Labels) -> tuple[Labels, Labels]:
    """The rankings that were repeated and their repeats, row by row."""
    first, second = last_of_each(labels.where(~labels.repeat)), last_of_each(labels.where(labels.repeat))
    people = len(labels.names)
    ours, theirs = (np.asarray(part.comparison * people + part.annotator) for part in (first, second))
    _, ours, theirs = np.intersect1d(ours, theirs, return_indices=True)
    return first.where(ours), second.where(theirs)


def self_consistency(labels: Labels) -> Statistic:
    """The share of pairs of items, tied neither time, of which the same one is preferred both times. n: such pairs."""
    first, second, agree, strict = _pairs(labels)
    sums = by_prompt(first.prompt, np.stack([agree.sum(1), strict.sum(1)], 1).astype(float))
    reason = "no pair of items was put apart both times" if len(second) else NO_REPEATS
    return statistic(quotient, sums, strict.sum(), (0, 1), reason)


def flip_rate(labels: Labels) -> Statistic:
    """The share of repeats in which no item is ranked best both times. n: repeats."""
    first, second = twice(labels)
    flipped = ~((first.tiers == 0) & (second.tiers == 0)).any(1)
    sums = by_prompt(first.prompt, np.stack([flipped, np.ones(len(first))], 1).astype(float))
    return statistic(quotient, sums, len(first), (0, 1), NO_REPEATS)


def flips_to_first(labels: Labels) -> Statistic:
    """Of the pairs shown and preferred in opposite orders, the share in which the one shown earlier won both times.

    One half without position bias. n: such pairs.
    """
    first, second, agree, strict = _pairs(labels)
    ahead = signs_of(first.shown, MOST)  # +1: the pair's first item was shown earlier
    flips = strict & ~agree & (ahead == -signs_of(second.shown, MOST))
    to_first = flips & (signs_of(first.tiers, MOST) == ahead)
    sums = by_prompt(first.prompt, np.stack([to_first.sum(1), flips.sum(1)], 1).astype(float))
    reason = "no preference was turned round with the order shown" if len(second) else NO_REPEATS
    return statistic(quotient, sums, flips.sum(), (0, 1), reason)


def _pairs(labels: Labels) -> tuple[Labels, Labels, Array, Array]:
    """The rankings and their repeats; [n, U] where both prefer the same item of a pair, and where both prefer one."""
    first, second = twice(labels)
    i, j = pair_columns(MOST)
    there = (first.tiers[:, i] != NONE) & (first.tiers[:, j] != NONE)
    once, again = (signs_of(part.tiers, MOST, part.partial) for part in (first, second))
    strict = there & (once != 0) & (again != 0) & (once != UNSAID) & (again != UNSAID)
    return first, second, strict & (once == again), strict

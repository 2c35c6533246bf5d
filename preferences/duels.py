"""One policy against another, as people judge who do not know which is which. Pure; docs/statistics.md has the formulas."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from preferences.choices import Choices, Shape, fit, tie_sizes
from preferences.contests import Contests, pairs_of
from preferences.intervals import Array, Statistic, by_prompt, interval, quotient, statistic, undefined
from preferences.separation import why_undefined
from preferences.sequential import ALPHA, confidence_sequence, decided_at, further, p_value
from preferences.strengths import RUNS_OFF, resampled_parameters

Z = 1.96
NEVER_MET = "no one has ranked answers of the two to the same held-out prompt"
NEW, OLD = 0, 1  # whose an alternative is, in a duel


@dataclass(frozen=True, slots=True)
class Points:
    """Of P prompts, in the order of their numbers: what the new policy won on each, from 0 to 1, and how many judged it."""

    prompt: Array
    points: Array
    pairs: Array


def duel(contests: Contests, new: int, old: int) -> Choices:
    """Every two compared answers of the two policies, as alternatives 0 and 1; each prompt weighs 1 altogether.

    `features` [S, 2, 1]: log2(1 + characters), the first of the contests' features in logarithms to base 2.
    """
    pairs = pairs_of(contests)
    ours = (np.sort(pairs.models, 1) == sorted((new, old))).all(1)
    pairs = pairs.where(ours)
    turned = pairs.models[:, 0] == old
    order = np.where(turned[:, None], [1, 0], [0, 1])
    chosen = np.take_along_axis(pairs.chosen, order, 1)
    form = np.take_along_axis(pairs.features[:, :, :1] / np.log(2), order[..., None], 1)
    models = np.broadcast_to([NEW, OLD], chosen.shape)
    _, number, count = np.unique(pairs.prompt, return_inverse=True, return_counts=True)
    return Choices(models, chosen, 1 / count[number], pairs.prompt, form)


def points_of(pairs: Choices) -> Points:
    """What the new policy won on each prompt: a win counts one, a tie one half, the mean over its pairs."""
    won = np.where(pairs.chosen.all(1), 0.5, pairs.chosen[:, NEW])
    sums = by_prompt(pairs.prompt, np.stack([won, np.ones(len(pairs))], 1))
    return Points(np.unique(pairs.prompt), sums[:, 0] / sums[:, 1], sums[:, 1])


def win_rate(points: Array) -> Statistic:
    """The mean over prompts [P], with its interval; n: prompts."""
    sums = np.stack([points, np.ones(len(points))], 1)
    return statistic(quotient, sums, len(points), (0, 1), NEVER_MET)


def at_equal_length(pairs: Choices) -> dict[str, Statistic]:
    """{"win_rate", "effect"}: what the new policy would win if both wrote equally long answers, and what length is worth.

    Davidson's model with the difference of the logarithms of the lengths as a covariate (as Dubois et al. 2024,
    arXiv 2404.04475, do with a logistic one), read off where that is 0. Without the covariate it would be the win rate.
    `effect`: how many log-odds a doubling of the length is worth.
    """
    if not len(pairs):
        return {"win_rate": undefined(NEVER_MET), "effect": undefined(NEVER_MET)}
    gap = pairs.features[:, NEW, 0] - pairs.features[:, OLD, 0]
    if np.ptp(gap) < 1e-9:
        alike = undefined("the answers of the two differ by the same factor in length everywhere")
        return {"win_rate": alike, "effect": alike}
    if not gap.min() <= 0 <= gap.max():
        one_way = undefined("one of the two always wrote the longer answer, so that nothing is seen of equal lengths")
        return {"win_rate": one_way, "effect": one_way}
    shape = Shape(2, tie_sizes([pairs]), 1)
    plain = replace(pairs, features=pairs.features[:, :, :0])
    reason = why_undefined([plain], replace(shape, features=0), ["the new policy", "the old one"])
    found = None if reason else fit([pairs], shape)
    if found is None:
        why = undefined(reason or RUNS_OFF)
        return {"win_rate": why, "effect": why}
    drawn = resampled_parameters([pairs], found)
    prompts = len(np.unique(pairs.prompt))

    def said(value: Array, spread: Array | None, bounds: Any) -> Statistic:
        return {"value": float(value), **interval(spread, bounds), "n": prompts}

    rate = expected_points(found.theta, shape)
    return {
        "win_rate": said(rate, expected_points(drawn, shape) if drawn is not None else None, (0, 1)),
        "effect": said(found.theta[-1], drawn[:, -1] if drawn is not None else None, (None, None)),
    }


def expected_points(theta: Array, shape: Shape) -> Array:
    """[...] what Davidson's parameters [..., L] let the first policy win against the second at equal features."""
    win, loss = np.exp(theta[..., NEW]), np.exp(theta[..., OLD])
    tie = np.exp(theta[..., shape.models] + (theta[..., NEW] + theta[..., OLD]) / 2) if shape.sizes else 0 * win
    return np.asarray((win + tie / 2) / (win + loss + tie))


def labels_needed(points: Array, labels: float) -> Statistic:
    """How many more labels until the 95% interval of the win rate excludes one half, if it stays what it is.

    `points` [P] of the prompts; `labels`: of people on them. `low`: if the truth is at that end of the interval that is
    farther from one half; `high` null: it may be one half. `prompts`: how many more that are.
    """
    if len(points) < 2 or not labels:
        return undefined("fewer than two prompts were ranked")
    mean, spread = float(points.mean()), float(points.std(ddof=1))
    if not spread:
        return undefined("all prompts went the same way, so that nothing is known of how much they vary")
    margin, off = Z * spread / np.sqrt(len(points)), abs(mean - 0.5)
    rate = win_rate(points)
    if not rate["low"] <= 0.5 <= rate["high"]:
        return {"value": 0, "low": 0, "high": 0, "n": len(points), "prompts": 0}
    if not off:
        return undefined("the win rate is exactly one half")

    def more(distance: float) -> int:
        return max(1, int(np.ceil((Z * spread / distance) ** 2)) - len(points))

    each = labels / len(points)
    return {
        "value": int(np.ceil(more(off) * each)), "low": int(np.ceil(more(off + margin) * each)), "high": None,
        "n": len(points), "prompts": more(off),
    }  # fmt: skip


def sequential(points: Array, each: float, alpha: float = ALPHA) -> dict[str, Any]:
    """What may be concluded although somebody looks every day. `points` [P]: in the order in which the prompts were done;
    `each`: labels that a prompt has.

    {"decision": "better" | "worse" | "open", "value", "low", "high", "p", "n", "decided_at", "labels_needed", "looks"};
    `looks`: [prompts, mean, low, high] of up to 200 of the days on which one could have looked.
    """
    if not len(points):
        return {"decision": "open", **undefined(NEVER_MET)}
    found, at = confidence_sequence(points, alpha), decided_at(points, alpha=alpha)
    more = further(points, alpha=alpha)
    low, high = float(found.low[-1]), float(found.high[-1])
    better = at is not None and found.mean[at - 1] > 0.5
    shown = np.unique(np.linspace(0, len(points) - 1, min(len(points), 200)).round().astype(int))
    return {
        "decision": "open" if at is None else "better" if better else "worse",
        "value": float(found.mean[-1]), "low": low, "high": high, "p": p_value(points), "n": len(points), "decided_at": at,
        "labels_needed": None if more is None else int(np.ceil(more * each)),
        "looks": [[int(i) + 1, *(float(column[i]) for column in (found.mean, found.low, found.high))] for i in shown],
    }  # fmt: skip

"""Whether the place at which a response was shown sways its rank, and whether annotators take the time to read. Pure."""

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.stats

from preferences.choices import Choices, Shape, fit, tie_sizes
from preferences.intervals import Array, Statistic, by_prompt, interval, quotient, statistic, undefined
from preferences.labels import NONE, Labels, pair_columns
from preferences.strengths import RUNS_OFF, resampled_parameters, softmax

READING = 1440  # characters a minute: 240 words (Brysbaert 2019, 238) of five letters and a space
TOO_FAST = 0.25  # of the time that reading takes
UNKNOWN = "no ranking says in which order its responses were shown"


def known_order(labels: Labels) -> Labels:
    """The rankings whose shown order is known for every item."""
    return labels.where(((labels.shown != NONE) | (labels.tiers == NONE)).all(1))


def rank_one_by_position(labels: Labels) -> dict[str, Any]:
    """How often the response shown first, second, ... is ranked best; rankings that tie their best are left out.

    {"positions": [{"position", "expected", value, low, high, n}], "chi_square": {"statistic", "df", "p", "n"}}. `expected`:
    without bias. n: rankings with so many items. The test takes rankings of each number of items apart.
    """
    labels = known_order(labels)
    best = labels.tiers == 0
    labels, best = labels.where(best.sum(1) == 1), best[best.sum(1) == 1]
    if not len(labels):
        return {"positions": [], "chi_square": undefined(UNKNOWN)}
    place, items = (labels.shown * best).sum(1), labels.items()
    positions = []
    for position in range(int(items.max())):
        rows = items > position
        sums = by_prompt(labels.prompt[rows], np.stack([place[rows] == position, rows[rows]], 1).astype(float))
        found = statistic(quotient, sums, rows.sum(), (0, 1), UNKNOWN)
        positions.append({"position": position + 1, "expected": float((1 / items[rows]).mean()), **found})
    return {"positions": positions, "chi_square": chi_square(place, items)}


def chi_square(place: Array, items: Array) -> dict[str, float]:
    """Of the places [N] of the best of `items` [N] responses against equal shares, for each number of items apart, summed."""
    value, freedom = 0.0, 0
    for k in np.unique(items):
        count = np.bincount(place[items == k], minlength=k)
        value, freedom = value + float(scipy.stats.chisquare(count).statistic), freedom + int(k) - 1
    return {"statistic": value, "df": freedom, "p": float(scipy.stats.chi2.sf(value, freedom)), "n": len(place)}


def first_shown_wins(labels: Labels, models: Array | None = None) -> Statistic:
    """How often, of two equally good responses of which one wins, it is the one that was shown earlier.

    Davidson's model with a term for being shown earlier, on every two items. `models` [N, 9]: of the items, -1 for none;
    without them all are taken to be equal, which random orders make good. n: pairs.
    """
    labels = known_order(labels)
    choices = position_choices(labels, np.where(labels.tiers == NONE, NONE, 0) if models is None else models)
    if not len(choices) or not (~choices.chosen.all(1)).any():
        return undefined(UNKNOWN)
    who, number = np.unique(choices.models, return_inverse=True)
    choices = replace(choices, models=number.reshape(choices.models.shape))
    shape = Shape(len(who), tie_sizes([choices]), 1)
    found = fit([choices], shape)
    if found is None:
        return undefined(RUNS_OFF)
    drawn = resampled_parameters([choices], found)
    spread = earlier_share(drawn[:, -1]) if drawn is not None else None
    return {"value": float(earlier_share(found.theta[-1])), **interval(spread, (0, 1)), "n": len(choices)}


def earlier_share(term: Array) -> Array:
    """The chance to win of a response whose log-worth is greater by `term`."""
    return softmax(np.stack([term, np.zeros_like(term)], -1))[..., 0]


def position_choices(labels: Labels, models: Array) -> Choices:
    """Every two compared items of a ranking as a choice, first the one shown earlier, whose one feature is 1, else 0."""
    first, second = pair_columns(labels.tiers.shape[1])
    both = (labels.tiers[:, first] != NONE) & (labels.tiers[:, second] != NONE)
    unsaid = labels.partial[:, None] & (labels.tiers[:, first] == labels.tiers[:, second])
    row, pair = np.nonzero(both & ~unsaid)
    at = np.stack([first[pair], second[pair]], 1)
    turned = labels.shown[row, at[:, 0]] > labels.shown[row, at[:, 1]]
    at[turned] = at[turned][:, ::-1]
    tiers, who = (np.take_along_axis(x[row], at, 1) for x in (labels.tiers, models))
    chosen = tiers == tiers.min(1, keepdims=True)
    earlier = np.broadcast_to(np.array([[1.0], [0.0]]), (len(row), 2, 1))
    return Choices(who, chosen, np.ones(len(row)), labels.prompt[row], earlier)


def too_fast(labels: Labels, characters: Array) -> Array:
    """[N] True where the active time is below a quarter of what reading `characters` [N] takes; False where not measured."""
    needed = characters / READING * 60_000 * TOO_FAST
    return np.asarray((labels.active_ms > 0) & (labels.active_ms < needed))


def active_seconds(labels: Labels) -> Statistic:
    """The median of the active seconds of the rankings that measured them."""
    seconds = labels.active_ms[labels.active_ms > 0] / 1000
    if not len(seconds):
        return undefined("no ranking has measured how long it took")
    low, high = np.quantile(seconds, [0.25, 0.75])
    return {"value": float(np.median(seconds)), "low": float(low), "high": float(high), "n": len(seconds)}

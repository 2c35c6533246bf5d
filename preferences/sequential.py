"""A test of a mean that may be looked at as often as one likes. Pure: arrays in, arrays out.

Whoever looks at a 95% interval every day, and stops once it excludes 50%, is wrong far more often than in 5% of studies. Here
a gambler bets on each number before it is seen, at stakes that depend on the earlier ones alone. If the mean is m, a fair
gambler's wealth reaches 1/alpha with a chance of at most alpha, ever (Ville's inequality); so what a wealth of 1/alpha speaks
against can be given up for good. The bets are the hedged ones of Waudby-Smith & Ramdas 2024, "Estimating means of bounded
random variables by betting", JRSS B 86:1, equations 26 and 30. They need numbers from 0 to 1 that share a mean, and nothing
else: no variance that is known, no normal distribution, no number of looks.
"""

from dataclasses import dataclass

import numpy as np

from preferences.intervals import Array

ALPHA = 0.05
STEP = 1 / 500
MEANS = np.linspace(0, 1, round(1 / STEP) + 1)
MOST = 0.5  # of what a bet can lose
FUTURES = 200
FURTHER = 20  # times what there is
LONGEST = 4000  # numbers that a future is followed for


@dataclass(frozen=True, slots=True)
class Looks:
    """After each of n numbers: the running mean, and the means that nothing has spoken against so far; all [n]."""

    mean: Array
    low: Array
    high: Array


def stakes(values: Array, alpha: float = ALPHA) -> Array:
    """[..., n] what is bet on each of the values [..., n], from those before it."""
    n = np.arange(1, values.shape[-1] + 1)
    mean = (0.5 + values.cumsum(-1)) / (n + 1)
    variance = (0.25 + ((values - mean) ** 2).cumsum(-1)) / (n + 1)
    before = np.concatenate([np.full((*values.shape[:-1], 1), 0.25), variance[..., :-1]], -1)
    return np.asarray(np.sqrt(2 * np.log(2 / alpha) / (before * n * np.log(1 + n))))


def log_wealth(values: Array, means: Array, alpha: float = ALPHA) -> Array:
    """[..., n, M] of the gambler after each of the values [..., n], for each of the means [M] as the true one.

    Half of the money is bet on more than the mean, half on less; the larger half counts.
    """
    stake, gain = stakes(values, alpha)[..., None], values[..., None] - means
    with np.errstate(divide="ignore"):
        more, less = np.minimum(stake, MOST / means), np.minimum(stake, MOST / (1 - means))
    halves = np.log1p(more * gain).cumsum(-2), np.log1p(-less * gain).cumsum(-2)
    return np.asarray(np.maximum(*halves) - np.log(2))


def confidence_sequence(values: Array, alpha: float = ALPHA) -> Looks:
    """For values [n] from 0 to 1: intervals that all hold the mean at once with a chance of at least 1 - alpha."""
    mean = values.cumsum() / np.arange(1, len(values) + 1)
    kept = np.maximum.accumulate(log_wealth(values, MEANS, alpha), 0) < np.log(1 / alpha)
    some = kept.any(1)  # of numbers that no mean explains (they do not share one) the running mean is left
    low = np.where(some, MEANS[kept.argmax(1)] - STEP, mean)
    high = np.where(some, MEANS[::-1][kept[:, ::-1].argmax(1)] + STEP, mean)
    return Looks(mean, low.clip(0, 1), high.clip(0, 1))


def decided_at(values: Array, mean: float = 0.5, alpha: float = ALPHA) -> int | None:
    """After how many of the values [n] it is decided that the mean is another one; None if it is open."""
    over = log_wealth(values, np.array([mean]), alpha)[:, 0] >= np.log(1 / alpha)
    return int(over.argmax()) + 1 if over.any() else None


def p_value(values: Array, mean: float = 0.5) -> float:
    """The level at which it could have been decided, as good at any time: 1 over the most that the gambler has had."""
    if not len(values):
        return 1.0
    return float(min(1.0, np.exp(-log_wealth(values, np.array([mean])).max())))


def further(values: Array, mean: float = 0.5, alpha: float = ALPHA, seed: int = 0) -> int | None:
    """How many more values it takes until it is decided, if they go on like those [n] that there are: the median of futures.

    Each future draws from the values there are. None if half of them see no decision within 20 times as many, or 4,000.
    """
    if decided_at(values, mean, alpha):
        return 0
    horizon = min(FURTHER * len(values), LONGEST)
    drawn = np.random.default_rng(seed).choice(values, (FUTURES, horizon))
    whole = np.concatenate([np.broadcast_to(values, (FUTURES, len(values))), drawn], 1)
    over = log_wealth(whole, np.array([mean]), alpha)[..., 0] >= np.log(1 / alpha)
    first = np.where(over.any(1), over.argmax(1) + 1.0 - len(values), np.inf)
    middle = float(np.median(first))
    return int(np.ceil(middle)) if np.isfinite(middle) else None

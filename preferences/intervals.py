"""Estimates with intervals by bootstrap over prompts: answers to one prompt are not independent of each other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

Array = NDArray[Any]
Bounds = tuple[float | None, float | None]  # None: there is none
Statistic = dict[str, Any]  # {"value", "low", "high", "n"}, or {"undefined": why}

ROUNDS = 1000
GROUPS = 2000
CELLS = 4_000_000  # random numbers that are held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, its 95% interval, and how many units it rests on; all nan where there is no unit."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON; nan as null."""
        return {
            "value": _finite(self.value), "low": _finite(self.low), "high": _finite(self.high), "n": self.n
        }  # fmt: skip


def _finite(x: float) -> float | None:
    return None if np.isnan(x) else float(x)


def ratio(hits: Sequence[float], trials: Sequence[float], seed: int = 0, rounds: int = 4000) -> Interval:
    """sum(hits) / sum(trials) over prompts, with the percentile interval over resampled prompts; n = sum(trials)."""
    x, n = np.asarray(hits, float), np.asarray(trials, float)
    if n.sum() == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    drawn, totals = resampled(np.stack([x, n], 1), rounds, seed).T
    low, high = np.quantile(drawn[totals > 0] / totals[totals > 0], [0.025, 0.975])
    return Interval(float(x.sum() / n.sum()), float(low), float(high), int(n.sum()))


def mean(values: Sequence[float], seed: int = 0, rounds: int = 4000) -> Interval:
    """Mean of one number a prompt, with its interval; n = number of prompts."""
    return ratio(values, [1.0] * len(values), seed, rounds)


def weights(prompts: int, rounds: int, seed: int) -> Iterator[Array]:
    """[some rounds, prompts] at a time: how often each prompt is in a sample of as many prompts with replacement."""
    rng = np.random.default_rng(seed)
    most = max(1, CELLS // prompts)
    for done in range(0, rounds, most):
        some = min(most, rounds - done)
        drawn = rng.integers(0, prompts, (some, prompts)) + prompts * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * prompts).reshape(some, prompts).astype(float)


def resampled(sums: Any, rounds: int = ROUNDS, seed: int = 0) -> Array:
    """[rounds, D] totals over resampled prompts, from the sums of each prompt: [P, D], dense or a sparse array.

    More than 2,000 prompts are first put together at random into so many groups, which are drawn instead: sums of independent
    prompts are as independent, and the width of an interval then errs by 1/sqrt(2 * 2000) = 1.6%.
    """
    if sums.shape[0] > GROUPS:
        sums = grouped(sums.shape[0], seed) @ sums
    return np.concatenate([drawn @ sums for drawn in weights(sums.shape[0], rounds, seed)])


def grouped(prompts: int, seed: int) -> Any:
    """[GROUPS, prompts] sparse: 1 where a prompt is in a group; the groups are of equal size, or one more."""
    group = np.random.default_rng(seed).permutation(prompts) % GROUPS
    return coo_array((np.ones(prompts), (group, np.arange(prompts))), shape=(GROUPS, prompts)).tocsr()


def by_prompt(prompt: Array, columns: Array) -> Array:
    """[P, D] the sums of the rows [N, D] of each of the P prompts that occur in `prompt` [N]."""
    _, number = np.unique(prompt, return_inverse=True)
    prompts = int(number.max()) + 1 if len(number) else 0
    return np.stack([np.bincount(number, column, prompts) for column in columns.T], 1)


def undefined(reason: str) -> Statistic:
    """A statistic that these data do not give."""
    return {"undefined": reason}


def statistic(
    formula: Callable[[Array], Array], sums: Array, n: float, bounds: Bounds, reason: str,
    rounds: int = ROUNDS,
) -> Statistic:  # fmt: skip
    """`formula` of the total of `sums` [P, D], with its 95% percentile interval over resampled prompts.

    `formula`: totals [..., D] -> values [...], nan where there is none, which makes the statistic undefined because of
    `reason`. `bounds`: all that the value can be; of one prompt alone that is the interval.
    """
    value = float(formula(sums.sum(0))) if len(sums) else np.nan
    if not np.isfinite(value):
        return undefined(reason)
    return {
        "value": value,
        **interval(formula(resampled(sums, rounds)) if len(sums) > 1 else None, bounds),
        "n": int(n),
    }


def interval(values: Array | None, bounds: Bounds) -> dict[str, float | None]:
    """The middle 95% of the finite values; `bounds` if there are none."""
    finite = values[np.isfinite(values)] if values is not None else np.empty(0)
    low, high = np.quantile(finite, [0.025, 0.975]).tolist() if len(finite) else bounds
    return {"low": low, "high": high}


def divided(over: Array, under: Array) -> Array:
    """over / under, nan where `under` is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(under) == 0, np.nan, np.divide(over, under))


def quotient(total: Array) -> Array:
    """[...] from totals [..., D]: the first by the second, nan where that is 0."""
    return divided(total[..., 0], total[..., 1])

"""Estimates with intervals by bootstrap over prompts: answers to one prompt are not independent of each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
    drawn = np.random.default_rng(seed).integers(0, len(x), (rounds, len(x)))
    totals = n[drawn].sum(1)
    estimates = x[drawn].sum(1)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(estimates, [0.025, 0.975])
    return Interval(float(x.sum() / n.sum()), float(low), float(high), int(n.sum()))


def mean(values: Sequence[float], seed: int = 0, rounds: int = 4000) -> Interval:
    """Mean of one number a prompt, with its interval; n = number of prompts."""
    return ratio(values, [1.0] * len(values), seed, rounds)

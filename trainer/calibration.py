"""Do chances that follow from scores come true? Pure: numbers in, numbers out.

A pair is (gap, share): the score of the answer that the rankings prefer less the other's, and the share of rankings that do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from preferences.intervals import Array

BINS = 10
WIDEST = 5.0  # |log temperature|


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of about the same confidence: how many, their mean confidence, and how often the model's choice was right."""

    count: int
    confidence: float
    right: float


def chances(gaps: Sequence[float], temperature: float = 1.0) -> Array:
    """(pairs,) how likely the model holds it that the preferred answer wins."""
    return np.asarray(expit(np.asarray(gaps, float) / temperature))


def log_loss(gaps: Sequence[float], shares: Sequence[float], temperature: float = 1.0) -> float:
    """Mean cross entropy."""
    x, share = np.asarray(gaps, float) / temperature, np.asarray(shares, float)
    return float(np.mean(share * np.logaddexp(0, -x) + (1 - share) * np.logaddexp(0, x)))


def fit_temperature(gaps: Sequence[float], shares: Sequence[float]) -> float:
    """The divisor of the gaps with the least cross entropy (Guo et al. 2017, arXiv 1706.04599), within e^-5 .. e^5."""
    found = minimize_scalar(
        lambda log_t: log_loss(gaps, shares, float(np.exp(log_t))), bounds=(-WIDEST, WIDEST), method="bounded"
    )
    return float(np.exp(found.x))


def brier(gaps: Sequence[float], shares: Sequence[float], temperature: float = 1.0) -> float:
    """Mean squared difference of chance and share."""
    return float(np.mean((chances(gaps, temperature) - np.asarray(shares, float)) ** 2))


def reliability(gaps: Sequence[float], shares: Sequence[float], temperature: float = 1.0) -> list[Bin]:
    """The pairs in bins of equal width of the confidence in the model's own choice, from 1/2 to 1; without empty bins."""
    p, share = chances(gaps, temperature), np.asarray(shares, float)
    confidence = np.maximum(p, 1 - p)
    right = np.where(p > 0.5, share, np.where(p < 0.5, 1 - share, 0.5))
    number = np.minimum((2 * (confidence - 0.5) * BINS).astype(int), BINS - 1)
    return [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (number == i for i in range(BINS))
        if inside.any()
    ]


def ece(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean distance of confidence and how often it was right (Naeini et al. 2015)."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.confidence - one.right) for one in bins) / total

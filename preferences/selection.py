"""Which prompts to ask about next: those that a reward model knows least about, beside a random arm. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from preferences.intervals import Array

Acquisition = Literal["disagreement", "closeness"]
SELECTED, RANDOM = "selected", "random"  # the origins of the comparisons of the two arms


@dataclass(frozen=True, slots=True)
class Picked:
    """A candidate by its index, and the arm that it was picked by."""

    index: int
    arm: str


def preferences_of(scores: Array) -> Array:
    """[members, pairs] how likely each member thinks i better than j, over the pairs i < j of K scores [members, K]."""
    i, j = np.triu_indices(scores.shape[1], 1)
    return np.asarray(1 / (1 + np.exp(-(scores[:, i] - scores[:, j]))))


def disagreement(scores: Array) -> float:
    """How far the members are apart in what they prefer: standard deviation over members, mean over pairs."""
    return float(preferences_of(scores).std(0).mean())


def closeness(scores: Array) -> float:
    """How near to even the mean preference is: 1 - |2p - 1|, mean over pairs."""
    return float((1 - np.abs(2 * preferences_of(scores).mean(0) - 1)).mean())


ACQUISITIONS: dict[Acquisition, Callable[[Array], float]] = {"disagreement": disagreement, "closeness": closeness}


def arms(count: int, share: float, rng: np.random.Generator) -> int:
    """How many of `count` picks the random arm has: `share` of them in the long run, whatever `count` is."""
    return int((rng.random(count) < share).sum())


def random_arm(candidates: int, count: int, rng: np.random.Generator) -> list[Picked]:
    """As many candidates as that, each as likely as any other, so that what is learned of them holds for all."""
    drawn = rng.choice(candidates, min(count, candidates), replace=False)
    return [Picked(int(index), RANDOM) for index in drawn]


def selected_arm(values: Sequence[float], candidates: Sequence[int], count: int) -> list[Picked]:
    """The candidates (indices) with the highest values, a value each, the earlier of equal ones first."""
    order = sorted(range(len(candidates)), key=lambda at: -values[at])
    return [Picked(candidates[at], SELECTED) for at in order[:count]]

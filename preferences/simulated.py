"""A simulated annotator, for unattended runs of the loop: a rule that a person would recognise, plus noise.

It likes answers that finish, that are friendly, and that do not ramble:

    2 if the text ends with a finished sentence
    + 2 x friendliness (VADER's compound score, -1 to 1; Hutto & Gilbert 2014)
    - 0.05 for each word beyond 30
    - 2 x the share of three-word runs that were said before

Gumbel noise of scale 0.6 on each answer makes it a Plackett-Luce judge that contradicts its own rule on about one pair in
six; two answers whose noisy scores are closer than 0.1 are tied.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

NOISE = 0.6
TIE = 0.1
FINISHED = re.compile(r"[.!?…][\"'”’)\]*_]*$")


@cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def rule(text: str) -> float:
    """How much the simulated annotator likes an answer, without noise."""
    words = text.split()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    repeated = 1 - len(set(runs)) / len(runs) if runs else 0.0
    friendly = _analyzer().polarity_scores(text)["compound"]
    finished = bool(FINISHED.search(text.strip()))
    liked: float = 2 * finished + 2 * friendly - 0.05 * max(0, len(words) - 30) - 2 * repeated
    return liked


def rank(texts: Sequence[str], rng: np.random.Generator) -> list[list[int]]:
    """Tiers of indices, best first, by the noisy rule."""
    scores = np.array([rule(text) for text in texts]) + rng.gumbel(scale=NOISE, size=len(texts))
    order = [int(i) for i in np.argsort(-scores)]
    tiers = [[order[0]]]
    for before, index in pairwise(order):
        if scores[before] - scores[index] < TIE:
            tiers[-1].append(index)
        else:
            tiers.append([index])
    return tiers

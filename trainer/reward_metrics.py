"""How well scores order answers like their rankings, pair by pair and group by group. Pure: numbers in, numbers out."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau

from preferences import intervals
from preferences.intervals import Interval
from trainer.ranked import Ranked

Scores = Sequence[Sequence[float]]  # a list a comparison, a number an answer


class Pair(NamedTuple):
    """A decided pair. `comparison`: its number; `share`: of rankings that say so; `gap`: score of the better less the worse.

    `strength`: how much better, as the annotators said, 0 if they did not; `steps`: ranks between them, mean over rankings.
    """

    comparison: int
    better: int
    worse: int
    share: float
    gap: float
    strength: float
    steps: float


def pairs_of(ranked: Sequence[Ranked], scores: Scores) -> list[Pair]:
    """All decided pairs of the comparisons."""
    found = []
    for number, (r, row) in enumerate(zip(ranked, scores, strict=True)):
        strengths = {frozenset((one.first, one.second)): one.strength for one in r.said}
        places = [{item: at for at, tier in enumerate(order.tiers) for item in tier} for order in r.orders]
        for better, worse, share in r.pairs:
            steps = [place[worse] - place[better] for place in places if {better, worse} <= place.keys()]
            strength = strengths.get(frozenset((better, worse)), 0.0)
            gap = float(row[better] - row[worse])
            found.append(Pair(number, better, worse, share, gap, strength, float(np.mean(steps)) if steps else 1.0))
    return found


def split_like(scores: Sequence[float], ranked: Sequence[Ranked]) -> list[list[float]]:
    """One list of scores a comparison."""
    ends = np.cumsum([len(r.examples) for r in ranked])
    return [list(part) for part in np.split(np.asarray(scores), ends[:-1])]


def accuracy(ranked: Sequence[Ranked], scores: Scores) -> Interval:
    """Share of decided pairs that the scores order like the rankings; equal scores count one half."""
    return accuracy_of(ranked, pairs_of(ranked, scores))


def accuracy_of(ranked: Sequence[Ranked], pairs: Iterable[Pair]) -> Interval:
    """`accuracy` of some pairs."""
    return shares_by_prompt((ranked[pair.comparison].prompt, hit(pair.gap)) for pair in pairs)


def hit(gap: float) -> float:
    """1 if the better one has the higher score, 1/2 if both have the same."""
    return 0.5 + 0.5 * float(np.sign(gap))


def shares_by_prompt(rows: Iterable[tuple[str, float]]) -> Interval:
    """The mean of (prompt, number) rows, with its interval over prompts."""
    hits: dict[str, float] = {}
    trials: dict[str, float] = {}
    for prompt, value in rows:
        hits[prompt] = hits.get(prompt, 0.0) + value
        trials[prompt] = trials.get(prompt, 0.0) + 1
    return intervals.ratio(list(hits.values()), list(trials.values()))


def by(
    ranked: Sequence[Ranked], pairs: Sequence[Pair], key: Callable[[Pair, Ranked], str | None]
) -> dict[str, Interval]:
    """Accuracy of the pairs in each group, in the order of the groups' names; pairs whose key is None are in none."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        name = key(pair, ranked[pair.comparison])
        if name is not None:
            groups.setdefault(name, []).append(pair)
    return {name: accuracy_of(ranked, groups[name]) for name in sorted(groups)}


def by_annotator(ranked: Sequence[Ranked], scores: Scores) -> dict[str, Interval]:
    """Share of the pairs that each annotator put apart which the scores order likewise."""
    rows: dict[str, list[tuple[str, float]]] = {}
    for r, row in zip(ranked, scores, strict=True):
        for order in r.orders:
            for at, upper in enumerate(order.tiers):
                for lower in order.tiers[at + 1 :]:
                    rows.setdefault(order.annotator, []).extend(
                        (r.prompt, hit(row[a] - row[b])) for a in upper for b in lower
                    )
    return {name: shares_by_prompt(rows[name]) for name in sorted(rows)}


def kendall_tau(ranked: Sequence[Ranked], scores: Scores) -> Interval:
    """Kendall's tau-b of the scores with each ranking, mean over the rankings of comparisons with three answers or more."""
    rows = []
    for r, row in zip(ranked, scores, strict=True):
        for order in r.orders:
            place = {item: -at for at, tier in enumerate(order.tiers) for item in tier}
            items = sorted(place)
            if len(items) > 2 and len(order.tiers) > 1 and len({row[i] for i in items}) > 1:
                rows.append((r.prompt, float(kendalltau([place[i] for i in items], [row[i] for i in items]).statistic)))
    return shares_by_prompt(rows)


def top_1(ranked: Sequence[Ranked], scores: Scores) -> Interval:
    """How often the answer with the highest score is in a ranking's best tier, over all rankings."""
    return shares_by_prompt(
        (r.prompt, float(int(np.argmax(row)) in order.tiers[0]))
        for r, row in zip(ranked, scores, strict=True)
        for order in r.orders
        if len(order.tiers) > 1
    )


def lengths(ranked: Sequence[Ranked]) -> list[list[float]]:
    """Characters of each answer, as scores of "the longer one wins"."""
    return [[float(len(text)) for text in r.texts] for r in ranked]


def negated(scores: Scores) -> list[list[float]]:
    """The opposite order."""
    return [[-x for x in row] for row in scores]

"""Rankings for the tests of statistics: from tiers, at random, and out of the folder of real ones."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from preferences.labels import MOST, NONE, Labels
from preferences.rankings import ranks

Vote = tuple[Any, str, list[list[int]]]  # comparison, annotator, tiers of item numbers


def labels_of(votes: Sequence[Vote], prompts: dict[Any, Any] | None = None) -> Labels:
    """Columns of those votes; each comparison is a prompt of its own unless `prompts` says which."""
    comparisons = list(dict.fromkeys(comparison for comparison, _, _ in votes))
    names = list(dict.fromkeys(name for _, name, _ in votes))
    prompt = {comparison: (prompts or {}).get(comparison, comparison) for comparison in comparisons}
    of_prompt = list(dict.fromkeys(prompt.values()))
    tiers = np.full((len(votes), MOST), NONE, np.int8)
    for row, (_, _, ranking) in enumerate(votes):
        for tier, items in enumerate(ranking):
            tiers[row, items] = tier
    return Labels(
        comparison=np.array([comparisons.index(comparison) for comparison, _, _ in votes], int),
        prompt=np.array([of_prompt.index(prompt[comparison]) for comparison, _, _ in votes], int),
        annotator=np.array([names.index(name) for _, name, _ in votes], int),
        tiers=tiers, shown=np.where(tiers == NONE, NONE, np.arange(MOST)), active_ms=np.zeros(len(votes), int),
        created=np.zeros(len(votes)),
        repeat=np.zeros(len(votes), bool), partial=np.zeros(len(votes), bool), names=names,
    )  # fmt: skip


def rank_vector(tiers: list[list[int]]) -> list[float]:
    """The mean rank of each item: [[1], [0, 2]] -> [2.5, 1, 2.5]."""
    place = ranks(tiers)
    return [place[i] + (next(len(tier) for tier in tiers if i in tier) - 1) / 2 for i in sorted(place)]


def records(path: Path) -> list[dict[str, Any]]:
    """The records of a file of the real rankings."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.decode().splitlines()]


def votes_of(made: Sequence[dict[str, Any]]) -> list[Vote]:
    """Every ranking in those records."""
    return [
        (record["id"], annotation["annotator"], annotation["ranking"])
        for record in made
        for annotation in record["annotations"]
    ]


@st.composite
def any_votes(draw: st.DrawFn) -> list[Vote]:
    """Up to four comparisons of 2 to 5 items by up to five annotators; ties, subsets of annotators, constant rankings."""
    votes: list[Vote] = []
    for comparison in range(draw(st.integers(1, 4))):
        k = draw(st.integers(2, 5))
        for name in draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=5, unique=True)):
            level = draw(st.lists(st.integers(0, k - 1), min_size=k, max_size=k))
            votes.append((comparison, name, [[i for i in range(k) if level[i] == at] for at in sorted(set(level))]))
    return votes

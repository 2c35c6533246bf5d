"""Soft labels of pairs for an export: the share of votes, or the annotator model's when asked for."""

from collections.abc import Callable

from preferences.consensus import dawid_skene, pair_labels
from preferences.rankings import ordered, vote_shares, votes_of
from preferences.records import LABELS, Comparison, Ranking, Study
from preferences.store import Store

Shares = Callable[[Comparison, list[Ranking]], dict[tuple[str, str], float]]


def by_votes(_comparison: Comparison, rankings: list[Ranking]) -> dict[tuple[str, str], float]:
    """(a, b) -> the share of rankings that prefer a, a tie counting one half."""
    return vote_shares(map(votes_of, rankings))


def by_annotator_model(store: Store, study: Study, simulated: bool) -> Shares:
    """The chance that a is the better one, by the accuracy of who said so; fitted to all labels of the study at once."""
    labels, comparisons = store.labels.read(study.id, simulated, LABELS)
    pairs, units = pair_labels(labels)
    share = dawid_skene(pairs, len(units), len(labels.names)).share
    found: dict[str, dict[tuple[int, int], float]] = {}
    for (comparison, i, j), chance in zip(units.tolist(), share.tolist(), strict=True):
        found.setdefault(comparisons[comparison], {})[i, j] = chance

    def shares(comparison: Comparison, _rankings: list[Ranking]) -> dict[tuple[str, str], float]:
        items, known = comparison.items, found.get(comparison.id, {})
        return dict(ordered(items[i], items[j], chance) for (i, j), chance in known.items())

    return shares

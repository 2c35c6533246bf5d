"""The statistics of a database, each {value, low, high, n} or {undefined: why}; docs/statistics.md says what they mean."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from preferences import strengths as models
from preferences.agreement import ceiling, kendall_tau_b, kendall_w, of_full_rankings, pairwise_agreement
from preferences.bias import active_seconds, first_shown_wins, rank_one_by_position, too_fast
from preferences.contests import contests_of, item_models
from preferences.intervals import Array, Statistic
from preferences.kappas import cohen_kappas, fleiss_kappa, krippendorff_alpha
from preferences.labels import Labels, blocks
from preferences.quality import agreement_with_others, annotators, label_distribution
from preferences.records import LABELS, Annotator
from preferences.repeats import flip_rate, flips_to_first, self_consistency
from preferences.store import Store
from preferences.style import EFFECTS

TOO_FAR = "worths from the best and the worst alone lie too far apart; docs/statistics.md says by how much"


def agreement(store: Store, study: str | None = None, simulated: bool = False) -> dict[str, Any]:
    """How far annotators agree; of one study (its id) or of all of them.

    Repeats, gold and adjudications are no independent labels of the comparison, so they are left out: who adjudicates
    sees only comparisons on which others differ.
    """
    with store.snapshot():
        labels, comparisons = store.labels.read(study, simulated, ("label", "repeat"))
        characters = read_characters(store, labels, comparisons)
        unranked = store.counts.unranked(study, simulated)
    once = labels.where(~labels.repeat)
    fast = too_fast(labels, characters)
    return {
        **agreement_of(once),
        "self_consistency": self_consistency(labels),
        "flip_rate": flip_rate(labels),
        "flips_to_first": flips_to_first(labels),
        "position_bias": {**rank_one_by_position(once), "first_shown_wins": first_shown_wins(once)},
        "active_seconds": active_seconds(labels),
        "too_fast": {"rankings": int(fast.sum()), "measured": int((labels.active_ms > 0).sum())},
        "labels": {**label_distribution(once), **unranked},
        "by_annotator": annotators(labels, characters),
    }


def own_agreement(store: Store, annotator: Annotator) -> Statistic | None:
    """An annotator's `agreement` in "by_annotator", without reading what they did not rank; None if nothing counts."""
    with store.snapshot():
        labels, _ = store.labels.read(ranked_by=annotator)
    if annotator.name not in labels.names:
        return None
    (found,) = agreement_with_others(list(blocks(labels)), [labels.names.index(annotator.name)])
    return found


@dataclass(frozen=True, slots=True)
class History:
    """`days`: number of the day (UTC, since 1970) -> rankings; `weeks`: (its Monday, its pairwise agreement)."""

    days: dict[int, int]
    weeks: list[tuple[str, float]]


def history(store: Store, study: str | None = None) -> History:
    """How much was ranked when, and how far annotators agreed on what they ranked in the same week."""
    with store.snapshot():
        labels, _ = store.labels.read(study)
    day = (labels.created // 86_400).astype(int)
    days, number = np.unique(day, return_counts=True)
    weeks = []
    monday = day - (day + 3) % 7  # day 0 was a Thursday
    for first in np.unique(monday):
        found = pairwise_agreement(list(blocks(labels.where(monday == first))))
        if "value" in found:
            weeks.append((str(np.datetime64(int(first), "D")), float(found["value"])))
    return History(dict(zip(days.tolist(), number.tolist(), strict=True)), weeks)


def read_characters(store: Store, labels: Labels, comparisons: list[str]) -> Array:
    """[N] the characters that each ranking had to be read for; 0 where its time was not measured."""
    timed = np.unique(labels.comparison[labels.active_ms > 0])
    length = np.zeros(len(comparisons), np.int64)
    length[timed] = store.labels.characters([comparisons[number] for number in timed])
    return np.asarray(length[labels.comparison])


def agreement_of(labels: Labels) -> dict[str, Any]:
    """The statistics of agreement of some labels."""
    shared = list(blocks(labels))
    agree = pairwise_agreement(shared)
    return {
        "pairwise_agreement": agree,
        "kendall_tau_b": of_full_rankings(kendall_tau_b, labels),
        "kendall_w": of_full_rankings(kendall_w, labels),
        "krippendorff_alpha": {
            "nominal": krippendorff_alpha(shared, "nominal"),
            "ordinal": krippendorff_alpha(shared, "ordinal"),
        },
        "cohen_kappa": named(cohen_kappas(shared), labels.names),
        "fleiss_kappa": fleiss_kappa(shared),
        "reward_ceiling": ceiling(agree),
    }


def strengths(store: Store, study: str | None = None, simulated: bool = False) -> dict[str, Any]:
    """How strong the models are whose responses were ranked; adjudications count as well. See `strengths.strengths`."""
    with store.snapshot():
        labels, comparisons = store.labels.read(study, simulated, LABELS)
        answers = store.labels.answers(comparisons)
    return {
        **models.strengths(contests_of(labels, answers), EFFECTS),
        "first_shown_wins": first_shown_wins(labels, item_models(labels, answers)),
        **best_worst(labels),
    }


def best_worst(labels: Labels) -> dict[str, Any]:
    """{"best_worst": {"rankings", "of", "warning"}} if any of the rankings name only the best and the worst."""
    some = int(labels.partial.sum())
    return {"best_worst": {"rankings": some, "of": len(labels), "warning": TOO_FAR}} if some else {}


def named(found: dict[tuple[int, int], Statistic], names: list[str]) -> dict[str, Statistic]:
    """By two names in the order of the alphabet, which `annotators` says again: a name may hold anything."""
    pairs = {tuple(sorted((names[a], names[b]))): value for (a, b), value in found.items()}
    return {" | ".join(pair): {"annotators": list(pair), **pairs[pair]} for pair in sorted(pairs)}

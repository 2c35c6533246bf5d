"""What a newcomer is told once a gold comparison of the qualification is ranked: the good answer, and why."""

from typing import Any

from labeler.markup import render
from preferences.rankings import agreement
from preferences.records import Annotator, Ranking
from preferences.store import Store


def feedback_json(store: Store, annotator: Annotator, ranking: Ranking) -> dict[str, Any] | None:
    """{"comparison", "tiers", "agreement", "html"}, or None if it was no gold or comes unnoticed.

    `tiers`: the good answer; `agreement`: the share of its pairs, of those that were compared, that were ordered
    likewise; `html`: why it is good.
    """
    gold = store.golds.get(ranking.comparison) if ranking.purpose == "gold" and not annotator.simulated else None
    if gold is None:
        return None
    study = store.studies.get(gold.study)
    if not store.golds.is_explained(study, gold.comparison):
        return None
    right, pairs = agreement(ranking, gold.tiers) if ranking.kind == "ranking" else (0, 0)
    return {
        "comparison": gold.comparison,
        "tiers": gold.tiers,
        "agreement": right / pairs if pairs else None,
        "html": render(gold.explanation),
    }

"""An annotator's own numbers: how much, how long, and how far others agree. Only they and the admins see them."""

from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any

from fastapi import APIRouter

from labeler.account import Account
from preferences.intervals import ratio
from preferences.rankings import pairs
from preferences.records import Annotator, Ranking
from preferences.store import Store
from preferences.tables.supply import midnight

DAYS = 14
FEWEST_PAIRS = 10  # below, an agreement would say next to nothing


def work_api(store: Store) -> APIRouter:
    """GET work."""
    api = APIRouter(prefix="/api")

    @api.get("/work")
    def work(account: Account) -> dict[str, Any]:
        return work_json(store, account)

    return api


def work_json(store: Store, annotator: Annotator) -> dict[str, Any]:
    """{"counts", "seconds", "days", "agreement"}.

    `seconds`: {"today", "week", "all", "median"} of active time; `days`: [{"day": "YYYY-MM-DD", "rankings", "seconds"}],
    the last two weeks; `agreement`: {"value", "low", "high", "n", "needed"}, value null below `needed` pairs.
    """
    began = midnight(store.clock())
    today = date.fromtimestamp(began)
    acts = [(datetime.fromtimestamp(when), active_ms / 1000) for when, active_ms in store.work.acts(annotator)]
    counts = Counter(when.date() for when, _ in acts)
    seconds: defaultdict[date, float] = defaultdict(float)
    for when, active in acts:
        seconds[when.date()] += active
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    return {
        "counts": store.rankings.progress(annotator, store.studies.default(), began),
        "seconds": {
            "today": seconds[today],
            "week": sum(seconds[day] for day in days[-7:]),
            "all": sum(seconds.values()),
            "median": median(active for _, active in acts) if acts else 0,
        },
        "days": [{"day": day.isoformat(), "rankings": counts[day], "seconds": seconds[day]} for day in days],
        "agreement": agreement(annotator, store.work.shared(annotator)),
    }


def agreement(annotator: Annotator, rankings: list[Ranking]) -> dict[str, Any]:
    """On which share of the pairs that the annotator and another person both put apart they agree, over comparisons."""
    by_comparison: dict[str, list[Ranking]] = {}
    for ranking in rankings:
        by_comparison.setdefault(ranking.comparison, []).append(ranking)
    hits, trials = [], []
    for made in by_comparison.values():
        mine = {pair for ranking in made if ranking.annotator == annotator.id for pair in pairs(ranking.tiers)}
        theirs = [pair for ranking in made if ranking.annotator != annotator.id for pair in pairs(ranking.tiers)]
        same = sum(pair in mine for pair in theirs)
        hits.append(same)
        trials.append(same + sum(pair[::-1] in mine for pair in theirs))
    found = ratio(hits, trials).as_dict()
    enough = sum(trials) >= FEWEST_PAIRS
    return {
        **(found if enough else {"value": None, "low": None, "high": None, "n": sum(trials)}),
        "needed": FEWEST_PAIRS,
    }

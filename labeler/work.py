"""An annotator's own numbers: how much, how long, and how far others agree. Only they and the admins see them."""

from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any

from fastapi import APIRouter

from labeler.account import Account
from labeler.tasks import progress_json
from preferences.records import Annotator
from preferences.store import Store
from preferences.summary import own_agreement
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
    the last two weeks.
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
        "counts": progress_json(store, annotator),
        "seconds": {
            "today": seconds[today],
            "week": sum(seconds[day] for day in days[-7:]),
            "all": sum(seconds.values()),
            "median": median(active for _, active in acts) if acts else 0,
        },
        "days": [{"day": day.isoformat(), "rankings": counts[day], "seconds": seconds[day]} for day in days],
        "agreement": agreement(store, annotator),
    }


def agreement(store: Store, annotator: Annotator) -> dict[str, Any]:
    """{"value", "low", "high", "n"}: the share that `labeler stats` says of them; or {"undefined": "nothing" (that counts),
    "alone" or "few", "n", "needed"}.
    """
    found = own_agreement(store, annotator)
    if found is None or "undefined" in found:
        return {"undefined": "nothing" if found is None else "alone", "n": 0, "needed": FEWEST_PAIRS}
    return found if found["n"] >= FEWEST_PAIRS else {"undefined": "few", "n": found["n"], "needed": FEWEST_PAIRS}

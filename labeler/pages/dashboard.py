"""How far the annotator and the study are."""

from collections import Counter
from datetime import date, datetime, timedelta
from types import MethodType
from typing import Any

import gradio as gr
import pandas as pd

from labeler.accounts import require
from labeler.pages.header import Header
from preferences.records import ROLES, Ranking
from preferences.store import Store

DAYS = 14
MANY = 100_000


def build(store: Store) -> None:
    """Draw the page into the Gradio context."""
    Header()
    gr.Markdown("# Dashboard")
    with gr.Row():
        numbers = [
            gr.Number(label=label, interactive=False, precision=0, min_width=120)
            for label in ("Ranked by you today", "Ranked by you", "Ranked by all", "Waiting", "Median active seconds")
        ]
    plot = gr.BarPlot(
        x="day", y="rankings", title="Your rankings a day", y_axis_format="d", height=260,
        visible=False, buttons=[],
    )  # fmt: skip
    page = gr.context.Context.root_block
    page.load(
        MethodType(progress, store), None, [*numbers, plot],
        queue=False, api_visibility="private", show_progress="hidden",
    )  # fmt: skip


def progress(store: Store, request: gr.Request) -> list[Any]:
    """The five numbers of whoever is logged in, and the plot once there is something to plot."""
    account = require(store, request.username, *ROLES)
    today = datetime.fromtimestamp(store.clock()).date()
    midnight = datetime.combine(today, datetime.min.time()).timestamp()
    counts = store.rankings.progress(account, store.studies.default(), midnight)
    rankings = [ranking for ranking in store.rankings.history(account, MANY) if ranking.kind == "ranking"]
    seconds = pd.Series([ranking.active_ms / 1000 for ranking in rankings], dtype=float).median()
    values = [counts[name] for name in ("mine_today", "mine", "team", "waiting")]
    days = by_day(rankings, today)
    most = int(days["rankings"].max())
    # Left to itself the axis would not begin at 0.
    plot = gr.BarPlot(days, y_lim=[0, max(4, most)], visible=most > 0)
    return [*values, 0 if pd.isna(seconds) else float(seconds), plot]


def by_day(rankings: list[Ranking], today: date) -> pd.DataFrame:
    """Columns day (text) and rankings: the last two weeks, days without work included."""
    counts = Counter(datetime.fromtimestamp(ranking.created).date() for ranking in rankings)
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    return pd.DataFrame({"day": [f"{day:%m-%d}" for day in days], "rankings": [counts[day] for day in days]})

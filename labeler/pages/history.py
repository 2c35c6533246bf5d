"""What the annotator has ranked and skipped."""

from datetime import datetime
from types import MethodType

import gradio as gr

from labeler.accounts import require
from labeler.pages.header import Header
from preferences.records import ROLES, Ranking
from preferences.store import Store

COLUMNS = ["When", "Prompt", "Your ranking", "Active time"]
WIDTHS = ["14%", "46%", "28%", "12%"]
LETTERS = "ABCDEFGHI"
SHOWN = 100
EXCERPT = 160


def build(store: Store) -> None:
    """Draw the page into the Gradio context."""
    Header()
    gr.Markdown("# History\nYour newest answers, best response first, with the letters as you saw them.")
    table = gr.Dataframe(
        headers=COLUMNS, datatype="str", interactive=False, wrap=True, show_label=False, buttons=[],
        column_widths=WIDTHS, max_height=2000,
    )  # fmt: skip
    page = gr.context.Context.root_block
    page.load(MethodType(rows, store), None, table, queue=False, api_visibility="private", show_progress="hidden")


def rows(store: Store, request: gr.Request) -> list[list[str]]:
    """The newest answers of whoever is logged in, newest first."""
    account = require(store, request.username, *ROLES)
    return [row(store, ranking) for ranking in store.rankings.history(account, SHOWN)]


def row(store: Store, ranking: Ranking) -> list[str]:
    """One line of the table."""
    prompt = store.prompts.get(store.comparisons.get(ranking.comparison).prompt).messages[-1]["content"]
    excerpt = prompt if len(prompt) <= EXCERPT else f"{prompt[:EXCERPT]}…"
    what = echo(ranking) if ranking.kind == "ranking" else f"Skipped: {ranking.reason}"
    when = datetime.fromtimestamp(ranking.created).strftime("%Y-%m-%d %H:%M")
    return [when, excerpt, what, f"{ranking.active_ms / 1000:.0f} s"]


def echo(ranking: Ranking) -> str:
    """ "B > D = A > C", with the letters that stood on the cards."""
    letters = {item: LETTERS[index] for index, item in enumerate(ranking.order)}
    return " > ".join(" = ".join(letters[item] for item in tier) for tier in ranking.tiers)

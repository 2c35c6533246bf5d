"""How good the labels of a study are, for its owners: on demand, since a large study takes its seconds."""

from datetime import datetime
from types import MethodType
from typing import Any

import gradio as gr
import pandas as pd

from labeler.accounts import OWNERS, require
from labeler.figures import interval, value
from preferences import summary
from preferences.intervals import Statistic
from preferences.store import Store

STATISTICS = ["Statistic", "Value", "95% interval", "n"]
ANNOTATORS = [
    "Annotator",
    "Rankings",
    "Agreement with others",
    "Self-consistency",
    "Tied pairs",
    "Median seconds",
    "Too fast",
]
MODELS = ["Model", "Worth", "95% interval", "At equal length and style", "Rankings"]
NAMES = {
    "pairwise_agreement": "Pairwise agreement", "kendall_tau_b": "Kendall's tau-b", "kendall_w": "Kendall's W",
    "nominal": "Krippendorff's alpha, nominal", "ordinal": "Krippendorff's alpha, ordinal", "fleiss_kappa": "Fleiss' kappa",
    "reward_ceiling": "Ceiling for reward accuracy", "self_consistency": "Self-consistency", "flip_rate": "Flip rate",
    "first_shown_wins": "First shown wins", "active_seconds": "Median active seconds (quartiles)",
}  # fmt: skip


# What is counted of labels, and what it is called in the plot.
RANKINGS = {
    "strict": "no ties", "with_ties": "some ties", "all_tied": "all tied", "best_worst": "best and worst",
    "all_bad": "all bad", "cannot_rank": "cannot rank", "skipped": "skipped",
}  # fmt: skip
PAIRS = {"pairs_apart": "put apart", "pairs_tied": "tied", "pairs_unsaid": "not compared"}


def build(store: Store, chosen: gr.Dropdown) -> None:
    """Draw the tab into the Gradio context; `chosen`: where a study is chosen by its name."""
    with gr.Tab("Quality"):
        gr.Markdown("Of the chosen study; of all studies while none is chosen.")
        compute = gr.Button("Compute the statistics")
        with gr.Column(visible=False) as found:
            gr.Markdown("Intervals are over prompts; what each number means is in docs/statistics.md.")
            tables = [
                gr.Dataframe(
                    headers=columns,
                    datatype="str",
                    interactive=False,
                    label=label,
                    buttons=[],
                    wrap=True,
                    column_widths=widths,
                    max_height=700,
                )
                for label, columns, widths in (
                    ("Agreement", STATISTICS, ["220px", "340px", "160px", "80px"]),
                    ("Annotators", ANNOTATORS, ["140px", "100px", "230px", "230px", "100px", "140px", "90px"]),
                    ("Strengths", MODELS, ["180px", "180px", "160px", "240px", "100px"]),
                )
            ]
            plots = [
                gr.BarPlot(
                    x="kind",
                    y=y,
                    title=title,
                    sort=list(names.values()),
                    y_axis_format="d",
                    x_label_angle=-30,
                    height=240,
                    buttons=[],
                )
                for y, title, names in (("answers", "Answers", RANKINGS), ("pairs", "Pairs of responses", PAIRS))
            ]
            place = gr.BarPlot(
                x="shown", y="ranked best", title="How often ranked best, by place shown", height=240, buttons=[]
            )
            days = gr.BarPlot(
                x="day",
                y="rankings",
                title="Rankings a day",
                y_axis_format="d",
                x_label_angle=-60,
                height=240,
                buttons=[],
            )
            weeks = gr.LinePlot(x="week", y="agreement", title="Pairwise agreement by week", height=240, buttons=[])
    compute.click(
        MethodType(quality, store), chosen, [found, *tables, *plots, place, days, weeks],
        queue=False, api_visibility="private", show_progress="minimal",
    )  # fmt: skip


def quality(store: Store, chosen: str | None, request: gr.Request) -> list[Any]:
    """Everything that is known of the labels of a study, or of all of them."""
    require(store, request.username, *OWNERS)
    study = next((study.id for study in store.studies.all() if study.name == chosen), None)
    found, models = summary.agreement(store, study), summary.strengths(store, study)
    history = summary.history(store, study)
    positions = pd.DataFrame(
        [(str(at["position"]), at["value"]) for at in found["position_bias"]["positions"]],
        columns=["shown", "ranked best"],
    )
    days, weeks = by_day(history.days), pd.DataFrame(history.weeks, columns=["week", "agreement"])
    return [
        gr.Column(visible=True),
        statistics(found),
        annotators(found["by_annotator"]),
        strengths(models),
        bars(distribution(found["labels"], RANKINGS, "answers"), "answers"),
        bars(distribution(found["labels"], PAIRS, "pairs"), "pairs"),
        gr.BarPlot(positions, y_lim=[0, 1], visible=len(positions) > 0),
        bars(days, "rankings"),
        gr.LinePlot(weeks, y_lim=[0, 1], visible=len(weeks) > 1),
    ]


def bars(numbers: pd.DataFrame, column: str) -> gr.BarPlot:
    """A plot of counts, whose axis begins at 0, which it would not if left to itself; none if there is nothing."""
    most = int(numbers[column].max()) if len(numbers) else 0
    return gr.BarPlot(numbers, y_lim=[0, max(4, most)], visible=most > 0)


def distribution(labels: dict[str, int], names: dict[str, str], column: str) -> pd.DataFrame:
    """How many labels there are of each kind."""
    return pd.DataFrame([(title, labels[name]) for name, title in names.items()], columns=["kind", column])


def statistics(found: dict[str, Any]) -> list[list[str]]:
    """One row a statistic."""
    flat = {**found, **found["krippendorff_alpha"], **found["position_bias"]}
    return [[title, value(flat[name]), interval(flat[name]), count(flat[name])] for name, title in NAMES.items()]


def annotators(people: dict[str, dict[str, Any]]) -> list[list[str]]:
    """One row an annotator."""
    return [
        [
            name, str(of["rankings"]), both(of["agreement"]), both(of["self_consistency"]), f"{of['tied']:.0%}",
            f"{of['seconds']['value']:.0f}" if "value" in of["seconds"] else "-", str(of["too_fast"]),
        ]
        for name, of in people.items()
    ]  # fmt: skip


def strengths(models: dict[str, Any]) -> list[list[str]]:
    """One row a model, the strongest first; a last one if something is to be said of all of them."""
    alike = models["controlled"]["worths"]
    rows = sorted(models["worths"].items(), key=lambda row: -row[1].get("value", 0))
    made = [[name, value(worth), interval(worth), value(alike[name]), count(worth)] for name, worth in rows]
    partial = models.get("best_worst")
    return [*made, [f"Caution: {partial['warning']}.", "", "", "", str(partial["rankings"])]] if partial else made


def by_day(days: dict[int, int]) -> pd.DataFrame:
    """Columns day (text) and rankings, in order; `days`: the day's number since 1970 -> rankings."""
    rows = [(f"{datetime.fromtimestamp(day * 86_400).date():%m-%d}", number) for day, number in sorted(days.items())]
    return pd.DataFrame(rows[-28:], columns=["day", "rankings"])


def both(found: Statistic) -> str:
    """The number and its interval in one cell."""
    return value(found) if "undefined" in found else f"{value(found)} ({interval(found)}, n={found['n']})"


def count(found: Statistic) -> str:
    """What it rests on."""
    return "" if "undefined" in found else str(found["n"])

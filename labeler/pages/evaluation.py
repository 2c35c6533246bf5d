"""How policies fare blind against each other, for study owners: on demand, like the quality of labels."""

from types import MethodType
from typing import Any

import gradio as gr
import pandas as pd

from labeler.accounts import OWNERS, require
from labeler.board import BASE_SCRIPTS, Drawn, static
from labeler.wins import COLUMNS, row, sentence
from preferences.blind import blind
from preferences.errors import RankloopError
from preferences.store import Store

WIDTHS = ["150px", "80px", "140px", "190px", "90px", "150px", "180px", "90px", "80px"]
EXPLAINED = (
    "Of rankings of held-out prompts in which answers of both stood beside each other, without their names. **Wins**: the "
    "mean over prompts, a tie counting one half, equal texts included. The **95% interval** is for whoever looks once. Who "
    "looks every day needs the other one, and the **decision** that follows from it: it is wrong in at most one study in "
    "twenty, whenever one stops. docs/statistics.md has the formulas."
)


class Reports(Drawn):
    """reports.js writes a link for each run that has a report into it."""

    def __init__(self) -> None:
        looks = ".reports a { display: inline-block; padding: 12px 12px 12px 0; text-decoration: underline; }"
        super().__init__('<div class="reports"></div>', looks, static(*BASE_SCRIPTS, "reports.js"))


def build(store: Store, chosen: gr.Dropdown) -> None:
    """Draw the tab into the Gradio context; `chosen`: where a study is chosen by its name."""
    with gr.Tab("Blind evaluation"):
        gr.Markdown(EXPLAINED)
        against = gr.Dropdown(label="Against", info="By default the SFT policy", choices=[], allow_custom_value=True)
        simulated = gr.Checkbox(label="Simulated annotators too")
        compute = gr.Button("Compare the policies")
        said = gr.Textbox(label="What people say", interactive=False, lines=2)
        table = gr.Dataframe(
            headers=COLUMNS, datatype="str", interactive=False, label="Policies", buttons=[], wrap=True,
            column_widths=WIDTHS, max_height=500, visible=False,
        )  # fmt: skip
        looks = gr.LinePlot(
            x="prompts", y="share won", color="line", title="After each prompt", height=280,
            buttons=[], visible=False,
        )  # fmt: skip
        gr.Markdown("Reports of reward and PPO runs:")
        Reports()
    compute.click(
        MethodType(evaluation, store), [chosen, against, simulated], [said, against, table, looks],
        queue=False, api_visibility="private", show_progress="minimal",
    )  # fmt: skip


def evaluation(
    store: Store, chosen: str | None, against: str | None, simulated: bool | None, request: gr.Request
) -> list[Any]:
    """What is known of the policies of a study, in words, as a table, and over time for the newest one."""
    require(store, request.username, *OWNERS)
    try:
        study = store.studies.get(chosen or "")
        found = blind(store, study, against or None, bool(simulated))
    except RankloopError as error:
        return [str(error), gr.skip(), gr.Dataframe(visible=False), gr.LinePlot(visible=False)]
    policies = found["policies"]
    menu = gr.Dropdown(choices=sorted([*policies, found["against"]]), value=found["against"], allow_custom_value=True)
    rows = [row(name, one) for name, one in policies.items()]
    newest = list(policies)[-1] if policies else None
    over_time = (
        lines(policies[newest]["sequential"]["looks"]) if newest and "looks" in policies[newest]["sequential"] else None
    )
    return [
        "\n".join(sentence(name, one, found["against"]) for name, one in policies.items())
        or f"No policy met {found['against']} on a held-out prompt.",
        menu,
        gr.Dataframe(rows, visible=bool(rows)),
        gr.LinePlot(
            over_time, title=f"{newest}, after each prompt",
            y_lim=[0, 1], visible=over_time is not None,
        ),
    ]  # fmt: skip


def lines(looks: list[list[float]]) -> pd.DataFrame:
    """What one could have seen after each prompt, as three lines."""
    return pd.DataFrame(
        [
            (int(at), line, float(number))
            for at, *numbers in looks
            for line, number in zip(("mean", "low", "high"), numbers, strict=True)
        ],
        columns=["prompts", "line", "share won"],
    )

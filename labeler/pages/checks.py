"""Is the policy still what people want: odd answers to pass or fail, the reward's accuracy day by day, stale data, drift."""

from datetime import datetime
from pathlib import Path
from types import MethodType
from typing import Any

import gradio as gr
import pandas as pd

from labeler.accounts import OWNERS, require
from labeler.figures import interval, value
from preferences.errors import RankloopError
from preferences.live import drift, live_accuracy, staleness
from preferences.records import Annotator, SpotCheck, Study
from preferences.store import Store

ANY = "any"
KINDS = (
    ANY,
    "highest reward",
    "largest gain",
    "longest",
    "most repetitive",
    "most refusals",
)  # as trainer/check.py queues
OUTCOMES = ["Policy", "Kind", "Queued", "Judged", "Passed"]
ACCURACY = ["Pairs of held-out prompts", "Reward agrees", "95% interval", "n"]
DRIFT = ["Policy", "Answers", "Characters", "Lists", "Headings", "Bold", "Repetition", "Refusals", "Cut off"]
QUIET: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
HINT = (
    'Nothing is left to check; "Checks" on the Training page, or `trainer check --reward runs/reward/adapter`, queues the '
    "oddest answers of a policy."
)
EXPLAINED = (
    '`trainer check`, or "Checks" on the Training page, queues a policy\'s answers with the highest reward, the largest '
    "gain over the policy it came from, the most characters, repetitions and refusals: what a policy gives that has learned "
    "to please its reward. What people ranked meanwhile it scores too, as does an idle worker once an hour."
)


def build(store: Store, chosen: gr.Dropdown) -> None:
    """Draw the tab into the Gradio context; `chosen`: where a study is chosen by its name."""
    with gr.Tab("Checks"):
        gr.Markdown(EXPLAINED)
        kind = gr.Dropdown(label="Kind", choices=list(KINDS), value=ANY, allow_custom_value=True)
        load = gr.Button("Show the checks")
        which = gr.Textbox(visible=False)
        why = gr.Textbox(label="Why it is shown", interactive=False)
        text = gr.Textbox(label="The prompt and the answer", lines=10, interactive=False)
        note = gr.Textbox(label="Note", lines=1, max_length=2000)
        with gr.Row():
            passed, failed = gr.Button("Pass", variant="primary"), gr.Button("Fail")
        tables = [
            gr.Dataframe(
                headers=columns, datatype="str", interactive=False, label=label, buttons=[], wrap=True, column_widths=widths,
                max_height=400,
            )
            for label, columns, widths in (
                ("Verdicts", OUTCOMES, ["180px", "160px", "90px", "90px", "90px"]),
                ("Reward accuracy on people's rankings", ACCURACY, ["220px", "200px", "160px", "80px"]),
                ("Length and form of the newest answers", DRIFT, ["160px", "90px", "200px", *["100px"] * 6]),
            )
        ]  # fmt: skip
        days = gr.LinePlot(x="day", y="agrees", title="Reward accuracy by day", height=240, buttons=[], visible=False)
        stale = gr.Textbox(label="How fresh the training rankings are", interactive=False, lines=2)
    item = [which, why, text, note]
    load.click(MethodType(checks, store), [chosen, kind], [*item, *tables, days, stale], **QUIET)
    judged = [chosen, kind, which, note]
    passed.click(MethodType(check_passed, store), judged, [*item, tables[0]], **QUIET)
    failed.click(MethodType(check_failed, store), judged, [*item, tables[0]], **QUIET)


def checks(store: Store, chosen: str | None, kind: str | None, request: gr.Request) -> list[Any]:
    """The next answer to check, and everything that is measured."""
    account = require(store, request.username, *OWNERS)
    study = study_of(store, chosen)
    if study is None:
        return ["", "Choose a study.", "", "", [], [], [], gr.LinePlot(visible=False), ""]
    accuracy, days = accuracy_of(store, study)
    return [
        *shown(store, study, account, kind),
        outcomes(store, study),
        accuracy,
        forms(store, study),
        days,
        fresh(store, study),
    ]


def check_passed(
    store: Store, chosen: str | None, kind: str | None, which: str | None, note: str | None, request: gr.Request
) -> list[Any]:
    """The answer is what people want; the next one."""
    account = require(store, request.username, *OWNERS)
    return judged(store, account, chosen, kind, which, note, True)


def check_failed(
    store: Store, chosen: str | None, kind: str | None, which: str | None, note: str | None, request: gr.Request
) -> list[Any]:
    """The answer is not what people want; the next one."""
    account = require(store, request.username, *OWNERS)
    return judged(store, account, chosen, kind, which, note, False)


def judged(
    store: Store,
    account: Annotator,
    chosen: str | None,
    kind: str | None,
    which: str | None,
    note: str | None,
    passed: bool,
) -> list[Any]:
    """The next answer once the verdict is stored, or why it cannot be."""
    study = study_of(store, chosen)
    if study is None:
        return ["", "Choose a study.", "", "", []]
    try:
        store.spot_checks.judge(which or "", account, passed, note or "")
    except RankloopError as error:
        return [which or "", str(error), gr.skip(), gr.skip(), outcomes(store, study)]
    return [*shown(store, study, account, kind), outcomes(store, study)]


def study_of(store: Store, chosen: str | None) -> Study | None:
    """The chosen study."""
    return next((study for study in store.studies.all() if study.name == chosen), None)


def shown(store: Store, study: Study, account: Annotator, kind: str | None) -> list[str]:
    """The next answer's id, why it is shown, its prompt and text, and an empty note."""
    found = store.spot_checks.next(study, account, None if kind in (None, "", ANY) else kind)
    return [found.id, why(found), in_full(store, found), ""] if found else ["", HINT, "", ""]


def why(check: SpotCheck) -> str:
    """The kind and how much of it, in words; not which policy."""
    if check.kind in ("highest reward", "largest gain"):
        return f"{check.kind}: {check.value:+.2f}"
    if check.kind == "longest":
        return f"longest: {check.value:.0f} characters"
    if check.kind == "most repetitive":
        return f"most repetitive: {check.value:.0%} of its runs of three words were said before"
    return f"{check.kind}: {check.value:.0f}"


def in_full(store: Store, check: SpotCheck) -> str:
    """The conversation, the answer, and the one that it is held against, as plain text."""
    idents = [check.response, *([check.baseline] if check.baseline else [])]
    responses = store.responses.get_many(idents)
    prompt = store.prompts.get(responses[check.response].prompt)
    parts = [f"{message['role'].capitalize()}:\n{message['content']}" for message in prompt.messages]
    parts.append(f"The answer:\n{responses[check.response].text}")
    if check.baseline:
        parts.append(f"What it is held against:\n{responses[check.baseline].text}")
    return "\n\n".join(parts)


def outcomes(store: Store, study: Study) -> list[list[str]]:
    """A line for each policy and kind."""
    return [
        [
            row["policy"], row["kind"], str(row["queued"]), str(row["judged"]),
            f"{row['passed']} ({row['passed'] / row['judged']:.0%})" if row["judged"] else "",
        ]
        for row in store.spot_checks.outcomes(study)
    ]  # fmt: skip


def accuracy_of(store: Store, study: Study) -> tuple[list[list[str]], gr.LinePlot]:
    """The accuracy of the reward model that scored last, in all, by strength and by day; and by day as a plot."""
    rewards = store.scores.rewards()
    if not rewards:
        return [["none", "undefined, because no reward model has scored anything", "", ""]], gr.LinePlot(visible=False)
    found = live_accuracy(store, study, rewards[0][0])
    name = Path(rewards[0][0])
    rows = [(f"all, by {name.parent.name or name.name}", found["all"])]
    rows += [
        (f"{word} better" if word != "not said" else "strength not said", one)
        for word, one in found["strengths"].items()
    ]
    rows += [(day, one) for day, one in list(found["days"].items())[-14:]]
    table = [[title, value(one), interval(one), "" if "undefined" in one else str(one["n"])] for title, one in rows]
    if found["unscored"]:
        table.append(["not scored yet", "", "", str(found["unscored"])])
    days = pd.DataFrame([(day, one["value"]) for day, one in found["days"].items()], columns=["day", "agrees"])
    return table, gr.LinePlot(days, y_lim=[0, 1], visible=len(days) > 1)


def forms(store: Store, study: Study) -> list[list[str]]:
    """A line a policy."""
    return [
        [
            row["policy"], str(row["answers"]), f"{row['characters']:.0f} ({row['low']:.0f} to {row['high']:.0f})",
            *(f"{row[name]:.0%}" for name in ("lists", "headings", "bold", "repetition", "refusals", "cut")),
        ]
        for row in drift(store, study)
    ]  # fmt: skip


def fresh(store: Store, study: Study) -> str:
    """The stale-data meter in words."""
    found = staleness(store, study)
    if found["current"] is None:
        return "No training prompt has been ranked."
    others = ", ".join(f"{name} {part:.0%}" for name, part in found["policies"].items())
    when = datetime.fromtimestamp(found["newest"]).strftime("%Y-%m-%d %H:%M")
    return (
        f"{found['current']:.0%} of the {found['answers']} ranked answers to training prompts are by the policies that "
        f"answer now ({others}). The last was ranked on {when}."
    )

"""What annotators wrote to the owners of a study: all as text, each with its comparison as its author saw it."""

from datetime import datetime
from types import MethodType
from typing import Any

import gradio as gr

from labeler.accounts import OWNERS, require
from labeler.past import LETTERS, excerpt
from preferences.errors import RankloopError
from preferences.records import Remark
from preferences.store import Store

COLUMNS = ["When", "From", "About", "Message", "Done"]
NEWEST, EXCERPT = 200, 120
QUIET: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}


def build(store: Store, chosen: gr.Dropdown) -> None:
    """Draw the tab into the Gradio context; `chosen`: where a study is chosen by its name."""
    with gr.Tab("Messages") as tab:
        gr.Markdown("To the owners of the chosen study, the newest first; of all studies while none is chosen.")
        table = gr.Dataframe(
            headers=COLUMNS, datatype="str", interactive=False, show_label=False, buttons=[], wrap=True,
            column_widths=["140px", "140px", "300px", "420px", "140px"], max_height=600,
        )  # fmt: skip
        which = gr.Dropdown(label="Message", choices=[], allow_custom_value=True)
        whole = gr.Textbox(label="The message, and the comparison as its author saw it", lines=8, interactive=False)
        with gr.Row():
            done, again = gr.Button("Done"), gr.Button("Not done after all")
    shown = [table, which, whole]
    gr.on([tab.select, chosen.change], MethodType(messages, store), chosen, shown, **QUIET)
    which.input(MethodType(message, store), which, whole, **QUIET)
    done.click(MethodType(message_done, store), [chosen, which], shown, **QUIET)
    again.click(MethodType(message_open, store), [chosen, which], shown, **QUIET)


def messages(store: Store, chosen: str | None, request: gr.Request) -> list[Any]:
    """The messages, none of them chosen."""
    require(store, request.username, *OWNERS)
    return listed(store, chosen, None)


def message(store: Store, which: str | None, request: gr.Request) -> str:
    """The chosen message in full."""
    require(store, request.username, *OWNERS)
    try:
        return in_full(store, store.remarks.get(which or ""))
    except RankloopError as error:
        return str(error)


def message_done(store: Store, chosen: str | None, which: str | None, request: gr.Request) -> list[Any]:
    """Nothing is left to do about the chosen message."""
    account = require(store, request.username, *OWNERS)
    return marked(store, chosen, which, True, account.id)


def message_open(store: Store, chosen: str | None, which: str | None, request: gr.Request) -> list[Any]:
    """Something is left to do about the chosen message."""
    account = require(store, request.username, *OWNERS)
    return marked(store, chosen, which, False, account.id)


def marked(store: Store, chosen: str | None, which: str | None, done: bool, actor: str) -> list[Any]:
    """The list once the message is marked, or why it cannot be."""
    try:
        store.remarks.set_done(store.remarks.get(which or ""), done, actor)
    except RankloopError as error:
        return [*listed(store, chosen, None)[:2], str(error)]
    return listed(store, chosen, which)


def listed(store: Store, chosen: str | None, which: str | None) -> list[Any]:
    """Rows of the table, the choice of one of them, and the one that is chosen in full."""
    study = next((study.id for study in store.studies.all() if study.name == chosen), None)
    names = {account.id: account.name for account in store.annotators.all()}
    remarks = store.remarks.all(study)[:NEWEST]
    rows = [
        [
            minute(remark.created), names[remark.annotator], about(store, remark), remark.text,
            minute(remark.done) if remark.done else "",
        ]
        for remark in remarks
    ]  # fmt: skip
    choices = [(f"{minute(one.created)}, {names[one.annotator]}: {one.text[:60]}", one.id) for one in remarks]
    menu = gr.Dropdown(choices=choices, value=which, allow_custom_value=True)
    return [rows, menu, in_full(store, store.remarks.get(which)) if which else ""]


def in_full(store: Store, remark: Remark) -> str:
    """The message, and the comparison that it is about with the letters of its author's cards."""
    if remark.comparison is None:
        return remark.text
    prompt, order = store.prompts.of_comparison(remark.comparison), store.remarks.order_seen(remark)
    responses = store.responses.get_many(order)
    parts = [f"{message['role'].capitalize()}:\n{message['content']}" for message in prompt.messages]
    parts += [f"Response {letter}:\n{responses[item].text}" for letter, item in zip(LETTERS, order, strict=False)]
    return "\n\n".join([remark.text, f"About comparison {remark.comparison}:", *parts])


def about(store: Store, remark: Remark) -> str:
    """The beginning of the prompt of the comparison that it is about."""
    return excerpt(store.prompts.of_comparison(remark.comparison), EXCERPT) if remark.comparison else "the study"


def minute(when: float) -> str:
    """A moment by the clock of this machine."""
    return datetime.fromtimestamp(when).strftime("%Y-%m-%d %H:%M")

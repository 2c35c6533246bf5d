"""Administration, for admins alone: who may log in, how far each study is, which policies answer its prompts."""

from collections import Counter
from types import MethodType
from typing import Any

import gradio as gr

from labeler.accounts import require
from labeler.care import reset
from labeler.pages.header import Header
from labeler.proxy import address_outside
from preferences.disk import Disk
from preferences.errors import RankloopError
from preferences.store import Store

PEOPLE = ["Name", "Role", "Simulated", "Active", "Rankings"]
RESET_DAYS = 2.0
QUIET: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
STUDIES = ["Study", "Status", "K", "Comparisons", "Rankings", "Waiting"]
POLICIES = ["Study", "Policy", "Kind", "Base", "Quantization"]


def build_ops(store: Store, disk: Disk) -> gr.Blocks:
    """The admins' page: a Gradio app of its own, because pages of one app share their configuration."""
    with gr.Blocks(title="Rankloop administration", analytics_enabled=False, fill_width=True) as ops:
        Header()
        gr.Markdown("# Administration")
        room = gr.Textbox(label="Alarm", interactive=False, visible=False)
        ops.load(MethodType(alarm, (store, disk)), None, room, **QUIET)
        everybody = table("People", PEOPLE)
        ops.load(MethodType(people, store), None, everybody, **QUIET)
        who = gr.Textbox(label="Account", info="A name of the table", max_length=200)
        with gr.Row():
            anew, out, close, let_in = (
                gr.Button(text)
                for text in ("Reset the password", "End the sessions", "Close the account", "Open it again")
            )
        said = gr.Textbox(
            label="What happened; a link is good once and not kept: copy it now", lines=2, interactive=False
        )
        for button, handler in (
            (anew, reset_password), (out, end_sessions), (close, close_account), (let_in, open_account),
        ):  # fmt: skip
            button.click(MethodType(handler, store), who, [said, everybody], **QUIET)
        ops.load(MethodType(studies, store), None, table("Studies", STUDIES), **QUIET)
        ops.load(MethodType(policies, store), None, table("Sampling policies", POLICIES), **QUIET)
    return ops


def table(title: str, columns: list[str]) -> gr.Dataframe:
    """A table under its title."""
    gr.Markdown(f"## {title}")
    return gr.Dataframe(headers=columns, datatype="str", interactive=False, show_label=False, buttons=[])


def reset_password(store: Store, who: str | None, request: gr.Request) -> list[Any]:
    """Make a link at which the account's owner sets another password."""
    admin = require(store, request.username, "admin")
    try:
        account = store.annotators.get(who or "")
        link = reset(store, account, RESET_DAYS, address_outside(request.headers), admin)
        return [f"{account.name}\t{link}", rows(store)]
    except RankloopError as error:
        return [str(error), rows(store)]


def end_sessions(store: Store, who: str | None, request: gr.Request) -> list[Any]:
    """Log the account out everywhere."""
    admin = require(store, request.username, "admin")
    try:
        account = store.annotators.get(who or "")
        return [
            f"{store.annotators.close_sessions(account, admin.id)} sessions of {account.name} are ended.",
            rows(store),
        ]
    except RankloopError as error:
        return [str(error), rows(store)]


def close_account(store: Store, who: str | None, request: gr.Request) -> list[Any]:
    """Let the account in no more."""
    admin = require(store, request.username, "admin")
    return turned(store, who, False, admin.id)


def open_account(store: Store, who: str | None, request: gr.Request) -> list[Any]:
    """Let the account in again."""
    admin = require(store, request.username, "admin")
    return turned(store, who, True, admin.id)


def turned(store: Store, who: str | None, active: bool, actor: str) -> list[Any]:
    """Whether the account may log in; an admin cannot close their own."""
    try:
        account = store.annotators.get(who or "")
        if account.id == actor:
            raise RankloopError("This is your own account; ask another admin.")
        store.annotators.set_active(account, active, actor)
    except RankloopError as error:
        return [str(error), rows(store)]
    return [f"{account.name} {'may log in again' if active else 'cannot log in any more'}.", rows(store)]


def alarm(place: tuple[Store, Disk], request: gr.Request) -> dict[str, Any]:
    """That the disk is filling up, if it is."""
    require(place[0], request.username, "admin")
    said = place[1].alarm()
    update: dict[str, Any] = gr.update(value=said, visible=bool(said))
    return update


def people(store: Store, request: gr.Request) -> list[list[str]]:
    """Every account."""
    require(store, request.username, "admin")
    return rows(store)


def rows(store: Store) -> list[list[str]]:
    """A line an account."""
    counts: Counter[str] = Counter()
    for _, annotator, labels in store.counts.labels():
        counts[annotator] += labels
    return [
        [account.name, account.role, yes(account.simulated), yes(account.active), str(counts[account.id])]
        for account in store.annotators.all()
    ]


def studies(store: Store, request: gr.Request) -> list[list[str]]:
    """Every study and how far it is."""
    require(store, request.username, "admin")
    counts: Counter[str] = Counter()
    for ident, _, labels in store.counts.labels():
        counts[ident] += labels
    return [
        [
            study.name, study.status, str(study.k), str(store.comparisons.count(study)), str(counts[study.id]),
            str(store.queue.waiting(study)),
        ]
        for study in store.studies.all()
    ]  # fmt: skip


def policies(store: Store, request: gr.Request) -> list[list[str]]:
    """The policies that answer each study's prompts now."""
    require(store, request.username, "admin")
    return [
        [study.name, policy.name, policy.kind, policy.base, policy.quantization]
        for study in store.studies.all()
        for policy in store.studies.sampling_policies(study)
    ]


def yes(value: bool) -> str:
    """A truth value in words."""
    return "yes" if value else "no"

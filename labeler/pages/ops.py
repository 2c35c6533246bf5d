"""Administration, for admins alone: who may log in, how far each study is, which policies answer its prompts."""

from collections import Counter
from types import MethodType

import gradio as gr

from labeler.accounts import require
from labeler.pages.header import Header
from preferences.store import Store

PEOPLE = ["Name", "Role", "Simulated", "Active", "Rankings"]
STUDIES = ["Study", "Status", "K", "Comparisons", "Rankings", "Waiting"]
POLICIES = ["Study", "Policy", "Kind", "Base", "Quantization"]


def build_ops(store: Store) -> gr.Blocks:
    """The admins' page: a Gradio app of its own, because pages of one app share their configuration."""
    with gr.Blocks(title="Rankloop administration", analytics_enabled=False, fill_width=True) as ops:
        Header()
        gr.Markdown("# Administration")
        tables = []
        titles = {"People": PEOPLE, "Studies": STUDIES, "Sampling policies": POLICIES}
        for title, columns in titles.items():
            gr.Markdown(f"## {title}")
            tables.append(
                gr.Dataframe(headers=columns, datatype="str", interactive=False, show_label=False, buttons=[])
            )
        quiet = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
        for handler, table in zip((people, studies, policies), tables, strict=True):
            ops.load(MethodType(handler, store), None, table, **quiet)
    return ops


def people(store: Store, request: gr.Request) -> list[list[str]]:
    """Every account."""
    require(store, request.username, "admin")
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

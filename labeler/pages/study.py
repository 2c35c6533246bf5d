"""Studies, for researchers and admins: what is asked, of whom how often; invitations, exclusions, requeues, downloads,
how good the labels are, how policies fare blind, and what annotators wrote.
"""

import json
from types import MethodType
from typing import Any

import gradio as gr

from labeler.accounts import OWNERS, require
from labeler.board import BASE_SCRIPTS, Drawn, static
from labeler.care import invite, plan_of, prompts_in
from labeler.pages import checks, evaluation, lineage, messages, quality, training
from labeler.pages.header import Header
from labeler.proxy import address_outside
from preferences.errors import RankloopError
from preferences.records import ROLES, Study
from preferences.rounds import choose_policies
from preferences.store import Store
from preferences.tables.studies import MODES

STUDIES = ["Study", "Status", "Mode", "K", "Prompts", "Comparisons", "Rankings", "Waiting"]
PEOPLE = ["Annotator", "Rankings", "Hours", "Excluded"]
QUIET = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
# The handlers look every name up; Gradio would hold them against the choices that the page began with.
FREE: dict[str, Any] = {"allow_custom_value": True}
MANY: dict[str, Any] = {"multiselect": True, **FREE}
NEW = "A new study"
HELDOUT = 0.1  # of new prompts


class Downloads(Drawn):
    """study.js writes a line of links for each study into it."""

    def __init__(self) -> None:
        looks = ".downloads a { display: inline-block; padding: 12px 12px 12px 0; text-decoration: underline; }"
        super().__init__('<div class="downloads"></div>', looks, static(*BASE_SCRIPTS, "study.js"))


def build_study(store: Store) -> gr.Blocks:
    """The owners' pages: a Gradio app of its own, because pages of one app share their configuration."""
    with gr.Blocks(title="Rankloop studies", analytics_enabled=False, fill_width=True) as page:
        Header()
        gr.Markdown("# Studies")
        said = gr.Textbox(label="What happened", interactive=False)
        table = gr.Dataframe(headers=STUDIES, datatype="str", interactive=False, show_label=False, buttons=[])
        chosen = gr.Dropdown(label="Study", choices=[NEW], value=NEW, **FREE)
        with gr.Tab("What is asked"):
            with gr.Row():
                name = gr.Textbox(label="Name of a new study", max_length=200)
                mode = gr.Dropdown(label="Ranking mode", choices=list(MODES), value=MODES[0])
                k = gr.Number(label="Responses a comparison", value=4, minimum=2, maximum=9, precision=0)
            plan = gr.Textbox(label="Plan", info="One setting a line, for example labels_heldout=3", lines=8)
            guidelines = gr.Textbox(label="Guidelines (Markdown); a changed text is a new version", lines=6)
            consent = gr.Textbox(label="Consent text (Markdown); empty: nobody is asked", lines=3)
            policies = gr.Dropdown(label="Policies that answer", choices=[], **MANY)
            limited = gr.Dropdown(label="Annotators who may work in it; empty: everybody", choices=[], **MANY)
            prompts = gr.Textbox(label="Prompts to add, one a line", info="A tenth of them is held out", lines=4)
            save = gr.Button("Save", variant="primary")
            with gr.Row():
                pause, resume, close = gr.Button("Pause"), gr.Button("Resume"), gr.Button("Close")
        with gr.Tab("People"):
            people = gr.Dataframe(headers=PEOPLE, datatype="str", interactive=False, show_label=False, buttons=[])
            who = gr.Dropdown(label="Annotator", choices=[], **FREE)
            reason = gr.Textbox(label="Why their rankings should not count")
            with gr.Row():
                exclude, include = gr.Button("Exclude"), gr.Button("Take back in")
            pasted = gr.Textbox(label="Names to invite, one a line", lines=6)
            with gr.Row():
                role = gr.Dropdown(label="As", choices=list(ROLES), value="annotator")
                days = gr.Number(label="Links are good for days", value=7, minimum=1, maximum=365)
                languages = gr.Textbox(label="Languages of their prompts, with commas; empty: all")
            ask = gr.Button("Make links", variant="primary")
            links = gr.Textbox(
                label="Links, each good once: copy them now, they are not kept", lines=6, interactive=False
            )
        with gr.Tab("Rankings"):
            gr.Markdown("After a change of the guidelines, all that was ranked under older ones can be ranked again.")
            requeue = gr.Button("Rank again what is older than the guidelines")
            gr.Markdown("Downloads are of this moment; the study goes on.")
            Downloads()
        form = [name, mode, k, plan, guidelines, consent, policies, limited, prompts]
        shown = [said, table, chosen, *form[1:], people, who]
        page.load(MethodType(look, store), None, shown, **QUIET)
        for tab in (quality, evaluation, checks, messages):
            tab.build(store, chosen)
        chosen.input(MethodType(choose, store), chosen, shown, **QUIET)
        save.click(MethodType(save_study, store), [chosen, *form], shown, **QUIET)
        for button, handler in (
            (pause, pause_study),
            (resume, resume_study),
            (close, close_study),
            (requeue, requeue_old),
        ):
            button.click(MethodType(handler, store), chosen, shown, **QUIET)
        exclude.click(MethodType(exclude_annotator, store), [chosen, who, reason], shown, **QUIET)
        include.click(MethodType(include_annotator, store), [chosen, who], shown, **QUIET)
        ask.click(MethodType(invite_people, store), [pasted, role, days, languages], [said, links], **QUIET)
    return with_training(page)


def with_training(page: gr.Blocks) -> gr.Blocks:
    """The same app with the pages of training, which call no Python: they ask routes of the API."""
    for name, part in (("Training", training), ("Lineage", lineage)):
        with page.route(name, name.lower()):
            part.build()
    return page


def look(store: Store, request: gr.Request) -> list[Any]:
    """The page for the first study, or for a new one."""
    require(store, request.username, *OWNERS)
    return show(store, next((study.name for study in store.studies.all()), None), "")


def choose(store: Store, chosen: str | None, request: gr.Request) -> list[Any]:
    """The page for another study."""
    require(store, request.username, *OWNERS)
    return show(store, chosen, "")


def save_study(
    store: Store, chosen: str | None, name: str | None, mode: str | None, k: float | None, plan: str | None,
    guidelines: str | None, consent: str | None, policies: list[str] | None, limited: list[str] | None,
    prompts: str | None, request: gr.Request,
) -> list[Any]:  # fmt: skip
    """Make a new study or change the chosen one, whole or not at all."""
    account = require(store, request.username, *OWNERS)
    try:
        settings = plan_of([line.strip() for line in (plan or "").splitlines() if line.strip()])
        size = int(k) if k is not None else 0
        with store.write():
            if chosen in (None, NEW):
                study = store.studies.create(name or "", size, settings, mode or "", account.id)
            else:
                study = store.studies.edit(store.studies.get(str(chosen)), size, mode, settings, account.id)
            if guidelines:
                store.studies.set_guideline(study, guidelines, account.id)
            if consent or store.studies.consent(study):
                store.studies.set_consent(study, consent or "", account.id)
            wanted = [store.policies.get(policy) for policy in policies or []]
            if wanted and wanted != store.studies.sampling_policies(study):
                choose_policies(store, study, wanted, account.id)
            people = [store.annotators.get(annotator) for annotator in limited or []]
            store.studies.set_annotators(study, people, account.id)
            added = store.studies.add_prompts(study, store.prompts.add(prompts_in(prompts or ""), HELDOUT))
    except RankloopError as error:
        return show(store, chosen, str(error), fill=False)
    return show(store, study.name, f"Study {study.name} is saved{f', with {added} new prompts' if added else ''}.")


def pause_study(store: Store, chosen: str | None, request: gr.Request) -> list[Any]:
    """Give nobody a new task."""
    account = require(store, request.username, *OWNERS)
    return turn(store, chosen, "paused", account.id)


def resume_study(store: Store, chosen: str | None, request: gr.Request) -> list[Any]:
    """Go on."""
    account = require(store, request.username, *OWNERS)
    return turn(store, chosen, "active", account.id)


def close_study(store: Store, chosen: str | None, request: gr.Request) -> list[Any]:
    """End it."""
    account = require(store, request.username, *OWNERS)
    return turn(store, chosen, "closed", account.id)


def turn(store: Store, chosen: str | None, status: str, actor: str) -> list[Any]:
    """Set the status of the chosen study."""
    try:
        study = store.studies.set_status(store.studies.get(chosen or ""), status, actor)
    except RankloopError as error:
        return show(store, chosen, str(error))
    return show(store, chosen, f"Study {study.name} is {status}.")


def requeue_old(store: Store, chosen: str | None, request: gr.Request) -> list[Any]:
    """Have what was ranked under older guidelines ranked again."""
    account = require(store, request.username, *OWNERS)
    try:
        count = store.exclusions.requeue_outdated(store.studies.get(chosen or ""), account.id)
    except RankloopError as error:
        return show(store, chosen, str(error))
    return show(store, chosen, f"{count} rankings are asked for again.")


def exclude_annotator(
    store: Store, chosen: str | None, who: str | None, reason: str | None, request: gr.Request
) -> list[Any]:
    """Count none of somebody's rankings."""
    account = require(store, request.username, *OWNERS)
    try:
        if not (reason or "").strip():
            raise RankloopError("Say why the rankings should not count; it is kept.")
        annotator = store.annotators.get(who or "")
        count = store.exclusions.exclude(store.studies.get(chosen or ""), annotator, str(reason), account.id)
    except RankloopError as error:
        return show(store, chosen, str(error))
    return show(store, chosen, f"{count} answers of {annotator.name} no longer count.")


def include_annotator(store: Store, chosen: str | None, who: str | None, request: gr.Request) -> list[Any]:
    """Take an exclusion back."""
    account = require(store, request.username, *OWNERS)
    try:
        annotator = store.annotators.get(who or "")
        count = store.exclusions.lift(store.studies.get(chosen or ""), annotator, account.id)
    except RankloopError as error:
        return show(store, chosen, str(error))
    return show(store, chosen, f"{count} answers of {annotator.name} count again.")


def invite_people(
    store: Store, pasted: str | None, role: str | None, days: float | None, languages: str | None, request: gr.Request
) -> list[str]:
    """Accounts and links for all names of a paste, or for none."""
    account = require(store, request.username, *OWNERS)
    wanted = [language.strip() for language in (languages or "").split(",") if language.strip()]
    address = address_outside(request.headers)
    try:
        if role not in ROLES:
            raise RankloopError("Choose what the invited become.")
        made = invite(store, pasted or "", role, float(days or 0), wanted, address, account)  # type: ignore[arg-type]
    except RankloopError as error:
        return [str(error), ""]
    return [f"{len(made)} people are invited.", "\n".join(f"{name}\t{link}" for name, link in made)]


def show(store: Store, chosen: str | None, said: str, fill: bool = True) -> list[Any]:
    """What the page shows: the sentence, all studies, and the chosen one, its form left as it is unless `fill`."""
    names = [study.name for study in store.studies.all()]
    study = store.studies.get(chosen) if chosen in names else None
    menu = gr.Dropdown(choices=[NEW, *names], value=study.name if study else NEW, **FREE)
    form = form_of(store, study) if fill else [gr.skip()] * 8
    people = people_of(store, study)
    choices = [row[0] for row in people]
    return [said, studies_of(store), menu, *form, people, gr.Dropdown(choices=choices, value=None, **FREE)]


def form_of(store: Store, study: Study | None) -> list[Any]:
    """Mode, K, plan, guidelines, consent, policies and annotators of a study, or what a new one starts from; no prompts."""
    policies = [policy.name for policy in store.policies.all()]
    people = [annotator.name for annotator in store.annotators.all() if not annotator.simulated]
    if study is None:
        empty = [gr.Dropdown(choices=choices, value=[], **MANY) for choices in (policies, people)]
        return [MODES[0], 4, "", "", "", *empty, ""]
    guideline, consent = store.studies.guideline(study), store.studies.consent(study)
    answering = [policy.name for policy in store.studies.sampling_policies(study)]
    return [
        study.mode, study.k, plan_text(study), guideline.text if guideline else "", consent.text if consent else "",
        gr.Dropdown(choices=policies, value=answering, **MANY),
        gr.Dropdown(choices=people, value=[one.name for one in store.studies.annotators(study)], **MANY), "",
    ]  # fmt: skip


def plan_text(study: Study) -> str:
    """The plan, one setting a line, as the form and the command line take it."""
    return "\n".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in study.plan.items())


def studies_of(store: Store) -> list[list[str]]:
    """A line a study."""
    return [
        [
            study.name, study.status, study.mode, str(study.k), str(store.studies.count_prompts(study)[0]),
            str(store.comparisons.count(study)), str(store.queue.team(study)), str(store.queue.waiting(study)),
        ]
        for study in store.studies.all()
    ]  # fmt: skip


def people_of(store: Store, study: Study | None) -> list[list[str]]:
    """A line for each annotator who did something in the study."""
    if study is None:
        return []
    excluded = {one.annotator: one.reason for one in store.exclusions.all(study) if one.lifted is None}
    ids = {account.name: account.id for account in store.annotators.all()}
    return [
        [
            row["annotator"], str(row["rankings"]), f"{row['active_ms'] / 3_600_000:.2f}",
            excluded.get(ids[row["annotator"]], ""),
        ]
        for row in store.work.hours(study, 0.0, float("inf"))
    ]  # fmt: skip

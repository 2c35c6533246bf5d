"""An annotator's own prompt: typed on the page, answered by `trainer worker`, ranked by whoever typed it."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from labeler.account import Account
from labeler.accounts import Forbidden
from labeler.assignment import LEASE_SECONDS, arrange
from labeler.bodies import OwnPromptBody
from labeler.rendering import Rendering
from labeler.replies import Following
from labeler.studies import study_of
from labeler.tasks import leased_json, next_json
from preferences.errors import NotReady, UnknownName
from preferences.jobs import Job
from preferences.records import Annotator
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT

SOURCE = "own prompt"


def own_prompt_api(store: Store, rendering: Rendering) -> APIRouter:
    """POST own_prompts, GET own_prompts/JOB, POST own_prompts/JOB/rank."""
    api = APIRouter(prefix="/api/own_prompts")

    @api.post("")
    def ask(body: OwnPromptBody, account: Account) -> dict[str, Any]:
        return state_json(store, _ask(store, account, body))

    @api.get("/{job}")
    def state(job: str, account: Account) -> dict[str, Any]:
        return state_json(store, _mine(store, account, job))

    @api.post("/{job}/rank", response_model=Following)
    def rank(job: str, account: Account) -> Response:
        return JSONResponse({"next": rendering.page(_take(store, account, _mine(store, account, job)))})

    return api


def _ask(store: Store, account: Annotator, body: OwnPromptBody) -> Job:
    """The job of a new prompt; the one that is under way if the annotator has one with that nonce."""
    study = study_of(store, account, body.study)
    if not study.plan.get("own_prompts"):
        raise Forbidden("This study does not take prompts of annotators.")
    with store.write():
        mine = [job for job in store.jobs.all() if job.kind == OWN_PROMPT and job.spec["annotator"] == account.id]
        again = next((job for job in mine if job.spec["nonce"] == body.nonce), None)
        if again:
            return again
        if any(job.status in ("queued", "running") for job in mine):
            raise NotReady("Your last prompt is still being answered; wait until it is.")
        messages = [{"role": "user", "content": body.text.strip()}]
        (prompt,) = store.prompts.add([{"messages": messages, "source": SOURCE}])
        spec = {"prompt": prompt.id, "study": study.id, "annotator": account.id, "nonce": body.nonce}
        return store.jobs.add(OWN_PROMPT, spec)


def _take(store: Store, account: Annotator, job: Job) -> dict[str, Any]:
    """The page of the job's comparison, leased to the annotator in place of what they hold; drafts stay."""
    if job.status != "done":
        raise NotReady("The answers are not there yet; wait until they are.")
    if "comparison" not in job.progress:  # a worker on another host says by itself that it is done
        raise UnknownName("No answers came of this prompt; type it again.")
    comparison = store.comparisons.get(job.progress["comparison"])
    with store.write():
        if store.rankings.of_comparison(account, comparison.id):
            return next_json(store, account)
        for held in store.queue.all_held(account):
            store.queue.release(held)
        order = arrange(comparison.items, account.id, comparison.id)
        lease = store.queue.lease(comparison.id, account, order, LEASE_SECONDS)
    return leased_json(store, account, lease)


def _mine(store: Store, account: Annotator, ident: str) -> Job:
    job = store.jobs.get(ident)
    if job.kind != OWN_PROMPT or job.spec["annotator"] != account.id:
        raise UnknownName(f"There is no job {ident!r}.")
    return job


def state_json(store: Store, job: Job) -> dict[str, Any]:
    """{"job", "status", "answers", "of", "ahead", "busy_with", "waited", "error"}.

    `ahead`: own prompts of others that come first; `busy_with`: the kind of job that the worker does now, or None;
    `waited`: seconds since the prompt was sent.
    """
    jobs = store.jobs.all() if job.status == "queued" else []
    running = [other.kind for other in jobs if other.status == "running"]
    queued = [other.id for other in jobs if other.kind == OWN_PROMPT and other.status == "queued"]
    return {
        "job": job.id,
        "status": job.status,
        "answers": job.progress.get("answers", 0),
        "of": job.progress.get("of", store.studies.get(job.spec["study"]).k),
        "ahead": queued.index(job.id) + running.count(OWN_PROMPT) if queued else 0,
        "busy_with": running[0] if running else None,
        "waited": round(store.clock() - job.created),
        "error": job.error,
    }

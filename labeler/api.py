"""The hot path: plain routes that store an answer and return the next task."""

from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from labeler.account import Account
from labeler.assignment import LEASE_SECONDS
from labeler.bodies import DraftBody, LeaseBody, SkipBody, SubmitBody, UndoBody
from labeler.rendering import Rendering
from labeler.replies import Ahead, Answered, Drafted, Following, Page, Renewed, Undone
from labeler.tasks import ahead_json, answered_json, leased_json, next_json
from labeler.turns import Turns
from preferences.answers import check_draft
from preferences.records import Annotator
from preferences.store import Store
from preferences.tables.rankings import Answer


def ranking_api(store: Store, rendering: Rendering) -> APIRouter:
    """GET next, ahead; POST submit, skip, undo, draft, renew, release.

    What they do to the store they do in turns; the answer is JSON as it stands: its model describes it and checks nothing.
    """
    api = APIRouter(prefix="/api")
    turns = Turns("ranking")

    async def with_html(page: dict[str, Any]) -> Response:
        """`page`: has a task, itself or under "next"."""
        await rendering.page_soon(page.get("next", page))
        return JSONResponse(page)

    @api.get("/next", response_model=Page)
    async def next_task(account: Account) -> Response:
        return await with_html(await turns.take(next_json, store, account))

    @api.get("/ahead", response_model=Ahead)
    async def ahead(account: Account) -> Response:
        return await with_html(await turns.take_last(ahead_json, store, account))

    @api.post("/submit", response_model=Answered)
    async def submit(body: SubmitBody, account: Account) -> Response:
        act = partial(store.rankings.submit, account, Answer(**body.model_dump()))
        return await with_html(await turns.take(answered_json, store, account, act))

    @api.post("/skip", response_model=Answered)
    async def skip(body: SkipBody, account: Account) -> Response:
        act = partial(store.rankings.skip, account, Answer(**body.model_dump()))
        return await with_html(await turns.take(answered_json, store, account, act))

    @api.post("/undo", response_model=Undone)
    async def undo(body: UndoBody, account: Account) -> Response:
        return await with_html(await turns.take(undone_json, store, account, body.nonce))

    @api.post("/draft", response_model=Drafted)
    async def draft(body: DraftBody, account: Account) -> Response:
        return JSONResponse(await turns.take(drafted_json, store, account, body))

    @api.post("/renew", response_model=Renewed)
    async def renew(body: LeaseBody, account: Account) -> Response:
        lease = await turns.take(store.queue.revive, body.lease, account, body.comparison, LEASE_SECONDS)
        return JSONResponse({"lease": lease.id, "expires": lease.expires, "now": store.clock()})

    @api.post("/release", response_model=Following)
    async def release(body: LeaseBody, account: Account) -> Response:
        return await with_html(await turns.take(released_json, store, account, body))

    return api


def undone_json(store: Store, account: Annotator, nonce: str) -> dict[str, Any]:
    """{"saved", "undone", "next"}: take back the newest answer."""
    undone, lease = store.rankings.undo(account, nonce, LEASE_SECONDS)
    saved = store.rankings.of_nonce(account, nonce)
    return {"saved": saved, "undone": undone.id, "next": leased_json(store, account, lease)}


def drafted_json(store: Store, account: Annotator, body: DraftBody) -> dict[str, Any]:
    """{"saved", "expires"}: keep what is said so far."""
    with store.write(durable=False):
        lease = store.queue.check(body.lease, account.id, body.comparison)
        said = body.model_dump(exclude={"comparison", "lease"}, exclude_defaults=True) | {"tiers": body.tiers}
        check_draft(said, lease.order)
        lease = store.queue.renew(lease, LEASE_SECONDS)
        made = store.queue.save_draft(body.comparison, account, said)
        return {"saved": made.updated, "expires": lease.expires}


def released_json(store: Store, account: Annotator, body: LeaseBody) -> dict[str, Any]:
    """{"next"}: give the comparison back."""
    with store.write():
        lease = store.queue.check(body.lease, account.id, body.comparison)
        store.queue.release(lease)
        store.queue.drop_draft(body.comparison, account)
    return {"next": next_json(store, account)}

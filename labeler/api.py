"""The hot path: plain routes that store an answer and return the next task."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from labeler.accounts import Forbidden
from labeler.assignment import LEASE_SECONDS
from labeler.bodies import DraftBody, SettingsBody, SkipBody, SubmitBody, UndoBody
from labeler.tasks import next_json, task_json, undone_json
from preferences.rankings import check_placed
from preferences.records import Annotator
from preferences.store import Store
from preferences.tables.rankings import Answer

__all__ = ["ranking_api", "task_json"]


def who(request: Request) -> Annotator:
    """The account that the gate let in. Raises Forbidden if a route was reached without it."""
    account = getattr(request.state, "account", None)
    if not isinstance(account, Annotator):
        raise Forbidden("Log in first.")
    return account


Account = Annotated[Annotator, Depends(who)]


def ranking_api(store: Store) -> APIRouter:
    """GET next, me; POST submit, skip, undo, draft, settings."""
    api = APIRouter(prefix="/api")

    @api.get("/me")
    def me(account: Account) -> dict[str, Any]:
        return {"name": account.name, "role": account.role, "settings": account.settings}

    @api.get("/next")
    def next_task(account: Account) -> dict[str, Any]:
        return next_json(store, account)

    @api.post("/submit")
    def submit(body: SubmitBody, account: Account) -> dict[str, Any]:
        answer = Answer(body.comparison, body.lease, body.nonce, body.tiers, body.active_ms, body.reason)
        saved = store.rankings.submit(account, answer)
        return {"saved": saved.id, "next": next_json(store, account)}

    @api.post("/skip")
    def skip(body: SkipBody, account: Account) -> dict[str, Any]:
        answer = Answer(body.comparison, body.lease, body.nonce, [], body.active_ms, body.reason)
        saved = store.rankings.skip(account, answer)
        return {"saved": saved.id, "next": next_json(store, account)}

    @api.post("/undo")
    def undo(body: UndoBody, account: Account) -> dict[str, Any]:
        undone, lease = store.rankings.undo(account, body.nonce, LEASE_SECONDS)
        saved = store.rankings.of_nonce(account, body.nonce)
        return {"saved": saved, "undone": undone.id, "next": undone_json(store, account, lease)}

    @api.post("/draft")
    def draft(body: DraftBody, account: Account) -> dict[str, Any]:
        with store.write():
            lease = store.queue.check(body.lease, account.id, body.comparison)
            check_placed(body.tiers, lease.order)
            store.queue.renew(lease, LEASE_SECONDS)
            return {"saved": store.queue.save_draft(body.comparison, account, {"tiers": body.tiers}).updated}

    @api.post("/settings")
    def settings(body: SettingsBody, account: Account) -> dict[str, Any]:
        store.annotators.set_settings(account, json.dumps({**account.settings, "single_keys": body.single_keys}))
        return {"saved": True}

    return api

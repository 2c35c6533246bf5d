"""The hot path: plain routes that store an answer and return the next task."""

from typing import Any

from fastapi import APIRouter

from labeler.account import Account
from labeler.assignment import LEASE_SECONDS
from labeler.bodies import DraftBody, LeaseBody, SkipBody, SubmitBody, UndoBody
from labeler.tasks import ahead_json, answered_json, leased_json, next_json
from preferences.answers import check_draft
from preferences.store import Store
from preferences.tables.rankings import Answer


def ranking_api(store: Store) -> APIRouter:
    """GET next, ahead; POST submit, skip, undo, draft, renew, release."""
    api = APIRouter(prefix="/api")

    @api.get("/next")
    def next_task(account: Account) -> dict[str, Any]:
        return next_json(store, account)

    @api.get("/ahead")
    def ahead(account: Account) -> dict[str, Any]:
        return ahead_json(store, account)

    @api.post("/submit")
    def submit(body: SubmitBody, account: Account) -> dict[str, Any]:
        return answered_json(store, account, lambda: store.rankings.submit(account, Answer(**body.model_dump())))

    @api.post("/skip")
    def skip(body: SkipBody, account: Account) -> dict[str, Any]:
        return answered_json(store, account, lambda: store.rankings.skip(account, Answer(**body.model_dump())))

    @api.post("/undo")
    def undo(body: UndoBody, account: Account) -> dict[str, Any]:
        undone, lease = store.rankings.undo(account, body.nonce, LEASE_SECONDS)
        saved = store.rankings.of_nonce(account, body.nonce)
        return {"saved": saved, "undone": undone.id, "next": leased_json(store, account, lease)}

    @api.post("/draft")
    def draft(body: DraftBody, account: Account) -> dict[str, Any]:
        with store.write(durable=False):
            lease = store.queue.check(body.lease, account.id, body.comparison)
            said = body.model_dump(exclude={"comparison", "lease"}, exclude_defaults=True) | {"tiers": body.tiers}
            check_draft(said, lease.order)
            lease = store.queue.renew(lease, LEASE_SECONDS)
            made = store.queue.save_draft(body.comparison, account, said)
            return {"saved": made.updated, "expires": lease.expires}

    @api.post("/renew")
    def renew(body: LeaseBody, account: Account) -> dict[str, Any]:
        lease = store.queue.revive(body.lease, account, body.comparison, LEASE_SECONDS)
        return {"lease": lease.id, "expires": lease.expires, "now": store.clock()}

    @api.post("/release")
    def release(body: LeaseBody, account: Account) -> dict[str, Any]:
        with store.write():
            lease = store.queue.check(body.lease, account.id, body.comparison)
            store.queue.release(lease)
            store.queue.drop_draft(body.comparison, account)
        return {"next": next_json(store, account)}

    return api

"""Which policy answers a study's prompts, for researchers and admins: promoted, rolled back, each a line in the log."""

from typing import Any

from fastapi import APIRouter

from labeler.bodies import Body, Ident, Reason
from labeler.downloads import Owner
from labeler.wins import evidence_json
from preferences.gates import gates_of
from preferences.plan import Plan
from preferences.records import Study
from preferences.rounds import check_wins
from preferences.store import Store
from preferences.tables.promotions import refusal


class PromoteBody(Body):
    """The policy that is to answer a study's prompts, and why."""

    study: Ident
    policy: Ident
    reason: Reason = ""


class BackBody(Body):
    """A study whose earlier policies are to answer again, and why."""

    study: Ident
    reason: Reason = ""


def promotion_api(store: Store) -> APIRouter:
    """GET promotions, promotions/evidence; POST promotions, promotions/back."""
    api = APIRouter(prefix="/api/promotions")

    @api.get("")
    def promotions(_: Owner) -> dict[str, Any]:
        return promotions_json(store)

    @api.get("/evidence")
    def evidence(study: str, policy: str, _: Owner) -> dict[str, Any]:
        return evidence_json(store, store.studies.get(study), store.policies.get(policy))

    @api.post("")
    def promote(body: PromoteBody, account: Owner) -> dict[str, Any]:
        study, policy = store.studies.get(body.study), store.policies.get(body.policy)
        check_wins(store, study, policy)
        store.promotions.promote(study, policy, account.id, body.reason)
        return {"policies": [policy.name]}

    @api.post("/back")
    def back(body: BackBody, account: Owner) -> dict[str, Any]:
        policies = store.promotions.roll_back(store.studies.get(body.study), account.id, body.reason)
        return {"policies": [policy.name for policy in policies]}

    return api


def promotions_json(store: Store) -> dict[str, Any]:
    """{"studies": [{"id", "name", "answers", "history"}], "policies": [{"id", "name", "kind", "refusal"}]}."""
    worker = store.workers.newest()
    policies = store.policies.all()
    return {
        "studies": [study_json(store, study) for study in store.studies.all()],
        "policies": [
            {"id": policy.id, "name": policy.name, "kind": policy.kind, "refusal": refusal(policy, worker)}
            for policy in reversed(policies)
        ],
    }


def study_json(store: Store, study: Study) -> dict[str, Any]:
    """{"id", "name", "answers" (names of policies), "back" (those that would answer again), "gates" (in words), "history"
    (newest first)}."""
    names = {policy.id: policy.name for policy in store.policies.all()}
    people = {account.id: account.name for account in store.annotators.all()}
    standing = store.promotions.standing(study)
    return {
        "id": study.id,
        "name": study.name,
        "answers": [policy.name for policy in store.studies.sampling_policies(study)],
        "back": [names[ident] for ident in standing[-2]] if len(standing) > 1 else [],
        "gates": gates_of(Plan.of(study.plan)),
        "history": [
            {
                "at": event.at, "by": people.get(event.actor, ""), "kind": event.kind,
                "policies": [names.get(ident, ident) for ident in event.detail["policies"]],
                "reason": event.detail.get("reason", ""),
            }
            for event in reversed(store.promotions.history(study))
        ],
    }  # fmt: skip

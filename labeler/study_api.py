"""What surrounds the ranking: the study's guidelines, topics to avoid, messages to its owner, one's account and settings."""

from typing import Any

from fastapi import APIRouter, Request

from labeler.account import Account
from labeler.bodies import RemarkBody, SettingsBody, VersionBody
from labeler.guidelines import guidelines_json, newest_and_seen, note_seen
from labeler.languages import LANGUAGES, strings_json
from labeler.studies import StudyId, find_study, studies_of, study_of
from labeler.topics import give_back_avoided, topics_json
from preferences.store import Store


def study_api(store: Store) -> APIRouter:
    """GET me, strings, study, guidelines; POST guidelines, remark, settings."""
    api = APIRouter(prefix="/api")

    @api.get("/me")
    def me(account: Account) -> dict[str, Any]:
        return {"name": account.name, "role": account.role, "settings": account.settings}

    @api.get("/strings")
    def strings(request: Request, account: Account) -> dict[str, Any]:
        return strings_json(request, account.settings.get("language"))

    @api.get("/study")
    def about(account: Account, study: StudyId = None) -> dict[str, Any]:
        found = find_study(store, account, study)
        guideline, seen = newest_and_seen(store, account, found) if found else (None, 0)
        return {
            "name": found.name if found else "",
            "guidelines": {"version": guideline.version if guideline else 0, "seen": seen},
            "topics": topics_json([*([found] if found else []), *studies_of(store, account)], account),
            "own_prompts": bool(found and found.plan.get("own_prompts")),
            "languages": LANGUAGES,
        }

    @api.get("/guidelines")
    def guidelines(account: Account, study: StudyId = None) -> dict[str, Any]:
        return guidelines_json(store, account, study_of(store, account, study))

    @api.post("/guidelines")
    def seen(body: VersionBody, account: Account) -> dict[str, Any]:
        note_seen(store, account, study_of(store, account, body.study), body.version)
        return {"saved": True}

    @api.post("/remark")
    def remark(body: RemarkBody, account: Account) -> dict[str, Any]:
        study = study_of(store, account, body.study)
        return {"saved": store.remarks.add(account, study, body.text, body.nonce, body.comparison).id}

    @api.post("/settings")
    def settings(body: SettingsBody, account: Account) -> dict[str, Any]:
        changed = store.annotators.change_settings(account, body.model_dump(exclude_unset=True))
        if body.avoid is not None:
            give_back_avoided(store, changed)
        return {"saved": True}

    return api

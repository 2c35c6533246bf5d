"""What annotators agree to before their first task, and again when its text has changed."""

from typing import Any

from fastapi import APIRouter

from labeler.account import Account
from labeler.bodies import VersionBody
from labeler.markup import render
from labeler.studies import StudyId, study_of
from preferences.errors import UnknownName
from preferences.records import Annotator, Study
from preferences.store import Store


def consent_due(store: Store, annotator: Annotator, study: Study) -> bool:
    """Whether the study has a consent text whose newest version the annotator has not agreed to."""
    text = store.studies.consent(study)
    return text is not None and store.annotators.consented(annotator, text) is None


def consent_api(store: Store) -> APIRouter:
    """GET and POST consent."""
    api = APIRouter(prefix="/api")

    @api.get("/consent")
    def consent(account: Account, study: StudyId = None) -> dict[str, Any]:
        text = store.studies.consent(study_of(store, account, study))
        if text is None:
            return {"version": 0, "created": None, "html": "", "at": None}
        at = store.annotators.consented(account, text)
        return {"version": text.version, "created": text.created, "html": render(text.text), "at": at}

    @api.post("/consent")
    def agree(body: VersionBody, account: Account) -> dict[str, Any]:
        text = store.studies.consent(study_of(store, account, body.study))
        if text is None or text.version != body.version:
            raise UnknownName("The text has changed since you read it; load the page again.")
        return {"saved": store.annotators.give_consent(account, text)}

    return api

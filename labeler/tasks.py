"""What an annotator is shown: a leased comparison as JSON, blind to where its responses came from."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from labeler.assignment import LEASE_SECONDS, SPARE, arrange, choose
from labeler.consent import consent_due
from labeler.gold import feedback_json
from labeler.studies import studies_of
from labeler.topics import warnings_of
from preferences.answers import mode_of, options_of
from preferences.records import Annotator, Comparison, Lease, Message, Offer, Pick, Ranking, Study
from preferences.store import Store
from preferences.tables.supply import midnight

# Why no study has anything for an annotator; of several reasons the one that stands first is said: "others": what waits
# is for others; "excluded", "quota", "unqualified": see `Supply.refusal`.
RESTS = ("quota", "others", "unqualified", "excluded", "empty")

Chooser = Callable[[Offer], Pick | None]
Arranger = Callable[[Comparison], list[str]]


def task_json(store: Store, annotator: Annotator, lease: Lease) -> dict[str, Any]:
    """The task of a lease. `responses` in the order shown; `expires`: epoch seconds; no trace of any policy.

    Texts are as they are: `labeler.rendering` adds their HTML.

    `mode`: how it is asked about; `options`: what else may be said; `editing`: whether an answer of theirs stands.
    """
    comparison = store.comparisons.get(lease.comparison)
    study = store.studies.get(comparison.study)
    prompt = store.prompts.get(comparison.prompt)
    draft = store.queue.draft(comparison.id, annotator)
    return {
        "comparison": comparison.id,
        "lease": lease.id,
        "expires": lease.expires,
        "mode": mode_of(study.mode, len(lease.order)),
        "options": options_of(study.plan),
        "prompt": messages_json(prompt.messages),
        "responses": responses_json(store, lease.order),
        "draft": {**draft.body, "saved": draft.updated} if draft else None,
        "editing": store.rankings.is_edit(annotator, lease),
        "warnings": warnings_of(study, prompt.tags),
    }


def messages_json(messages: list[Message]) -> list[dict[str, str]]:
    """A conversation."""
    return [{"role": message["role"], "text": message["content"]} for message in messages]


def responses_json(store: Store, order: list[str]) -> list[dict[str, str]]:
    """The responses in that order, blind."""
    responses = store.responses.get_many(order)
    return [{"id": item, "text": responses[item].text} for item in order]


def next_json(store: Store, annotator: Annotator) -> dict[str, Any]:
    """{"task", "progress", "study", "state", "now"}: leases the next comparison to the annotator, or renews their lease."""
    return _page_json(store, annotator, *_take(store, annotator))


def answered_json(store: Store, annotator: Annotator, act: Callable[[], Ranking]) -> dict[str, Any]:
    """{"saved", "next"}: store an answer and lease the next comparison in one transaction, which waits for the disk once.

    Also {"feedback"} if it was gold that is explained: `labeler.gold.feedback_json`.
    """
    with store.write():
        saved = act()
        following = _take(store, annotator)
    feedback = feedback_json(store, annotator, saved)
    answered = {"saved": saved.id, "next": _page_json(store, annotator, *following)}
    return answered | ({"feedback": feedback} if feedback else {})


def _take(store: Store, annotator: Annotator) -> tuple[Study | None, Lease | None, str]:
    """The first of the annotator's studies that has something for them, their lease in it, and else why there is none.

    A study that has something for them, but whose consent text they have not agreed to, asks for that before the next study
    is looked at.
    """
    studies, rests = studies_of(store, annotator), []
    for study in studies:
        if not consent_due(store, annotator, study):
            lease = store.queue.take(study, annotator, *_choice(annotator), LEASE_SECONDS)
            if lease:
                return study, lease, "ranking"
        elif store.queue.has_task(study, annotator):
            return study, None, "consent"
        rests.append(_rest(store, study, annotator))
    if not studies:
        return None, None, "empty" if store.studies.default().status == "active" else "paused"
    return studies[0], None, min(rests, key=RESTS.index)


def _rest(store: Store, study: Study, annotator: Annotator) -> str:
    """Why the study has nothing for them: one of RESTS."""
    refusal = store.queue.refusal(study, annotator)
    return refusal or ("others" if store.queue.waiting(study) else "empty")


def ahead_json(store: Store, annotator: Annotator) -> dict[str, Any]:
    """{"task", "study"}: what comes after the task in hand, in whichever of their studies, leased already; or None."""
    lease = store.queue.take_ahead(_agreed(store, annotator), annotator, *_choice(annotator), LEASE_SECONDS, SPARE)
    if lease is None:
        return {"task": None, "study": None}
    return {"task": task_json(store, annotator, lease), "study": store.comparisons.get(lease.comparison).study}


def _agreed(store: Store, annotator: Annotator) -> Iterator[Study]:
    """The annotator's studies, as far as they come to one that will ask for consent; without those that have nothing."""
    for study in studies_of(store, annotator):
        if not consent_due(store, annotator, study):
            yield study
        elif store.queue.has_task(study, annotator):
            return


def leased_json(store: Store, annotator: Annotator, lease: Lease) -> dict[str, Any]:
    """The page of a comparison that an undo or an edit has leased again."""
    study = store.studies.get(store.comparisons.get(lease.comparison).study)
    return _page_json(store, annotator, study, lease, "ranking")


def _choice(annotator: Annotator) -> tuple[Chooser, Arranger]:
    return (
        partial(choose, annotator=annotator.id),
        lambda comparison: arrange(comparison.items, annotator.id, comparison.id),
    )


def progress_json(store: Store, annotator: Annotator) -> dict[str, int]:
    """What the annotator has done, and the others in the studies that the annotator works in."""
    studies = store.studies.open_to(annotator)
    active = [study for study in studies if study.status == "active"]
    return store.rankings.progress(annotator, active or studies, midnight(store.clock()))


def _page_json(
    store: Store, annotator: Annotator, study: Study | None, lease: Lease | None, state: str
) -> dict[str, Any]:
    return {
        "task": task_json(store, annotator, lease) if lease else None,
        "progress": progress_json(store, annotator),
        "study": study.id if study else None,
        "state": state,
        "now": store.clock(),
    }

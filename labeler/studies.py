"""Which studies an annotator works in: all that are active, unless a study is limited to others."""

from typing import Annotated

from fastapi import Query

from preferences.errors import UnknownName
from preferences.records import Annotator, Study
from preferences.store import Store

StudyId = Annotated[str | None, Query(max_length=64)]


def studies_of(store: Store, annotator: Annotator) -> list[Study]:
    """The active studies that they may work in: first that of the task in hand, then the oldest."""
    active = [study for study in _open_to(store, annotator) if study.status == "active"]
    inside = store.queue.study_in_hand(annotator) if len(active) > 1 else None
    return sorted(active, key=lambda study: study.id != inside)


def find_study(store: Store, annotator: Annotator, ident: str | None = None) -> Study | None:
    """The study of that id, else the first that they work in, else one that is paused or closed; None if none is theirs."""
    theirs = _open_to(store, annotator)
    if ident is None:
        return next(iter([*studies_of(store, annotator), *theirs]), None)
    return next((study for study in theirs if study.id == ident), None)


def study_of(store: Store, annotator: Annotator, ident: str | None = None) -> Study:
    """What `find_study` finds. Raises UnknownName if that is none."""
    found = find_study(store, annotator, ident)
    if found is None:
        raise UnknownName("You do not work in that study; load the page again.")
    return found


def _open_to(store: Store, annotator: Annotator) -> list[Study]:
    found = store.studies.open_to(annotator)
    if found or store.studies.all():
        return found
    return [store.studies.default()]

"""A study's instructions as annotators read them: the newest version, and what changed since they last looked."""

from difflib import SequenceMatcher
from typing import Any

from labeler.markup import render
from preferences.records import Annotator, Guideline, Study
from preferences.store import Store

SEEN = "guidelines_seen"  # of an annotator's settings: study id -> version


def guidelines_json(store: Store, annotator: Annotator, study: Study) -> dict[str, Any]:
    """{"version", "seen", "created", "html", "changes"}; version 0 if the study has no instructions.

    `seen`: the version that the annotator last read, or 0; `changes`: [{"kind": "added" | "removed", "text"}] since then.
    """
    guideline, seen = newest_and_seen(store, annotator, study)
    if guideline is None:
        return {"version": 0, "seen": 0, "created": None, "html": "", "changes": []}
    before = store.studies.guideline(study, seen) if seen else None
    return {
        "version": guideline.version,
        "seen": seen,
        "created": guideline.created,
        "html": render(guideline.text),
        "changes": changed_lines(before.text, guideline.text) if before else [],
    }


def newest_and_seen(store: Store, annotator: Annotator, study: Study) -> tuple[Guideline | None, int]:
    """The study's instructions, if it has any, and the version of them that the annotator last read, or 0."""
    guideline = store.studies.guideline(study)
    return guideline, int(annotator.settings.get(SEEN, {}).get(study.id, 0)) if guideline else 0


def changed_lines(before: str, after: str) -> list[dict[str, str]]:
    """The lines that one text has and the other has not, in reading order; blank ones left out."""
    old, new = before.splitlines(), after.splitlines()
    changes = []
    for _, old_from, old_to, new_from, new_to in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if old[old_from:old_to] == new[new_from:new_to]:
            continue
        changes += [{"kind": "removed", "text": line} for line in old[old_from:old_to] if line.strip()]
        changes += [{"kind": "added", "text": line} for line in new[new_from:new_to] if line.strip()]
    return changes


def note_seen(store: Store, annotator: Annotator, study: Study, version: int) -> None:
    """The annotator has read that version."""
    store.annotators.change_settings(annotator, {SEEN: {study.id: version}})

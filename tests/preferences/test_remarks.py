"""Messages to a study's owner."""

import pytest

from preferences.errors import UnknownName
from preferences.records import Study
from preferences.store import Store
from tests.preferences.make import add_annotator, add_comparison, take


def test_a_remark_is_stored_once_and_names_what_it_is_about(store: Store, study: Study) -> None:
    ann, comparison = add_annotator(store), add_comparison(store, study)
    take(store, study, ann)
    for _ in range(2):
        store.remarks.add(ann, study, "The picture is missing.", "nonce-of-it", comparison.id)
    store.remarks.add(ann, study, "Thank you.", "another-nonce")
    newest, oldest = store.remarks.all(study.id)
    assert (newest.text, newest.comparison) == ("Thank you.", None)
    assert (oldest.text, oldest.comparison, oldest.annotator) == ("The picture is missing.", comparison.id, ann.id)


def test_nobody_writes_about_a_comparison_they_never_saw(store: Store, study: Study) -> None:
    comparison = add_comparison(store, study)
    with pytest.raises(UnknownName):
        store.remarks.add(add_annotator(store), study, "What is it?", "nonce-of-it", comparison.id)
    assert store.remarks.all() == []


def test_a_remark_is_done_with_until_it_is_opened_again(store: Store, study: Study) -> None:
    ann, owner = add_annotator(store), add_annotator(store, "owner")
    first, second = (store.remarks.add(ann, study, text, f"nonce-{text}") for text in ("One.", "Two."))
    done = store.remarks.set_done(first, True, owner.id)
    assert done.done and done == store.remarks.get(first.id)
    assert store.remarks.get(second.id).done is None
    assert store.remarks.set_done(first, False, owner.id) == store.remarks.get(first.id) == first
    assert [(event.actor, event.kind, event.subject) for event in store.events.newest(2)] == [
        (owner.id, "remark open", first.id),
        (owner.id, "remark done", first.id),
    ]
    with pytest.raises(UnknownName):
        store.remarks.get("nothing")


def test_the_order_in_which_its_author_saw_the_responses(store: Store, study: Study) -> None:
    ann, comparison = add_annotator(store), add_comparison(store, study)
    store.queue.lease(comparison.id, ann, comparison.items, 60)
    store.queue.lease(comparison.id, ann, comparison.items[::-1], 60)
    remark = store.remarks.add(ann, study, "Why?", "nonce-of-it", comparison.id)
    assert store.remarks.order_seen(remark) == comparison.items[::-1]
    assert store.remarks.order_seen(store.remarks.add(ann, study, "Why?", "another-nonce")) == []

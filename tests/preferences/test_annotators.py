"""Accounts and sessions."""

import pytest

from preferences.errors import NameTaken, UnknownName
from preferences.store import Store
from tests.conftest import PLAIN
from tests.preferences.make import Clock, add_annotator, add_comparison, rank, take


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_account_is_found_by_name_in_any_case_and_by_id(store: Store) -> None:
    ann = add_annotator(store, "Ann")
    assert store.annotators.find("aNN") == store.annotators.get(ann.id) == ann
    assert store.annotators.find("bea") is None
    with pytest.raises(UnknownName, match="bea"):
        store.annotators.get("bea")


def test_a_name_is_given_once_whatever_its_case(store: Store) -> None:
    add_annotator(store, "Ann")
    with pytest.raises(NameTaken, match="ANN"):
        add_annotator(store, "ANN")
    assert [account.name for account in store.annotators.all()] == ["Ann"]


def test_a_role_that_does_not_exist_is_a_mistake_of_the_programmer(store: Store) -> None:
    with pytest.raises(AssertionError, match="owner"):
        store.annotators.add("ann", "owner", "")  # type: ignore[arg-type]


def test_a_session_lasts_its_time(store: Store, clock: Clock) -> None:
    ann = add_annotator(store)
    store.annotators.open_session(ann, "token", 100)
    clock.now += 99
    assert store.annotators.of_session("token") == ann
    assert store.annotators.of_session("other") is None
    clock.now += 1
    assert store.annotators.of_session("token") is None


def test_a_session_ends_by_logout_new_password_and_deactivation(store: Store) -> None:
    ann = add_annotator(store)
    acts = [
        lambda: store.annotators.close_session("token"),
        lambda: store.annotators.set_password(ann, "new hash"),
        lambda: store.annotators.set_active(ann, False),
    ]
    for act in acts:
        store.annotators.open_session(ann, "token", 100)
        assert store.annotators.of_session("token") is not None
        act()
        assert store.annotators.of_session("token") is None
        assert store.annotators.number("SELECT count(*) FROM sessions") == 0
    assert store.annotators.get("ann").password_hash == "new hash"
    assert not store.annotators.get("ann").active


def test_old_sessions_are_swept_out(store: Store, clock: Clock) -> None:
    ann = add_annotator(store)
    store.annotators.open_session(ann, "old", 1)
    clock.now += 2
    store.annotators.open_session(ann, "new", 1)
    assert store.annotators.rows("SELECT token_hash FROM sessions") == [{"token_hash": "new"}]


def test_settings(store: Store) -> None:
    store.annotators.change_settings(add_annotator(store), {"single_keys": False})
    assert store.annotators.get("ann").settings == {"single_keys": False}


def test_who_is_active_took_a_task_ranked_or_logged_in_and_can_log_in(store: Store, clock: Clock) -> None:
    study = store.studies.create("main", plan={**PLAIN, "labels_train": 5})
    comparison = add_comparison(store, study)
    ann, bea, cem, idle, gone = (add_annotator(store, name) for name in ("ann", "bea", "cem", "idle", "gone"))
    imported = store.annotators.add("imported", "annotator", "")
    start = clock.now
    take(store, study, ann)
    rank(store, study, bea)
    store.annotators.open_session(cem, "token", 60)
    rank(store, study, gone)
    store.annotators.set_active(gone, False)
    store.rankings.add_imported(imported, comparison, [comparison.items])
    assert idle.active
    assert store.annotators.active(start) == [ann, bea, cem]
    assert store.annotators.active(start + 1) == []

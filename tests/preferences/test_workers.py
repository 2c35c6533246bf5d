"""Workers and runs: what the labeler knows of them."""

import pytest

from preferences.errors import UnknownName
from preferences.records import Study
from preferences.store import Store
from tests.preferences.make import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_newest_worker_is_known_alive_or_gone(store: Store, clock: Clock) -> None:
    assert store.workers.newest() is None
    store.workers.publish("old", {"model": "a"})
    clock.now += 10
    store.workers.publish("new", {"model": "b"})
    clock.now += 10
    store.workers.see("new")
    newest = store.workers.newest()
    assert newest and (newest.name, newest.about, newest.started, newest.seen) == (
        "new", {"model": "b"}, clock.now - 10, clock.now,
    )  # fmt: skip
    store.workers.leave("new")
    gone = store.workers.newest()
    assert gone and (gone.about, gone.seen) == ({"model": "b"}, 0)


def test_a_worker_that_has_been_gone_for_a_week_is_forgotten(store: Store, clock: Clock) -> None:
    store.workers.publish("old", {})
    clock.now += 8 * 86_400
    store.workers.publish("new", {})
    assert store.workers.rows("SELECT name FROM workers") == [{"name": "new"}]


def test_a_run_that_goes_on_is_the_same_run(store: Store, study: Study) -> None:
    first = store.runs.note("/runs/ppo", {"stage": "ppo", "state": "interrupted"}, study.id)
    store.runs.note("/runs/reward", {"stage": "reward", "state": "finished"})
    again = store.runs.note("/runs/ppo", {"stage": "ppo", "state": "finished"}, study.id)
    assert [run.folder for run in store.runs.all()] == ["/runs/ppo", "/runs/reward"]
    assert first.id == again.id and store.runs.get(first.id).document["state"] == "finished"
    assert (store.runs.all()[0].study, store.runs.all()[1].study) == (study.id, None)
    with pytest.raises(UnknownName, match="nope"):
        store.runs.get("nope")

"""Annotators in several studies: the oldest that has something for them comes first, and the page is about that one."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeler.assignment import SPARE
from preferences.records import Annotator, Study
from preferences.store import Store
from tests.conftest import PLAIN
from tests.labeler.conftest import add_comparison

TEXTS = ["one", "two", "three"]


@pytest.fixture
def other(store: Store, study: Study, clock: Callable[[], float]) -> Study:
    """A younger study, pairwise, with flags of its own; both have one comparison."""
    add_comparison(store, study, "What is a river?", TEXTS)
    store.studies.set_guideline(study, "Of the first.")
    clock.now += 1  # type: ignore[attr-defined]
    made = store.studies.create(
        "other", 2, {**PLAIN, "flags": ["harmful"], "content_warnings": {"war": "War"}}, "pairwise"
    )
    add_comparison(store, made, "What is a desert?", TEXTS[:2])
    store.studies.set_guideline(made, "Of the other.")
    return made


def submit(client: TestClient, page: dict[str, Any]) -> dict[str, Any]:
    """Rank what is shown, in the order shown; the next page."""
    task = page["task"]
    body = {"comparison": task["comparison"], "lease": task["lease"], "nonce": f"nonce-{task['lease']}"}
    tiers = [[response["id"]] for response in task["responses"]]
    strengths = {"strengths": [2]} if task["mode"] == "pairwise" else {}
    reply = client.post("/api/submit", json={**body, "tiers": tiers, **strengths})
    assert reply.status_code == 200, reply.text
    return dict(reply.json()["next"])


def test_the_next_study_comes_when_the_first_has_nothing_more(
    store: Store, study: Study, other: Study, accounts: dict[str, Annotator], as_account: Callable[[str], TestClient]
) -> None:
    ann = as_account("ann")
    page = ann.get("/api/next").json()
    assert (page["study"], page["task"]["mode"], page["progress"]["waiting"]) == (study.id, "ranking", 1)
    assert "Of the first" in ann.get(f"/api/guidelines?study={page['study']}").json()["html"]
    assert ann.get("/api/ahead").json()["task"] is None
    page = submit(ann, page)
    assert (page["study"], page["task"]["mode"], page["task"]["options"]["flags"]) == (
        other.id,
        "pairwise",
        ["harmful"],
    )
    assert "Of the other" in ann.get("/api/guidelines").json()["html"]  # that of the task in hand
    about = ann.get(f"/api/study?study={other.id}").json()
    assert (about["name"], about["guidelines"]) == ("other", {"version": 1, "seen": 0})
    ann.post("/api/guidelines", json={"study": other.id, "version": 1})
    seen = {one.id: ann.get(f"/api/study?study={one.id}").json()["guidelines"]["seen"] for one in (study, other)}
    assert seen == {study.id: 0, other.id: 1}
    page = submit(ann, page)
    assert (page["task"], page["state"], page["study"]) == (None, "empty", study.id)
    assert (page["progress"]["mine"], page["progress"]["team"], page["progress"]["waiting"]) == (2, 2, 0)
    assert ann.get("/api/work").json()["counts"] == page["progress"]
    rankings = store.rankings.current()
    assert [store.comparisons.get(one.comparison).study for one in rankings] == [study.id, other.id]
    assert {one.annotator for one in rankings} == {accounts["ann"].id}


def test_the_task_in_hand_stays_when_an_older_study_gets_something(
    store: Store, study: Study, other: Study, as_account: Callable[[str], TestClient]
) -> None:
    ann = as_account("ann")
    page = submit(ann, ann.get("/api/next").json())
    assert page["study"] == other.id
    add_comparison(store, study, "What is an island?", TEXTS)
    again = ann.get("/api/next").json()
    assert again["task"]["lease"] == page["task"]["lease"]
    page = submit(ann, again)
    assert page["study"] == study.id
    undone = ann.post("/api/undo", json={"nonce": "nonce-of-undo"}).json()["next"]
    assert (undone["study"], undone["task"]["mode"]) == (other.id, "pairwise")
    assert ann.get("/api/next").json()["study"] == other.id


def test_a_study_limited_to_some_is_not_there_for_the_others(
    store: Store, study: Study, other: Study, accounts: dict[str, Annotator], as_account: Callable[[str], TestClient]
) -> None:
    add_comparison(store, study, "What is an island?", TEXTS)
    store.studies.set_annotators(study, [accounts["bea"]])
    ann, bea = as_account("ann"), as_account("bea")
    assert bea.get("/api/next").json()["study"] == study.id
    page = ann.get("/api/next").json()
    assert (page["study"], page["progress"]["waiting"]) == (other.id, 0)
    for path in ("guidelines", "consent"):
        assert ann.get(f"/api/{path}?study={study.id}").status_code == 404
        assert bea.get(f"/api/{path}?study={study.id}").status_code == 200
    store.studies.set_annotators(other, [accounts["bea"]])
    page = ann.get("/api/next").json()
    assert (page["task"], page["study"], page["state"]) == (None, None, "empty")
    assert page["progress"] == {"mine": 0, "mine_today": 0, "team": 0, "waiting": 0}
    about = ann.get("/api/study").json()
    assert (about["name"], about["topics"]) == ("", []) and "de" in about["languages"]
    assert ann.get("/api/guidelines").status_code == 404
    assert ann.post("/api/remark", json={"text": "Hello?", "nonce": "nonce-of-it"}).status_code == 404
    store.studies.set_annotators(study, [])
    assert ann.get("/api/next").json()["study"] == study.id


def test_each_study_asks_for_its_own_consent(
    store: Store, study: Study, other: Study, accounts: dict[str, Annotator], as_account: Callable[[str], TestClient]
) -> None:
    texts = [store.studies.set_consent(one, f"Of {one.name}.") for one in (other, study)]
    ann = as_account("ann")
    page = ann.get("/api/next").json()
    assert (page["state"], page["study"], page["task"]) == ("consent", study.id, None)
    assert "Of main" in ann.get("/api/consent").json()["html"]
    assert "Of other" in ann.get(f"/api/consent?study={other.id}").json()["html"]
    ann.post("/api/consent", json={"study": study.id, "version": 1})
    assert [store.annotators.consented(accounts["ann"], text) is None for text in texts] == [True, False]
    page = submit(ann, ann.get("/api/next").json())
    assert (page["state"], page["study"]) == ("consent", other.id)
    ann.post("/api/consent", json={"study": other.id, "version": 1})
    assert ann.get("/api/next").json()["task"]["mode"] == "pairwise"


def test_the_most_telling_reason_is_said_and_a_paused_study_has_none(
    store: Store, study: Study, other: Study, as_account: Callable[[str], TestClient]
) -> None:
    ann = as_account("ann")
    store.studies.edit(study, plan={"quota": 1})
    page = submit(ann, submit(ann, ann.get("/api/next").json()))
    assert (page["task"], page["state"]) == (None, "quota")
    store.studies.edit(study, plan={"quota": 0, "labels_train": 2})
    assert ann.get("/api/next").json()["state"] == "others"
    store.studies.set_status(study, "paused")
    page = ann.get("/api/next").json()
    assert (page["state"], page["study"]) == ("empty", other.id)
    store.studies.set_status(other, "closed")
    assert ann.get("/api/next").json()["state"] == "paused"
    assert "Of the first" in ann.get("/api/guidelines").json()["html"]


def test_topics_of_all_studies_can_be_avoided_and_messages_go_to_the_owner_of_the_comparison(
    store: Store, study: Study, other: Study, as_account: Callable[[str], TestClient]
) -> None:
    store.studies.edit(study, plan={"content_warnings": {"war": "Battles", "sex": ""}})
    ann = as_account("ann")
    page = submit(ann, ann.get("/api/next").json())
    topics = ann.get("/api/study").json()["topics"]
    assert [(topic["tag"], topic["text"]) for topic in topics] == [("war", "War"), ("sex", "sex")]
    message = {"text": "Odd.", "nonce": "nonce-of-it", "comparison": page["task"]["comparison"], "study": study.id}
    assert ann.post("/api/remark", json=message).status_code == 200
    assert ann.post("/api/remark", json={"text": "Hi.", "nonce": "nonce-two", "study": study.id}).status_code == 200
    assert [remark.text for remark in store.remarks.all(other.id)] == ["Odd."]
    assert [remark.text for remark in store.remarks.all(study.id)] == ["Hi."]


def test_an_own_prompt_goes_to_the_study_that_is_worked_in(
    store: Store, study: Study, other: Study, as_account: Callable[[str], TestClient]
) -> None:
    store.studies.edit(other, plan={"own_prompts": True})
    ann = as_account("ann")
    body = {"text": "Why?", "nonce": "nonce-of-it"}
    assert ann.post("/api/own_prompts", json={**body, "study": study.id}).status_code == 403
    reply = ann.post("/api/own_prompts", json={**body, "study": other.id})
    assert store.jobs.get(reply.json()["job"]).spec["study"] == other.id


def add_more(store: Store, study: Study, count: int) -> None:
    """That many further comparisons of two."""
    with store.write():
        for number in range(count):
            add_comparison(store, study, f"Question {number * 7919} of {study.name}?", TEXTS[:2])


def test_what_comes_next_is_had_ahead_from_the_next_study_too(
    store: Store, study: Study, other: Study, as_account: Callable[[str], TestClient]
) -> None:
    add_more(store, other, SPARE)
    ann = as_account("ann")
    assert ann.get("/api/ahead").json() == {"task": None, "study": None}  # nothing in hand
    page = ann.get("/api/next").json()
    assert page["study"] == study.id
    ahead = ann.get("/api/ahead").json()
    assert (ahead["study"], ahead["task"]["mode"]) == (other.id, "pairwise")
    add_more(store, study, SPARE + 1)
    assert ann.get("/api/ahead").json()["task"]["lease"] == ahead["task"]["lease"]  # never a third one
    assert ann.get("/api/next").json()["task"]["lease"] == page["task"]["lease"]
    page = submit(ann, page)
    assert (page["study"], page["task"]["lease"]) == (other.id, ahead["task"]["lease"])
    ahead = ann.get("/api/ahead").json()
    assert (ahead["study"], ahead["task"]) == (None, None)  # too few are left there for others


def test_nothing_is_had_ahead_from_a_later_study_while_an_earlier_one_has_something(
    store: Store, study: Study, other: Study, as_account: Callable[[str], TestClient]
) -> None:
    add_more(store, study, 1)
    add_more(store, other, SPARE + 1)
    ann = as_account("ann")
    page = ann.get("/api/next").json()
    assert ann.get("/api/ahead").json()["task"] is None  # one more of the first, which others may want
    store.studies.edit(study, plan={"quota": 1})
    assert ann.get("/api/ahead").json()["study"] == other.id
    assert submit(ann, page)["study"] == other.id


def test_nothing_is_had_ahead_from_a_study_that_will_ask_for_consent(
    store: Store, study: Study, other: Study, as_account: Callable[[str], TestClient]
) -> None:
    add_more(store, other, SPARE)
    store.studies.set_consent(other, "Of other.")
    ann = as_account("ann")
    assert ann.get("/api/next").json()["study"] == study.id
    assert ann.get("/api/ahead").json()["task"] is None
    ann.post("/api/consent", json={"study": other.id, "version": 1})
    assert ann.get("/api/ahead").json()["study"] == other.id


def test_a_study_that_has_nothing_for_one_does_not_ask_for_consent(
    store: Store, study: Study, other: Study, as_account: Callable[[str], TestClient]
) -> None:
    add_more(store, other, SPARE + 2)
    ann, bea = as_account("ann"), as_account("bea")
    submit(bea, bea.get("/api/next").json())
    store.studies.set_consent(study, "Of main.")
    page = ann.get("/api/next").json()
    assert (page["state"], page["study"]) == ("ranking", other.id)
    assert ann.get("/api/ahead").json()["study"] == other.id
    add_more(store, study, 1)
    assert ann.get("/api/next").json()["study"] == other.id  # the task in hand stays
    submit(ann, page)
    page = bea.get("/api/next").json()
    assert (page["state"], page["study"]) == ("ranking", other.id)
    store.studies.set_status(other, "closed")
    page = bea.get("/api/next").json()
    assert (page["state"], page["study"], page["task"]) == ("consent", study.id, None)

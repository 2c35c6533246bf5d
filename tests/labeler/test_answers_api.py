"""Beyond the order: what the API takes, refuses and gives back; hostile and broken input."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeler.assignment import LEASE_SECONDS
from labeler.bodies import REASON_MAX, REWRITE_MAX
from preferences.records import Annotator, Comparison, Study
from preferences.store import Store
from tests.labeler.conftest import SECRETS, Clock, add_comparison

Json = dict[str, Any]
HOSTILE = [
    "<script>alert(1)</script>", "${alert(1)} {{constructor}}", "\u202eevil\u202c \u2066x", "a\x00b\x07c\x1b[31m",
    "x" * 1_990, "\\u0000 'quotes\" `ticks`",
]  # fmt: skip
STRENGTHS_AND_RATING = {"strengths": True, "rating": True}


def take(client: TestClient) -> Json:
    task: Json = client.get("/api/next").json()["task"]
    return task


def answer(task: Json, nonce: str = "nonce-0001", **fields: Any) -> Json:
    """A ranking of the task, last shown first."""
    tiers = [[response["id"]] for response in task["responses"]][::-1]
    return {"comparison": task["comparison"], "lease": task["lease"], "nonce": nonce, "tiers": tiers, **fields}


def lease_of(task: Json) -> Json:
    return {"comparison": task["comparison"], "lease": task["lease"]}


def test_a_task_says_how_it_is_asked_about(ann: TestClient, store: Store) -> None:
    plan = {"flags": ["harmful"], "strengths": True, "rating": True}
    store.studies.edit(store.studies.default(), k=6, mode="best-worst", plan=plan)
    task = take(ann)
    assert task["options"] == {"flags": ["harmful"], "strengths": True, "rating": True}
    assert task["mode"] == ("best-worst" if len(task["responses"]) >= 6 else "ranking")


def test_all_is_stored_and_comes_back_in_the_history(ann: TestClient, store: Store) -> None:
    store.studies.edit(store.studies.default(), plan=STRENGTHS_AND_RATING)
    task = take(ann)
    *_, worst, best = [response["id"] for response in task["responses"]]
    marks = {"flags": {worst: ["wrong_fact"]}, "ratings": {best: 7}, "reason": "It is true."}
    strengths = [4] + [0] * (len(task["responses"]) - 2)
    reply = ann.post("/api/submit", json=answer(task, strengths=strengths, rewrite="Better.", rewrite_of=best, **marks))
    assert reply.status_code == 200, reply.text
    page = ann.get("/api/history").json()
    (line,) = page["answers"]
    letters = "ABCDEFGHI"[: len(task["responses"])]
    assert (line["echo"], line["kind"], page["more"]) == (" > ".join(letters[::-1]), "ranking", False)
    whole = ann.get(f"/api/history/{line['id']}").json()
    assert whole["rewrite"] == {"original": best, "text": "Better."}
    assert {name: whole[name] for name in marks} == marks
    assert [response["id"] for response in whole["responses"]] == [response["id"] for response in task["responses"]]
    assert not [secret for secret in SECRETS if secret in json.dumps(whole) + json.dumps(page)]


def test_history_is_ones_own_and_comes_in_parts(
    ann: TestClient, store: Store, study: Study, as_account: Callable[[str], TestClient]
) -> None:
    with store.write():
        for number in range(55):
            add_comparison(store, study, f"Another {number} question {number * 7919}?", ["a", "b"])
    page = ann.get("/api/next").json()
    for number in range(60):
        page = ann.post("/api/submit", json=answer(page["task"], f"nonce-{number:04}")).json()["next"]
    first, second = (ann.get(f"/api/history?offset={offset}").json() for offset in (0, 50))
    assert (len(first["answers"]), first["more"], len(second["answers"]), second["more"]) == (50, True, 10, False)
    assert len({line["id"] for line in first["answers"] + second["answers"]}) == 60
    bea = as_account("bea")
    assert bea.get("/api/history").json()["answers"] == []
    ident = first["answers"][0]["id"]
    assert bea.get(f"/api/history/{ident}").status_code == 404
    assert bea.post("/api/reopen", json={"ranking": ident}).status_code == 404
    for offset in ("-1", "x", "99999999999"):
        assert ann.get(f"/api/history?offset={offset}").status_code == 422


def test_an_answer_is_opened_changed_or_left_as_it_was(
    ann: TestClient, store: Store, accounts: dict[str, Annotator]
) -> None:
    task = take(ann)
    saved = ann.post("/api/submit", json=answer(task, reason="first")).json()["saved"]
    opened = ann.post("/api/reopen", json={"ranking": saved}).json()["next"]["task"]
    assert (opened["comparison"], opened["editing"]) == (task["comparison"], True)
    assert (opened["draft"]["tiers"], opened["draft"]["reason"]) == (answer(task)["tiers"], "first")
    assert take(ann)["lease"] == opened["lease"]
    left = ann.post("/api/release", json=lease_of(opened)).json()["next"]["task"]
    assert left["comparison"] != task["comparison"]
    assert store.queue.draft(task["comparison"], accounts["ann"]) is None
    opened = ann.post("/api/reopen", json={"ranking": saved}).json()["next"]["task"]
    tiers = [[response["id"]] for response in task["responses"]]
    edited = ann.post("/api/submit", json=answer(opened, "nonce-0002", tiers=tiers)).json()["saved"]
    (current,) = store.rankings.current()
    assert (current.id, current.supersedes, current.tiers) == (edited, saved, tiers)
    assert ann.post("/api/reopen", json={"ranking": saved}).status_code == 404


def test_all_bad_and_cannot_rank(ann: TestClient, store: Store, accounts: dict[str, Annotator]) -> None:
    task = take(ann)
    assert ann.post("/api/submit", json=answer(task, tiers=[], all_bad=True)).status_code == 200
    task = take(ann)
    skip = {**lease_of(task), "nonce": "nonce-0002", "reason": "Nonsense.", "verdict": "cannot_rank"}
    assert ann.post("/api/skip", json={**skip, "verdict": "all_bad"}).status_code == 422
    assert ann.post("/api/skip", json=skip).status_code == 200
    cannot, bad = ann.get("/api/history").json()["answers"]
    assert (bad["verdict"], bad["echo"], cannot["verdict"], cannot["reason"]) == (
        "all_bad",
        "",
        "cannot_rank",
        "Nonsense.",
    )
    assert len(store.rankings.history(accounts["ann"])) == 2


def test_an_order_as_shown_is_logged(ann: TestClient, store: Store) -> None:
    task = take(ann)
    ann.post("/api/submit", json=answer(task))
    task = take(ann)
    shown = [[response["id"]] for response in task["responses"]]
    saved = ann.post("/api/submit", json=answer(task, "nonce-0002", tiers=shown)).json()["saved"]
    events = [event for event in store.events.newest(20) if event.kind == "order as shown"]
    assert [(event.subject, event.detail) for event in events] == [(task["comparison"], {"ranking": saved})]


FORGED: list[Json] = [
    {"flags": {"FIRST": ["rude"]}},
    {"flags": {"foreign": ["harmful"]}},
    {"flags": {"all_bad": ["all_bad"]}},
    {"flags": {"FIRST": "harmful"}},
    {"flags": ["harmful"]},
    {"flags": {"FIRST": ["harmful"] * 33}},
    {"ratings": {"FIRST": 8}},
    {"ratings": {"FIRST": 0}},
    {"ratings": {"FIRST": 3.5}},
    {"ratings": {"FIRST": "3"}},
    {"ratings": {"FIRST": True}},
    {"ratings": {"foreign": 3}},
    {"strengths": [99]},
    {"strengths": ["much"]},
    {"strengths": [1] * 9},
    {"strengths": {"0": 1}},
    {"mode": "pairwise"},
    {"mode": "anything"},
    {"rewrite": "x"},
    {"rewrite": "x", "rewrite_of": "foreign"},
    {"rewrite": "x" * (REWRITE_MAX + 1), "rewrite_of": "LAST"},
    {"rewrite": "", "rewrite_of": "LAST"},
    {"reason": "x" * (REASON_MAX + 1)},
    {"reason": "x" * 200_000},
    {"reason": "\ud800"},
    {"rewrite": "\udfff", "rewrite_of": "LAST"},
    {"all_bad": "yes"},
    {"verdict": "all_bad"},
    {"purpose": "gold"},
    {"order": []},
]


@pytest.mark.parametrize("forged", FORGED, ids=[json.dumps(forged)[:40] for forged in FORGED])
def test_what_is_forged_is_one_sentence_and_nothing_is_stored(ann: TestClient, store: Store, forged: Json) -> None:
    store.studies.edit(store.studies.default(), plan=STRENGTHS_AND_RATING)
    task = take(ann)
    ids = {"FIRST": task["responses"][0]["id"], "LAST": task["responses"][-1]["id"]}
    text = json.dumps({**answer(task), **forged})
    for name, ident in ids.items():
        text = text.replace(name, ident)
    reply = ann.post("/api/submit", content=text, headers={"content-type": "application/json"})
    assert reply.status_code == 422, reply.text
    assert set(reply.json()) == {"error", "code"} and "\n" not in reply.json()["error"]
    assert len(reply.json()["error"]) < 400
    assert store.rankings.current() == []
    assert ann.post("/api/submit", json=answer(task)).status_code == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_read(ann: TestClient) -> None:
    reply = ann.post("/api/submit", json=answer(take(ann), reason="x" * 300_000))
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_are_kept_as_harmless_text(ann: TestClient, store: Store, text: str) -> None:
    task = take(ann)
    best = task["responses"][-1]["id"]
    body = answer(task, reason=text, rewrite=text, rewrite_of=best)
    assert ann.post("/api/draft", json={**lease_of(task), "tiers": [], "reason": text}).status_code == 200
    assert ann.post("/api/submit", json=body).status_code == 200
    (stored,) = store.rankings.current()
    assert not any(ord(letter) < 32 and letter not in "\t\n" for letter in stored.reason + stored.rewrite)
    assert stored.reason == stored.rewrite == "".join(letter for letter in text if ord(letter) >= 32)
    assert ann.get(f"/api/history/{stored.id}").json()["reason"] == stored.reason


def test_a_draft_keeps_all_that_is_said(ann: TestClient, store: Store) -> None:
    store.studies.edit(store.studies.default(), plan=STRENGTHS_AND_RATING)
    task = take(ann)
    first = task["responses"][0]["id"]
    said = {
        "tiers": [[], [first]], "strengths": [2], "flags": {first: ["harmful"]}, "ratings": {first: 2}, "reason": "so far",
        "rewrite": "", "rewrite_of": first, "mode": "ranking",
    }  # fmt: skip
    reply = ann.post("/api/draft", json={**lease_of(task), **said})
    assert reply.status_code == 200, reply.text
    kept = take(ann)["draft"]
    assert {name: value for name, value in kept.items() if name != "saved"} == {
        name: value for name, value in said.items() if value != ""
    }
    assert kept["saved"] == reply.json()["saved"]


@pytest.mark.parametrize("forged", [
    {"flags": {"foreign": ["harmful"]}}, {"ratings": {"foreign": 1}}, {"rewrite_of": "foreign"}, {"reason": "x" * 2001},
    {"tiers": [["foreign"]]}, {"strengths": ["x"]}, {"mode": "x"}, {"reason": "\ud800"},
])  # fmt: skip
def test_a_forged_draft_is_refused_and_the_earlier_one_kept(ann: TestClient, forged: Json) -> None:
    task = take(ann)
    good = {**lease_of(task), "tiers": [[task["responses"][0]["id"]]]}
    ann.post("/api/draft", json=good)
    text = json.dumps({**good, **forged})
    reply = ann.post("/api/draft", content=text, headers={"content-type": "application/json"})
    assert reply.status_code == 422
    assert take(ann)["draft"]["tiers"] == good["tiers"]


def test_a_lease_is_renewed_also_after_its_end(
    ann: TestClient, clock: Clock, as_account: Callable[[str], TestClient]
) -> None:
    task = take(ann)
    clock.now += LEASE_SECONDS - 5
    reply = ann.post("/api/renew", json=lease_of(task))
    assert reply.json() == {"lease": task["lease"], "expires": clock.now + LEASE_SECONDS, "now": clock.now}
    clock.now += LEASE_SECONDS + 5
    assert ann.post("/api/submit", json=answer(task)).json()["code"] == "not_leased"
    assert as_account("bea").post("/api/renew", json=lease_of(task)).json()["code"] == "not_leased"
    renewed = ann.post("/api/renew", json=lease_of(task)).json()
    assert ann.post("/api/submit", json={**answer(task), "lease": renewed["lease"]}).status_code == 200
    assert ann.post("/api/renew", json=lease_of(task)).json()["code"] == "not_leased"


def test_what_comes_next_can_be_had_ahead(
    ann: TestClient, store: Store, study: Study, comparisons: dict[int, Comparison]
) -> None:
    assert ann.get("/api/ahead").json() == {"task": None, "study": None}
    task = take(ann)
    assert ann.get("/api/ahead").json() == {"task": None, "study": None}  # too few are left for others
    with store.write():
        for number in range(4):
            add_comparison(store, study, f"Another {number} question {number * 7919}?", ["a", "b"])
    ahead = ann.get("/api/ahead").json()["task"]
    assert ahead["comparison"] != task["comparison"]
    assert ann.get("/api/ahead").json()["task"]["lease"] == ahead["lease"]
    assert take(ann)["lease"] == task["lease"]
    following = ann.post("/api/submit", json=answer(task)).json()["next"]["task"]
    assert following["lease"] == ahead["lease"]
    store.studies.set_status(study, "paused")
    assert ann.get("/api/ahead").json() == {"task": None, "study": None}
    assert len(comparisons) == 8

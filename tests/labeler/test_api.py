import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeler.assignment import LEASE_SECONDS
from labeler.bodies import DAY_MS
from preferences.answers import FLAGS
from preferences.records import Annotator, Comparison, Study
from preferences.store import Store
from tests.labeler.conftest import SECRETS, Clock

Json = dict[str, Any]


def take(client: TestClient) -> Json:
    """The task that the client is given."""
    task: Json = client.get("/api/next").json()["task"]
    return task


def ids(task: Json) -> list[str]:
    return [response["id"] for response in task["responses"]]


def answer(task: Json, nonce: str = "nonce-0001", **fields: Any) -> Json:
    """A ranking of the task in the order shown."""
    tiers = [[ident] for ident in ids(task)]
    return {"comparison": task["comparison"], "lease": task["lease"], "nonce": nonce, "tiers": tiers, **fields}


def test_next_gives_a_task_and_nothing_else(ann: TestClient, store: Store, accounts: dict[str, Annotator]) -> None:
    page = ann.get("/api/next").json()
    task = page["task"]
    assert set(page) == {"task", "progress", "study", "state", "now"} and page["state"] == "ranking"
    assert page["now"] == store.clock()
    assert page["progress"] == {"mine": 0, "mine_today": 0, "team": 0, "waiting": 7}
    assert set(task) == {
        "comparison", "lease", "expires", "prompt", "responses", "draft", "mode", "options", "editing", "warnings",
    }  # fmt: skip
    assert (task["mode"], task["editing"]) == ("ranking", False)
    assert task["options"] == {"flags": list(FLAGS), "strengths": False, "rating": False}
    assert task["draft"] is None
    assert task["expires"] == store.clock() + LEASE_SECONDS
    assert [set(message) for message in task["prompt"]] == [{"role", "html", "text"}]
    assert all(set(response) == {"id", "html", "text"} for response in task["responses"])
    assert "<strong>Answer</strong>" in task["responses"][0]["html"]
    lease = store.queue.check(task["lease"], accounts["ann"].id, task["comparison"])
    assert lease.order == ids(task)
    assert sorted(ids(task)) == sorted(store.comparisons.get(task["comparison"]).items)


def test_the_same_task_in_the_same_order_until_it_is_answered(ann: TestClient, clock: Clock) -> None:
    first = take(ann)
    clock.now += LEASE_SECONDS - 1
    second = take(ann)
    assert (ids(first), first["lease"]) == (ids(second), second["lease"])
    assert second["expires"] == clock.now + LEASE_SECONDS


def test_after_the_lease_ran_out_the_order_is_still_the_same(ann: TestClient, clock: Clock) -> None:
    first = take(ann)
    clock.now += LEASE_SECONDS + 1
    second = take(ann)
    assert second["lease"] != first["lease"]
    assert (second["comparison"], ids(second)) == (first["comparison"], ids(first))


def test_two_annotators_get_different_comparisons(ann: TestClient, as_account: Callable[[str], TestClient]) -> None:
    assert take(ann)["comparison"] != take(as_account("bea"))["comparison"]


def test_submit_stores_the_ranking_and_gives_the_next(
    ann: TestClient, store: Store, accounts: dict[str, Annotator]
) -> None:
    task = take(ann)
    first, second, *rest = ids(task)
    tiers = [[second, first], *([item] for item in rest)]
    reply = ann.post("/api/submit", json=answer(task, tiers=tiers, active_ms=4321, reason="Clear."))
    assert reply.status_code == 200
    assert set(reply.json()) == {"saved", "next"}
    (stored,) = store.rankings.history(accounts["ann"])
    assert (stored.id, stored.tiers, stored.order) == (reply.json()["saved"], tiers, ids(task))
    assert (stored.active_ms, stored.reason, stored.nonce) == (4321, "Clear.", "nonce-0001")
    page = reply.json()["next"]
    assert page["task"]["comparison"] != task["comparison"]
    assert page["progress"] == {"mine": 1, "mine_today": 1, "team": 1, "waiting": 6}


def test_every_size_until_the_queue_is_empty(ann: TestClient, store: Store, comparisons: dict[int, Comparison]) -> None:
    page, sizes = ann.get("/api/next").json(), set()
    for number in range(8):
        sizes.add(len(page["task"]["responses"]))
        page = ann.post("/api/submit", json=answer(page["task"], f"nonce-{number:04}")).json()["next"]
    assert sizes == set(comparisons)
    assert (page["task"], page["state"]) == (None, "empty")
    assert page["progress"] == {"mine": 8, "mine_today": 8, "team": 8, "waiting": 0}
    assert len(store.rankings.current()) == 8


def test_today_starts_at_midnight(ann: TestClient, clock: Clock) -> None:
    ann.post("/api/submit", json=answer(take(ann)))
    clock.now += 86_400
    ann.post("/login", json={"name": "ann", "password": "correct horse battery"})
    progress = ann.get("/api/next").json()["progress"]
    assert (progress["mine"], progress["mine_today"]) == (1, 0)


def test_a_nonce_is_stored_once_and_its_retry_learns_the_id(ann: TestClient, store: Store) -> None:
    body = answer(take(ann))
    saved = ann.post("/api/submit", json=body).json()["saved"]
    for body_again in (body, answer(take(ann))):
        retry = ann.post("/api/submit", json=body_again)
        assert retry.status_code == 409
        assert (retry.json()["code"], retry.json()["saved"]) == ("nonce_used", saved)
    assert len(store.rankings.current()) == 1


def test_a_submit_that_is_sent_many_times_at_once_is_stored_once(ann: TestClient, store: Store) -> None:
    body = answer(take(ann))
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: ann.post("/api/submit", json=body), range(8)))
    assert sorted(reply.status_code for reply in replies) == [200] + [409] * 7
    assert len({reply.json()["saved"] for reply in replies}) == 1
    assert len(store.rankings.current()) == 1


def test_another_annotator_cannot_answer_a_lease(
    ann: TestClient, as_account: Callable[[str], TestClient], store: Store
) -> None:
    task, bea = take(ann), as_account("bea")
    lease = {key: task[key] for key in ("comparison", "lease")}
    for path, body in (
        ("submit", answer(task)),
        ("skip", {**lease, "nonce": "nonce-0001", "reason": "No."}),
        ("draft", {**lease, "tiers": []}),
    ):
        reply = bea.post(f"/api/{path}", json=body)
        assert (reply.status_code, reply.json()["code"]) == (409, "not_leased"), path
    assert store.rankings.current() == []


def test_a_lease_that_ran_out_cannot_be_answered(ann: TestClient, clock: Clock, store: Store) -> None:
    task = take(ann)
    clock.now += LEASE_SECONDS
    reply = ann.post("/api/submit", json=answer(task))
    assert (reply.status_code, reply.json()["code"]) == (409, "not_leased")
    assert store.rankings.current() == []


def test_bad_tiers_store_nothing(ann: TestClient, store: Store) -> None:
    task = take(ann)
    first, second, *rest = ids(task)
    for tiers in ([], [[first]], [[first, first], [second], rest], [[first], [], [second], rest], [["x"], ids(task)]):
        reply = ann.post("/api/submit", json=answer(task, tiers=tiers))
        assert (reply.status_code, reply.json()["code"]) == (422, "bad_tiers"), tiers
    assert store.rankings.current() == []
    assert ann.post("/api/submit", json=answer(task)).status_code == 200


def test_wrong_types_are_one_sentence(ann: TestClient, store: Store) -> None:
    changes: list[Json] = [
        {"nonce": "short"},
        {"nonce": "x" * 65},
        {"nonce": 12345678},
        {"tiers": "abc"},
        {"tiers": [["a"] * 10]},
        {"tiers": [["a"]] * 10},
        {"tiers": [[1]]},
        {"tiers": {"0": ["a"]}},
        {"tiers": [["\ud800"]]},
        {"comparison": None},
        {"lease": ["x"]},
        {"active_ms": -1},
        {"active_ms": 1.5},
        {"active_ms": "5"},
        {"active_ms": True},
        {"reason": "x" * 2001},
        {"annotator": "bea"},
    ]
    task = take(ann)
    for change in changes:
        body = json.dumps({**answer(task), **change})
        reply = ann.post("/api/submit", content=body, headers={"content-type": "application/json"})
        assert (reply.status_code, reply.json()["code"]) == (422, "bad_request"), change
        assert set(reply.json()) == {"error", "code"}
        assert "\n" not in reply.json()["error"] and reply.json()["error"].endswith("."), change
    assert store.rankings.current() == []


@pytest.mark.parametrize("path", ["submit", "skip", "undo", "draft", "settings"])
def test_what_is_not_a_json_object_is_one_sentence(ann: TestClient, path: str) -> None:
    for content in ("", "{", "[]", "null", '"x"', "NaN", "[" * 5000, b"\xff\xfe"):
        reply = ann.post(f"/api/{path}", content=content, headers={"content-type": "application/json"})
        assert reply.status_code in (400, 422)
        assert set(reply.json()) == {"error", "code"} and "\n" not in reply.json()["error"]


def test_json_sent_as_text_is_refused(ann: TestClient, store: Store) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        reply = ann.post("/api/submit", content=json.dumps(answer(take(ann))), headers={"content-type": kind})
        assert reply.status_code == 422
    assert store.rankings.current() == []


def test_more_than_a_day_of_work_counts_as_a_day(ann: TestClient, store: Store, accounts: dict[str, Annotator]) -> None:
    assert ann.post("/api/submit", json=answer(take(ann), active_ms=10**15)).status_code == 200
    assert store.rankings.history(accounts["ann"])[0].active_ms == DAY_MS


def test_skip_stores_why_and_gives_another(ann: TestClient, store: Store, accounts: dict[str, Annotator]) -> None:
    task = take(ann)
    body = {key: task[key] for key in ("comparison", "lease")} | {"nonce": "nonce-0001", "reason": "Not my language."}
    reply = ann.post("/api/skip", json=body)
    assert reply.json()["next"]["task"]["comparison"] != task["comparison"]
    (stored,) = store.rankings.history(accounts["ann"])
    assert (stored.kind, stored.reason, stored.tiers) == ("skip", "Not my language.", [])
    assert store.rankings.current() == []


def test_skip_needs_a_reason(ann: TestClient, store: Store, accounts: dict[str, Annotator]) -> None:
    task = take(ann)
    body = {key: task[key] for key in ("comparison", "lease")} | {"nonce": "nonce-0001"}
    for reason in ({}, {"reason": ""}, {"reason": "  \n"}, {"reason": "x" * 2001}, {"reason": None}):
        assert ann.post("/api/skip", json=body | reason).status_code == 422
    assert store.rankings.history(accounts["ann"]) == []


def test_undo_gives_the_comparison_back_as_it_was(ann: TestClient, store: Store) -> None:
    task = take(ann)
    tiers = [list(reversed(ids(task)))]
    saved = ann.post("/api/submit", json=answer(task, tiers=tiers)).json()["saved"]
    reply = ann.post("/api/undo", json={"nonce": "nonce-undo"})
    assert reply.json()["undone"] == saved
    page = reply.json()["next"]
    assert (page["task"]["comparison"], ids(page["task"])) == (task["comparison"], ids(task))
    assert page["task"]["draft"] == {"tiers": tiers, "saved": store.clock()} and page["state"] == "ranking"
    assert page["progress"]["mine"] == 0
    assert store.rankings.current() == []
    assert take(ann)["lease"] == page["task"]["lease"]
    withdrawal = store.db["rankings"].get(reply.json()["saved"])
    assert (withdrawal["kind"], withdrawal["supersedes"]) == ("withdrawal", saved)
    again = ann.post("/api/undo", json={"nonce": "nonce-undo"})
    assert (again.status_code, again.json()["saved"]) == (409, reply.json()["saved"])
    assert ann.post("/api/submit", json=answer(page["task"], "nonce-0002")).status_code == 200


def test_undo_of_a_skip_and_of_nothing(ann: TestClient) -> None:
    reply = ann.post("/api/undo", json={"nonce": "nonce-undo"})
    assert (reply.status_code, reply.json()["code"]) == (409, "nothing_to_undo")
    task = take(ann)
    body = {key: task[key] for key in ("comparison", "lease")} | {"nonce": "nonce-0001", "reason": "Unclear."}
    ann.post("/api/skip", json=body)
    assert (
        ann.post("/api/undo", json={"nonce": "nonce-undo"}).json()["next"]["task"]["comparison"] == task["comparison"]
    )


def test_a_draft_is_kept_and_renews_the_lease(ann: TestClient, clock: Clock) -> None:
    task = take(ann)
    clock.now += LEASE_SECONDS - 10
    tiers = [[ids(task)[1]], []]
    body = {"comparison": task["comparison"], "lease": task["lease"], "tiers": tiers}
    assert ann.post("/api/draft", json=body).json() == {"saved": clock.now, "expires": clock.now + LEASE_SECONDS}
    saved = clock.now
    clock.now += LEASE_SECONDS - 10
    again = take(ann)
    assert (again["lease"], again["draft"]) == (task["lease"], {"tiers": tiers, "saved": saved})
    assert ann.post("/api/submit", json=answer(again)).status_code == 200


def test_a_bad_draft_is_refused_and_the_earlier_one_kept(ann: TestClient) -> None:
    task = take(ann)
    body = {"comparison": task["comparison"], "lease": task["lease"], "tiers": [[ids(task)[0]]]}
    ann.post("/api/draft", json=body)
    for tiers in ([["unknown"]], [[ids(task)[0]], [ids(task)[0]]]):
        reply = ann.post("/api/draft", json={**body, "tiers": tiers})
        assert (reply.status_code, reply.json()["code"]) == (422, "bad_tiers")
    assert take(ann)["draft"]["tiers"] == [[ids(task)[0]]]


def test_settings_are_kept(ann: TestClient) -> None:
    assert ann.get("/api/me").json() == {"name": "ann", "role": "annotator", "settings": {}}
    assert ann.post("/api/settings", json={"single_keys": False}).json() == {"saved": True}
    assert ann.get("/api/me").json()["settings"] == {"single_keys": False}
    assert ann.post("/api/settings", json={"single_keys": "no"}).status_code == 422
    assert ann.post("/api/settings", json={"single_keys": True, "role": "admin"}).status_code == 422


def test_a_paused_study_gives_no_task_but_takes_what_is_in_hand(ann: TestClient, store: Store, study: Study) -> None:
    task = take(ann)
    store.studies.set_status(study, "paused")
    page = ann.get("/api/next").json()
    assert (page["task"], page["state"]) == (None, "paused")
    reply = ann.post("/api/submit", json=answer(task))
    assert (reply.status_code, reply.json()["next"]["state"]) == (200, "paused")
    assert len(store.rankings.current()) == 1


def test_nothing_says_where_a_response_comes_from(ann: TestClient) -> None:
    page = ann.get("/api/next")
    for number in range(8):
        found = [secret for secret in SECRETS if secret in page.text]
        assert not found
        task = (page.json().get("next") or page.json())["task"]
        page = ann.post("/api/submit", json=answer(task, f"nonce-{number:04}"))


def test_model_text_comes_as_safe_html_and_as_it_is(
    as_account: Callable[[str], TestClient], store: Store, study: Study
) -> None:
    from tests.labeler.conftest import add_comparison

    attack = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) ${alert(1)} {{value}}"
    add_comparison(store, study, "Say something short, please.", [attack, "Fine."])
    task = take(as_account("ann"))
    response = next(response for response in task["responses"] if response["text"] == attack)
    assert "<img" not in response["html"] and "href" not in response["html"]


def test_a_failure_of_the_database_is_one_sentence(
    ann: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    body = answer(take(ann))
    monkeypatch.setattr(store.rankings, "submit", full)
    reply = ann.post("/api/submit", json=body)
    assert (reply.status_code, reply.json()["code"]) == (503, "busy")


def test_a_fault_of_the_program_shows_no_traceback(
    ann: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(store.studies, "open_to", broken)
    with TestClient(ann.app, raise_server_exceptions=False, cookies=ann.cookies) as unshielded:
        reply = unshielded.get("/api/next")
    assert (reply.status_code, reply.json()["code"]) == (500, "broken")
    assert "secret" not in reply.text and "Traceback" not in reply.text
    assert reply.headers["content-security-policy"]

"""An annotator's own prompt, from the page's side; the worker's is in tests/trainer/test_worker.py."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from preferences.records import Annotator, Response, Study
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT

NONCE = "nonce-of-it"


@pytest.fixture
def asker(store: Store, study: Study, ann: TestClient) -> TestClient:
    """ann, in a study that takes own prompts."""
    store.studies.edit(study, plan={"own_prompts": True})
    return ann


def ask(client: TestClient, text: str = "Why do cats purr?", nonce: str = NONCE) -> str:
    answer = client.post("/api/own_prompts", json={"text": text, "nonce": nonce})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["job"])


def answer_it(store: Store, job: str, account: Annotator) -> str:
    """What the worker does; the comparison."""
    spec = store.jobs.get(job).spec
    claimed = store.jobs.claim("w", 60)
    assert claimed and claimed.id == job
    texts = ["One.", "Two."]
    responses = [Response.make(spec["prompt"], "pid-secret-sft", text, 1, i) for i, text in enumerate(texts)]
    store.responses.add(responses)
    study = store.studies.get(spec["study"])
    made = store.comparisons.add(study, spec["prompt"], responses, "own prompt", 1000, asked_by=account.id)
    assert made
    store.jobs.beat(claimed, {"answers": 2, "of": 2, "comparison": made.id})
    store.jobs.finish(claimed)
    return made.id


def test_asking_waiting_and_ranking(
    store: Store, asker: TestClient, accounts: dict[str, Annotator], as_account: Callable[[str], TestClient]
) -> None:
    before = asker.get("/api/next").json()["task"]
    draft = {name: before[name] for name in ("comparison", "lease")} | {"tiers": [[before["responses"][0]["id"]]]}
    asker.post("/api/draft", json=draft)
    asker.get("/api/ahead")
    job = ask(asker)
    assert ask(asker) == job  # a retry asks nothing twice
    state = asker.get(f"/api/own_prompts/{job}").json()
    assert (state["status"], state["answers"], state["of"], state["ahead"]) == ("queued", 0, 4, 0)
    early = asker.post(f"/api/own_prompts/{job}/rank")
    assert (early.status_code, early.json()["code"]) == (409, "not_ready")
    comparison = answer_it(store, job, accounts["ann"])
    bea = as_account("bea")
    for _ in range(8):  # it is ann's alone
        task = bea.get("/api/next").json()["task"]
        if task is None:
            break
        assert task["comparison"] != comparison
        body = {name: task[name] for name in ("comparison", "lease")}
        bea.post("/api/skip", json={**body, "nonce": f"nonce-{task['lease']}", "reason": "x"})
    assert asker.get(f"/api/own_prompts/{job}").json()["status"] == "done"
    task = asker.post(f"/api/own_prompts/{job}/rank").json()["next"]["task"]
    assert task["comparison"] == comparison != before["comparison"]
    assert task["prompt"][0]["text"] == "Why do cats purr?"
    tiers = [[response["id"]] for response in task["responses"]]
    body = {name: task[name] for name in ("comparison", "lease")}
    assert asker.post("/api/submit", json={**body, "nonce": "nonce-rank", "tiers": tiers}).status_code == 200
    task = asker.post(f"/api/own_prompts/{job}/rank").json()["next"]["task"]  # it is ranked: on with what was begun
    assert (task["comparison"], task["draft"]["tiers"]) == (before["comparison"], draft["tiers"])


def test_the_state_says_honestly_what_one_waits_for(
    store: Store, clock: Callable[[], float], asker: TestClient, as_account: Callable[[str], TestClient]
) -> None:
    training = store.jobs.add("reward", {})
    claimed = store.jobs.claim("w", 60)
    assert claimed and claimed.id == training.id
    first, second = ask(asker), ask(as_account("bea"), "And dogs?")
    clock.now += 75  # type: ignore[attr-defined]
    state = asker.get(f"/api/own_prompts/{first}").json()
    assert (state["busy_with"], state["ahead"], state["waited"]) == ("reward", 0, 75)
    assert as_account("bea").get(f"/api/own_prompts/{second}").json()["ahead"] == 1
    store.jobs.finish(claimed)
    running = store.jobs.claim("w", 60)
    assert running and running.id == first
    store.jobs.beat(running, {"answers": 2, "of": 4})
    store.jobs.beat(running)  # a sign of life takes nothing back
    assert asker.get(f"/api/own_prompts/{first}").json()["answers"] == 2
    assert as_account("bea").get(f"/api/own_prompts/{second}").json()["ahead"] == 1
    store.jobs.finish(running, "All answers were the same.")
    failed = asker.get(f"/api/own_prompts/{first}").json()
    assert (failed["status"], failed["error"]) == ("failed", "All answers were the same.")


def test_a_worker_that_is_done_without_answers(store: Store, asker: TestClient) -> None:
    job = ask(asker)
    claimed = store.jobs.claim("w", 60)
    assert claimed and claimed.id == job
    store.jobs.finish(claimed)
    refused = asker.post(f"/api/own_prompts/{job}/rank")
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown")


def test_own_prompts_come_before_all_other_jobs(store: Store, asker: TestClient) -> None:
    store.jobs.add("reward", {})
    job = ask(asker)
    claimed = store.jobs.claim("w", 60)
    assert claimed and claimed.id == job


def test_one_at_a_time_and_only_where_the_study_allows_it(
    store: Store, asker: TestClient, as_account: Callable[[str], TestClient]
) -> None:
    job = ask(asker)
    again = asker.post("/api/own_prompts", json={"text": "Another?", "nonce": "nonce-2-of-it"})
    assert (again.status_code, again.json()["code"]) == (409, "not_ready")
    bea = as_account("bea")
    for address in (f"/api/own_prompts/{job}", "/api/own_prompts/none"):
        assert bea.get(address).status_code == 404
    assert bea.post(f"/api/own_prompts/{job}/rank").status_code == 404
    store.studies.edit(store.studies.default(), plan={"own_prompts": False})
    refused = bea.post("/api/own_prompts", json={"text": "Why?", "nonce": NONCE})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert [made.kind for made in store.jobs.all()] == [OWN_PROMPT]


@pytest.mark.parametrize("text", ["", "  \n", "x" * 4001])
def test_an_empty_or_endless_prompt_is_refused(asker: TestClient, text: str) -> None:
    assert asker.post("/api/own_prompts", json={"text": text, "nonce": NONCE}).status_code == 422

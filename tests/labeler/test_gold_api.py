"""What the page is told of gold, and of why there is nothing to rank."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeler.assignment import SPARE
from preferences.records import Annotator, Comparison
from preferences.store import Store
from tests.labeler.conftest import add_comparison


def submit(client: TestClient, page: dict[str, Any], tiers: list[list[str]]) -> dict[str, Any]:
    task = page["task"]
    body = {"comparison": task["comparison"], "lease": task["lease"], "nonce": f"nonce-{task['lease']}", "tiers": tiers}
    answer = client.post("/api/submit", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def make_gold(store: Store, comparisons: dict[int, Comparison], **plan: object) -> dict[str, list[list[str]]]:
    golds = {}
    for k in (2, 3, 4):
        golds[comparisons[k].id] = [[item] for item in comparisons[k].items]
        store.golds.add(comparisons[k], golds[comparisons[k].id], "**Because** it is right.")
    store.studies.edit(store.studies.get("main"), plan={"qualification": 2, "gold": 1.0, **plan})
    return golds


def test_a_newcomer_is_told_what_was_meant_and_later_nothing(
    store: Store, comparisons: dict[int, Comparison], as_account: Callable[[str], TestClient]
) -> None:
    golds = make_gold(store, comparisons)
    ann = as_account("ann")
    page = ann.get("/api/next").json()
    assert "gold" not in str(page) and "purpose" not in str(page)
    for _ in range(2):
        tiers = golds[page["task"]["comparison"]]
        done = submit(ann, page, tiers)
        assert done["feedback"]["agreement"] == 1.0 and done["feedback"]["tiers"] == tiers
        assert "<strong>Because</strong>" in done["feedback"]["html"]
        page = done["next"]
    assert page["task"]["comparison"] in golds  # the third, unnoticed
    done = submit(ann, page, golds[page["task"]["comparison"]])
    assert "feedback" not in done and done["next"]["task"]["comparison"] not in golds


def test_whoever_fails_gets_no_more(
    store: Store, comparisons: dict[int, Comparison], as_account: Callable[[str], TestClient]
) -> None:
    golds = make_gold(store, comparisons)
    for number in range(SPARE):  # beside the others that are left, enough for one to be had ahead
        add_comparison(store, store.studies.get("main"), f"Another {number} question {number * 7919}?", ["a", "b"])
    ann = as_account("ann")
    page = ann.get("/api/next").json()
    for _ in range(2):
        assert ann.get("/api/ahead").json()["task"] is None  # also not while the last gold is in hand
        done = submit(ann, page, golds[page["task"]["comparison"]][::-1])
        assert done["feedback"]["agreement"] == 0.0
        page = done["next"]
    assert (page["task"], page["state"]) == (None, "unqualified")


@pytest.mark.usefixtures("comparisons")
def test_why_there_is_nothing(
    store: Store, accounts: dict[str, Annotator], as_account: Callable[[str], TestClient]
) -> None:
    study = store.studies.edit(store.studies.get("main"), plan={"quota": 1})
    ann, bea = as_account("ann"), as_account("bea")
    page = ann.get("/api/next").json()
    page = submit(ann, page, [[response["id"] for response in page["task"]["responses"]]])["next"]
    assert (page["task"], page["state"]) == (None, "quota")
    store.studies.edit(study, plan={"quota": 0, "labels_train": 2})
    for _ in range(7):
        page = ann.get("/api/next").json()
        page = submit(ann, page, [[response["id"] for response in page["task"]["responses"]]])["next"]
    assert (page["task"], page["state"]) == (None, "others")
    store.exclusions.exclude(study, accounts["bea"], "at random")
    assert bea.get("/api/next").json()["state"] == "excluded"


@pytest.mark.usefixtures("comparisons")
def test_a_repeat_looks_like_any_other_task(store: Store, as_account: Callable[[str], TestClient]) -> None:
    store.studies.edit(store.studies.get("main"), plan={"repeats": 1.0, "repeat_gap": 0})
    ann = as_account("ann")
    first = ann.get("/api/next").json()
    order = [response["id"] for response in first["task"]["responses"]]
    again = submit(ann, first, [[item] for item in order])["next"]
    assert again["task"]["comparison"] == first["task"]["comparison"]
    assert [response["id"] for response in again["task"]["responses"]] == order[::-1]
    assert set(again["task"]) == set(first["task"]) and again["task"]["editing"] is first["task"]["editing"] is False
    assert again["task"]["draft"] is None and again["progress"]["mine"] == 1
    submit(ann, again, [[item] for item in order])
    assert [ranking.purpose for ranking in store.rankings.history(store.annotators.get("ann"))] == ["repeat", "label"]

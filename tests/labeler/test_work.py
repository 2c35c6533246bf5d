"""An annotator's own numbers."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeler.work import FEWEST_PAIRS
from preferences import summary
from preferences.records import Annotator, Comparison
from preferences.store import Store
from tests.labeler.conftest import Clock, add_account

DAY = 86_400


def test_quality_is_what_the_statistics_say(
    store: Store,
    accounts: dict[str, Annotator],
    comparisons: dict[int, Comparison],
    as_account: Callable[[str], TestClient],
) -> None:
    """Ties and what is not compared left out; with its interval, or why it is undefined. Of what counts alone."""
    people = [accounts["ann"], accounts["bea"], add_account(store, "cem")]
    ann = as_account("ann")

    def said() -> dict[str, Any]:
        return dict(ann.get("/api/work").json()["agreement"])

    assert said() == {"undefined": "nothing", "n": 0, "needed": FEWEST_PAIRS}
    first, second = comparisons[4], comparisons[6]
    a, b, c, d = first.items
    store.rankings.add_imported(people[0], first, [[a], [b], [c, d]])
    assert said() == {"undefined": "alone", "n": 0, "needed": FEWEST_PAIRS}
    store.rankings.add_imported(people[1], first, [[a], [c], [b], [d]])
    store.rankings.add_imported(people[2], first, [[a, b], [c], [d]])
    # bea: ab, ac, ad, bd alike, bc not; cem: ac, ad, bc, bd alike; the other three pairs are ties of one of two.
    assert said() == {"undefined": "few", "n": 9, "needed": FEWEST_PAIRS}
    best, *middle, worst = second.items
    for person, tiers in ((people[0], [[best], middle, [worst]]), (people[1], [[worst], middle, [best]])):
        store.rankings.add_imported(person, second, tiers, mode="best-worst")
    found = said()
    assert (found["value"], found["n"]) == (pytest.approx(8 / 18), 18)
    assert found == summary.agreement(store)["by_annotator"]["ann"]["agreement"]
    robot = add_account(store, "robot", simulated=True)
    store.rankings.add_imported(robot, first, [[d], [c], [b], [a]])
    assert said() == found  # what a program says is no measure of a person
    store.exclusions.exclude(store.studies.default(), people[0], "tired", "adam")
    assert said()["undefined"] == "nothing"


def answer(client: TestClient, active_ms: int, backwards: bool = False, skip: bool = False) -> dict[str, Any]:
    task: dict[str, Any] = client.get("/api/next").json()["task"]
    body = {name: task[name] for name in ("comparison", "lease")}
    body |= {"nonce": f"nonce-{task['lease']}", "active_ms": active_ms}
    ids = [response["id"] for response in sorted(task["responses"], key=lambda one: one["text"], reverse=backwards)]
    what = {"reason": "x"} if skip else {"tiers": [[ident] for ident in ids]}
    assert client.post("/api/skip" if skip else "/api/submit", json=body | what).status_code == 200
    return task


def test_counts_hours_and_days(clock: Clock, ann: TestClient) -> None:
    clock.now -= 20 * DAY
    answer(ann, 60_000)
    clock.now += 17 * DAY
    answer(ann, 120_000)
    clock.now += 3 * DAY
    ann.post("/login", json={"name": "ann", "password": "correct horse battery"})
    answer(ann, 30_000)
    answer(ann, 10_000, skip=True)
    work = ann.get("/api/work").json()
    assert work["seconds"] == {"today": 40, "week": 160, "all": 220, "median": 45}
    assert (work["counts"]["mine"], work["counts"]["mine_today"]) == (3, 1)
    assert len(work["days"]) == 14
    assert [(day["rankings"], day["seconds"]) for day in work["days"] if day["rankings"]] == [(1, 120), (2, 40)]
    assert work["agreement"]["undefined"] == "alone"
    ann.post("/api/undo", json={"nonce": "nonce-of-undo"})
    assert ann.get("/api/work").json()["seconds"]["all"] == 220  # it was worked, whatever became of it


def test_quality_is_ones_own(
    store: Store, comparisons: dict[int, Comparison], ann: TestClient, as_account: Callable[[str], TestClient]
) -> None:
    store.studies.edit(store.studies.default(), plan={"labels_train": 3, "labels_heldout": 3, "repeats": 0.0})
    for client, backwards in ((ann, False), (as_account("bea"), False), (as_account("adam"), True)):
        for _ in comparisons:
            answer(client, 1000, backwards)
    total = sum(k * (k - 1) // 2 for k in comparisons)
    found = ann.get("/api/work").json()["agreement"]
    assert (found["value"], found["n"]) == (0.5, 2 * total)
    assert as_account("adam").get("/api/work").json()["agreement"]["value"] == 0

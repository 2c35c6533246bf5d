"""Who answers from now on, decided in the browser: one line in the log each, and refused where it could not work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from preferences.records import Study
from preferences.store import Store
from tests.labeler.conftest import add_account
from tests.preferences.make import add_duel
from tests.preferences.test_promotions import policy_at


@pytest.fixture
def rita(store: Store, as_account: Callable[[str], TestClient]) -> TestClient:
    add_account(store, "rita", "researcher")
    return as_account("rita")


def test_a_policy_is_promoted_and_rolled_back(store: Store, study: Study, tmp_path: Path, rita: TestClient) -> None:
    new = policy_at(store, "new", tmp_path)
    (shown,) = rita.get("/api/promotions").json()["studies"]
    assert (shown["answers"], shown["back"]) == (["policy-secret-sft", "policy-secret-ppo"], [])
    body = {"study": study.id, "policy": new.id, "reason": "It wins 61% [54, 68]."}
    assert rita.post("/api/promotions", json=body).json() == {"policies": ["new"]}
    assert store.studies.sampling_policies(study) == [new]
    (shown,) = rita.get("/api/promotions").json()["studies"]
    assert (shown["answers"], shown["back"]) == (["new"], ["policy-secret-sft", "policy-secret-ppo"])
    assert shown["history"][0] == {
        "at": store.clock(), "by": "rita", "kind": "policy promoted", "policies": ["new"],
        "reason": "It wins 61% [54, 68].",
    }  # fmt: skip
    again = rita.post("/api/promotions", json=body)
    assert again.status_code == 400 and "already" in again.json()["error"]
    back = rita.post("/api/promotions/back", json={"study": study.id, "reason": "It rambles."})
    assert back.json() == {"policies": ["policy-secret-sft", "policy-secret-ppo"]}
    kinds = [event.kind for event in store.promotions.history(study)]
    assert kinds == ["sampling policies", "policy promoted", "policy rolled back"]


def test_a_study_s_gate_asks_for_a_blind_win(store: Store, study: Study, tmp_path: Path, rita: TestClient) -> None:
    new = policy_at(store, "new", tmp_path)
    store.studies.edit(study, plan={"min_win_rate": 0.5})
    refused = rita.post("/api/promotions", json={"study": study.id, "policy": new.id})
    assert (refused.status_code, refused.json()["code"]) == (409, "gate_closed")
    assert "Nobody has ranked answers of new" in refused.json()["error"]
    assert new not in store.studies.sampling_policies(study)
    (shown,) = rita.get("/api/promotions").json()["studies"]
    assert shown["gates"] == ["a blind win rate above 50%, with its whole interval, before a promotion"]
    store.studies.edit(study, plan={"min_win_rate": 0.0})
    assert rita.post("/api/promotions", json={"study": study.id, "policy": new.id}).status_code == 200


def test_how_a_policy_fares_blind_stands_beside_its_promotion(
    store: Store, study: Study, tmp_path: Path, rita: TestClient
) -> None:
    """Against the SFT policy it comes from; the same figures as on the page of studies."""
    add_duel(store, study, [1, 1, 1, 0.5, 0] * 8, ("pid-secret-ppo", "pid-secret-sft"))
    other = policy_at(store, "other-sft", tmp_path, "sft")
    new = policy_at(store, "new", tmp_path, parent=other.id)
    last = policy_at(store, "last", tmp_path, parent="pid-secret-sft")
    add_duel(store, study, [0, 0, 0.5], ("last", "pid-secret-sft"), about="Last")

    def asked(policy: str) -> Any:
        return rita.get("/api/promotions/evidence", params={"study": study.id, "policy": policy}).json()

    won = asked("pid-secret-ppo")
    assert won["said"].startswith("policy-secret-ppo is better than policy-secret-sft: decided after ")
    facts = dict(won["facts"])
    assert (facts["Wins"], facts["Decision"], facts["Prompts"], facts["Labels to go, looking once"]) == (
        "0.700",
        "better",
        "40",
        "none",
    )
    assert dict(asked(last.id)["facts"])["Wins"] == "0.167"
    assert asked("pid-secret-sft") == {
        "said": "policy-secret-sft is what other policies are held against.",
        "facts": [],
    }
    assert asked(new.id)["facts"] == []
    assert asked(new.id)["said"].startswith("No answer of new to a held-out prompt was ranked beside one of other-sft")
    assert rita.get("/api/promotions/evidence", params={"study": study.id, "policy": "nobody"}).status_code == 404


def test_what_cannot_answer_says_why(store: Store, study: Study, tmp_path: Path, rita: TestClient) -> None:
    lost = policy_at(store, "lost", tmp_path)
    (tmp_path / "lost" / "adapter_model.safetensors").unlink()
    found = {one["name"]: one["refusal"] for one in rita.get("/api/promotions").json()["policies"]}
    assert "is not at" in found["lost"]
    refused = rita.post("/api/promotions", json={"study": study.id, "policy": lost.id})
    assert (refused.status_code, refused.json()["error"]) == (400, found["lost"])
    assert rita.post("/api/promotions/back", json={"study": study.id}).status_code == 400
    assert rita.post("/api/promotions", json={"study": "absent", "policy": lost.id}).status_code == 404
    assert store.promotions.history(study)[-1].kind == "sampling policies"

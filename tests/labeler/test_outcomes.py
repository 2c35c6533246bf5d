"""What a worker on another host says came of its job: of the shape that its kind of job has, or refused and not stored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeler.worker_tokens import new_token
from preferences.records import Policy, Study
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT, PLAN
from tests.labeler.conftest import add_account
from tests.labeler.test_worker_api import ABOUT, DOCUMENT, Far

pytestmark = [pytest.mark.security, pytest.mark.smoke]
MEAN = {"value": 0.61, "low": 0.5, "high": 0.72, "n": 9}
NONE = {"value": None, "low": None, "high": None, "n": 0}
ANSWERED = {"length": 12.5, "eos_rate": 1, "score": MEAN}
STEP = {"batch": 4, "tokens": 2048, "total_gib": 3.2}
STAGE = {
    "fits": True, "total_gib": 3.2, "parts": {"weights": 2.0}, "batch": 4, "steps": {"update": STEP},
    "options": {"checkpointing": True, "token_budget": 2048, "value": "trunk"},
}  # fmt: skip
SPECS: dict[str, dict[str, Any]] = {
    "evaluate": {"adapter": "/runs/a/adapter"}, "check": {"reward": "/runs/r/adapter"}, "sample": {},
    PLAN: {"stage": "ppo", "options": {}, "vram": 24.0},
}  # fmt: skip
GOOD: dict[str, dict[str, Any]] = {
    "evaluate": {
        "prompts": 9, "policy": "a", "against": "b", "new": ANSWERED, "old": {"length": 3.0, "eos_rate": 0.5},
        "win_rate": MEAN, "score_difference": NONE, "others": {"b": {**ANSWERED, "win_rate": MEAN}}, "queued": 8, "equal": 1,
    },
    "check": {"policy": "a", "against": None, "scored": 40, "queued": {"longest": 3, "most refusals": 0}},
    "sample": {"prompts": 3, "responses": 12, "comparisons": 3, "selected": 2, "random": 1, "policies": ["a", "b"]},
    PLAN: {
        "model": "tiny", "quantize": "none", "vram_gib": 24.0, "fits": True, "total_gib": 3.2, "parts": {"weights": 2.0},
        "batch": 4, "tightest": "ppo", "stages": {"ppo": STAGE}, "parameters": 10**9, "download_gib": 2.0, "disk_gib": 4.0,
        "host_ram_gib": 8.0, "time_split": {"train": 0.7}, "change": ["take nf4"], "notes": ["The text alone."],
    },
}  # fmt: skip
LONG = "x" * 5000
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("evaluate", {"win_rate": {"value": 1.0}}), ("evaluate", {"win_rate": "0.9"}), ("evaluate", {"warnings": 3}),
    ("evaluate", {"recommended": {"reason": "Take it."}}), ("evaluate", {"queued": {"x": {"low": 1}}}),
    ("evaluate", {"policy": "nobody"}), ("evaluate", {"others": {"nobody": ANSWERED}}), ("evaluate", {"policy": LONG}),
    ("evaluate", {"prompts": -1}), ("evaluate", {"prompts": 2**60}), ("evaluate", {"new": None}),
    ("evaluate", {"new": {**ANSWERED, "length": "1"}}),
    ("evaluate", {"others": {str(i): ANSWERED for i in range(21)}}),
    ("check", {"queued": [1]}), ("check", {"queued": {str(i): i for i in range(51)}}), ("check", {"policy": "nobody"}),
    ("check", {"scored": 1.5}), ("check", {"scored": True}), ("check", {"queued": {LONG: 1}}),
    ("sample", {"policies": "a"}), ("sample", {"policies": ["a"] * 101}), ("sample", {"policies": ["nobody"]}),
    ("sample", {"responses": None}),
    (PLAN, {"stages": {}}), (PLAN, {"stages": {"ppo": {}}}), (PLAN, {"parts": {"weights": "2"}}), (PLAN, {"vram_gib": None}),
    (PLAN, {"stages": {"ppo": {**STAGE, "options": {"out": ["/etc"]}}}}), (PLAN, {"change": [LONG]}), (PLAN, {"more": 1}),
]  # fmt: skip


@pytest.fixture
def far(client: TestClient, store: Store, study: Study) -> Far:
    """A worker on another host; there are policies a and b."""
    del study
    for name in ("a", "b"):
        store.policies.add(Policy(name, name, "sft", "m", "none", f"/runs/{name}/adapter"))
    return Far(client, new_token(store, "gpu"))


def took(store: Store, far: Far, kind: str) -> str:
    """A job of that kind that the worker has in hand."""
    made = store.jobs.add(kind, SPECS[kind])
    assert far.claim()["id"] == made.id
    return made.id


def field(kind: str) -> str:
    return "plan" if kind == PLAN else "result"


def beat(far: Far, job: str, body: dict[str, Any]) -> Any:
    """Escaped, since httpx itself would send no half character."""
    headers = {**far.headers, "Content-Type": "application/json"}
    return far.client.post(f"/api/worker/jobs/{job}/beat", content=json.dumps(body), headers=headers)


def say(far: Far, job: str, progress: dict[str, Any]) -> Any:
    """How far the job is."""
    return beat(far, job, {"progress": progress})


@pytest.mark.parametrize("kind", GOOD)
def test_what_a_worker_of_ours_says_is_kept_as_it_is(
    store: Store, far: Far, as_account: Callable[[str], TestClient], kind: str
) -> None:
    job = took(store, far, kind)
    progress = {field(kind): GOOD[kind], **({"text": "It fits."} if kind == PLAN else {})}
    assert say(far, job, progress).status_code == 200
    kept = store.jobs.get(job).progress
    assert kept[field(kind)] == GOOD[kind]
    add_account(store, "rita", "researcher")
    shown = as_account("rita").get(f"/api/training/jobs/{job}")
    assert shown.status_code == 200
    facts = dict(shown.json()["facts"])
    assert facts.get("Policy") == {"evaluate": "a", "check": "a"}.get(kind)


@pytest.mark.parametrize(
    ("kind", "wrong"), WRONG, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_what_no_job_of_its_kind_says_is_refused_in_one_sentence(
    store: Store, far: Far, kind: str, wrong: dict[str, Any]
) -> None:
    job = took(store, far, kind)
    answer = say(far, job, {"prompts": 1, field(kind): {**GOOD[kind], **wrong}})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_upload"), answer.text
    assert next(iter(wrong)) in answer.json()["error"] or "nobody" in answer.json()["error"]
    assert len(answer.json()["error"]) < 1000
    assert not {"prompts", "result", "plan"} & store.jobs.get(job).progress.keys(), "A part of it was stored."


def test_kinds_of_jobs_say_nothing_of_one_another(store: Store, far: Far, tmp_path: Path) -> None:
    """A run says what came of it in its folder, an own prompt as a comparison."""
    job = took(store, far, "sample")
    for progress in ({"plan": GOOD[PLAN]}, {"text": "Promote me."}, {"result": GOOD["check"]}):
        assert say(far, job, progress).json()["code"] == "bad_upload", progress
    far.post(f"jobs/{job}/end", {"status": "done"})
    for kind, spec in (("sft", {"out": str(tmp_path / "runs" / "r")}), (OWN_PROMPT, {"prompt": "p", "annotator": "x"})):
        made = store.jobs.add(kind, spec)
        assert far.claim()["id"] == made.id
        for progress in ({"result": GOOD["check"]}, {"plan": GOOD[PLAN]}):
            assert say(far, made.id, progress).json()["code"] == "bad_upload", (kind, progress)
        assert say(far, made.id, {"answers": 1, "of": 4}).status_code == 200
        far.post(f"jobs/{made.id}/end", {"status": "failed"})


def test_a_result_that_comes_with_effects_is_looked_at_as_well_and_nothing_of_either_is_stored(
    store: Store, far: Far
) -> None:
    job = took(store, far, "sample")
    base = {
        "id": "a" * 20, "name": "plain", "kind": "base", "base": "m", "quantization": "none", "adapter": None,
        "parent": None, "data_hash": "", "config": {}, "code_version": "",
    }  # fmt: skip
    document = far.send(job, json.dumps({"policies": [base]}).encode())
    said = {"document": document, "progress": {"result": {**GOOD["sample"], "policies": ["plain", "nobody"]}}}
    assert far.post(f"jobs/{job}/effects", said).json()["code"] == "bad_upload"
    assert store.policies.find("plain") is None and "result" not in store.jobs.get(job).progress
    said["progress"] = {"result": {**GOOD["sample"], "policies": ["plain"]}}
    assert far.post(f"jobs/{job}/effects", said).status_code == 200
    assert store.policies.find("plain") and store.jobs.get(job).progress["result"]["policies"] == ["plain"]


LINES = (
    {"steps": 3}, {"step": "1", "steps": 2, "time": 3}, {"step": 1, "steps": 2, "time": None},
    {"step": 10**400, "steps": 1, "time": 1}, {"step": 1, "loss": float("nan")}, {"step": 1, "loss": 10**400},
    {"step": 1, "samples": 3}, {"step": 1, "samples": [{"score": "x", "kl": 1}]}, {"step": 1, "samples": ["x"]},
    {"step": 1, "loss": 1.0, "role": "\ud800"},
)  # fmt: skip


def test_the_page_stands_whatever_a_run_on_another_host_logs(
    store: Store, study: Study, far: Far, as_account: Callable[[str], TestClient], tmp_path: Path
) -> None:
    made = store.jobs.add("sft", {"out": str(tmp_path / "runs" / "r"), "study": study.name})
    assert far.post("hello", ABOUT).status_code == 200 and far.claim()["id"] == made.id
    folder = tmp_path / "runs" / "r"
    folder.mkdir(parents=True, exist_ok=True)
    good = [{"step": 1, "steps": 4, "time": 1.0, "loss": 2.5}, {"step": 1, "samples": [{"score": 1, "kl": 0.5}]}]
    text = "".join(json.dumps(line) + "\n" for line in (*LINES, *good)) + "[" * 100_000 + "\n"
    for name in ("metrics.jsonl", "samples.jsonl"):
        (folder / name).write_bytes(text.encode() + b"\xff\xfe\n")
    add_account(store, "rita", "researcher")
    rita = as_account("rita")
    (row,) = rita.get("/api/training/jobs").json()["jobs"]
    assert (row["step"], row["steps"]) == (1, 4)
    job = rita.get(f"/api/training/jobs/{made.id}").json()
    assert job["looks"] == [{"step": 1, "rows": [{"score": 1, "kl": 0.5}]}]
    assert {"title": "Loss", "series": [{"name": "loss", "points": [[1, 2.5]]}]} in job["plots"]
    for wrong in ({"heldout_accuracy": {"value": 1.0}}, {"heldout_accuracy": "all"}):
        assert beat(far, made.id, {"document": {**DOCUMENT, **wrong}}).json()["code"] == "bad_upload", wrong
    assert far.post(f"jobs/{made.id}/beat", {"document": {**DOCUMENT, "heldout_accuracy": MEAN}}).status_code == 200
    assert rita.get(f"/api/training/jobs/{made.id}").status_code == 200

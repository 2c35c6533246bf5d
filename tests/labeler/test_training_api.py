"""Training from the browser: forms, launches, stops, and what a run logs while it works."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeler.training import POINTS, far, plots, thinned
from preferences.records import Policy, Study
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT
from tests.labeler.conftest import Clock, add_account
from tests.labeler.trained import STAGES, add_loop, begin, publish


@pytest.fixture
def runs(store: Store, tmp_path: Path) -> Path:
    """Where the runs of a worker that has just begun are."""
    folder = tmp_path / "runs"
    folder.mkdir()
    publish(store, folder)
    return folder


@pytest.fixture
def rita(store: Store, as_account: Callable[[str], TestClient]) -> TestClient:
    add_account(store, "rita", "researcher")
    return as_account("rita")


def launch(client: TestClient, run: str, stage: str = "ppo", /, **options: Any) -> Any:
    return client.post("/api/training/jobs", json={"stage": stage, "run": run, "options": options})


def test_without_a_worker_there_is_nothing_to_fill_in(rita: TestClient) -> None:
    found = rita.get("/api/training").json()
    assert (found["worker"], found["stages"], found["names"]) == (None, {}, {})
    refused = launch(rita, "p")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_ready") and "trainer worker" in refused.text


def test_forms_and_what_there_is_to_choose_from(
    store: Store, study: Study, runs: Path, rita: TestClient, clock: Clock
) -> None:
    store.policies.add(Policy("base", "base", "base", "tiny", "none"))
    found = rita.get("/api/training").json()
    assert found["stages"] == STAGES and found["names"] == {"reward": "reward-1", "ppo": "ppo-1"}
    assert found["choices"]["study"] == [{"value": study.name, "name": study.name}]
    assert [one["value"] for one in found["choices"]["policy"]] == ["base"], "the others belong to another base"
    assert found["worker"] == {
        "name": "box:1", "alive": True, "seen": clock.now, "model": "tiny", "quantization": "none", "device": "cpu",
        "memory_gib": None,
    }  # fmt: skip
    clock.now += 31
    assert rita.get("/api/training/jobs").json()["worker"]["alive"] is False
    (runs / "ppo-1").mkdir()
    store.policies.add(Policy("x", "ppo-2", "ppo"))
    assert rita.get("/api/training").json()["names"]["ppo"] == "ppo-3"


def test_a_run_is_launched_with_all_its_options_on_record(
    store: Store, study: Study, runs: Path, rita: TestClient
) -> None:
    first = launch(rita, "reward-1", "reward", study=study.name, lr=1e-3).json()["job"]
    adapter = str(runs / "reward-1" / "adapter")
    choices = rita.get("/api/training").json()["choices"]["reward-model"]
    assert choices == [{"value": adapter, "name": "reward-1 (once it is trained)"}]
    second = launch(rita, "ppo-1", reward=adapter, iterations=2).json()["job"]
    assert store.jobs.get(first).spec == {
        "study": study.name, "lr": 1e-3, "members": 1, "bagging": True, "out": str(runs / "reward-1"),
    }  # fmt: skip
    spec = store.jobs.get(second).spec
    assert (spec["reward"], spec["iterations"], spec["sample_next"], spec["out"]) == (
        adapter,
        2,
        False,
        str(runs / "ppo-1"),
    )
    jobs = rita.get("/api/training/jobs").json()["jobs"]
    assert [(job["run"], job["kind"], job["status"], job["place"]) for job in jobs] == [
        ("ppo-1", "ppo", "queued", 2), ("reward-1", "reward", "queued", 1),
    ]  # fmt: skip
    whole = rita.get(f"/api/training/jobs/{second}").json()
    assert (whole["by"], whole["options"]["reward"], whole["plots"], whole["log"]) == ("rita", adapter, [], [])


def test_a_policy_is_evaluated_and_a_run_reported_without_a_name_of_their_own(
    store: Store, study: Study, runs: Path, rita: TestClient
) -> None:
    add_loop(store, study, runs, {"annotator-1": 20})
    launch(rita, "ppo-2", reward=str(runs / "reward-1" / "adapter"))
    choices = rita.get("/api/training").json()["choices"]
    coming = {"value": str(runs / "ppo-2" / "adapter"), "name": "ppo-2 (once it is trained)"}
    assert choices["adapter"] == [coming, {"value": str(runs / "ppo-1" / "adapter"), "name": "ppo-1 (ppo)"}]
    assert [one["name"] for one in choices["run"]] == ["ppo-2 (once it is trained)", "ppo-1 (ppo)", "reward-1 (reward)"]
    evaluated = launch(rita, "", "evaluate", adapter=coming["value"]).json()["job"]
    reported = launch(rita, "", "report", run=str(runs / "ppo-1")).json()["job"]
    assert store.jobs.get(evaluated).spec == {
        "study": None, "queue": True, "adapter": coming["value"], "also": [], "human": None,
    }  # fmt: skip
    assert store.jobs.get(reported).spec == {"run": str(runs / "ppo-1")}
    rows = rita.get("/api/training/jobs").json()["jobs"]
    assert [(row["run"], row["kind"]) for row in rows] == [("ppo-1", "report"), ("ppo-2", "evaluate"), ("ppo-2", "ppo")]


def test_the_jobs_that_made_and_reported_a_run_link_to_its_report(
    store: Store, study: Study, runs: Path, rita: TestClient
) -> None:
    ids = add_loop(store, study, runs, {"annotator-1": 20})
    jobs = {
        name: [
            launch(rita, "", "report", run=str(runs / name)).json()["job"],
            store.jobs.launch(name.split("-")[0], {"out": str(runs / name)}, "").id,
        ]
        for name in ("reward-1", "ppo-1")
    }
    links = {name: [rita.get(f"/api/training/jobs/{job}").json()["report"] for job in of] for name, of in jobs.items()}
    assert links == {"reward-1": [None, None], "ppo-1": [None, None]}, "There is none yet."
    for name, of in jobs.items():
        (runs / name / "report").mkdir()
        (runs / name / "report" / "report.html").write_text(f"<p>All of {name}.</p>")
        links[name] = [rita.get(f"/api/training/jobs/{job}").json()["report"] for job in of]
        assert len(set(links[name])) == 1 and f"All of {name}" in rita.get(f"/api/runs/{links[name][0]}/report").text
    assert links["reward-1"][0] == ids["reward"] != links["ppo-1"][0]
    nodes = {node["id"]: node for node in rita.get("/api/lineage").json()["nodes"]}
    assert {nodes[ids[name]]["report"] for name in ("reward", "ppo")} == {True} and not nodes[ids["sft"]]["report"]


def test_checkpoints_and_what_people_wrote_are_mixed_into_one_blind_evaluation(
    store: Store, study: Study, runs: Path, rita: TestClient
) -> None:
    add_loop(store, study, runs, {"annotator-1": 20})
    store.policies.add(Policy("c4", "ppo-1@4", "ppo", "tiny", "none", str(runs / "ppo-1" / "adapter"), "s1"))
    assert "ppo-1@4" in [one["value"] for one in rita.get("/api/training").json()["choices"]["policy"]]
    adapter = str(runs / "ppo-1" / "adapter")
    ident = launch(rita, "", "evaluate", adapter=adapter, also=["ppo-1@4", "sft-1"], human="written.jsonl").json()[
        "job"
    ]
    assert store.jobs.get(ident).spec == {
        "study": None, "queue": True, "adapter": adapter, "also": ["ppo-1@4", "sft-1"], "human": "written.jsonl",
    }  # fmt: skip
    refused = launch(rita, "", "evaluate", adapter=adapter, also=["ppo-1@4", "nobody"])
    assert refused.status_code == 404 and "no policy 'nobody'" in refused.json()["error"]
    assert launch(rita, "", "evaluate", adapter=adapter, also=[4]).status_code == 422
    assert len(store.jobs.all()) == 1


def test_a_report_waits_or_is_refused_with_a_sentence_while_the_worker_is_on_another_host(
    store: Store, study: Study, runs: Path, rita: TestClient, clock: Clock
) -> None:
    add_loop(store, study, runs, {"annotator-1": 20})
    ident = launch(rita, "", "report", run=str(runs / "ppo-1")).json()["job"]

    def waits() -> tuple[str, str]:
        (row,) = rita.get("/api/training/jobs").json()["jobs"]
        return row["waits"], rita.get(f"/api/training/jobs/{ident}").json()["waits"]

    assert waits() == ("", "")
    about = store.workers.newest()
    assert about is not None
    clock.now += 1
    stages = {name: schema for name, schema in STAGES.items() if name != "report"}
    store.workers.publish("gpu/box:1", {**about.about, "stages": stages})
    assert all("start `trainer worker` on the labeler's host" in said for said in waits())
    refused = launch(rita, "", "report", run=str(runs / "ppo-1"))
    assert refused.status_code == 409 and "run `trainer report` there" in refused.text
    clock.now += 1
    store.workers.publish("box:2", about.about)
    assert waits() == ("", "") and launch(rita, "", "report", run=str(runs / "ppo-1")).status_code == 200


def test_what_came_out_of_a_job_without_a_run(store: Store, study: Study, runs: Path, rita: TestClient) -> None:
    add_loop(store, study, runs, {"annotator-1": 20})
    ident = launch(rita, "", "evaluate", adapter=str(runs / "ppo-1" / "adapter")).json()["job"]
    job = store.jobs.claim("box:1", 60)
    assert job is not None
    wins = {"value": 0.61, "low": 0.5, "high": 0.72, "n": 9}
    recommended = {"name": "ppo-1@4", "iteration": 4, "reason": "The best."}
    others = {"ppo-1@4": {"length": 61.7, "eos_rate": 0.9, "win_rate": wins}, "base": {"length": 80.0, "eos_rate": 0.1}}
    result = {"queued": 9, "equal": 1, "win_rate": wins, "recommended": recommended, "human": 4, "others": others}
    store.jobs.beat(job, {"result": result})
    assert rita.get(f"/api/training/jobs/{ident}").json()["facts"] == [
        ["Queued for people", "9"], ["Equal answers, which are ties", "1"],
        ["Wins in the eyes of the reward", "0.610 (0.500 to 0.720)"], ["Prompts that people answered", "4"],
        ["Recommended", "ppo-1@4. The best."],
        ["Also ppo-1@4", "62 tokens an answer; wins 0.610 (0.500 to 0.720) in the eyes of the reward"],
        ["Also base", "80 tokens an answer"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"stage": "evaluate"}, 400, "'adapter' is needed"),
        ({"stage": "evaluate", "options": {"adapter": "/etc"}}, 404, "no policy at /etc"),
        ({"stage": "report", "options": {"run": "/etc"}}, 404, "no run at /etc"),
        ({"stage": "check"}, 409, "knows no stage 'check'"),
        ({"stage": "ppo"}, 400, "A run's name"),
        ({"stage": "ppo", "run": "../../etc"}, 400, "A run's name"),
        ({"stage": "ppo", "run": ".logs"}, 400, "A run's name"),
        ({"stage": "ppo", "run": "taken"}, 400, "already"),
        ({"stage": "ppo", "run": "p", "options": {"speed": 1}}, 400, "has no option 'speed'"),
        ({"stage": "ppo", "run": "p", "options": {"out": "/tmp/x"}}, 400, "has no option 'out'"),
        ({"stage": "ppo", "run": "p", "options": {"reward": "/etc"}}, 404, "no reward model"),
        ({"stage": "ppo", "run": "p", "options": {"start": "nobody"}}, 404, "no policy"),
        ({"stage": "reward", "run": "p", "options": {"study": "absent"}}, 404, "no study"),
        ({"stage": "sample", "run": "p"}, 422, "stage"),
        ({"stage": "ppo", "run": "p", "options": {"iterations": [1]}}, 422, "options"),
    ],
)
def test_a_launch_that_cannot_be_is_one_sentence(
    store: Store, runs: Path, rita: TestClient, body: dict[str, Any], status: int, sentence: str
) -> None:
    (runs / "taken").mkdir()
    refused = rita.post("/api/training/jobs", json=body)
    assert refused.status_code == status and sentence in refused.json()["error"], refused.text
    assert store.jobs.all() == []


def test_one_name_is_launched_once(runs: Path, rita: TestClient) -> None:  # noqa: ARG001
    assert launch(rita, "p").status_code == 200
    assert launch(rita, "p").status_code == 400


def test_a_run_is_seen_while_it_works(store: Store, runs: Path, rita: TestClient, clock: Clock) -> None:
    ident = launch(rita, "ppo-1", iterations=12).json()["job"]
    job = store.jobs.claim("box:1", 60)
    assert job is not None
    clock.now += 30
    begin(store, job, runs / "ppo-1", 7)
    (row,) = rita.get("/api/training/jobs").json()["jobs"]
    assert (row["status"], row["step"], row["steps"], row["eta"]) == ("running", 7, 12, pytest.approx(15))
    whole = rita.get(f"/api/training/jobs/{ident}").json()
    drawn = {plot["title"]: [one["name"] for one in plot["series"]] for plot in whole["plots"]}
    assert drawn == {
        "Score": ["objective scores"], "KL": ["objective kl"], "Length": ["val response_length"],
        "EOS rate": ["val eos_rate"], "Entropy": ["policy entropy_avg"],
        "Seconds per phase": ["generate", "score", "train"],
    }  # fmt: skip
    assert whole["plots"][1]["series"][0]["points"] == [[step, pytest.approx(step / 5)] for step in range(1, 8)]
    said = {"prompt": "Why?", "reference": "Because.", "response": "Because of <b>5</b>.", "score": 0.5, "kl": 0.25}
    assert whole["looks"] == [{"step": 5, "rows": [said]}]
    assert whole["log"] == ["ppo: begins", "ppo 7/12"] and ["Prompts", "90"] in whole["facts"]


def test_a_run_is_stopped_and_resumed(store: Store, runs: Path, rita: TestClient) -> None:  # noqa: ARG001
    ident = launch(rita, "ppo-1").json()["job"]
    assert rita.post(f"/api/training/jobs/{ident}/again", json={}).status_code == 409
    assert rita.post(f"/api/training/jobs/{ident}/stop", json={}).json() == {"status": "cancelled"}
    assert rita.post(f"/api/training/jobs/{ident}/again", json={}).json() == {"status": "queued"}
    kinds = ("job launched", "job stopped", "job resumed")
    who = store.annotators.get("rita").id
    assert [(event.kind, event.actor) for event in store.events.about(ident, *kinds)] == [(kind, who) for kind in kinds]


def test_a_plan_is_a_job_and_its_answer_is_shown(store: Store, runs: Path, rita: TestClient) -> None:
    body = {"stage": "ppo", "run": "ppo-1", "options": {"iterations": 2}, "vram": 24}
    ident = rita.post("/api/training/plans", json=body).json()["job"]
    job = store.jobs.get(ident)
    assert (job.kind, job.spec["stage"], job.spec["vram"]) == ("plan", "ppo", 24.0)
    assert job.spec["options"]["out"] == str(runs / "ppo-1")
    claimed = store.jobs.claim("box:1", 60)
    assert claimed is not None
    store.jobs.beat(claimed, {"plan": {"fits": True}, "text": "It fits."})
    assert rita.get(f"/api/training/jobs/{ident}").json()["plan"] == {"plan": {"fits": True}, "text": "It fits."}
    assert rita.post("/api/training/plans", json={**body, "vram": 0}).status_code == 422


def test_prompts_of_annotators_are_no_jobs_of_researchers(store: Store, study: Study, rita: TestClient) -> None:
    spec = {"prompt": "p", "study": study.id, "annotator": "a", "nonce": "n"}
    own = store.jobs.add(OWN_PROMPT, spec)
    assert rita.get("/api/training/jobs").json()["jobs"] == []
    assert rita.get(f"/api/training/jobs/{own.id}").status_code == 404
    assert rita.post(f"/api/training/jobs/{own.id}/stop", json={}).status_code == 404


def test_how_far_and_how_long_still() -> None:
    lines = [{"time": 100.0 + 2 * i, "step": i, "steps": 10} for i in range(1, 5)]
    assert far(lines, 0.0) == {"step": 4, "steps": 10, "eta": 12}
    assert far(lines, 105.0) == {"step": 4, "steps": 10, "eta": 12}, "only the time since the job went on"
    assert far(lines, 108.0)["eta"] is None and far([{"step": 1}], 0.0)["step"] is None


def test_a_long_run_is_drawn_with_few_points_and_members_of_an_ensemble_apart() -> None:
    points = [(step, float(step)) for step in range(1, 1234)]
    few = thinned(points)
    assert len(few) <= POINTS + 1 and (few[0], few[-1]) == (points[0], points[-1])
    lines = [{"step": 1, "role": f"reward-00{member}", "loss": 0.5, "accuracy": None} for member in (0, 1)]
    (plot,) = plots("reward", lines)
    assert (plot["title"], [one["name"] for one in plot["series"]]) == (
        "Loss",
        ["loss (reward-000)", "loss (reward-001)"],
    )

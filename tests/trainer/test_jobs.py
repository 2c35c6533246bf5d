"""A job from the browser: stopped, resumed, taken up by the next worker, planned, and what is kept of it."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from preferences.records import EQUAL, Study
from preferences.run_files import MOST_LOGS
from preferences.store import Store
from tests.trainer.fill import add_comparison, add_policy, add_prompts, annotator, demonstrations, metrics, rank, state
from tests.trainer.test_worker import until
from trainer import jobs
from trainer.blind import BLIND
from trainer.models import load_base
from trainer.ppo_trainer import PpoTrainer
from trainer.worker import Worker, work

pytestmark = pytest.mark.usefixtures("own_cache", "as_before")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers hear at once what becomes of their jobs."""
    monkeypatch.setattr(jobs, "HEARTBEAT_SECONDS", 0.02)


@pytest.fixture
def spec(store: Store, study: Study, llama_folder: Path, adapters: dict[str, Path], tmp_path: Path) -> dict[str, Any]:
    """A PPO job of six short iterations, which does not change who answers."""
    add_prompts(store, study, 8)
    store.studies.set_status(study, "paused")  # so that the worker has nothing to sample
    add_policy(store, study, load_base(str(llama_folder), "none"), adapters["sft"])
    return {
        "out": str(tmp_path / "ppo"), "reward": str(adapters["reward"]), "iterations": 6, "episodes": 4,
        "max_new_tokens": 6, "sample_next": False,
    }  # fmt: skip


def test_a_running_job_is_stopped_and_goes_on_where_it_was(
    store: Store,
    spec: dict[str, Any],
    worker_options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = store.jobs.add("ppo", spec)
    steps: list[int] = []
    step = PpoTrainer.step

    def slow(self: PpoTrainer, some: Any) -> Any:
        steps.append(self.done)
        if self.done == 2 and steps.count(2) == 1:
            store.jobs.stop(job, "rita")
            for _ in range(1000):  # the worker hears of it meanwhile
                time.sleep(0.01)
        return step(self, some)

    monkeypatch.setattr(PpoTrainer, "step", slow)
    assert work(Worker(**worker_options)) == {"sampled": 0, "jobs": 1}, "the worker goes on"
    assert store.jobs.get(job.id).status == "cancelled" and state(tmp_path / "ppo")["state"] == "interrupted"
    assert store.policies.find("ppo") is None
    store.jobs.again(job, "rita")
    work(Worker(**worker_options))
    assert (store.jobs.get(job.id).status, steps) == ("done", [0, 1, 2, 2, 3, 4, 5])
    assert [line["step"] for line in metrics(tmp_path / "ppo")] == [1, 2, 3, 4, 5, 6]
    assert metrics(tmp_path / "ppo")[0]["steps"] == 6
    (noted,) = store.runs.all()
    assert noted.document == state(tmp_path / "ppo") and noted.document["policy"] == store.policies.get("ppo").id
    assert store.studies.sampling_policies(store.studies.get("main")) == [store.policies.get("sft")]


def test_a_job_whose_worker_is_told_to_end_waits_for_the_next_one(
    store: Store,
    spec: dict[str, Any],
    worker_options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = store.jobs.add("ppo", spec)

    def ended(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PpoTrainer, "step", ended)
        work(Worker(**worker_options))
    assert store.jobs.get(job.id).status == "queued"
    work(Worker(**worker_options))
    assert store.jobs.get(job.id).status == "done"


def test_a_job_that_is_stopped_while_it_ends_costs_nothing_else(
    store: Store,
    worker_options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interruption is on its way when the stage returns: it must not end the worker."""
    made = [store.jobs.add("reward", {"out": f"runs/{number}"}) for number in range(30)]

    def done(stage: Any, *_: Any) -> dict[str, Any]:
        job = next(job for job in made if job.spec["out"].endswith(stage.out.name))
        store.jobs.stop(job, "rita")
        time.sleep(0.015 + 0.0005 * int(stage.out.name))
        return {}

    monkeypatch.setattr(jobs, "execute", done)
    monkeypatch.setattr(jobs, "open_base", lambda *_: None)
    study = store.studies.default()
    store.studies.set_status(study, "paused")
    assert work(Worker(**worker_options))["jobs"] == 30
    assert {store.jobs.get(job.id).status for job in made} == {"cancelled"}


@pytest.fixture
def ranked(store: Store, study: Study) -> Iterator[None]:
    """Three ranked comparisons, and nothing to sample."""
    for prompt in add_prompts(store, study, 3):
        rank(store, add_comparison(store, study, prompt, ["Tea!", "Bread.", "No."]), [[0], [1], [2]])
    store.studies.set_status(study, "paused")
    yield


@pytest.mark.usefixtures("ranked")
def test_what_a_reward_run_tells_of_its_rankings(store: Store, worker_options: dict[str, Any], tmp_path: Path) -> None:
    comparison = store.comparisons.all()[0]
    rank(store, comparison, [[0], [2], [1]], annotator(store, "ben"))
    job = store.jobs.add("reward", {"out": str(tmp_path / "reward")})
    work(Worker(**worker_options))
    found = store.jobs.get(job.id)
    (run,) = store.runs.all()
    assert (run.document["rankings"], sorted(run.document["annotators"].values())) == (4, [1, 3])
    assert "ben" not in json.dumps(run.document), "pseudonyms: the folder may be passed on"
    assert run.study == store.studies.get("main").id and run.document["command"][:2] == ["trainer", "reward"]
    assert found.progress["folder"] == run.folder == str((tmp_path / "reward").resolve())
    log = Path(found.progress["log"])
    assert log.parent == (worker_options["runs"] / ".logs").resolve() and "update" in log.read_text()


@pytest.mark.usefixtures("ranked")
def test_what_quantisation_costs_is_in_the_log_of_a_job(
    store: Store, worker_options: dict[str, Any], tmp_path: Path
) -> None:
    job = store.jobs.add("reward", {"out": str(tmp_path / "reward"), "quantize": "int8"})
    work(Worker(**worker_options))
    log = Path(store.jobs.get(job.id).progress["log"]).read_text()
    assert log.count("Perplexity of") == 1 and "in int8" in log and state(tmp_path / "reward")["state"] == "finished"


def test_why_a_job_failed_is_in_its_log_too(
    store: Store, study: Study, worker_options: dict[str, Any], tmp_path: Path
) -> None:
    store.studies.set_status(study, "paused")
    job = store.jobs.add("reward", {"out": str(tmp_path / "reward")})
    work(Worker(**worker_options))
    found = store.jobs.get(job.id)
    assert found.error and found.error in Path(found.progress["log"]).read_text()


def test_a_memory_plan_before_the_launch(store: Store, spec: dict[str, Any], worker_options: dict[str, Any]) -> None:
    plain = store.jobs.add("plan", {"stage": "ppo", "options": {**spec, "samples": 2}, "vram": 4.0})
    wrong = store.jobs.add("plan", {"stage": "ppo", "options": {**spec, "lr": 0.0}, "vram": 4.0})
    assert work(Worker(**worker_options))["jobs"] == 2
    found = store.jobs.get(plain.id).progress
    assert found["plan"]["fits"] is True and list(found["plan"]["stages"]) == ["ppo"]
    assert "2 answers of 6 tokens" in found["text"]
    assert store.jobs.get(wrong.id).error == "lr must be above 0, not 0.0."


def test_a_policy_is_evaluated_blind_checked_and_reported_as_jobs(
    store: Store, study: Study, spec: dict[str, Any], worker_options: dict[str, Any], tmp_path: Path
) -> None:
    held = add_prompts(store, study, 3, "heldout")
    adapter = str((tmp_path / "ppo" / "adapter").resolve())
    talks = [[*prompt.messages, {"role": "assistant", "content": "By hand."}] for prompt in held[:2]]
    written = str(demonstrations(tmp_path / "written.jsonl", talks))
    made = {
        kind: store.jobs.add(kind, options)
        for kind, options in {
            "ppo": {**spec, "iterations": 2, "snapshots": 1},
            "evaluate": {
                "adapter": adapter,
                "queue": True,
                "max_new_tokens": 6,
                "reward": spec["reward"],
                "also": ["ppo@1"],
                "human": written,
            },
            "report": {"run": spec["out"], "prompts": 2},
            "check": {"reward": spec["reward"], "policy": "ppo", "each": 2},
        }.items()
    }
    assert work(Worker(**worker_options))["jobs"] == 4
    done = {kind: store.jobs.get(job.id) for kind, job in made.items()}
    assert {kind: (job.status, job.error) for kind, job in done.items()} == dict.fromkeys(made, ("done", ""))
    found = {kind: done[kind].progress["result"] for kind in ("evaluate", "report", "check")}
    queued = [one for one in store.comparisons.all(study.id) if one.origin == "blind"]
    assert found["evaluate"]["queued"] == len(queued) > 0 and found["evaluate"]["against"] == "sft"
    names = {policy.id: policy.name for policy in store.policies.all()}
    mixed = {
        one.prompt: {names[response.policy] for response in store.responses.get_many(one.same).values()}
        for one in store.comparisons.all(study.id) if one.origin in (BLIND, EQUAL)
    }  # fmt: skip
    three = {"sft", "ppo", "ppo@1"}
    assert mixed == {held[0].id: {*three, "human"}, held[1].id: {*three, "human"}, held[2].id: three}
    assert found["evaluate"]["human"] == 2 and list(found["evaluate"]["others"]) == ["ppo@1"]
    assert Path(found["report"]["report"]).is_file() and found["report"]["recommended"]["reason"]
    assert found["check"]["policy"] == "ppo" and sum(found["check"]["queued"].values()) > 0
    for job in done.values():
        assert Path(job.progress["log"]).is_file(), "the link to the log is kept whatever else becomes known"


def test_sampling_keeps_the_link_to_its_log(store: Store, study: Study, worker_options: dict[str, Any]) -> None:
    add_prompts(store, study, 2)
    store.studies.set_status(study, "paused")
    job = store.jobs.add("sample", {"max_new_tokens": 4})
    work(Worker(**worker_options))
    progress = store.jobs.get(job.id).progress
    assert progress["prompts"] == 2 and Path(progress["log"]).is_file()


def test_a_worker_is_known_while_it_works(store: Store, study: Study, worker_options: dict[str, Any]) -> None:
    store.studies.set_status(study, "paused")
    thread = threading.Thread(target=lambda: until(store.workers.newest))
    thread.start()
    work(Worker(**worker_options))
    thread.join()
    known = store.workers.newest()
    assert known and known.seen == 0, "it has said that it ends"
    assert (known.about["model"], known.about["runs"]) == (
        worker_options["model"],
        str(worker_options["runs"].resolve()),
    )


def test_logs_of_jobs_are_few_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LOG_BYTES", 1000)
    for number in range(MOST_LOGS + 5):
        path = tmp_path / f"{number}.log"
        path.write_text("old")
        os.utime(path, (number, number))
    with jobs.kept_log(tmp_path / "new.log"):
        for number in range(500):
            print(f"line {number}", file=sys.stderr)
    kept = {path.name: path for path in tmp_path.iterdir()}
    assert len(kept) == MOST_LOGS + 2 and not {"0.log", "4.log"} & kept.keys() and "5.log" in kept
    assert all(path.stat().st_size < 1100 for path in kept.values())
    assert kept["new.log"].read_text().endswith("line 499\n")

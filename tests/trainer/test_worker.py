"""The worker: enough comparisons for everybody, jobs done or failed with a sentence, and an end at any time."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from preferences.errors import RankloopError
from preferences.jobs import Job
from preferences.live import live_accuracy
from preferences.records import Study
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT, Jobs
from tests.conftest import ROOT
from tests.trainer.fill import add_comparison, add_prompts, annotator, rank, save_adapter, state
from tests.waiting import until
from trainer.bench import Bench
from trainer.evaluate import EvaluatePolicy
from trainer.jobs import stage_of
from trainer.models import UnknownModel
from trainer.ppo import Ppo
from trainer.reward import Reward
from trainer.sample import SampleStage
from trainer.stage import default_device_name, device_lock
from trainer.stages import WORK, run
from trainer.worker import Worker, work

pytestmark = pytest.mark.usefixtures("own_cache", "as_before")


def test_five_comparisons_wait_though_nobody_is_there_yet(
    store: Store, study: Study, worker_options: dict[str, Any]
) -> None:
    add_prompts(store, study, 12)
    assert work(Worker(**worker_options)) == {"sampled": 6, "jobs": 0}
    assert store.queue.waiting(study) == 6
    assert work(Worker(**worker_options)) == {"sampled": 0, "jobs": 0}


def test_five_more_for_each_active_annotator(store: Store, study: Study, worker_options: dict[str, Any]) -> None:
    """Active: was there in the last half hour, and can log in."""
    add_prompts(store, study, 24)
    for name in ("ann", "ben", "cy"):
        store.annotators.open_session(annotator(store, name), name, 3600)
    store.annotators.set_active(annotator(store, "cy"), False)
    with store.write() as db:
        db.execute("UPDATE sessions SET last_seen = last_seen - 1900 WHERE annotator = ?", [annotator(store, "ben").id])
    store.annotators.open_session(annotator(store, "dan"), "dan", 3600)
    work(Worker(**worker_options))
    assert store.queue.waiting(study) == 10


def test_prompts_come_round_again(store: Store, study: Study, worker_options: dict[str, Any]) -> None:
    """With few prompts the worker asks each again, for new answers."""
    add_prompts(store, study, 2)
    work(Worker(**worker_options))
    comparisons = store.comparisons.all(study.id)
    assert len(comparisons) == 6
    shown = [item for comparison in comparisons for item in comparison.items]
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize("fits", [True, False])
def test_an_idle_worker_scores_what_was_ranked_since_the_reward_model_did(
    store: Store, study: Study, worker_options: dict[str, Any], adapters: dict[str, Path], t5_folder: Path, tmp_path: Path,
    fits: bool, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Without this the accuracy by day would end on the day of the last check. A model of another base is left alone."""
    reward = adapters["reward"] if fits else save_adapter(t5_folder, tmp_path / "other", head=True)
    store.studies.set_status(study, "paused")
    (held,) = add_prompts(store, study, 1, "heldout")
    comparison = add_comparison(store, study, held, ["Tea!", "No tea."])
    store.scores.add(str(reward), {comparison.items[0]: 0.5})
    rank(store, comparison, [[0], [1]])
    assert live_accuracy(store, study, str(reward))["unscored"] == 1
    work(Worker(**worker_options))
    assert live_accuracy(store, study, str(reward))["unscored"] == (0 if fits else 1)
    assert ("is not kept fresh" in capfd.readouterr().err) != fits


def test_a_ranked_comparison_is_replaced(store: Store, study: Study, worker_options: dict[str, Any]) -> None:
    add_prompts(store, study, 12)
    work(Worker(**worker_options))
    for comparison in store.comparisons.all(study.id)[:3]:
        rank(store, comparison, [[i] for i in range(len(comparison.items))])
    assert store.queue.waiting(study) == 3
    assert work(Worker(**worker_options))["sampled"] == 2
    assert store.queue.waiting(study) == 5


def test_a_paused_study_and_one_without_prompts_get_nothing(
    store: Store, study: Study, worker_options: dict[str, Any]
) -> None:
    assert work(Worker(**worker_options))["sampled"] == 0
    add_prompts(store, study, 4)
    store.studies.set_status(study, "paused")
    assert work(Worker(**worker_options))["sampled"] == 0
    assert store.comparisons.all() == []


def test_the_worker_is_nice(worker_options: dict[str, Any]) -> None:
    work(Worker(**worker_options))
    assert os.getpriority(os.PRIO_PROCESS, 0) >= 15


@pytest.mark.parametrize(("owner", "name"), [(Bench, "take"), (Jobs, "finish")])
def test_a_job_waits_for_the_next_worker_wherever_its_worker_was_interrupted(
    store: Store, worker_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """Before its work on the job and after it as well, where nothing but the worker's own end can give it back."""
    job = store.jobs.add("nonsense", {})
    monkeypatch.setattr(owner, name, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    work(Worker(**worker_options))
    left = store.jobs.get(job.id)
    assert (left.status, left.worker) == ("queued", None)


def test_a_worker_ends_though_its_interruption_was_swallowed(
    store: Store, worker_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not go on with the next job, as if nobody had told it to stop."""
    jobs = [store.jobs.add("nonsense", {}) for _ in range(2)]

    def swallow(_: Bench, __: Worker, store: Store, job: Job) -> None:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        store.jobs.finish(job)

    monkeypatch.setattr(Bench, "take", swallow)
    work(Worker(**worker_options))
    assert [store.jobs.get(job.id).status for job in jobs] == ["done", "queued"]


def test_a_job_of_each_kind(store: Store, study: Study, worker_options: dict[str, Any], tmp_path: Path) -> None:
    """In the order in which they were queued, on the worker's own model; then the queue is filled by the new policy."""
    prompts = add_prompts(store, study, 8)
    for prompt in prompts[:3]:
        comparison = add_comparison(store, study, prompt, ["Tea!", "Bread.", "No."])
        rank(store, comparison, [[0], [1], [2]], annotator(store, "robot", simulated=True))
    talk = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]
    (tmp_path / "talks.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    made = [
        store.jobs.add("sft", {"out": str(tmp_path / "sft"), "demonstrations": str(tmp_path / "talks.jsonl")}),
        store.jobs.add("sample", {"prompts": 1, "max_new_tokens": 6, "temperature": 1}),
        store.jobs.add("reward", {"out": str(tmp_path / "reward"), "include_simulated": True}),
        store.jobs.add(
            "ppo",
            {
                "out": str(tmp_path / "ppo"), "reward": str(tmp_path / "reward" / "adapter"), "iterations": 1,
                "episodes": 2, "max_new_tokens": 6,
            },
        ),
    ]  # fmt: skip
    assert work(Worker(**worker_options))["jobs"] == 4
    done = [store.jobs.get(job.id) for job in made]
    assert [(job.status, job.error) for job in done] == [("done", "")] * 4
    assert [job.worker and job.finished is not None for job in done] == [True] * 4
    for stage in ("sft", "reward", "ppo"):
        assert state(tmp_path / stage)["state"] == "finished"
    assert store.studies.sampling_policies(study) == [store.policies.get("ppo")]
    assert len(store.responses.of_policy(store.policies.get("sft").id)) == 4
    assert store.responses.of_policy(store.policies.get("ppo").id)


def test_a_failing_job_keeps_its_sentence_and_the_worker_goes_on(
    store: Store, study: Study, worker_options: dict[str, Any], tmp_path: Path
) -> None:
    add_prompts(store, study, 4)
    failing = {
        "There is no stage 'nope'": store.jobs.add("nope", {}),
        "has no option 'speed'": store.jobs.add("sample", {"speed": 9}),
        "give --out, the folder of the new run": store.jobs.add("reward", {}),
        "'epochs' must be float, not 'many'": store.jobs.add("reward", {"out": "r", "epochs": "many"}),
        "has 0 training comparisons": store.jobs.add("reward", {"out": str(tmp_path / "r")}),
        "holds no rankloop adapter": store.jobs.add("ppo", {"out": str(tmp_path / "p"), "reward": str(tmp_path)}),
        "temperature must be above 0": store.jobs.add("sample", {"temperature": 0.0}),
        "could not be loaded": store.jobs.add("sample", {"model": str(tmp_path / "nowhere")}),
    }
    good = store.jobs.add("sample", {"prompts": 1, "max_new_tokens": 6})
    assert work(Worker(**worker_options))["jobs"] == len(failing) + 1
    for sentence, job in failing.items():
        found = store.jobs.get(job.id)
        assert found.status == "failed" and sentence in found.error, found.error
    assert store.jobs.get(good.id).status == "done"


def test_a_fault_of_the_program_fails_its_job_alone(
    store: Store, study: Study, worker_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Not a user's mistake, so the log has the traceback; the job says which error, and the next one is done."""
    add_prompts(store, study, 4)

    def faulty(*_: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setitem(WORK, Reward, faulty)
    bad = store.jobs.add("reward", {"out": str(tmp_path / "r")})
    good = store.jobs.add("sample", {"prompts": 1, "max_new_tokens": 6})
    assert work(Worker(**worker_options))["jobs"] == 2
    failed = store.jobs.get(bad.id)
    assert (failed.status, store.jobs.get(good.id).status) == ("failed", "done")
    assert failed.error == "The stage failed (ZeroDivisionError: division by zero); the worker's log says where."
    assert "Traceback" in capsys.readouterr().err


def test_what_a_job_asks_for(worker_options: dict[str, Any]) -> None:
    """Paths from texts, whole numbers as floats, and the worker's own model, study and seed where the job names none."""
    worker = Worker(**{**worker_options, "study": "mine", "seed": 3})
    stage = stage_of(Job("j", "ppo", {"out": "runs/p", "reward": "r", "lr": 1, "name": None}), worker)
    assert isinstance(stage, Ppo)
    assert (stage.out, stage.reward, stage.lr, stage.name) == (Path("runs/p"), Path("r"), 1, None)
    assert (stage.db, stage.model, stage.quantize) == (worker_options["db"], worker_options["model"], "none")
    assert (stage.study, stage.seed) == ("mine", 3)
    other = stage_of(Job("j", "sample", {"model": "m", "quantize": "int8", "seed": 5, "study": "s"}), worker)
    assert (other.model, other.quantize, other.seed, other.study) == ("m", "int8", 5, "s")
    mixed = stage_of(Job("j", "evaluate", {"adapter": "r", "also": ["p@4", "p@8"], "human": "d.jsonl"}), worker)
    assert isinstance(mixed, EvaluatePolicy)
    assert (mixed.also, mixed.human) == (("p@4", "p@8"), Path("d.jsonl"))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"k": 2.5}, "'k' must be int or None, not 2.5"),
        ({"k": True}, "'k' must be int or None, not True"),
        ({"temperature": None}, "'temperature' must be float, not None"),
        ({"quantize": "int3"}, "'quantize' must be 'none' or 'int8' or 'nf4' or None, not 'int3'"),
        ({"db": "other.db"}, "has no option 'db'"),
    ],
)
def test_a_spec_of_the_wrong_type(worker_options: dict[str, Any], spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RankloopError) as error:
        stage_of(Job("j", "sample", spec), Worker(**worker_options))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("kind", "spec", "sentence"),
    [
        ("evaluate", {"adapter": "r", "also": "p@4"}, "'also' must be a list, not 'p@4'"),
        ("evaluate", {"adapter": "r", "also": ["p@4", 8]}, "'also' must be str, not 8"),
        ("ppo", {"out": "p", "functions": ["evil.py:f"]}, "Stage ppo has no option 'functions'"),
        ("ppo", {"out": "p", "functions": []}, "Stage ppo has no option 'functions'"),
    ],
)
def test_lists_of_a_job_and_that_no_job_runs_a_file_of_the_machine(
    worker_options: dict[str, Any], kind: str, spec: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RankloopError) as error:
        stage_of(Job("j", kind, spec), Worker(**worker_options))
    assert sentence in str(error.value)


def test_sigterm_ends_it_cleanly_and_it_can_start_again(
    store: Store, study: Study, worker_options: dict[str, Any]
) -> None:
    add_prompts(store, study, 12)
    command = [
        sys.executable, "-m", "trainer", "worker", "--db", str(store.path), "--model", worker_options["model"], "--quantize",
        "none", "--max-new-tokens", "6", "--prompts-at-once", "1", "--poll", "0.1", "--runs", str(worker_options["runs"]),
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: store.queue.waiting(study) > 0, 90)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (0, False), err
    assert "The worker stops" in err and "sampled:" in out
    before = store.queue.waiting(study)
    assert 1 <= before <= 5
    work(Worker(**{**worker_options, "prompts_at_once": 1}))
    assert store.queue.waiting(study) == 5
    for comparison in store.comparisons.all(study.id):
        responses = store.responses.get_many(comparison.same)
        assert len(responses) == 4


def test_two_users_of_a_device_wait_for_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    events = []

    def other() -> None:
        with device_lock("here"):
            events.append("other")

    with device_lock("elsewhere"), device_lock("here"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.3)
        events.append("first")
    thread.join(timeout=30)
    assert events == ["first", "other"]
    assert "Waiting for another rankloop process that uses the here" in capsys.readouterr().err


def test_a_command_waits_for_the_device(
    store: Store, study: Study, llama_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_prompts(store, study, 1)
    options = SampleStage(db=store.path, model=str(llama_folder), quantize="none", max_new_tokens=4, temperature=1.0)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run(options)))
    with device_lock(default_device_name()):
        thread.start()
        until(lambda: "Waiting for another rankloop process" in capsys.readouterr().err, seconds=20)
        assert store.policies.all() == []
    thread.join(timeout=60)
    assert results[0]["comparisons"] == 1


def test_the_worker_waits_for_the_device(store: Store, study: Study, worker_options: dict[str, Any]) -> None:
    """A subprocess: the worker handles signals, so it wants a main thread."""
    add_prompts(store, study, 1)
    job = store.jobs.add("sample", {"prompts": 1, "max_new_tokens": 4})
    command = [
        sys.executable, "-m", "trainer", "worker", "--once", "--db", str(store.path), "--model", worker_options["model"],
        "--max-new-tokens", "4", "--quantize", "none", "--json", "--runs", str(worker_options["runs"]),
    ]  # fmt: skip
    with device_lock(default_device_name()):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(lambda: store.jobs.get(job.id).status == "running", 90)
        time.sleep(0.5)
        assert (store.jobs.get(job.id).status, store.policies.all()) == ("running", [])
    out, err = process.communicate(timeout=90)
    assert "Waiting for another rankloop process" in err
    assert json.loads(out)["jobs"] == 1
    assert store.jobs.get(job.id).status == "done"


def test_an_own_prompt_is_answered_first_for_whoever_typed_it(
    store: Store, study: Study, worker_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_prompts(store, study, 1)
    ann = annotator(store, "ann")
    (prompt,) = store.prompts.add([{"messages": [{"role": "user", "content": "Why do cats purr?"}]}])
    training = store.jobs.add("nonsense", {})
    job = store.jobs.add(OWN_PROMPT, {"prompt": prompt.id, "study": study.id, "annotator": ann.id, "nonce": "n"})
    told = []
    beat = type(store.jobs).beat

    def note(jobs: Any, beating: Job, progress: dict[str, Any] | None = None) -> bool:
        told.append(progress)
        return bool(beat(jobs, beating, progress))

    monkeypatch.setattr(type(store.jobs), "beat", note)
    work(Worker(**worker_options))
    done = store.jobs.get(job.id)
    assert done.status == "done"
    counts = [progress["answers"] for progress in told if progress and "answers" in progress]
    assert (counts[0], counts[-1], counts) == (0, 4, sorted(counts)), "answers that end together are told together"
    assert (
        done.finished and store.jobs.get(training.id).started and done.finished <= store.jobs.get(training.id).started
    )
    (made,) = [comparison for comparison in store.comparisons.all() if comparison.prompt == prompt.id]
    assert (made.asked_by, made.origin, len(made.items)) == (ann.id, "own prompt", 4)
    assert done.progress == {"answers": 4, "of": 4, "comparison": made.id}
    mine = store.queue.candidates(study, ann)
    assert max(mine, key=lambda candidate: candidate.priority).comparison == made.id
    others = store.queue.candidates(study, annotator(store, "ben"))
    assert made.id not in [candidate.comparison for candidate in others]


def test_an_own_prompt_that_cannot_be_answered_fails_with_a_sentence(
    store: Store, study: Study, worker_options: dict[str, Any]
) -> None:
    (prompt,) = store.prompts.add([{"messages": [{"role": "user", "content": "Why?"}]}])
    spec = {"prompt": prompt.id, "study": study.id, "annotator": annotator(store, "ann").id, "nonce": "n"}
    job = store.jobs.add(OWN_PROMPT, spec)
    with pytest.raises(UnknownModel):  # it is the worker's own model, which the queue needs too
        work(Worker(**{**worker_options, "model": "/no/such/folder"}))
    done = store.jobs.get(job.id)
    assert done.status == "failed" and "/no/such/folder" in done.error

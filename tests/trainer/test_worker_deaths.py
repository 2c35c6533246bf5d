"""Workers that die, are stopped or are held up: each job is taken up where it was, and nothing is done twice."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from preferences.records import Study
from preferences.store import Store
from preferences.tables.jobs import JobLost
from tests.forks import Forks
from tests.trainer.fill import add_comparison, add_prompts, annotator, rank, state
from tests.waiting import until
from trainer import jobs
from trainer.jobs import held
from trainer.stage import stop_on_sigterm

pytestmark = pytest.mark.usefixtures("own_cache")

# Workers, imported once: each line that is read starts one in a process of its own. A job counts as abandoned after a second.
WORKERS = """
import json, os, signal, sys
from contextlib import suppress
from pathlib import Path
import trainer.jobs, trainer.sample, trainer.worker
trainer.jobs.HEARTBEAT_SECONDS = 0.1
trainer.worker.STALE_SECONDS = 1.0
trainer.sample.STORED_AT_ONCE = 2
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        options = json.loads(line)
        trainer.worker.work(trainer.worker.Worker(**{**options, "db": Path(options["db"])}))
        os._exit(0)
    print(pid, flush=True)
"""
ROWS, SAMPLED = 20, 12


class Pool:
    """Workers of a store, which can be killed at any moment."""

    def __init__(self, store: Store, model: Path) -> None:
        self.store = store
        self.options = {
            "db": str(store.path), "model": str(model), "quantize": "none", "max_new_tokens": 6, "temperature": 1.0,
            "poll": 0.1, "waiting": 0, "once": True,
        }  # fmt: skip
        self.forks = Forks(WORKERS, store.path.parent / "workers.log")

    def start(self) -> int:
        """One more worker."""
        return self.forks.start(self.options)

    def end(self, pid: int, by: int | None = None, seconds: float = 60) -> None:
        """Send the signal, if one is given, and wait until it is gone."""
        if by is not None:
            send(pid, by)
        until(lambda: not alive(pid), seconds)

    def close(self) -> None:
        self.forks.close()


def send(pid: int, by: int) -> None:
    """The signal, if the process is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, by)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def pool(store: Store, llama_folder: Path) -> Iterator[Pool]:
    made = Pool(store, llama_folder)
    yield made
    made.close()


def fill(store: Store, study: Study, folder: Path, *stages: str) -> dict[str, str]:
    """A job of each stage, with rankings and demonstrations to learn from; stage -> the job's id."""
    prompts = add_prompts(store, study, 40)
    for prompt in prompts[:ROWS]:
        comparison = add_comparison(store, study, prompt, ["Tea!", "Bread.", "No."])
        rank(store, comparison, [[0], [1], [2]], annotator(store, "ann"))
    talks = [[{"role": "user", "content": f"Hello {i}?"}, {"role": "assistant", "content": "Yes."}] for i in range(24)]
    (folder / "talks.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    specs: dict[str, dict[str, Any]] = {
        "sft": {"demonstrations": str(folder / "talks.jsonl"), "batch": 2, "epochs": 2.0, "save_every": 2},
        "sample": {"prompts": SAMPLED, "max_new_tokens": 6, "temperature": 1.0},
        "reward": {"batch": 2, "epochs": 3.0, "save_every": 2, "members": 2},
        "ppo": {
            "reward": str(folder / "reward" / "adapter"), "iterations": 8, "episodes": 4, "max_new_tokens": 6,
        },
    }  # fmt: skip
    for stage in ("sft", "reward", "ppo"):
        specs[stage]["out"] = str(folder / stage)
    return {stage: store.jobs.add(stage, specs[stage]).id for stage in stages}


def check(store: Store, queued: dict[str, str], folder: Path) -> None:
    """Every job is done, once."""
    for stage, ident in queued.items():
        job = store.jobs.get(ident)
        assert (job.status, job.error) == ("done", ""), stage
    for stage in {"sft", "reward", "ppo"} & queued.keys():
        assert state(folder / stage)["state"] == "finished"
    trained = {
        policy.name: policy
        for policy in store.policies.all()
        if policy.kind in ("sft", "ppo") and "@" not in policy.name
    }
    assert trained.keys() == {"sft", "ppo"} & queued.keys()
    drawn = {
        one.id
        for policy in store.policies.all()
        if policy.kind != "imported"
        for one in store.responses.of_policy(policy.id)
    }
    sampled = [one for one in store.comparisons.all() if drawn & one.same.keys()]
    assert len(sampled) == len({one.prompt for one in sampled}) == SAMPLED
    for run, steps in (("sft", 24), ("ppo", 8)):
        if run in queued:
            lines = (folder / run / "metrics.jsonl").read_text().splitlines()
            logged = [json.loads(line)["step"] for line in lines if "loss" in line]
            assert sorted(set(logged)) == list(range(1, steps + 1))
            assert logged == sorted(logged)


@pytest.mark.durability
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_at_any_stage_again_and_again(
    store: Store, study: Study, pool: Pool, tmp_path: Path, by: int
) -> None:
    """A dozen workers, one after the other, each ended somewhere in its work; the last one finishes what is left."""
    queued = fill(store, study, tmp_path, "sft", "sample", "reward", "ppo")
    draw, ended = random.Random(int(by)), 0
    for _ in range(12):
        pid = pool.start()
        until(lambda: not alive(pid) or any(job.status == "running" for job in store.jobs.all()), 60)  # noqa: B023
        time.sleep(draw.uniform(0.1, 0.9))
        ended += alive(pid)
        pool.end(pid, by)
        if by == signal.SIGKILL:
            time.sleep(1.1)  # else the next worker takes a later job first, which needs this one
        else:
            assert "running" not in [job.status for job in store.jobs.all()], pool.forks.log.read_text()
    pool.end(pool.start(), seconds=180)
    assert ended >= 3, "Most of them had nothing to do."
    check(store, queued, tmp_path)


@pytest.mark.durability
def test_two_workers_and_one_that_is_held_up(store: Store, study: Study, pool: Pool, tmp_path: Path) -> None:
    """A worker that stands still for longer than its heartbeat may loses its job, notices it, and spoils nothing."""
    queued = fill(store, study, tmp_path, "sft", "sample", "reward")
    first, second = pool.start(), pool.start()
    draw = random.Random(3)
    for _ in range(4):
        time.sleep(draw.uniform(0.2, 1.0))
        for pid in (first, second):
            send(pid, signal.SIGSTOP)
            time.sleep(1.5)
            send(pid, signal.SIGCONT)
    for pid in (first, second):
        pool.end(pid, seconds=180)
    time.sleep(1.1)
    pool.end(pool.start(), seconds=180)
    check(store, queued, tmp_path)


def test_a_job_that_another_worker_has_now_is_left_to_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat finds out, the work is interrupted, and nothing of it counts."""
    monkeypatch.setattr(jobs, "HEARTBEAT_SECONDS", 0.05)
    made = store.jobs.add("reward", {})
    job = store.jobs.claim("first", 60)
    assert job is not None

    def take() -> None:
        time.sleep(0.2)
        other = Store(store.path)
        with other.write() as db:
            db.execute("UPDATE jobs SET worker = 'second'")
        other.close()

    thief = threading.Thread(target=take)
    with stop_on_sigterm():
        thief.start()
        with held(store, job):
            for _ in range(1000):
                time.sleep(0.01)
            raise AssertionError("It was not interrupted.")
    thief.join()
    assert (store.jobs.get(made.id).status, store.jobs.get(made.id).worker) == ("running", "second")
    with pytest.raises(JobLost), store.write():
        store.studies.create("of the first")
        store.jobs.hold(job)
    assert store.studies.all() == []


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_job_that_was_stopped_is_free_at_once(store: Store, wrapped: bool) -> None:
    """Also where a library made another error of the interruption: the imports of transformers do, in a class's midst."""
    store.jobs.add("reward", {})
    job = store.jobs.claim("first", 60)
    assert job is not None
    with pytest.raises(KeyboardInterrupt), held(store, job):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            if wrapped:
                raise ModuleNotFoundError("Could not import module 'LlamaConfig'.") from error
            raise
    again = store.jobs.claim("second", 60)
    assert again is not None and (again.id, again.worker) == (job.id, "second")

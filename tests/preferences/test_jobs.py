"""Jobs: each is done by one worker."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from preferences.errors import NotReady, UnknownName
from preferences.jobs import Job
from preferences.store import Store
from preferences.tables.jobs import MOST_DEATHS, JobLost
from tests.preferences.make import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_jobs_are_claimed_oldest_first(store: Store) -> None:
    made = [store.jobs.add("sample", {"n": n}) for n in range(3)]
    assert store.jobs.all() == made
    claimed = [store.jobs.claim("w", 60) for _ in range(4)]
    assert [job and job.spec for job in claimed] == [{"n": 0}, {"n": 1}, {"n": 2}, None]
    assert claimed[0] is not None and (claimed[0].status, claimed[0].worker) == ("running", "w")


def test_no_job_is_claimed_twice_by_eight_workers(store: Store) -> None:
    for _ in range(40):
        store.jobs.add("sample", {})

    def work(name: int) -> list[str]:
        done = []
        while job := store.jobs.claim(str(name), 60):
            done.append(job.id)
        store.close()
        return done

    with ThreadPoolExecutor(8) as pool:
        claimed = [ident for done in pool.map(work, range(8)) for ident in done]
    assert sorted(claimed) == sorted(job.id for job in store.jobs.all())


def test_a_worker_without_heartbeat_loses_its_job(store: Store, clock: Clock) -> None:
    store.jobs.add("reward", {})
    lost = store.jobs.claim("dead", 60)
    assert lost is not None
    clock.now += 59
    store.jobs.beat(lost, {"step": 1})
    clock.now += 60
    assert store.jobs.claim("other", 60) is None
    clock.now += 1
    taken = store.jobs.claim("other", 60)
    assert taken is not None and taken.id == lost.id
    store.jobs.beat(lost, {"step": 99})
    store.jobs.finish(lost, "too late")
    now = store.jobs.get(lost.id)
    assert (now.status, now.worker, now.progress["step"], now.error) == ("running", "other", 1, "")
    store.jobs.finish(taken)
    assert store.jobs.get(lost.id).status == "done"
    assert store.jobs.claim("third", 0) is None


def test_a_failed_job_keeps_its_sentence(store: Store, clock: Clock) -> None:
    store.jobs.add("ppo", {})
    job = store.jobs.claim("w", 60)
    assert job is not None
    store.jobs.finish(job, "No memory.")
    failed = store.jobs.get(job.id)
    assert (failed.status, failed.error, failed.finished) == ("failed", "No memory.", clock.now)


def test_a_cancelled_job_stays_cancelled(store: Store) -> None:
    store.jobs.add("ppo", {})
    job = store.jobs.claim("w", 60)
    assert job is not None
    with store.write() as db:
        db.execute("UPDATE jobs SET status = 'cancelled'")
    store.jobs.beat(job, {"step": 2})
    store.jobs.finish(job)
    assert (store.jobs.get(job.id).status, store.jobs.get(job.id).progress) == ("cancelled", {})


def test_an_unknown_job_is_named(store: Store) -> None:
    with pytest.raises(UnknownName, match="nope"):
        store.jobs.get("nope")


def test_a_clock_that_was_set_back_does_not_hold_a_dead_workers_job(store: Store, clock: Clock) -> None:
    store.jobs.add("reward", {})
    assert store.jobs.claim("dead", 60) is not None
    clock.now -= 30
    assert store.jobs.claim("other", 60) is None
    clock.now -= 31
    taken = store.jobs.claim("other", 60)
    assert taken is not None and taken.worker == "other"


def test_a_worker_is_told_whether_the_job_is_still_its_own(store: Store) -> None:
    store.jobs.add("reward", {})
    job = store.jobs.claim("first", 60)
    assert job is not None and store.jobs.beat(job)
    store.jobs.release(job)
    assert store.jobs.get(job.id).status == "queued"
    assert not store.jobs.beat(job)
    with pytest.raises(JobLost):
        store.jobs.hold(job)


def test_a_job_is_launched_stopped_and_resumed_by_somebody(store: Store) -> None:
    job = store.jobs.launch("ppo", {"out": "runs/p"}, "rita")
    claimed = store.jobs.claim("w", 60)
    assert claimed is not None and store.jobs.beat(claimed) and store.jobs.beat(claimed, {"log": "l"})
    assert store.jobs.stop(job, "rita").status == "cancelled"
    assert not store.jobs.beat(claimed), "its worker hears that it is not its any more"
    assert store.jobs.claim("w", 60) is None
    again = store.jobs.again(job, "adam")
    assert (again.status, again.worker, again.error, again.progress) == ("queued", None, "", {"log": "l"})
    kinds = ("job launched", "job stopped", "job resumed")
    assert [(event.actor, event.kind) for event in store.events.about(job.id, *kinds)] == [
        ("rita", "job launched"), ("rita", "job stopped"), ("adam", "job resumed"),
    ]  # fmt: skip
    assert store.jobs.claim("w", 60) == store.jobs.get(job.id)


def test_only_what_has_not_ended_is_stopped_and_only_what_was_stopped_goes_on(store: Store) -> None:
    job = store.jobs.add("sft", {})
    with pytest.raises(NotReady, match="queued"):
        store.jobs.again(job, "rita")
    claimed = store.jobs.claim("w", 60)
    assert claimed is not None
    store.jobs.finish(claimed)
    for act in (store.jobs.stop, store.jobs.again):
        with pytest.raises(NotReady, match="done"):
            act(job, "rita")


def taken_from_the_dead(store: Store, clock: Clock) -> Job:
    """The job of a worker that is not heard of again, by the next one."""
    clock.now += 61
    job = store.jobs.claim("next", 60)
    assert job is not None
    return job


def test_a_job_of_which_every_worker_dies_fails_with_a_sentence_and_the_next_one_is_done(
    store: Store, clock: Clock
) -> None:
    poison, other = store.jobs.add("reward", {}), store.jobs.add("sample", {})
    assert store.jobs.claim("first", 60) is not None
    for _ in range(MOST_DEATHS - 1):
        assert taken_from_the_dead(store, clock).id == poison.id
    assert taken_from_the_dead(store, clock).id == other.id
    failed = store.jobs.get(poison.id)
    assert failed.status == "failed" and failed.finished == clock.now and "not heard of again" in failed.error
    assert [event.detail for event in store.events.about(poison.id, "job given up")] == [{"kind": "reward"}]
    store.jobs.again(failed, "rita")
    assert store.jobs.get(poison.id).progress == {}, "it has as many tries as before"


def test_a_job_that_gets_further_each_time_is_taken_up_however_often_its_workers_die(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    sample, run = store.jobs.add("sample", {}), store.jobs.add("sft", {})
    job = store.jobs.claim("first", 60)
    for prompts in range(2 * MOST_DEATHS):
        assert job is not None
        store.jobs.beat(job, {"prompts": prompts})
        job = taken_from_the_dead(store, clock)
        assert job.id == sample.id
    store.jobs.finish(job)  # type: ignore[arg-type]
    job = store.jobs.claim("first", 60)
    for step in range(2 * MOST_DEATHS):
        assert job is not None
        store.jobs.beat(job, {"folder": str(tmp_path)})
        (tmp_path / "metrics.jsonl").write_text("{}\n" * step)
        job = taken_from_the_dead(store, clock)
        assert job.id == run.id
    for _ in range(MOST_DEATHS):  # from its last checkpoint it gets less far than before
        (tmp_path / "metrics.jsonl").write_text("{}\n" * 3)
        clock.now += 61
        store.jobs.claim("next", 60)
    assert store.jobs.get(run.id).status == "failed"


def test_a_storm_of_kills_is_not_the_jobs_fault(store: Store, clock: Clock) -> None:
    store.jobs.add("sft", {})
    for _ in range(10 * MOST_DEATHS):
        assert store.jobs.claim("w", 1.0) is not None
        clock.now += 1.1
    assert store.jobs.all()[0].status == "running"


def test_a_worker_that_is_told_to_stop_has_not_died_of_its_job(store: Store) -> None:
    store.jobs.add("reward", {})
    for _ in range(2 * MOST_DEATHS):
        job = store.jobs.claim("w", 60)
        assert job is not None and job.progress == {}
        store.jobs.release(job)

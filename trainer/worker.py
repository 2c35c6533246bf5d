"""`trainer worker`: does queued jobs, and keeps enough comparisons waiting for the annotators."""

import os
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
from tqdm import tqdm

from preferences.beside import beside
from preferences.cli import open_store
from preferences.disk import Disk
from preferences.records import Study, random_id
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT, PLAN
from trainer.freshness import Freshness
from trainer.jobs import do_job, do_plan, held
from trainer.own_prompts import answer_own_prompt
from trainer.policies import sampling_policies
from trainer.roles import Roles
from trainer.sample import fitted, queue, respond
from trainer.schemas import about
from trainer.selecting import Chooser, Select
from trainer.stage import default_device_name, device_lock, open_base, open_study, stop_on_sigterm

NICENESS = 15
ACTIVE_SECONDS = 30 * 60
STALE_SECONDS = 60
SEEN_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker(Select):
    """Do queued jobs and keep comparisons waiting for every active annotator."""

    waiting: int = 5
    """Comparisons to keep waiting for each active annotator (at least one is assumed)."""
    prompts_at_once: int = 4
    """Prompts answered between two looks at the queue."""
    poll: float = 2.0
    """Seconds between two looks when there is nothing to do."""
    runs: Path = Path("runs")
    """Folder of the runs that are launched from the browser, and of the jobs' logs."""
    once: bool = False
    """Stop when there is nothing to do."""


def work(config: Worker) -> dict[str, Any]:
    """Serve until SIGTERM or Ctrl-C (or until idle, with `once`); {"sampled", "jobs"} counts."""
    os.nice(max(0, NICENESS - os.nice(0)))
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    store = open_store(config.db)
    warning = store.check()
    if warning:
        print(warning, file=sys.stderr)
    done = {"sampled": 0, "jobs": 0}
    name = f"{socket.gethostname()}:{os.getpid()}:{random_id()[:6]}"  # in containers the first two may be another's as well
    with stop_on_sigterm(), known(config, store, name):
        try:
            loop(config, store, name, done)
        except KeyboardInterrupt:
            print("The worker stops; it can be started again at any time.", file=sys.stderr)
    return done


def loop(config: Worker, store: Store, name: str, done: dict[str, int]) -> None:
    """Jobs first, then the queue, then what pages show of the reward model, then a rest."""
    disk, freshness = Disk(store.path.resolve().parent), Freshness()
    ready: Ready | None = None
    while True:
        wait_for_room(disk, config)
        job = store.jobs.claim(name, STALE_SECONDS)
        if job and job.kind == OWN_PROMPT:
            with held(store, job), device_lock(default_device_name()):
                ready = ready or opened(config, store)
                answer_own_prompt(ready.config, store, job, ready.roles)
            done["jobs"] += 1
            continue
        if job and job.kind == PLAN:
            do_plan(config, store, job)
            done["jobs"] += 1
            continue
        if job:
            ready = None  # a training stage needs the memory, and leaves adapters on the base it used
            do_job(config, store, job)
            done["jobs"] += 1
            continue
        study = open_study(store, config.study)
        if study.status == "active" and is_short(config, store, study):
            with device_lock(default_device_name()):
                ready = ready or opened(config, store)
                made = top_up(ready, store, study)
            done["sampled"] += made
            if made:
                continue
        reward, answers = freshness.unscored(store, study)
        if answers:
            ready = None
            with device_lock(default_device_name()):
                freshness.refresh(store, open_base(config), reward, answers, config.at_once)
            continue
        if config.once:
            return
        time.sleep(config.poll)


@dataclass(frozen=True, slots=True)
class Ready:
    """The options with a token budget that fits the device, the roles on the base, and what chooses prompts, if anything."""

    config: Worker
    roles: Roles
    chooser: Chooser | None


def opened(config: Worker, store: Store) -> Ready:
    """The base with whatever the worker needs on it."""
    base = open_base(config)
    config = fitted(config, base, config.k or open_study(store, config.study).k)
    roles = Roles(base)
    return Ready(config, roles, Chooser.load(config, roles) if config.select != "none" else None)


def wait_for_room(disk: Disk, config: Worker) -> None:
    """Until something can be stored again: what is computed on a full disk is computed for nothing."""
    if disk.state() == "full":
        print(disk.alarm(), file=sys.stderr, flush=True)
        while disk.state() == "full":
            time.sleep(config.poll)


def is_short(config: Worker, store: Store, study: Study) -> bool:
    """Whether fewer comparisons wait than so many for each annotator who was active in the last half hour.

    What is left over from earlier policies does not count. Also whether one of them has fewer before them: what still
    waits for others may be what they have ranked already.
    """
    active = store.annotators.active(store.clock() - ACTIVE_SECONDS)
    enough = config.waiting * max(1, len(active))
    if store.queue.waiting(study) < enough or store.promotions.fresh(study, enough) < enough:
        return True
    return any(
        len(store.queue.candidates(study, annotator, config.waiting)) < config.waiting
        for annotator in active
        if not store.queue.refusal(study, annotator) and store.queue.has_prompts_for(study, annotator)
    )


def top_up(ready: Ready, store: Store, study: Study) -> int:
    """Answer a few more prompts, those asked about least first, or those chosen of them; how many comparisons that gave."""
    config, roles = ready.config, ready.roles
    policies = sampling_policies(store, study, roles.base)
    count = config.prompts or config.prompts_at_once
    if ready.chooser:
        pool = store.studies.least_compared_prompts(study, count * config.pool)
        return ready.chooser.queue(store, study, pool, count)["comparisons"]
    prompts = store.studies.least_compared_prompts(study, count)
    with tqdm(total=len(prompts) * (config.k or study.k), desc="sample", unit="answer") as bar:
        responses = respond(config, store, roles, policies, prompts, config.k or study.k, bar.update)
    return queue(store, study, prompts, responses)


@contextmanager
def known(config: Worker, store: Store, name: str) -> Iterator[None]:
    """The labeler knows meanwhile that this worker is alive, and what it can do."""
    store.workers.publish(name, about(config.model, config.quantize, config.study, config.runs))

    def beat(over: Event) -> None:
        while not over.wait(SEEN_SECONDS):
            with suppress(sqlite3.Error):  # busy, or a full disk: the next beat may come through
                store.workers.see(name)
        store.close()

    try:
        with beside(beat):
            yield
    finally:
        with suppress(sqlite3.Error):
            store.workers.leave(name)

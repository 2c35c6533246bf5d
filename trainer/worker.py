"""`trainer worker`: does queued jobs, and keeps enough comparisons waiting for the annotators."""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from threading import Event, Thread
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from tqdm import tqdm

from preferences.cli import open_store
from preferences.errors import RankloopError
from preferences.records import Job, Study
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT
from trainer.models import load_base
from trainer.own_prompts import answer_own_prompt
from trainer.policies import sampling_policies
from trainer.ppo import Ppo, taken_up
from trainer.roles import Roles
from trainer.sample import fitted, queue, respond
from trainer.selecting import Chooser, Select
from trainer.stage import Stage, default_device_name, device_lock, open_base, open_study
from trainer.stages import BY_NAME, execute

NICENESS = 15
ACTIVE_SECONDS = 30 * 60
HEARTBEAT_SECONDS = 5
STALE_SECONDS = 60
OWN = ("model", "quantize", "study", "seed")  # the worker's, where a job does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker(Select):
    """Do queued jobs and keep comparisons waiting for every active annotator."""

    waiting: int = 5
    """Comparisons to keep waiting for each active annotator (at least one is assumed)."""
    prompts_at_once: int = 4
    """Prompts answered between two looks at the queue."""
    poll: float = 2.0
    """Seconds between two looks when there is nothing to do."""
    once: bool = False
    """Stop when there is nothing to do."""


def work(config: Worker) -> dict[str, Any]:
    """Serve until SIGTERM or Ctrl-C (or until idle, with `once`); {"sampled", "jobs"} counts."""
    os.nice(max(0, NICENESS - os.nice(0)))
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    store = open_store(config.db)
    done = {"sampled": 0, "jobs": 0}
    with stop_on_sigterm():
        try:
            loop(config, store, done)
        except KeyboardInterrupt:
            print("The worker stops; it can be started again at any time.", file=sys.stderr)
    return done


def loop(config: Worker, store: Store, done: dict[str, int]) -> None:
    """Jobs first, then the queue, then a rest."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    ready: Ready | None = None
    while True:
        job = store.jobs.claim(name, STALE_SECONDS)
        if job and job.kind == OWN_PROMPT:
            with job_errors(store, job), beating(store, job), device_lock(default_device_name()):
                ready = ready or opened(config, store)
                answer_own_prompt(ready.config, store, job, ready.roles)
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


def is_short(config: Worker, store: Store, study: Study) -> bool:
    """Whether fewer comparisons wait than so many for each annotator who was active in the last half hour.

    Also whether one of them has fewer before them: what still waits for others may be what they have ranked already.
    """
    active = store.annotators.active(store.clock() - ACTIVE_SECONDS)
    if store.queue.waiting(study) < config.waiting * max(1, len(active)):
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


def do_job(config: Worker, store: Store, job: Job) -> None:
    """Run a job's stage; whatever goes wrong fails the job with a sentence, and the worker goes on."""
    with job_errors(store, job):
        stage = stage_of(job, config)
        if isinstance(stage, Ppo):
            stage = taken_up(stage)
        with beating(store, job), device_lock(default_device_name()):
            execute(stage, store, load_base(stage.model, stage.quantize))


@contextmanager
def job_errors(store: Store, job: Job) -> Iterator[None]:
    """Finish the job; whatever goes wrong fails it with a sentence."""
    try:
        yield
    except RankloopError as error:
        store.jobs.finish(job, str(error))
    except Exception as error:  # no memory, or a fault of this program: it costs the one job and is not tried again
        traceback.print_exc()
        store.jobs.finish(job, f"The stage failed ({type(error).__name__}: {error}); the worker's log says where.")
    else:
        store.jobs.finish(job)


def stage_of(job: Job, config: Worker) -> Stage:
    """The options a job asks for. Raises RankloopError for an unknown stage and for a wrong or missing option."""
    if job.kind not in BY_NAME:
        raise RankloopError(f"There is no stage {job.kind!r}; a job's kind is one of {', '.join(BY_NAME)}.")
    kind = BY_NAME[job.kind]
    hints = get_type_hints(kind)
    required = {field.name: field.default is MISSING for field in fields(kind) if field.name != "db"}
    options: dict[str, Any] = {"db": config.db, **{name: getattr(config, name) for name in OWN}}
    for name, value in job.spec.items():
        if name not in required:
            raise RankloopError(f"Stage {job.kind} has no option {name!r}.")
        options[name] = typed(name, value, hints[name])
    for name, needed in required.items():
        if needed and name not in options:
            raise RankloopError(f"Stage {job.kind} needs the option {name!r}.")
    return kind(**options)


def typed(name: str, value: Any, hint: Any) -> Any:
    """A JSON value as what the option takes: a text as a path, 1 as 1.0. Raises RankloopError."""
    names = []
    for choice in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if get_origin(choice) is Literal:
            if value in get_args(choice):
                return value
            names += [repr(word) for word in get_args(choice)]
            continue
        if type(value) is choice:
            return value
        if (choice, type(value)) in ((Path, str), (float, int)):
            return choice(value)
        names.append("None" if choice is type(None) else choice.__name__)
    raise RankloopError(f"{name!r} must be {' or '.join(names)}, not {value!r}.")


@contextmanager
def beating(store: Store, job: Job) -> Iterator[None]:
    """Heartbeats while the job runs, so that no other worker takes it."""
    over = Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            store.jobs.beat(job)
        store.close()

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the work like Ctrl-C does: after the rows that are stored, with nothing half written."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

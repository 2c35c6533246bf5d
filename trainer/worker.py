"""`trainer worker`: does queued jobs, and keeps enough comparisons waiting for the annotators."""

import os
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import torch
from filelock import FileLock, Timeout

from preferences.beside import beside
from preferences.cli import open_store
from preferences.disk import Disk
from preferences.errors import NotHeld, RankloopError
from preferences.jobs import Job
from preferences.records import random_id
from preferences.shortage import is_short
from preferences.store import Store
from preferences.tables.jobs import STALE_SECONDS, TOP_UP
from trainer.bench import Bench
from trainer.errand import Errand
from trainer.far_labeler import FOR_EVER, BadToken, FarLabeler, read_token
from trainer.freshness import Freshness
from trainer.schemas import about
from trainer.selecting import Select
from trainer.stage import default_device_name, device_lock, open_base, open_study, stop_on_sigterm

NICENESS = 15
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
    server: str | None = None
    """Work for the labeler at this address, on another host, instead of on --db (docs/scale.md)."""
    token_file: Path | None = None
    """With --server: the file that holds this worker's token (`labeler worker-token add`)."""
    folder: Path = Path("rankloop-worker")
    """With --server: where what jobs need and make is kept; what is trained here is not fetched again."""

    def __post_init__(self) -> None:
        Select.__post_init__(self)
        if (self.server is None) != (self.token_file is None):
            raise RankloopError("--server and --token-file belong together: give both or neither.")


def work(config: Worker) -> dict[str, Any]:
    """Serve until SIGTERM or Ctrl-C (or until idle, with `once`); {"sampled", "jobs"} counts."""
    os.nice(max(0, NICENESS - os.nice(0)))
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    done = {"sampled": 0, "jobs": 0}
    name = f"{socket.gethostname()}:{os.getpid()}:{random_id()[:6]}"  # in containers the first two may be another's as well
    try:
        with stop_on_sigterm() as told:
            (serve_far if config.server else serve)(config, name, done, told)
    except KeyboardInterrupt:
        print("The worker stops; it can be started again at any time.", file=sys.stderr)
    return done


def serve(config: Worker, name: str, done: dict[str, int], told: Event) -> None:
    """On the database of this host, until `told`."""
    store = open_store(config.db)
    warning = store.check()
    if warning:
        print(warning, file=sys.stderr)
    with known(config, store, name):
        loop(config, store, name, done, told)


def loop(config: Worker, store: Store, name: str, done: dict[str, int], told: Event) -> None:
    """Jobs first, then the queue, then what pages show of the reward model, then a rest."""
    disk, freshness, bench = Disk(store.path.resolve().parent), Freshness(), Bench()
    while not told.is_set():
        wait_for_room(disk, config)
        job = store.jobs.claim(name, STALE_SECONDS)
        if job:
            bench.take(config, store, job)
            done["jobs"] += 1
            continue
        study = open_study(store, config.study)
        if study.status == "active" and is_short(store, study, config.waiting):
            made = bench.top_up(config, store, study)
            done["sampled"] += made
            if made:
                continue
        reward, answers = freshness.unscored(store, study) if config.endpoint is None else ("", [])
        if answers:
            bench.ready = None
            with device_lock(default_device_name()):
                freshness.refresh(store, open_base(config), reward, answers, config.at_once)
            continue
        if config.once:
            return
        time.sleep(config.poll)


def serve_far(config: Worker, name: str, done: dict[str, int], told: Event) -> None:
    """For a labeler on another host, until `told`."""
    assert config.server is not None and config.token_file is not None, "The options were checked."
    labeler = FarLabeler(config.server, read_token(config.token_file), name)
    disk, bench = Disk(config.folder), Bench()
    at_once = (config.prompts or config.prompts_at_once) * (config.pool if config.select != "none" else 1)
    with alone_in(config.folder), labeler.known(about(config.model, config.quantize, config.study, config.runs)):
        while not told.is_set():
            wait_for_room(disk, config)
            job = labeler.claim(config.waiting, at_once, config.study)
            made = run_errand(config, labeler, job, bench) if job else 0
            if job and job.kind != TOP_UP:
                done["jobs"] += 1
                continue
            done["sampled"] += made
            if made:
                continue
            if config.once:
                return
            time.sleep(config.poll)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """The folder is this worker's. Raises RankloopError if it is another one's."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RankloopError(f"Another worker is at work in {folder}; give each a --folder of its own.") from error
    try:
        yield
    finally:
        lock.release()


def run_errand(config: Worker, labeler: FarLabeler, job: Job, bench: Bench) -> int:
    """One job, from what it needs to what it makes; how many comparisons that were."""
    try:
        errand = Errand(labeler, job, config.folder)
    except NotHeld as error:
        print(error, file=sys.stderr)
        return 0
    except BadToken:
        raise
    except RankloopError as error:
        with suppress(NotHeld):
            labeler.end(job, "failed", str(error), FOR_EVER)
        return 0
    here = replace(config, db=errand.store.path, study=None, runs=errand.log.parent.parent)
    with errand.under_way() as taken:
        bench.take(here, errand.store, taken)
    return errand.comparisons


def wait_for_room(disk: Disk, config: Worker) -> None:
    """Until something can be stored again: what is computed on a full disk is computed for nothing."""
    if disk.state() == "full":
        print(disk.alarm(), file=sys.stderr, flush=True)
        while disk.state() == "full":
            time.sleep(config.poll)


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
            store.jobs.give_back(name)
            store.workers.leave(name)

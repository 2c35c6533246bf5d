"""Jobs that the browser or the command line leaves for `trainer worker`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preferences.errors import NotReady, UnknownName
from preferences.jobs import Job
from preferences.records import random_id
from preferences.run_files import metrics_bytes
from preferences.tables.table import Table, from_row, to_row

OWN_PROMPT = "own_prompt"  # an annotator waits for it in front of the page
OWN_PRIORITY = 1000.0  # it is the next comparison of whoever typed the prompt
TOP_UP = "top_up"  # a few more comparisons, which a worker on another host is asked for
PLAN = "plan"  # what memory a stage would take with the options that somebody looks at
# Kinds for workers beside the database alone: what these make is HTML, which no other host may send.
BESIDE = ("report",)
STALE_SECONDS = 60.0  # without a heartbeat: its worker is dead
# Of workers that have a job, one after the other, none of which gets further than those before: a storm of kills that is
# over within these seconds says nothing of the job.
MOST_DEATHS, DEATHS_SECONDS = 5, 4 * STALE_SECONDS
DEATHS = "deaths"  # in a job's progress: how many, since when, and how far the farthest got
MINE = "WHERE id = ? AND worker = ? AND status = 'running'"


class JobLost(Exception):
    """The job was cancelled, or another worker has it: this one was thought to be dead, and what it makes must not count."""


class Jobs(Table):
    """Each job is claimed by one worker; a worker that stops sending heartbeats loses it."""

    def add(self, kind: str, spec: dict[str, Any]) -> Job:
        """A queued job."""
        made = Job(random_id(), kind, spec, created=self.store.clock())
        self.insert("jobs", [to_row(made)])
        return made

    def launch(self, kind: str, spec: dict[str, Any], actor: str) -> Job:
        """A queued job that somebody asked for."""
        with self.store.write():
            made = self.add(kind, spec)
            self.store.events.add(actor, "job launched", made.id, {"kind": kind, "spec": spec})
        return made

    def stop(self, job: Job, actor: str) -> Job:
        """The job is not begun, or ends as soon as its worker hears of it. Raises NotReady if it has ended."""
        with self.store.write() as db:
            now = self.get(job.id)
            if now.status not in ("queued", "running"):
                raise NotReady(f"The job is {now.status}, so it cannot be stopped.")
            db.execute("UPDATE jobs SET status = 'cancelled', finished = ? WHERE id = ?", [self.store.clock(), job.id])
            self.store.events.add(actor, "job stopped", job.id, {"kind": job.kind})
        return self.get(job.id)

    def again(self, job: Job, actor: str) -> Job:
        """A stopped or failed job back in the queue, where it was. Raises NotReady if it is neither."""
        with self.store.write() as db:
            now = self.get(job.id)
            if now.status not in ("cancelled", "failed"):
                raise NotReady(f"The job is {now.status}; only one that was stopped or has failed can go on.")
            db.execute(
                "UPDATE jobs SET status = 'queued', worker = NULL, heartbeat = NULL, error = '', started = NULL, "
                "finished = NULL, progress = json_remove(progress, ?) WHERE id = ?",
                [f"$.{DEATHS}", job.id],
            )
            self.store.events.add(actor, "job resumed", job.id, {"kind": job.kind})
        return self.get(job.id)

    def claim(self, worker: str, stale_after: float, beside: Sequence[str] = ()) -> Job | None:
        """The oldest job that is queued, or running without a heartbeat for `stale_after` seconds, or None; none of the kinds
        `beside`.

        Own prompts of annotators come before all else. A heartbeat that lies as far ahead is old as well: the clock was set
        back, and a worker that lives would have said so since. A job of which workers die again and again fails.
        """
        now = self.store.clock()
        with self.store.write() as db:
            while job := self._next(now, stale_after, beside):
                deaths = {DEATHS: deaths_of(job, now)} if job.status == "running" else {}
                if deaths and is_hopeless(deaths[DEATHS], now):
                    self._give_up(job)
                    continue
                db.execute(
                    "UPDATE jobs SET status = 'running', worker = ?, heartbeat = ?, started = ?, progress = ? WHERE id = ?",
                    [worker, now, now, json.dumps({**job.progress, **deaths}), job.id],
                )
                return self.get(job.id)
        return None

    def _next(self, now: float, stale_after: float, beside: Sequence[str]) -> Job | None:
        """What `claim` claims."""
        row = self.row(
            "SELECT * FROM jobs WHERE (status = 'queued' OR (status = 'running' AND abs(heartbeat - ?) > ?)) "
            "AND kind NOT IN (SELECT value FROM json_each(?)) ORDER BY kind != ?, created, rowid LIMIT 1",
            now,
            stale_after,
            json.dumps(beside),
            OWN_PROMPT,
        )
        return from_row(Job, row) if row else None

    def _give_up(self, job: Job) -> None:
        """The job has failed: whoever takes it dies of it."""
        sentence = (
            f"{MOST_DEATHS} workers had this job and were not heard of again, none of them further than those before; look "
            "at its log and at the memory of their machine, then let it go on, or launch it with other options."
        )
        with self.store.write() as db:
            db.execute(
                "UPDATE jobs SET status = 'failed', error = ?, finished = ? WHERE id = ?",
                [sentence, self.store.clock(), job.id],
            )
            self.store.events.add("", "job given up", job.id, {"kind": job.kind})

    def beat(self, job: Job, progress: dict[str, Any] | None = None) -> bool:
        """The job is alive, and `progress` is new of what is known of it; whether it still is this worker's."""
        with self.store.write() as db:
            sql = f"UPDATE jobs SET heartbeat = ?, progress = coalesce(?, progress) {MINE}"
            made = json.dumps({**self.get(job.id).progress, **progress}) if progress else None
            return bool(db.execute(sql, [self.store.clock(), made, job.id, job.worker]).rowcount)

    def hold(self, job: Job, progress: dict[str, Any] | None = None) -> None:
        """The same, as a condition of what is written in one transaction with it. Raises JobLost."""
        if not self.beat(job, progress):
            raise JobLost

    def release(self, job: Job) -> None:
        """The worker stops before the job is done: the next one need not wait until the heartbeat is old."""
        with self.store.write() as db:
            db.execute(f"UPDATE jobs SET status = 'queued', worker = NULL {MINE}", [job.id, job.worker])

    def give_back(self, worker: str) -> None:
        """The worker ends. What it still has, because it was interrupted before or after its work on it, waits as well."""
        with self.store.write() as db:
            db.execute(
                "UPDATE jobs SET status = 'queued', worker = NULL WHERE worker = ? AND status = 'running'", [worker]
            )

    def finish(self, job: Job, error: str = "") -> None:
        """The job is done, or failed with that sentence; one cancelled or lost to another worker stays as it is."""
        with self.store.write() as db:
            db.execute(
                f"UPDATE jobs SET status = ?, error = ?, finished = ? {MINE}",
                ["failed" if error else "done", error, self.store.clock(), job.id, job.worker],
            )

    def forget(self, kind: str) -> None:
        """Jobs of that kind that have ended are nobody's business any more."""
        with self.store.write() as db:
            db.execute("DELETE FROM jobs WHERE kind = ? AND status NOT IN ('queued', 'running')", [kind])

    def get(self, ident: str) -> Job:
        """The job of that id. Raises UnknownName."""
        row = self.row("SELECT * FROM jobs WHERE id = ?", ident)
        if row is None:
            raise UnknownName(f"There is no job {ident!r}.")
        return from_row(Job, row)

    def all(self) -> list[Job]:
        """Every job, oldest first."""
        return [from_row(Job, row) for row in self.rows("SELECT * FROM jobs ORDER BY created, rowid")]


def is_hopeless(deaths: dict[str, Any], now: float) -> bool:
    """Whether the next worker would die as well."""
    return bool(deaths["count"] >= MOST_DEATHS and now - deaths["since"] >= DEATHS_SECONDS)


def deaths_of(job: Job, now: float) -> dict[str, Any]:
    """{"count", "since", "said", "logged"}: workers that died of the job since one got further, and how far that was.

    Further: something else is known of its progress, or its run has logged more.
    """
    said = {name: value for name, value in job.progress.items() if name not in (DEATHS, "log", "folder")}
    folder = job.progress.get("folder")
    logged = metrics_bytes(Path(folder)) if folder else 0
    none = {"count": 0, "since": now, "said": said, "logged": logged}
    before = job.progress.get(DEATHS, none)
    if said != before["said"] or logged > before["logged"]:
        before = none
    return {**before, "count": before["count"] + 1}

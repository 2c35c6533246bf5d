"""A labeler that can be killed at any moment and starts again at once, and annotators who do not give up."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from preferences.store import Store
from tests.labeler.conftest import PASSWORD, add_account, add_comparison, add_study

CROWD = 4

# The labeler's API without its pages, imported once: each line that it reads is a port, on which it starts a process.
SERVER = """
import os, signal, sys
from labeler.commands.serve import bind, serve
from labeler.markup import render
from labeler.settings import Settings
from labeler.web import build_api
from preferences.store import Store
render("**It** is `warm`, $x$.")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        store = Store(sys.argv[1])
        store.check()
        serve(build_api(store, Settings(), {}), bind("127.0.0.1", int(line)), store)
        os._exit(0)
    print("process", pid, flush=True)
"""


class Mortal:
    """A server on one port for all its lives. `environment`: added to that of this process; `before`: Python that it runs
    first."""

    def __init__(self, db: Path, environment: dict[str, str] | None = None, before: str = "") -> None:
        self.db = db
        self.port = 0
        self.pid: int | None = None
        self.deaths = self.changes = 0
        self.turn = threading.Lock()
        self.launcher = subprocess.Popen(
            [sys.executable, "-c", before + SERVER, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )  # fmt: skip

    def start(self) -> None:
        """Returns when it accepts connections."""
        assert self.launcher.stdin is not None and self.launcher.stdout is not None
        self.launcher.stdin.write(f"{self.port}\n")
        self.launcher.stdin.flush()
        said = sorted(self.launcher.stdout.readline() for _ in range(2))  # either may come first
        assert said[0].startswith("Labeler ready"), said
        self.port = int(said[0].strip().rstrip("/").rpartition(":")[2])
        self.pid = int(said[1].split()[1])
        self.changes += 1

    def kill(self, with_signal: int = signal.SIGKILL) -> None:
        """SIGKILL: as the kernel does it when memory is short, at once. Returns when it is gone."""
        with self.turn:
            if self.pid:  # the last one may have been killed after it had answered
                os.kill(self.pid, with_signal)
                ends = time.monotonic() + 60
                while Path(f"/proc/{self.pid}").exists():
                    assert time.monotonic() < ends, "The server lives on."
                    time.sleep(0.002)
                self.pid = None
            self.deaths += 1
            self.changes += 1

    def revive(self, since: int) -> None:
        """Start it again, if nobody else has. `since`: `changes` before a call that only its death can have left open."""
        with self.turn:
            assert self.pid is None or self.changes > since, "The server lives, but an answer was lost."
            if self.pid is None:
                self.start()

    def close(self) -> None:
        """The end of all."""
        if self.pid:
            self.kill()
        self.launcher.kill()
        self.launcher.communicate()


@dataclass(slots=True)
class Persistent:
    """What the board and its outbox do: the same answer with the same nonce, until the server has answered.

    `acknowledged`: nonce -> (id of the row, comparison, what was ranked).
    """

    server: Mortal
    name: str
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))
    lost: int = 0
    refused: int = 0
    acknowledged: dict[str, tuple[str, str, list[list[str]]]] = field(default_factory=dict)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """The answer; called again until there is one, logged in again if the session is over."""
        while True:
            changes = self.server.changes
            try:
                reply = self.client.request(method, f"http://127.0.0.1:{self.server.port}{path}", json=body)
            except httpx.TransportError:
                self.lost += 1
                self.server.revive(changes)
                continue
            if reply.status_code == 503:
                self.refused += 1
                time.sleep(0.05)
            elif reply.status_code == 401 and path != "/login":
                self.log_in()
            else:
                return reply

    def log_in(self) -> None:
        assert self.call("POST", "/login", {"name": self.name, "password": PASSWORD}).status_code == 200

    def task(self) -> dict[str, Any]:
        task: dict[str, Any] = self.call("GET", "/api/next").json()["task"]
        return task

    def rank(self, draw: random.Random, nonce: str, before: Callable[[], None] = lambda: None) -> None:
        """The next comparison: a draft, then an answer. `before`: done right before it is sent."""
        task = self.task()
        items = [response["id"] for response in task["responses"]]
        draw.shuffle(items)
        lease = {"comparison": task["comparison"], "lease": task["lease"]}
        draft = self.call("POST", "/api/draft", {**lease, "tiers": [items[:1]]})
        body = {**lease, "nonce": nonce, "tiers": [[item] for item in items]}
        before()
        reply = self.call("POST", "/api/submit", body)
        if reply.status_code == 409 and reply.json()["code"] == "not_leased":
            return  # its time ran out (the clock jumped); the comparison is somebody's again
        assert draft.status_code == 200 or draft.json()["code"] == "not_leased", draft.text
        assert reply.status_code == 200 or (reply.status_code, reply.json()["code"]) == (409, "nonce_used"), reply.text
        self.acknowledged[nonce] = (reply.json()["saved"], task["comparison"], body["tiers"])


def filled(path: Path, comparisons: int, accounts: int = 1) -> Store:
    """A store with so many comparisons, each for one person, and accounts "ann 0", ..."""
    store = Store(path)
    study = add_study(store)
    with store.write():
        for number in range(comparisons):
            add_comparison(store, study, f"Question {number} {number * 7919} {number * 104729}?", ["a", "b", "c", "d"])
        for number in range(accounts):
            add_account(store, f"ann {number}")
    return store


def crowd(server: Mortal, size: int = CROWD) -> list[Persistent]:
    """Annotators who have logged in."""
    made = [Persistent(server, f"ann {number}") for number in range(size)]
    for one in made:
        one.log_in()
    return made


def work(people: list[Persistent], answers: int) -> None:
    """All rank so many comparisons each, at the same time."""

    def rank(who: Persistent) -> None:
        draw = random.Random(who.name)
        for _ in range(answers):
            who.rank(draw, f"{who.name}-{len(who.acknowledged):06}")

    with ThreadPoolExecutor(len(people)) as pool:
        list(pool.map(rank, people))


def check(path: Path, people: list[Persistent]) -> None:
    """Everything that was acknowledged is stored as it was sent, and nothing twice; no comparison has more answers than it
    wants, which is one."""
    store = Store(path)
    acknowledged = {nonce: said for one in people for nonce, said in one.acknowledged.items()}
    rows = store.rankings.rows("SELECT nonce FROM rankings")
    nonces = [row["nonce"] for row in rows]
    assert len(nonces) == len(set(nonces))
    assert not set(acknowledged) - set(nonces), "lost"
    stored = {one.nonce: (one.id, one.comparison, one.tiers) for one in store.rankings.current()}
    assert {nonce: stored[nonce] for nonce in acknowledged} == acknowledged
    assert len({(one.annotator, one.comparison) for one in store.rankings.current()}) == len(stored)
    assert len({one.comparison for one in store.rankings.current()}) == len(stored)
    assert store.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert store.db.execute("PRAGMA foreign_key_check").fetchall() == []
    store.close()

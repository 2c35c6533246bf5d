"""Everything at once, for as long as you like, while parts of it die: what is lost, stored twice, slow, or grows.

    python -m benchmarks.soak --minutes 3 --json s.json

On a fresh database: 200 annotators who work like the board does; a worker that samples from a tiny model; dashboards that are
looked at again and again; `labeler backup` every minute; and the server and the worker are killed (SIGKILL) now and then and
started again. At the end every acknowledged answer is looked for in the database, and those that were acknowledged before the
last backup in what `labeler restore` makes of it. All listens on 127.0.0.1 alone.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import uvloop

from benchmarks.labeler_load import PASSWORD, Browser, fill
from benchmarks.soak_server import Seen, Server, program
from labeler.accounts import hash_password
from preferences.records import random_id
from preferences.store import Store

ADMINS = 2
LOOK_SECONDS = 5.0  # between two looks at a dashboard
RETRY_SECONDS = 0.25
KILL_SECONDS = 150.0  # between two deaths of the server, after the first two
DRAFTS = 2


@dataclass(frozen=True, slots=True)
class Soak:
    """Keep a labeler and a worker busy, kill them now and then, and say what was lost."""

    minutes: float = 3.0
    """How long they work, logins not counted."""
    annotators: int = 200
    """How many work at once."""
    think_time: float = 5.0
    """Mean seconds that one of them looks at a comparison."""
    json: Path | None = None
    """Where to write the figures (always printed)."""
    seed: int = 1
    """Of texts, thinking, rankings and moments of death."""

    def run(self) -> None:
        """Fill a database, let all loose on it, look at what is left."""
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            db = Path(folder) / "labels.db"
            prepare(db, self)
            model = tiny_model(Path(folder) / "model")
            seen = Seen()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(soak(self, db, model, seen))
            figures = report(self, db, seen)
        text = json.dumps(figures, indent=2)
        print(text)
        if self.json:
            self.json.write_text(text + "\n")


def prepare(db: Path, load: Soak) -> None:
    """Comparisons for all, prompts for the worker, an admin."""
    fill(db, load.annotators, int(1.3 * load.annotators * (60 * load.minutes / load.think_time + 4)), load.seed)
    store = Store(db)
    store.studies.add_prompts(store.studies.default(), store.prompts.all()[:2000])
    secret = hash_password(PASSWORD)
    for number in range(ADMINS):
        store.annotators.add(f"admin {number}", "admin", secret)
    store.close()


def tiny_model(folder: Path) -> Path:
    """A random model of two layers that samples words without sense. In a process of its own: torch is not needed here."""
    code = "import sys; from pathlib import Path; from tests.tiny import save_tiny_llama; save_tiny_llama(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)
    return folder


class Person:
    """A session that outlives the server: each call is repeated until it is answered."""

    def __init__(self, server: Server, seen: Seen, name: str) -> None:
        self.server, self.seen, self.name = server, seen, name
        self.browser = Browser(server.port)
        self.connected = False

    async def call(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes, bool]:
        """(status, content, whether it was answered at the first try)."""
        tries = 0
        while True:
            life, ready = self.server.lives, self.server.ready
            try:
                if not self.connected:
                    await self.browser.open()
                    self.connected = True
                status, content = await self.browser.call(path, body)
                return status, content, tries == 0
            except (OSError, EOFError, TimeoutError) as error:
                self.connected = False
                tries += 1
                if ready and self.server.ready and life == self.server.lives:
                    self.seen.errors.append(f"{path}: {error!r} of a living server")
                await asyncio.sleep(RETRY_SECONDS * (1 + random.random()))

    async def good(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The document; another status than 200 is an error."""
        status, content, _ = await self.call(path, body)
        if status != 200:
            self.seen.errors.append(f"{path} {status}: {content[:200]!r}")
            return None
        return json.loads(content)

    async def log_in(self) -> None:
        assert await self.good("/login", {"name": self.name, "password": PASSWORD}), "The login failed."


async def soak(load: Soak, db: Path, model: Path, seen: Seen) -> None:
    """All of it."""
    server = Server(db, seen)
    await server.start()
    try:
        await loose(load, db, model, seen, server)
    finally:
        assert server.process is not None
        if server.process.returncode is None:
            server.process.terminate()
        if await server.process.wait() != 0:
            seen.errors.append(f"The labeler ended with {server.process.returncode}.")


async def loose(load: Soak, db: Path, model: Path, seen: Seen, server: Server) -> None:
    """All who work, look, copy and kill, until the time is over."""
    people = [Person(server, seen, f"annotator {number}") for number in range(load.annotators)]
    admins = [Person(server, seen, f"admin {number}") for number in range(ADMINS)]
    readers = [Person(server, seen, person.name) for person in people[:ADMINS]]  # a second tab each
    for person in (*people, *admins, *readers):
        await person.log_in()
    ends = time.monotonic() + 60 * load.minutes
    beside = [
        asyncio.create_task(task)
        for task in (
            server.watch_memory(), deaths(load, server, ends), worker(load, db, model, seen), backups(db, seen),
            *(look(admin, ops=True) for admin in admins), *(look(reader, ops=False) for reader in readers),
        )
    ]  # fmt: skip
    draws = [random.Random(load.seed * 1_000_003 + number) for number in range(load.annotators)]
    await asyncio.gather(
        *(annotate(number, person, draws[number], load.think_time, ends) for number, person in enumerate(people))
    )
    for task in beside:
        task.cancel()
    for result in await asyncio.gather(*beside, return_exceptions=True):
        if isinstance(result, Exception) and not isinstance(result, asyncio.CancelledError):
            seen.errors.append(repr(result))


async def annotate(number: int, person: Person, draw: random.Random, think_time: float, ends: float) -> None:
    """From the first comparison until the time is over."""
    await asyncio.sleep(draw.random() * think_time)
    page = await person.good("/api/next")
    while page and time.monotonic() < ends:
        task = page["task"]
        if task is None:
            person.seen.errors.append("There was nothing to rank.")
            return
        page = await rank(number, person, draw, task, think_time)


async def rank(number: int, person: Person, draw: random.Random, task: dict[str, Any], think_time: float) -> Any:
    """Think, save drafts, submit; the next page."""
    ids = [response["id"] for response in task["responses"]]
    draw.shuffle(ids)
    lease = {"comparison": task["comparison"], "lease": task["lease"]}
    thinking = draw.expovariate(1 / think_time)
    await person.good("/api/ahead")
    for placed in range(1, DRAFTS + 1):
        await asyncio.sleep(thinking / (DRAFTS + 1))
        await person.good("/api/draft", {**lease, "tiers": [[item] for item in ids[:placed]]})
    await asyncio.sleep(thinking / (DRAFTS + 1))
    tiers, nonce = [[item] for item in ids], random_id()
    begun = time.perf_counter()
    status, content, at_once = await person.call(
        "/api/submit", {**lease, "nonce": nonce, "tiers": tiers, "active_ms": 1}
    )
    reply = json.loads(content)
    if status == 200 or (status == 409 and reply["code"] == "nonce_used"):
        if at_once:
            person.seen.submits.append(time.perf_counter() - begun)
        person.seen.acknowledged[number, nonce] = reply["saved"], tiers, time.monotonic()
        return reply["next"] if status == 200 else await person.good("/api/next")
    person.seen.errors.append(f"/api/submit {status}: {content[:200]!r}")
    return await person.good("/api/next")


async def look(person: Person, ops: bool) -> None:
    """A dashboard that stays open: the administration's tables, or one's own hours and agreement."""
    config = await person.good("/ops/config") if ops else None
    handlers = config["dependencies"] if config else []
    events = [one["id"] for one in handlers if one["backend_fn"] and not one["inputs"]]  # those of the page's opening
    while True:
        for event in events:
            body = {"fn_index": event, "data": [], "session_hash": "soak"}
            await person.good("/ops/gradio_api/run/predict", body)
        if not ops:
            await person.good("/api/work")
        await person.good("/readyz")
        person.seen.looks += 1
        await asyncio.sleep(LOOK_SECONDS)


async def deaths(load: Soak, server: Server, ends: float) -> None:
    """The server dies early twice, then now and then; the last life is long enough for its memory to be looked at."""
    length, draw = 60 * load.minutes, random.Random(load.seed)
    begun = ends - length
    moments = [0.12 * length, 0.3 * length]
    while moments[-1] + KILL_SECONDS * 1.5 < length:
        moments.append(moments[-1] + KILL_SECONDS * draw.uniform(0.8, 1.2))
    for moment in moments:
        await asyncio.sleep(max(0.0, begun + moment - time.monotonic()))
        await server.kill()


async def worker(load: Soak, db: Path, model: Path, seen: Seen) -> None:
    """Samples all the time, and dies twice in every three minutes."""
    draw = random.Random(load.seed + 1)
    words = [
        "-m", "trainer", "worker", "--db", str(db), "--model", str(model), "--quantize", "none", "--max-new-tokens", "24",
        "--waiting", "1000", "--poll", "0.5",
    ]  # fmt: skip
    while True:
        quiet = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
        process = await program(words, **quiet)
        try:
            await asyncio.wait_for(process.wait(), draw.uniform(0.25, 0.45) * min(180, 60 * load.minutes))
            seen.errors.append(f"The worker ended by itself, with {process.returncode}.")
            await asyncio.sleep(1)
        except TimeoutError:
            process.kill()
            await process.wait()
            seen.deaths["worker"] += 1
        finally:
            if process.returncode is None:  # the soak is over
                process.kill()
                await process.wait()


async def backups(db: Path, seen: Seen) -> None:
    """One every minute; the first one soon."""
    while True:
        await asyncio.sleep(5 if not seen.backups else 60)
        path, begun = db.with_name(f"backup-{len(seen.backups)}.db"), time.monotonic()
        words = ["-m", "labeler", "backup", "--db", str(db), "--out", str(path)]
        process = await program(words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
        _, said = await process.communicate()
        if process.returncode:
            seen.errors.append(f"backup: {said.decode()[:200]}")
        else:
            seen.backups.append((path, begun))


def report(load: Soak, db: Path, seen: Seen) -> dict[str, Any]:
    """The figures; times in milliseconds and seconds as named. `p99_ms`: of submits to a living server."""
    lost, duplicates, sampled = missing(db, seen, float("inf"))
    in_backup = 0
    if seen.backups:
        path, begun = seen.backups[-1]
        restored = db.with_name("restored.db")
        words = [sys.executable, "-m", "labeler", "restore", str(path), "--db", str(restored)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            seen.errors.append(f"restore: {done.stderr[:200]}")
        else:
            in_backup = missing(restored, seen, begun)[0]
    times = 1000 * np.array(seen.submits or [np.nan])
    p50, p99 = np.percentile(times, [50, 99]).round(1).tolist()
    return {
        **{name: value for name, value in asdict(load).items() if name != "json"},
        "submitted": len(seen.acknowledged), "lost": lost + in_backup, "duplicates": duplicates,
        "errors_unexpected": len(seen.errors), "first_errors": seen.errors[:5], "p50_ms": p50, "p99_ms": p99,
        "rss_growth_mb": round(max(seen.growth), 1) if seen.growth else None,
        "longest_outage_s": round(max(seen.outages, default=0.0), 1), "deaths": dict(seen.deaths),
        "backups": len(seen.backups), "lost_in_backup": in_backup, "looks": seen.looks, "sampled": sampled,
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }  # fmt: skip


def missing(db: Path, seen: Seen, before: float) -> tuple[int, int, int]:
    """Of what was acknowledged before that moment: how much is not there as it was said; how much is there twice, of all; and
    how many comparisons the worker made."""
    store = Store(db)
    names = {account.id: account.name for account in store.annotators.all()}
    current = store.rankings.current(simulated=True)
    stored = {(names[one.annotator], one.nonce): (one.id, one.tiers) for one in current}
    lost = sum(
        stored.get((f"annotator {number}", nonce)) != (ident, tiers)
        for (number, nonce), (ident, tiers, when) in seen.acknowledged.items()
        if when < before
    )
    twice = len(current) - len({(one.annotator, one.comparison) for one in current})
    tiny = [policy.id for policy in store.policies.all() if policy.kind == "base"]
    sampled = sum(len(store.responses.of_policy(ident)) for ident in tiny) // store.studies.default().k
    whole = store.db.execute("PRAGMA integrity_check").fetchone()[0]
    assert whole == "ok", whole
    store.close()
    return lost, twice, sampled


if __name__ == "__main__":
    tyro.cli(Soak).run()

"""Two hundred annotators at once: how long from Enter to the next comparison, and whether every ranking is kept once.

    python -m benchmarks.labeler_load --annotators 200 --think-time 5 --minutes 2 --json l.json

A real server process on a fresh database; each annotator logs in over HTTP and then does what the board does: looks ahead,
saves a draft at each of four steps of its thinking (exponential, of the given mean), submits, and gets the next. When the
time is over, all put down what they have in hand; nothing is submitted after that.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import uvloop
from tqdm import tqdm

from labeler.accounts import hash_password
from preferences.records import Policy, Response, Study, random_id
from preferences.store import Store

PASSWORD = "a password of the benchmark"
K = 4
DRAFTS = 4
PATIENCE_SECONDS = 30.0  # what takes longer is an error
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
COOKIE = re.compile(rb"\r\nset-cookie: ([^;\r]+)", re.IGNORECASE)
WORDS = "river stone light early bridge winter answer people simple garden number always letter morning".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Load:
    """Load a labeler as annotators do, and say how quick it was and what it kept."""

    annotators: int = 200
    """How many work at once."""
    think_time: float = 5.0
    """Mean seconds that one of them looks at a comparison."""
    minutes: float = 2.0
    """How long they work, logins not counted."""
    json: Path | None = None
    """Where to write the figures (always printed)."""
    seed: int = 1
    """Of texts, thinking and rankings."""

    def run(self) -> None:
        """Fill a database, serve it, load it, count what is stored."""
        with tempfile.TemporaryDirectory(prefix="labeler-load-") as folder:
            db = Path(folder) / "labels.db"
            enough = int(1.5 * self.annotators * (60 * self.minutes / self.think_time + 4))
            fill(db, self.annotators, enough, self.seed)
            with serving(db) as (port, process):
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    crowd = runner.run(work(port, process.pid, self))
                assert process.poll() is None, "The labeler ended while it was loaded."
            figures = report(crowd, db, self)
        text = json.dumps(figures, indent=2)
        print(text)
        if self.json:
            self.json.write_text(text + "\n")


class Over(Exception):
    """The time is over."""


@dataclass(slots=True)
class Crowd:
    """What the annotators met; times in seconds from a submit being sent to the next comparison being there."""

    submits: list[float] = field(default_factory=list)
    drafts: int = 0
    processors: dict[str, float] = field(default_factory=dict)
    """Processors that each process kept busy, on average."""
    memory: dict[str, float] = field(default_factory=dict)
    """Megabytes of the server and its helper: before anybody logged in, when all had, and at the end."""
    errors: list[str] = field(default_factory=list)


def markdown(draw: random.Random) -> str:
    """An answer of about 1.5 kB: a heading, paragraphs, a list, a table and code."""

    def words(count: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(count)).capitalize()

    rows = "\n".join(f"| {words(2)} | {draw.randrange(1000)} |" for _ in range(4))
    items = "\n".join(f"- **{words(2)}**: {words(10)}." for _ in range(5))
    code = "\n".join(f"    total += {draw.choice(WORDS)}[{i}]" for i in range(4))
    return (
        f"## {words(4)}\n\n{words(45)}.\n\n{items}\n\n| What | How many |\n|---|---|\n{rows}\n\n"
        f"```python\ndef {draw.choice(WORDS)}(total):\n{code}\n    return total\n```\n\n{words(40)} with *{words(3)}*.\n"
    )


def fill(db: Path, annotators: int, comparisons: int, seed: int) -> None:
    """Comparisons that anybody may get, and accounts named "annotator 0", ..., whose password is PASSWORD."""
    store = Store(db)
    fill_store(store, {"shared": 0.0, "repeats": 0.0}, annotators, comparisons, seed, hash_password(PASSWORD))
    store.close()


def fill_store(
    store: Store, plan: dict[str, Any], annotators: int, comparisons: int, seed: int, password_hash: str = ""
) -> None:
    """A study of that plan with its comparisons, and the accounts."""
    draw = random.Random(seed)
    study = store.studies.create("load", k=K, plan=plan)
    policy = store.policies.add(Policy("load", "load", "imported"))
    with store.write():
        with store.prompts.intake(heldout=0.0) as intake:
            for number in tqdm(range(comparisons), desc="fill", unit="comparison"):
                messages = [{"role": "user", "content": f"Question {random_id()} {number}?"}]
                (prompt,) = intake.add([{"messages": messages}])
                queue(store, study, prompt, policy.id, number, draw)
        for number in range(annotators):
            store.annotators.add(f"annotator {number}", "annotator", password_hash)


def queue(store: Store, study: Study, prompt: str, policy: str, number: int, draw: random.Random) -> None:
    """One comparison of K answers."""
    responses = [Response.make(prompt, policy, markdown(draw), number, index) for index in range(K)]
    store.responses.add(responses)
    store.comparisons.add(study, prompt, responses)


@contextmanager
def serving(db: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """`labeler serve` on a free port: (port, process)."""
    command = [sys.executable, "-m", "labeler", "serve", "--db", str(db), "--port", "0"]
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "ready" in line, "The labeler did not start."
        yield int(line.strip().rstrip("/").rpartition(":")[2]), process
    finally:
        process.terminate()
        process.wait()


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that processes have used."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int) -> float:
    """Resident memory of a process and of those that it started."""
    total = 0
    for one in (pid, *children(pid)):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            total += int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))
    return total / 1000


class Browser:
    """One keep-alive connection with one session; as little work as possible, since it shares the machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""

    async def open(self) -> None:
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)

    async def call(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """(status, body) of a GET, or of a POST if there is a body to send. Raises OSError, EOFError, TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._call(path, body)

    async def _call(self, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        data = json.dumps(body).encode() if body is not None else b""
        if self.reader.at_eof():
            await self.open()
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
        if self.cookie:
            head += f"Cookie: {self.cookie}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        self.writer.write(head.encode() + b"\r\n" + data)
        headers = await self.reader.readuntil(b"\r\n\r\n")
        if not self.cookie and (found := COOKIE.search(headers)):
            self.cookie = found[1].decode()
        length = LENGTH.search(headers)
        assert length, "Every answer of the server says how long it is."
        return int(headers[9:12]), await self.reader.readexactly(int(length[1]))


async def work(port: int, server: int, load: Load) -> Crowd:
    """Everybody logs in; then all work until the time is over. `server`: its process."""
    crowd = Crowd(memory={"before": megabytes(server)})
    browsers = [Browser(port) for _ in range(load.annotators)]
    for number, browser in enumerate(browsers):
        await browser.open()
        status, _ = await browser.call("/login", {"name": f"annotator {number}", "password": PASSWORD})
        assert status == 200, f"Login gave {status}."
    crowd.memory["logged_in"] = megabytes(server)
    processes = {"server": [server], "helper": children(server), "load": [os.getpid()]}
    before = {name: cpu_seconds(pids) for name, pids in processes.items()}
    began = time.monotonic()
    draws = [random.Random(load.seed * 1_000_003 + number) for number in range(load.annotators)]
    ends = began + 60 * load.minutes
    await asyncio.gather(
        *(annotate(browser, crowd, draw, ends, load.think_time) for browser, draw in zip(browsers, draws, strict=True))
    )
    took = time.monotonic() - began
    crowd.processors = {name: round((cpu_seconds(pids) - before[name]) / took, 2) for name, pids in processes.items()}
    crowd.memory["after"] = megabytes(server)
    return crowd


async def annotate(browser: Browser, crowd: Crowd, draw: random.Random, ends: float, think_time: float) -> None:
    """One annotator, from the first comparison until the time is over."""
    with contextlib.suppress(Over):
        try:
            await until(time.monotonic() + draw.random() * think_time, ends)
            status, content = await browser.call("/api/next")
            page = json.loads(content)
            while True:
                if status != 200 or not page["task"]:
                    crowd.errors.append(f"{status}: {content[:200]!r}")
                    return
                status, content = await rank(browser, crowd, draw, page["task"], ends, think_time)
                page = json.loads(content).get("next")
        except (OSError, EOFError, TimeoutError) as error:
            crowd.errors.append(repr(error))


async def until(when: float, ends: float) -> None:
    """Wait till that moment of the monotonic clock. Raises Over if the time is over before."""
    await asyncio.sleep(max(min(when, ends) - time.monotonic(), 0.0))
    if when >= ends:
        raise Over


async def rank(
    browser: Browser, crowd: Crowd, draw: random.Random, task: dict[str, Any], ends: float, think_time: float
) -> tuple[int, bytes]:
    """Look ahead, think, place one response after the other, submit; the reply. Nobody stops thinking for a call."""
    ids = [response["id"] for response in task["responses"]]
    draw.shuffle(ids)
    lease = {"comparison": task["comparison"], "lease": task["lease"]}
    seen, thinking = time.monotonic(), draw.expovariate(1 / think_time)
    calls: list[tuple[str, dict[str, Any] | None]] = [("/api/ahead", None)]
    calls += [("/api/draft", {**lease, "tiers": [[item] for item in ids[:placed]]}) for placed in range(1, DRAFTS + 1)]
    for step, (path, body) in enumerate(calls, start=1):
        status, content = await browser.call(path, body)
        if status != 200:
            crowd.errors.append(f"{path} {status}: {content[:200]!r}")
        crowd.drafts += body is not None
        await until(seen + thinking * step / len(calls), ends)
    answer = {**lease, "nonce": random_id(), "tiers": [[item] for item in ids], "active_ms": round(1000 * thinking)}
    begun = time.perf_counter()
    status, content = await browser.call("/api/submit", answer)
    if status == 200:
        crowd.submits.append(time.perf_counter() - begun)
    return status, content


def report(crowd: Crowd, db: Path, load: Load) -> dict[str, Any]:
    """The figures; times in milliseconds. `stored`: rankings in the database; `distinct`: (annotator, comparison) pairs."""
    store = Store(db)
    rankings = store.rankings.current(simulated=True)
    distinct = {(ranking.annotator, ranking.comparison) for ranking in rankings}
    store.close()
    times = 1000 * np.array(crowd.submits or [np.nan])
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).round(1).tolist()
    asked = {name: value for name, value in asdict(load).items() if name != "json"}
    return {
        **asked, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": round(float(times.max()), 1),
        "errors": len(crowd.errors), "first_errors": crowd.errors[:3], "submitted": len(crowd.submits),
        "stored": len(rankings), "distinct": len(distinct), "drafts": crowd.drafts, "processors": crowd.processors,
        "memory_mb": {name: round(value, 1) for name, value in crowd.memory.items()},
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }  # fmt: skip


if __name__ == "__main__":
    tyro.cli(Load).run()

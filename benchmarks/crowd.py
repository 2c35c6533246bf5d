"""Thousands of annotators on a virtual clock: the labeler's own assignment and store, and how long each has to wait.

    python -m benchmarks.crowd --json c.json

Nobody sleeps. What an annotator does next stands in a queue of acts, ordered by the clock that the store reads too. Each act
is the function that a route of the labeler calls, and takes as long as it really takes; meanwhile the others wait, as they do
for the one writer of a database. So what is measured is where a file stops keeping up on this machine; HTTP and the rendering
of texts come on top (`benchmarks/labeler_load.py`). A crowd "10000/10" is 10,000 people in ten studies, one file each.
"""

import heapq
import json
import random
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from benchmarks.labeler_load import fill_store
from labeler.api import drafted_json
from labeler.bodies import DraftBody
from labeler.tasks import ahead_json, answered_json, next_json
from preferences.cli import guarded
from preferences.records import Annotator, random_id
from preferences.store import Store
from preferences.tables.rankings import Answer

LABELS = 3
PLAN = {"labels_train": LABELS, "shared": 0.0}
BEGAN = 1_700_000_000.0  # the virtual clock's first moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowds:
    """How long annotators wait, and whether a file keeps up, by how many they are."""

    crowds: tuple[str, ...] = ("10", "1000", "10000", "10000/10")
    """How many people work at once, and after a slash in how many files."""
    think_time: float = 60.0
    """Mean seconds that one of them looks at a comparison."""
    rankings: int = 2000
    """How many rankings of each file are timed, once everybody has begun."""
    json: Path | None = None
    """Write the figures to this file."""
    seed: int = 1
    """Of texts, thinking and rankings."""

    def run(self) -> None:
        """Measure every crowd, and report."""
        found = [measured(self, crowd) for crowd in self.crowds]
        show(found)
        if self.json:
            asked = {name: value for name, value in asdict(self).items() if name not in ("json", "crowds")}
            self.json.write_text(json.dumps({**asked, "crowds": found}, indent=1) + "\n")


class Clock:
    """Seconds since the epoch, as far as the simulation has come."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Seen:
    """Seconds. `waits`: from Enter to the next comparison; `acts`: how long each kind of act took; `busy`: all of them."""

    waits: list[float] = field(default_factory=list)
    acts: dict[str, list[float]] = field(default_factory=dict)
    busy: float = 0.0
    began: float = BEGAN


Wish = tuple[float, str, Callable[[], Any]]  # when, the kind of act, the act
Work = Generator[Wish, Any, None]


class Desk:
    """The one writer of a file: acts are done in the order in which they are wanted, each once the one before is done."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.free = clock.now
        self.seen = Seen()
        self._wanted: list[tuple[float, int, str, Callable[[], Any], Work]] = []
        self._number = 0

    def want(self, work: Work, answer: Any = None) -> None:
        """Whatever the work wants next, having got that answer."""
        try:
            when, kind, act = work.send(answer)
        except StopIteration:
            return
        self._number += 1
        heapq.heappush(self._wanted, (when, self._number, kind, act, work))

    def serve(self) -> str:
        """Do the first act of all; its kind."""
        when, _, kind, act, work = heapq.heappop(self._wanted)
        self.clock.now = max(when, self.free)
        start = time.perf_counter()
        answer = act()
        took = time.perf_counter() - start
        self.free = self.clock.now = self.clock.now + took
        self.seen.busy += took
        self.seen.acts.setdefault(kind, []).append(took)
        if kind == "submit":
            self.seen.waits.append(self.free - when)
        self.want(work, answer)
        return kind

    def forget(self) -> None:
        """What was seen up to now is not counted."""
        self.seen = Seen(began=self.clock.now)


def annotate(store: Store, person: Annotator, clock: Clock, draw: random.Random, think_time: float) -> Work:
    """What the board does, without end: look ahead, think, save a draft, submit; every answer is sent back in."""
    page = yield clock.now + draw.random() * think_time, "next", lambda: next_json(store, person)
    while True:
        task = page["task"]
        assert task is not None, "There are comparisons enough for all."
        items = [response["id"] for response in task["responses"]]
        draw.shuffle(items)
        lease, tiers = (task["comparison"], task["lease"]), [[item] for item in items]
        got, thinking = clock.now, draw.expovariate(1 / think_time)
        yield got, "ahead", lambda: ahead_json(store, person)
        draft = DraftBody(comparison=lease[0], lease=lease[1], tiers=tiers[:2])
        yield got + thinking / 2, "draft", lambda draft=draft: drafted_json(store, person, draft)
        answer = Answer(*lease, random_id(), tiers, round(1000 * thinking))
        page = (yield got + thinking, "submit", lambda answer=answer: submitted(store, person, answer))["next"]


def submitted(store: Store, person: Annotator, answer: Answer) -> dict[str, Any]:
    """What the route of a submit does."""
    return answered_json(store, person, lambda: store.rankings.submit(person, answer))


def measured(crowds: Crowds, crowd: str) -> dict[str, Any]:
    """The figures of one crowd; times in milliseconds. `busy`: the part of the time in which the busiest file is at work."""
    people, _, files = crowd.partition("/")
    count = int(files or 1)
    found = [of_file(crowds, int(people) // count, crowds.seed + number) for number in range(count)]
    waits = 1000 * np.concatenate([seen.waits for seen, _, _ in found])
    p50, p95, p99 = np.percentile(waits, [50, 95, 99]).round(1).tolist()
    kinds = found[0][0].acts
    return {
        "people": int(people), "files": count, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99,
        "busy": round(max(seen.busy / virtual for seen, virtual, _ in found), 6),
        "rankings_per_s": round(sum(len(seen.waits) / virtual for seen, virtual, _ in found), 1),
        **{f"{kind}_ms": round(1000 * float(np.median(found[0][0].acts[kind])), 2) for kind in sorted(kinds)},
        "rankings": int(sum(len(seen.waits) for seen, _, _ in found)),
        "too_many_labels": sum(wrong for _, _, wrong in found),
    }  # fmt: skip


def of_file(crowds: Crowds, people: int, seed: int) -> tuple[Seen, float, int]:
    """What was seen while the file's people worked, for how many virtual seconds, and how many labels are too many."""
    with tempfile.TemporaryDirectory(prefix="crowd-") as folder:
        clock = Clock()
        store = Store(Path(folder) / "labels.db", clock)
        timed = min(crowds.rankings, 60 * people)
        fill_store(store, PLAN, people, (timed + 3 * people) // LABELS + 2 * people + 200, seed)
        desk = Desk(clock)
        for number, person in enumerate(store.annotators.all()):
            desk.want(annotate(store, person, clock, random.Random(1_000_003 * seed + number), crowds.think_time))
        while len(desk.seen.acts.get("next", ())) < people:
            desk.serve()
        desk.forget()
        with tqdm(total=timed, unit="ranking", desc=f"{people} people") as bar:
            while len(desk.seen.waits) < timed:
                bar.update(desk.serve() == "submit")
        virtual = clock.now - desk.seen.began
        wrong = too_many(store)
        store.close()
    return desk.seen, virtual, wrong


def too_many(store: Store) -> int:
    """How many comparisons have more labels than they want, or two of one annotator."""
    labels: dict[str, list[str]] = {}
    for ranking in store.rankings.current():
        labels.setdefault(ranking.comparison, []).append(ranking.annotator)
    return sum(len(people) > LABELS + 1 or len(set(people)) < len(people) for people in labels.values())


def show(found: list[dict[str, Any]]) -> None:
    """A column a crowd."""
    table = Table(title="Annotators at work at once: from Enter to the next comparison")
    table.add_column("")
    for row in found:
        table.add_column(f"{row['people']:,} in {row['files']}", justify="right")
    for name in [name for name in found[0] if name not in ("people", "files")]:
        table.add_row(name, *(f"{row[name]:,}" for row in found))
    Console().print(table)


if __name__ == "__main__":
    guarded(lambda: tyro.cli(Crowds, config=(tyro.conf.FlagCreatePairsOff,)).run())

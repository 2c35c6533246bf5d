"""Thousands of annotators on a virtual clock: the labeler's own assignment and store, and how long each has to wait.

    python -m benchmarks.crowd --json c.json

Nobody sleeps. What an annotator does next stands in a queue of acts, ordered by the clock that the store reads too. Each act
is the function that a route of the labeler calls, and takes as long as it really takes; meanwhile the others wait, as they do
for the one writer of a database. So what is measured is where a file stops keeping up on this machine; HTTP and the rendering
of texts come on top (`benchmarks/labeler_load.py`). A crowd "10000/10" is 10,000 people in ten studies, one file each.

An act costs more the more people are at work, because it reads all that they hold. So all but the last ARRIVALS of a file are
given what they hold before anything is timed, the oldest comparisons first, as the assignment does it: if each asked, that
would take time that grows with the square of the crowd. At the end all that was stored is read from the file again: the
benchmark fails if a ranking was lost, if a comparison has more labels and hands than it wants, or if somebody got nothing.
"""

import heapq
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from benchmarks.labeler_load import fill_store
from benchmarks.parts import keep
from labeler.api import drafted_json
from labeler.assignment import LEASE_SECONDS, arrange
from labeler.bodies import DraftBody
from labeler.tasks import ahead_json, answered_json, next_json
from preferences.cli import guarded
from preferences.errors import RankloopError
from preferences.rankings import top_splits
from preferences.records import Annotator, Comparison, Ranking, random_id
from preferences.store import Store
from preferences.tables.rankings import Answer

LABELS = 3
PLAN = {"labels_train": LABELS, "shared": 0.0}
BEGAN = 1_700_000_000.0  # the virtual clock's first moment
ARRIVALS = 200  # of each file: people who ask for their first comparison themselves, when all the others have theirs
CYCLE = ("ahead", "draft", "submit")  # the acts of one ranking
FAULTS = ("too_many_labels", "lost", "starved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowds:
    """How long annotators wait, and whether a file keeps up, by how many they are."""

    crowds: tuple[str, ...] = ("10", "1000", "10000", "10000/10")
    """How many people work at once, and after a slash in how many files."""
    think_time: float = 60.0
    """Mean seconds that one of them looks at a comparison."""
    rankings: int = 1000
    """How many rankings of each crowd are timed, once everybody has begun."""
    json: Path | None = None
    """Write the figures to this file, after each crowd."""
    seed: int = 1
    """Of texts, thinking and rankings."""

    def __post_init__(self) -> None:
        for crowd in self.crowds:
            people, files = sizes(crowd)
            if not 1 <= files <= people or self.rankings < files:
                raise RankloopError(f"{crowd!r} has too few people or --rankings for its files; each needs one.")

    def run(self) -> None:
        """Measure every crowd, and report. Raises RankloopError if anything that was stored is not as it must be."""
        found: list[dict[str, Any]] = []
        asked = {name: value for name, value in asdict(self).items() if name not in ("json", "crowds")}
        for crowd in self.crowds:
            found.append(measured(self, crowd))
            keep(self.json, {**asked, "crowds": found})
        show(found)
        refuse(found)


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


@dataclass(slots=True)
class Kept:
    """What the labeler has said to a file's people. `saved`: ids of rankings; `starved`: how often it had nothing for one."""

    saved: list[str] = field(default_factory=list)
    starved: int = 0

    def task_of(self, page: dict[str, Any]) -> dict[str, Any] | None:
        """What there is to rank on the page."""
        self.starved += page["task"] is None
        task: dict[str, Any] | None = page["task"]
        return task


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
        """Do the first act of all; its kind. Raises RankloopError if nobody wants anything any more."""
        if not self._wanted:
            raise RankloopError("Nobody of the crowd has anything to rank any more; ask for fewer --rankings.")
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
        """What was seen up to now is not counted, but for how long acts took."""
        self.seen = Seen(acts=self.seen.acts, began=self.clock.now)


@dataclass(frozen=True, slots=True)
class Room:
    """A file, and how those who work in it think."""

    store: Store
    clock: Clock
    think_time: float
    kept: Kept = field(default_factory=Kept)

    def annotate(self, person: Annotator, draw: random.Random, task: dict[str, Any] | None = None) -> Work:
        """What the board does, without end: look ahead, think, save a draft, submit; every answer is sent back in.

        `task`: what they have in hand already, and with it the one after it; without it they ask for the first one.
        """
        store, clock, looked = self.store, self.clock, task is not None
        if task is None:
            task = self.kept.task_of((yield clock.now, "next", lambda: next_json(store, person)))
        while task is not None:
            got, thinking = clock.now, draw.expovariate(1 / self.think_time)
            if not looked:
                yield got, "ahead", lambda: ahead_json(store, person)
            items = [response["id"] for response in task["responses"]]
            draw.shuffle(items)
            lease, tiers = (task["comparison"], task["lease"]), [[item] for item in items]
            draft = DraftBody(comparison=lease[0], lease=lease[1], tiers=tiers[:2])
            yield got + thinking / 2, "draft", lambda draft=draft: drafted_json(store, person, draft)
            answer = Answer(*lease, random_id(), tiers, round(1000 * thinking))
            said = yield got + thinking, "submit", lambda answer=answer: submitted(store, person, answer)
            self.kept.saved.append(said["saved"])
            task, looked = self.kept.task_of(said["next"]), False

    def seat(self, people: Sequence[Annotator]) -> list[dict[str, Any]]:
        """Two comparisons for each, as many hands for each comparison as it wants, the oldest first; the tasks in hand."""
        comparisons, tasks = self.store.comparisons.all(), []
        behind = -(-len(people) // LABELS)
        with self.store.write():
            for number, person in enumerate(tqdm(people, desc="seat", unit="person", disable=not people)):
                mine = comparisons[number // LABELS]
                tasks.append(self._lend(mine, person))
                self._lend(comparisons[behind + number // LABELS], person)
        return tasks

    def _lend(self, comparison: Comparison, person: Annotator) -> dict[str, Any]:
        """The comparison in the person's hands; what of the task matters here."""
        order = arrange(comparison.items, person.id, comparison.id)
        lease = self.store.queue.lease(comparison.id, person, order, LEASE_SECONDS)
        return {"comparison": comparison.id, "lease": lease.id, "responses": [{"id": item} for item in order]}


def submitted(store: Store, person: Annotator, answer: Answer) -> dict[str, Any]:
    """What the route of a submit does."""
    return answered_json(store, person, lambda: store.rankings.submit(person, answer))


def sizes(crowd: str) -> tuple[int, int]:
    """People and files. Raises RankloopError."""
    people, slash, files = crowd.partition("/")
    if not (people.isdecimal() and (files.isdecimal() if slash else True)):
        raise RankloopError(f"{crowd!r} is no crowd; write 1000, or 10000/10 for ten files.")
    return int(people), int(files or 1)


def measured(crowds: Crowds, crowd: str) -> dict[str, Any]:
    """The figures of one crowd; times in milliseconds.

    `ranking_ms`: what all acts of one ranking take of their file's writer; `load`: how many writers a file's people would
    keep at work (above 1 it does not keep up); `busy`: the part of the time in which the busiest file's was at work.
    """
    people, count = sizes(crowd)
    timed = min(crowds.rankings // count, 60 * (people // count))
    found = [of_file(crowds, people // count, timed, crowds.seed + number) for number in range(count)]
    waits = 1000 * np.concatenate([file.seen.waits for file in found])
    p50, p95, p99 = np.percentile(waits, [50, 95, 99]).round(1).tolist()
    kinds = sorted({kind for file in found for kind in file.seen.acts})
    acts = {kind: np.concatenate([file.seen.acts.get(kind, []) for file in found]) for kind in kinds}
    ranking = float(sum(acts[kind].mean() for kind in CYCLE))
    return {
        "people": people, "files": count, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": round(waits.max(), 1),
        **{f"{kind}_ms": round(1000 * float(np.median(acts[kind])), 2) for kind in kinds},
        "ranking_ms": round(1000 * ranking, 2), "load": round(ranking * (people // count) / crowds.think_time, 4),
        "busy": round(max(file.seen.busy / file.virtual for file in found), 6),
        "rankings_per_s": round(sum(len(file.seen.waits) / file.virtual for file in found), 1),
        "rankings": int(sum(len(file.seen.waits) for file in found)),
        **{fault: sum(file.faults[fault] for file in found) for fault in FAULTS},
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """One file: what was seen in how many virtual seconds, and what is wrong with it, by FAULTS."""

    seen: Seen
    virtual: float
    faults: dict[str, int]


def of_file(crowds: Crowds, people: int, timed: int, seed: int) -> Measured:
    """Fill a file, seat its people, let the last ones ask, and time so many rankings."""
    with tempfile.TemporaryDirectory(prefix="crowd-") as folder:
        clock = Clock()
        path = Path(folder) / "labels.db"
        store = Store(path, clock)
        fill_store(store, PLAN, people, 2 * (people + timed) // LABELS + 200, seed)
        room, desk = Room(store, clock, crowds.think_time), Desk(clock)
        everybody = store.annotators.all()
        draws = [random.Random(1_000_003 * seed + number) for number in range(people)]
        seated = max(0, people - ARRIVALS)
        tasks = room.seat(everybody[:seated])
        for person, draw in zip(everybody[seated:], draws[seated:], strict=True):
            desk.want(room.annotate(person, draw))
        with tqdm(total=people - seated, desc="arrive", unit="person") as bar:
            while bar.n < bar.total:
                bar.update(desk.serve() == "ahead")
        for person, draw, task in zip(everybody, draws, tasks, strict=False):
            desk.want(room.annotate(person, draw, task))
        desk.forget()
        with tqdm(total=timed, desc=f"{people} people", unit="ranking") as bar:
            while len(desk.seen.waits) < timed:
                bar.update(desk.serve() == "submit")
        virtual = clock.now - desk.seen.began
        store.close()
        return Measured(desk.seen, virtual, faults(path, clock, room.kept))


def faults(path: Path, clock: Clock, kept: Kept) -> dict[str, int]:
    """What is wrong in the file, by FAULTS, as another connection finds it: comparisons with more labels and hands than they
    want, or two of one person; rankings that are not there though the labeler said so; how often somebody got nothing."""
    store = Store(path, clock)
    leases = [lease for person in store.annotators.all() for lease in store.queue.all_held(person)]
    stored = store.rankings.current(purposes=("label", "adjudication", "repeat"))
    store.close()
    hands = Counter(lease.comparison for lease in leases if lease.purpose != "repeat")
    labels: dict[str, list[Ranking]] = {ident: [] for ident in hands}
    for ranking in stored:
        if ranking.purpose != "repeat":
            labels.setdefault(ranking.comparison, []).append(ranking)
    wrong = sum(
        len({ranking.annotator for ranking in of_one}) < len(of_one) or len(of_one) + hands[ident] > wanted(of_one)
        for ident, of_one in labels.items()
    )
    lost = len(set(kept.saved) - {ranking.id for ranking in stored})
    return {"too_many_labels": wrong, "lost": lost, "starved": kept.starved}


def wanted(rankings: Sequence[Ranking]) -> int:
    """How many labels: one more than LABELS where these split over the best response."""
    first = [ranking.tiers for ranking in rankings[:LABELS]]
    return LABELS + (len(first) == LABELS and top_splits(first))


def refuse(found: Sequence[dict[str, Any]]) -> None:
    """Raises RankloopError if a crowd has faults."""
    pairs = ((fault, row) for row in found for fault in FAULTS if row[fault])
    wrong = [f"{row[fault]} {fault} of {row['people']:,} in {row['files']}" for fault, row in pairs]
    if wrong:
        raise RankloopError(f"Not everything was stored as it must be: {'; '.join(wrong)}; report it.")


def show(found: Sequence[dict[str, Any]]) -> None:
    """A column a crowd."""
    table = Table(title="Annotators at work at once: from Enter to the next comparison")
    table.add_column("")
    for row in found:
        table.add_column(f"{row['people']:,} in {row['files']}", justify="right")
    for name in [name for name in found[0] if name not in ("people", "files")]:
        table.add_row(name, *(f"{row.get(name, float('nan')):,}" for row in found))
    Console().print(table)


if __name__ == "__main__":
    guarded(lambda: tyro.cli(Crowds, config=(tyro.conf.FlagCreatePairsOff,)).run())

"""The crowd on a virtual clock: people wait for each other as for one writer, and nobody is asked in vain."""

import json
import random
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import crowd
from benchmarks.crowd import BEGAN, CYCLE, FAULTS, LABELS, PLAN, Clock, Crowds, Desk, Room, faults, refuse
from benchmarks.labeler_load import fill_store
from labeler.tasks import ahead_json, next_json
from preferences.errors import RankloopError
from preferences.store import Store

REPOSITORY = Path(__file__).parents[2]


def busy_for(seconds: float, clock: Clock) -> None:
    """Nothing, for so long."""
    from time import perf_counter

    start = perf_counter()
    while perf_counter() - start < seconds:
        pass
    assert clock.now >= BEGAN


def test_acts_wait_for_the_one_before() -> None:
    clock = Clock()
    desk = Desk(clock)
    got: list[Any] = []

    def two(first: float) -> Generator[tuple[float, str, Any], Any, None]:
        got.append((yield BEGAN + first, "next", lambda: busy_for(0.02, clock) or "page"))
        yield BEGAN + first + 100, "submit", lambda: busy_for(0.01, clock)

    for first in (5.0, 5.0, 1.0):
        desk.want(two(first))
    assert [desk.serve() for _ in range(3)] == ["next"] * 3
    assert (
        got == ["page"] * 3 and BEGAN + 5.04 <= clock.now < BEGAN + 6
    )  # the second of those at 5 waited for the first
    desk.forget()
    for _ in range(3):
        desk.serve()
    first, second, third = desk.seen.waits
    assert 0.01 <= first < third and 0.01 <= second < third  # of two who press Enter at once one waits for the other
    assert desk.seen.busy >= 0.03 and len(desk.seen.acts["submit"]) == 3


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """Five people in a study of eight comparisons."""
    clock = Clock()
    store = Store(tmp_path / "labels.db", clock)
    fill_store(store, PLAN, 5, 8, 0)
    yield Room(store, clock, 60.0)
    store.close()


def found(room: Room) -> dict[str, int]:
    return faults(room.store.path, room.clock, room.kept)


def test_too_many_labels_and_hands_are_found(room: Room) -> None:
    store, people = room.store, room.store.annotators.all()
    first, second, third, *_ = store.comparisons.all()
    for comparison, count in ((first, LABELS), (second, LABELS + 2)):
        for person in people[:count]:
            store.rankings.add_imported(person, comparison, [[item] for item in comparison.items])
    assert found(room)["too_many_labels"] == 1
    for person in people[:LABELS]:
        room._lend(third, person)
    assert found(room)["too_many_labels"] == 1
    room._lend(first, people[-1])  # which has its labels
    room._lend(third, people[-1])
    assert found(room)["too_many_labels"] == 3


def test_who_is_seated_has_what_the_assignment_would_give_and_no_comparison_is_overfull(room: Room) -> None:
    store, people = room.store, room.store.annotators.all()
    tasks = room.seat(people)
    for person, task in zip(people, tasks, strict=True):
        first, second = store.queue.all_held(person)
        assert (first.id, first.comparison) == (
            task["lease"],
            task["comparison"],
        ) and second.comparison != first.comparison
        assert next_json(store, person)["task"]["lease"] == first.id
        assert ahead_json(store, person)["task"]["lease"] == second.id
    assert found(room) == {"too_many_labels": 0, "lost": 0, "starved": 0}


def test_a_ranking_that_was_lost_and_one_who_got_nothing_are_found(room: Room) -> None:
    desk = Desk(room.clock)
    desk.want(room.annotate(room.store.annotators.all()[0], random.Random(0)))
    with pytest.raises(RankloopError, match="fewer --rankings"):  # eight comparisons, and then nothing
        while True:
            desk.serve()
    assert len(room.kept.saved) == 8 and found(room) == {"too_many_labels": 0, "lost": 0, "starved": 1}
    room.kept.saved.append("what nobody has stored")
    assert found(room)["lost"] == 1
    row = {"people": 5, "files": 1, **found(room)}
    with pytest.raises(RankloopError, match="1 lost of 5 in 1; 1 starved of 5 in 1; report it"):
        refuse([row])
    refuse([{**row, "lost": 0, "starved": 0}])


def test_crowds_of_a_few(tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    command = [sys.executable, "-m", "benchmarks.crowd", "--crowds", "6", "6/2", "--rankings", "40", "--json", str(out)]
    said = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stderr
    alone, shared = json.loads(out.read_text())["crowds"]
    assert (alone["people"], alone["files"], shared["files"]) == (6, 1, 2)
    assert (alone["rankings"], shared["rankings"]) == (40, 40)
    assert all(row[fault] == 0 for row in (alone, shared) for fault in FAULTS)
    assert 0 < alone["submit_ms"] <= alone["p99_ms"] + 0.1 and 0 < alone["busy"] < 0.5
    assert sum(alone[f"{kind}_ms"] for kind in CYCLE) == pytest.approx(alone["ranking_ms"], rel=1)
    assert alone["load"] == pytest.approx(6 * alone["ranking_ms"] / 60_000, abs=1e-4)
    for bar in ("fill: 100%", "arrive: 100%", "6 people: 100%"):
        assert bar in said


def test_figures_are_written_after_each_crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, measure, crowds = tmp_path / "c.json", crowd.measured, []

    def interrupted(options: Crowds, name: str) -> dict[str, Any]:
        crowds.append(name)
        if len(crowds) == 2:
            raise KeyboardInterrupt
        return measure(options, name)

    monkeypatch.setattr(crowd, "measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Crowds(crowds=("3", "4"), rankings=5, json=out).run()
    assert [row["people"] for row in json.loads(out.read_text())["crowds"]] == [3]


@pytest.mark.parametrize("wrong", ["many", "10/", "5/9", "0", "10/0"])
def test_what_is_no_crowd_is_refused_before_anything_is_measured(wrong: str) -> None:
    with pytest.raises(RankloopError, match=wrong):
        Crowds(crowds=("10", wrong))

"""The crowd on a virtual clock: people wait for each other as for one writer, and nobody is asked in vain."""

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from benchmarks.crowd import BEGAN, LABELS, PLAN, Clock, Desk, too_many
from benchmarks.labeler_load import fill_store
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


def test_too_many_labels_are_found(tmp_path: Path) -> None:
    store = Store(tmp_path / "labels.db", Clock())
    fill_store(store, PLAN, 5, 3, 0)
    first, second, *_ = store.comparisons.all()
    for comparison, count in ((first, LABELS), (second, LABELS + 2)):
        for person in store.annotators.all()[:count]:
            store.rankings.add_imported(person, comparison, [[item] for item in comparison.items])
    assert too_many(store) == 1
    store.close()


def test_crowds_of_a_few(tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    command = [sys.executable, "-m", "benchmarks.crowd", "--crowds", "6", "6/2", "--rankings", "40", "--json", str(out)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    alone, shared = json.loads(out.read_text())["crowds"]
    assert (alone["people"], alone["files"], shared["files"]) == (6, 1, 2)
    assert (alone["rankings"], shared["rankings"]) == (40, 80)
    assert alone["too_many_labels"] == shared["too_many_labels"] == 0
    assert 0 < alone["submit_ms"] <= alone["p99_ms"] + 0.1 and 0 < alone["busy"] < 0.5

#!/usr/bin/env python3
# ruff: noqa: E402
"""What a large study costs: the next task, a submit, an export to Parquet and the statistics, and a tenth of it for scale.

    python benchmarks/store_scale.py --json s.json

A study of 1,000,000 responses of 400 characters in 250,000 comparisons of K = 4, each ranked once, by 200 annotators;
held-out comparisons want more labels, so that there is something to rank. Tasks are given and stored as the labeler does
it, on a database with synchronous=FULL; export and statistics are the command line's, each in a process of its own.
`load`: the load average of the machine when measuring began, by which seconds are to be judged beside processor seconds.
"""

import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # as a script, only its own folder is on the path

import tyro
from rich.console import Console
from rich.table import Table

from labeler.tasks import next_json
from preferences.cli import guarded
from preferences.exchange.importing import Imported, Importer
from preferences.exchange.reading import chunks
from preferences.records import random_id
from preferences.store import Store
from preferences.tables.rankings import Answer

K = 4
CHARACTERS = 400
ANNOTATORS = 200
DAYS = 30  # that the study has been running
MODELS = ("model-a", "model-b", "model-c", "model-d")
LIMITS = {"next_p95_ms": 5, "submit_p95_ms": 10, "export_seconds": 20, "export_peak_mb": 500, "stats_seconds": 60}


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Time and memory of a study of a million responses."""

    json: Path | None = None
    """Write the results to this file."""
    responses: int = 1_000_000
    """How many responses the study has; `tenth` has a tenth of them."""
    folder: Path | None = None
    """Keep the databases there, and take those that are there already."""
    tasks: int = 1000
    """How many tasks are given and ranked."""
    seed: int = 0
    """Seed of texts and rankings."""


def measure(config: Benchmark, responses: int) -> dict[str, Any]:
    """The figures of a study of that size."""
    with tempfile.TemporaryDirectory(prefix="rankloop-scale-") as name:
        folder = config.folder or Path(name)
        db = folder / f"{responses}.db"
        # Processes of their own: this one stays small, since a child's peak memory begins with its parent's.
        fill_seconds = None if db.exists() else in_child(fill, db, responses // K, config.seed)
        load = os.getloadavg()[0]
        result = in_child(rank, db, config.tasks, config.seed)
        labeler = [sys.executable, "-m", "labeler"]
        export = [*labeler, "export", "--split", "all", "--out", str(Path(name) / "rankings.parquet"), "--db", str(db)]
        return {
            **result,
            **run("export", export),
            **run("stats", [*labeler, "stats", "--json", "--db", str(db)]),
            **({} if fill_seconds is None else {"fill_seconds": fill_seconds}),
            "load": load,
            "responses": responses,
            "rankings": responses // K,
            "db_mb": db.stat().st_size / 1e6,
            "parquet_mb": (Path(name) / "rankings.parquet").stat().st_size / 1e6,
        }


def in_child(function: Any, *arguments: Any) -> Any:
    """What the function returns, run in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def run(name: str, command: list[str]) -> dict[str, float]:
    """Seconds, processor seconds and peak resident memory in MB of a command that must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{' '.join(command)} ended with {process.returncode}"
    return {
        f"{name}_seconds": seconds,
        f"{name}_cpu_seconds": usage.ru_utime + usage.ru_stime,
        f"{name}_peak_mb": usage.ru_maxrss / 1000,
    }


def fill(db: Path, comparisons: int, seed: int) -> float:
    """Import that many ranked comparisons; the seconds it took."""
    start = time.perf_counter()
    unfinished = db.with_suffix(".part")
    store = Store(unfinished)
    study = store.studies.create("scale", K, {"labels_train": 1, "labels_heldout": 3})
    with store.write(), store.prompts.intake(heldout=0.1) as intake:
        importer = Importer(store, study, intake, Imported())
        for chunk in chunks(ranked_sets(comparisons, seed, time.time()), 250):
            assert importer.knows_all(chunk, "", print)
            importer.add(chunk)
    store.close()
    unfinished.replace(db)
    return time.perf_counter() - start


def ranked_sets(count: int, seed: int, now: float = 2e9) -> Iterator[dict[str, Any]]:
    """Ranked sets of K random texts, by annotators who agree on nothing, spread over the DAYS before `now`."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5000)]
    novel = " ".join(draw.choices(words, k=500_000))  # texts are cut out of it: to draw each word would take minutes
    starts = range(len(novel) - CHARACTERS)
    for number in range(count):
        created = now - DAYS * 86_400 * (1 - number / count)
        ranking = [[i] for i in draw.sample(range(K), K)]
        if number % 5 == 0:
            ranking = [ranking[0], ranking[1] + ranking[2], *ranking[3:]]
        yield {
            "prompt": [{"role": "user", "content": " ".join(draw.choices(words, k=12))}],
            "responses": [
                {"text": novel[start : start + CHARACTERS], "model": model}
                for model, start in zip(MODELS, draw.choices(starts, k=K), strict=True)
            ],
            "annotations": [{"annotator": f"annotator {number % ANNOTATORS}", "ranking": ranking, "created": created}],
        }


def rank(db: Path, tasks: int, seed: int) -> dict[str, float]:
    """Take and rank that many tasks, as the labeler's routes do it; the 95th percentiles in milliseconds."""
    store = Store(db)
    draw = random.Random(seed)
    annotators = [annotator for annotator in store.annotators.all() if not annotator.simulated]
    given, stored = [], []
    for number in range(tasks):
        annotator = annotators[number % len(annotators)]
        start = time.perf_counter()
        task = next_json(store, annotator)["task"]
        given.append(time.perf_counter() - start)
        assert task is not None, f"Only {number} tasks were there to rank; ask for fewer --tasks."
        items = [response["id"] for response in task["responses"]]
        draw.shuffle(items)
        answer = Answer(task["comparison"], task["lease"], random_id(), [[item] for item in items], 1000)
        start = time.perf_counter()
        store.rankings.submit(annotator, answer)
        stored.append(time.perf_counter() - start)
    store.close()
    return {
        "next_p50_ms": 1000 * statistics.median(given),
        "next_p95_ms": 1000 * statistics.quantiles(given, n=20)[-1],
        "submit_p50_ms": 1000 * statistics.median(stored),
        "submit_p95_ms": 1000 * statistics.quantiles(stored, n=20)[-1],
    }


def show(result: dict[str, Any]) -> None:
    """One table: the figures at full size and at a tenth, beside what is allowed."""
    table = Table(title=f"{result['responses']:,} responses, {result['rankings']:,} rankings of K = {K}")
    for column in ("", "full", "tenth", "at most"):
        table.add_column(column, justify="left" if not column else "right")
    for name, value in result["tenth"].items():
        limit = str(LIMITS[name]) if name in LIMITS else ""
        table.add_row(name, f"{result.get(name, float('nan')):,.1f}", f"{value:,.1f}", limit)
    Console().print(table)


def main() -> None:
    """Measure both sizes and report."""
    config = tyro.cli(Benchmark, config=(tyro.conf.FlagCreatePairsOff,))
    tenth = measure(config, config.responses // 10)
    result = {**measure(config, config.responses), "tenth": tenth}
    show(result)
    if config.json:
        config.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    guarded(main)

#!/usr/bin/env python3
# ruff: noqa: E402
"""What the options of `trainer reward` are worth on a few hundred rankings: one option changed a run, all else as it was.

    python benchmarks/reward_options.py --json options.json --at-once 8
    python benchmarks/reward_options.py --json options.json --markdown

On the training prompts of benchmarks/reward_datasets.py alone, so that its held-out prompts say nothing of the choice: a seed
draws which of them judge, and the others are learned from. Every option learns from and is judged by the same ones, so that
differences from the base setting are paired over pairs; their intervals are over prompts. With the same --json, a stopped
call goes on at the run where it stopped. All runs have one token budget: several may share a card.
"""

import gc
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # as a script, only its own folder is on the path

import torch
import tyro

from benchmarks.parts import begun, keep, markdown, print_table, read, said
from benchmarks.reward_datasets import FILES, FROZEN, check_datasets, decided, frozen, imported, rows_of, split, trained
from benchmarks.reward_vs_trl import DATA
from preferences.cli import guarded
from preferences.errors import RankloopError
from preferences.intervals import Interval
from trainer.budget import PASSES
from trainer.embedded import EMBEDDED, cache_folder, embedded_model
from trainer.models import load_base
from trainer.reward import Reward
from trainer.reward_metrics import lengths, shares_by_prompt

SWEEP = json.dumps({
    "lr": [5e-5, 1e-4, 4e-4, 8e-4],
    "head_lr": [1e-5, 1e-3],
    "epochs": [0, 0.5, 2, 4],
    "batch": [2, 4, 16, 32],
    "loss": ["plackett-luce"],
    "pooling": ["last"],
    "layer": [None],
    "rank": [4, 64],
    "l2": [0.1, 10.0],
    "centering": [0.0, 0.1],
    "validation": [0.0],
})  # fmt: skip

Change = dict[str, Any]  # one option and its value; {} for the base setting
Task = tuple[str, int, Change]  # dataset, seed, what is changed
Rows = list[tuple[str, float]]  # prompt, and a number of one of its pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Reward models with one option changed a run."""

    json: Path | None = None
    """Write everything measured to this file, anew after each run; go on with what is there."""
    markdown: bool = False
    """Print what the file holds as Markdown, and measure nothing."""
    data: Path = DATA / "rankings"
    """The folder of the files."""
    datasets: tuple[str, ...] = ("lamp", "ukp", "oasst", "finegrained")
    """Which of them."""
    model: str = EMBEDDED
    """The embedded model, or a folder."""
    sets: int = FROZEN.sets
    """Sets of a dataset at most, spread over its prompts."""
    heldout: float = FROZEN.heldout
    """Share of the prompts that is left aside."""
    characters: int = FROZEN.characters
    """Characters of the distinct answers of the others at most."""
    judged: float = 0.3
    """Share of the others to judge by; the rest is learned from."""
    seeds: int = 3
    """Runs of each dataset and change, from seed 0 on; each seed draws who judges."""
    options: str = FROZEN.options
    """The base setting: options of `trainer reward` beside its defaults, as JSON."""
    sweep: str = SWEEP
    """Which options are changed, each alone, and to which values, as JSON."""
    max_length: int = FROZEN.max_length
    """Sets with a longer prompt and answer are left out."""
    token_budget: int = PASSES
    """Tokens a micro-batch, on every device: it decides how comparisons that share answers are put together."""
    at_once: int = 1
    """Runs at once, each in a process of its own."""


def main() -> None:
    """Measure, write, print."""
    config = tyro.cli(Benchmark, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    guarded(lambda: print_markdown(read(config.json)) if config.markdown else show(measure(config)))


def measure(config: Benchmark) -> dict[str, Any]:
    """{"settings", "changes", "judged": {dataset: {seed: prompt of each pair}}, "runs": one a dataset, seed and change}."""
    check_datasets(config.datasets)
    changes = changes_of(config.sweep)
    names = ("model", "sets", "heldout", "characters", "judged", "max_length", "token_budget")
    settings = {name: getattr(config, name) for name in names} | {"options": json.loads(config.options)}
    found: dict[str, Any] = {"changes": [], "judged": {}, "runs": [], **begun(config.json, settings)}
    found["changes"] += [change for change in changes if change not in found["changes"]]
    done = [(run["dataset"], run["seed"], run["change"]) for run in found["runs"]]
    tasks = [(name, seed, change) for seed in range(config.seeds) for change in changes for name in config.datasets]
    left = [task for task in tasks if task not in done]
    for number, (run, prompts) in enumerate(each(config, left), start=1):
        found["runs"].append(run)
        found["judged"].setdefault(run["dataset"], {})[str(run["seed"])] = prompts
        keep(config.json, found)
        what = f"{run['dataset']}, seed {run['seed']}, {named(run['change'])}"
        print(f"{number} of {len(left)}: {what}: {run['accuracy']:.3f}, {run['seconds']:.0f} s", file=sys.stderr)
    return found


def changes_of(sweep: str) -> list[Change]:
    """The base setting, and each value of each option alone. Raises RankloopError."""
    try:
        values: dict[str, list[Any]] = json.loads(sweep)
    except ValueError as error:
        raise RankloopError(f"--sweep is not valid JSON ({error}).") from error
    unknown = set(values) - {field.name for field in fields(Reward)}
    if unknown:
        raise RankloopError(f"`trainer reward` has no option {min(unknown)!r}; see its --help.")
    return [{}, *({name: value} for name, several in values.items() for value in several)]


def each(config: Benchmark, tasks: Sequence[Task]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """What `run_one` says of each task, as soon as it is there."""
    if config.at_once <= 1:
        yield from (run_one(config, task) for task in tasks)
        return
    if config.model == EMBEDDED:
        embedded_model(cache_folder())  # fetched once, before several want it
    threads = max(1, torch.get_num_threads() // config.at_once)
    spawn = get_context("spawn")  # a forked process could not use the card
    with ProcessPoolExecutor(config.at_once, spawn, torch.set_num_threads, (threads,)) as pool:
        try:
            for future in as_completed([pool.submit(run_one, config, task) for task in tasks]):
                yield future.result()
        except (BrokenProcessPool, torch.OutOfMemoryError) as error:
            raise RankloopError(
                f"A run ended for want of memory ({type(error).__name__}); call again with fewer --at-once: it goes on."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def run_one(config: Benchmark, task: Task) -> tuple[dict[str, Any], list[str]]:
    """A run in a folder of its own, and the prompt of each pair that it was judged by."""
    name, seed, change = task
    gc.collect()  # the model of the run before
    with tempfile.TemporaryDirectory() as folder:
        records = frozen(config.data / FILES[name], config.sets, config.heldout, config.characters)
        inner = split([record for record in records if record["split"] == "train"], config.judged, seed)
        store = imported(inner, Path(folder))
        base = load_base(config.model, "none")
        learned, judged = decided(store, base, config.max_length)
        common = {"max_length": config.max_length, "token_budget": config.token_budget}
        options = {**common, **json.loads(config.options), **change}
        run = Reward(db=store.path, model=config.model, out=Path(folder) / "run", seed=seed, **options)
        told = trained(run, store, base, judged)
        store.close()
    prompts = [row["prompt"] for row in rows_of(judged, {"longer wins": lengths(judged)})]
    return {"dataset": name, "seed": seed, "change": change, "sets": len(learned), **told}, prompts


def named(change: Change) -> str:
    """ "lr 0.0001"."""
    parts = (f"{name} {'default' if value is None else value}" for name, value in change.items())
    return ", ".join(parts) or "base setting"


def accuracy(found: dict[str, Any], runs: Sequence[dict[str, Any]]) -> Interval:
    """Share of the pairs ordered rightly, those of all runs together."""
    return shares_by_prompt(pair for run in runs for pair in pairs(found, run, run["hits"]))


def better(found: dict[str, Any], runs: Sequence[dict[str, Any]]) -> Interval:
    """By how much that is more than in the base setting's runs on the same dataset and seed, where there are some."""
    bases = {(run["dataset"], run["seed"]): run["hits"] for run in found["runs"] if run["change"] == {}}
    rows: Rows = []
    for run in runs:
        base = bases.get((run["dataset"], run["seed"]))
        if base:
            rows += pairs(found, run, [own - other for own, other in zip(run["hits"], base, strict=True)])
    return shares_by_prompt(rows)


def pairs(found: dict[str, Any], run: dict[str, Any], values: Sequence[float]) -> Rows:
    """The prompt of each pair that judged the run, with its value."""
    prompts = found["judged"][run["dataset"]][str(run["seed"])]
    return [(f"{run['dataset']} {prompt}", value) for prompt, value in zip(prompts, values, strict=True)]


def by_change(found: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The runs of each change that has some, the base setting first."""
    for change in found["changes"]:
        runs = [run for run in found["runs"] if run["change"] == change]
        if runs:
            yield named(change), runs


def table(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row a change: all datasets together."""
    rows = []
    for name, runs in by_change(found):
        by = said(better(found, runs).as_dict()) if runs[0]["change"] else ""
        means = (f"{mean(run[what] for run in runs):.0f}" for what in ("updates", "processor_seconds"))
        rows.append([name, str(len(runs)), said(accuracy(found, runs).as_dict()), by, *means])
    return ["", "runs", "accuracy", "better than the base setting by", "updates", "processor seconds a run"], rows


def by_dataset(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row a change, a column a dataset: by how much it is better than the base setting, of which the accuracy is said."""
    names = list(found["judged"])
    rows = []
    for change, runs in by_change(found):
        of_each = ([run for run in runs if run["dataset"] == name] for name in names)
        how = better if runs[0]["change"] else accuracy
        rows.append([change, *(said(how(found, own).as_dict()) for own in of_each)])
    return ["", *names], rows


def print_markdown(found: dict[str, Any]) -> None:
    """The tables as Markdown."""
    devices = ", ".join(sorted({run["device"] for run in found["runs"]}))
    print(f"base setting {json.dumps(found['settings'])}, on {devices}:")
    for header, rows in (table(found), by_dataset(found)):
        print(f"\n{markdown(header, rows)}")


def show(found: dict[str, Any]) -> None:
    """The tables."""
    for header, rows in (table(found), by_dataset(found)):
        print_table(header, rows)


if __name__ == "__main__":
    main()

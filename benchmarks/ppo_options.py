#!/usr/bin/env python3
# ruff: noqa: E402
"""What the options of `trainer ppo` are worth: the same start, reward model, prompts and seed, one option changed a run.

    scripts/round --out ROUND && python benchmarks/ppo_options.py --round ROUND --json options.json
    python benchmarks/ppo_options.py --json options.json --markdown

Each run is a `trainer ppo` of its own on a copy of the round's database; it ends with the score and the KL of its last
iterations, which count, and the processor time that it took, which other work on the machine changes little. With the same
--json, a stopped call goes on at the run where it stopped.
"""

import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # as a script, only its own folder is on the path

import tyro

from benchmarks.parts import begun, keep, markdown, print_table, read
from preferences.cli import guarded
from preferences.errors import RankloopError
from preferences.run_files import METRICS
from trainer.embedded import EMBEDDED

Options = Mapping[str, Any]
RLOO: Options = {"advantage": "rloo", "samples": 4}
VARIANTS: dict[str, Options] = {
    "defaults": {},
    "lam 1": {"lam": 1.0},
    "lr 1e-4": {"lr": 1e-4, "value_lr": 2e-4},
    "minibatches 1": {"minibatches": 1},
    "value trunk": {"value": "trunk"},
    "samples 4": {"samples": 4},
    "rloo, samples 4": RLOO,
    "rloo, samples 8": {**RLOO, "samples": 8},
    "rloo, samples 4, lr 1e-4": {**RLOO, "lr": 1e-4},
    "rloo, samples 4, lr 5e-4": {**RLOO, "lr": 5e-4},
    "rloo, samples 4, minibatches 1": {**RLOO, "minibatches": 1},
    "rloo, samples 4, epochs 2": {**RLOO, "epochs": 2},
    "rloo, samples 4, epochs 4": {**RLOO, "epochs": 4},
    "rloo, samples 4, top-layers 10": {**RLOO, "top_layers": 10},
    "rloo, samples 4, beta 0.2": {**RLOO, "beta": 0.2},
    "rloo, samples 4, kl-target 0.5": {**RLOO, "kl_target": 0.5},
    "rloo, samples 4, normalise": {**RLOO, "normalise": True},
}
COLUMNS = {
    "scores": "score",
    "kl": "KL",
    "eos_rate": "ended",
    "explained_variance": "value",
    "cpu_seconds": "CPU s",
    "peak_mb": "peak MB",
}
LAST = 3  # iterations that count


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionsBenchmark:
    """PPO with one option changed a run."""

    round: Path | None = None
    """Folder of a finished `scripts/round --out`."""
    markdown: bool = False
    """Print what --json holds as Markdown, and measure nothing."""
    model: str = EMBEDDED
    """The round's base model."""
    json: Path | None = None
    """Write what was measured to this file, anew after each run; go on with what is there."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which runs, in this order."""
    seeds: tuple[int, ...] = (0,)
    """Each variant runs with each of them."""
    iterations: int = 8
    """Rollouts a run."""
    episodes: int = 32
    """Answers a rollout."""
    tokens: int = 48
    """Most tokens of an answer."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown or self.iterations < LAST:
            raise RankloopError(f"variants must be among {', '.join(VARIANTS)}, iterations at least {LAST}.")
        if self.markdown:
            return
        if self.round is None:
            raise RankloopError("A run needs --round, the folder of a finished `scripts/round --out`.")
        for part in ("round.db", "reward/adapter"):
            if not (self.round / part).exists():
                raise RankloopError(f"{self.round} has no {part}; give the folder of a finished `scripts/round --out`.")


def main() -> None:
    """Measure, write, print."""
    config = tyro.cli(OptionsBenchmark, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    guarded(lambda: print(markdown(*table(read(config.json)))) if config.markdown else show(measure(config)))


def measure(config: OptionsBenchmark) -> dict[str, Any]:
    """One run a variant and seed; {"workload", "runs": [...], "rows": [one a variant, averaged over seeds]}."""
    sizes = {name: getattr(config, name) for name in ("round", "model", "iterations", "episodes", "tokens")}
    found = begun(config.json, {**sizes, "counted_iterations": LAST}, under="workload")
    runs = found.setdefault("runs", [])
    for seed, variant in product(config.seeds, config.variants):
        if any((run["variant"], run["seed"]) == (variant, seed) for run in runs):
            continue
        runs.append({"variant": variant, "seed": seed, **run(config, VARIANTS[variant], seed)})
        of_each = {name: [run for run in runs if run["variant"] == name] for name in VARIANTS}
        found["rows"] = [row_of(name, own) for name, own in of_each.items() if own]
        keep(config.json, found)
        print(json.dumps({key: value for key, value in runs[-1].items() if key != "iterations"}), file=sys.stderr)
    return found


def run(config: OptionsBenchmark, options: Options, seed: int) -> dict[str, Any]:
    """One training run, and what its last iterations say."""
    assert config.round is not None, "Measured without a round."
    with tempfile.TemporaryDirectory() as folder:
        db, out = Path(folder) / "round.db", Path(folder) / "run"
        with closing(sqlite3.connect(config.round / "round.db")) as theirs, closing(sqlite3.connect(db)) as ours:
            theirs.backup(ours)  # a file alone may lack what still stands in its log
        common = {
            "db": db, "model": config.model, "out": out, "reward": config.round / "reward" / "adapter", "start": "sft",
            "seed": seed, "iterations": config.iterations, "episodes": config.episodes, "max_new_tokens": config.tokens,
        }  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "trainer", "ppo", *flags({**common, **options})]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=REPOSITORY,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise RankloopError(f"trainer ppo failed ({(done.stderr.strip() or 'nothing said').splitlines()[-1]}).")
        lines = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    return {
        **summary(lines),
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "iterations": [{"scores": line["objective/scores"], "kl": line["objective/kl"]} for line in lines],
    }


def flags(options: Options) -> list[str]:
    """Options as `trainer` takes them."""
    found: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        found += [flag] if value is True else [flag, str(value)]
    return found


def summary(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the last iterations; how many answers ended themselves, how much of the returns the value explains."""
    names = {
        "scores": "objective/scores", "kl": "objective/kl", "eos_rate": "val/eos_rate",
        "explained_variance": "val/explained_variance",
    }  # fmt: skip
    last = lines[-LAST:]
    means = {key: statistics.mean(line[name] for line in last) for key, name in names.items()}
    return {"first_score": lines[0]["objective/scores"], **means, "peak_mb": lines[-1]["seconds/peak_memory_mb"]}


def row_of(variant: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A variant's numbers, averaged over its seeds."""
    numbers = {key: statistics.mean(run[key] for run in runs) for key in ("first_score", *COLUMNS)}
    return {"variant": variant, "options": VARIANTS[variant], "seeds": len(runs), **numbers}


def table(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row a variant."""
    rows = [
        [
            row["variant"],
            str(row["seeds"]),
            *(f"{row[key]:.{0 if key in {'cpu_seconds', 'peak_mb'} else 2}f}" for key in COLUMNS),
        ]
        for row in found["rows"]
    ]
    return ["", "seeds", *COLUMNS.values()], rows


def show(found: Mapping[str, Any]) -> None:
    """One table on stdout."""
    work = found["workload"]
    print_table(
        *table(found), title=f"{work['iterations']} iterations of {work['episodes']} answers; means of the last {LAST}"
    )


if __name__ == "__main__":
    main()

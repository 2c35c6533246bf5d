#!/usr/bin/env python3
# ruff: noqa: E402
"""Reward models of five sets of real human rankings, on one frozen split of prompts each, beside length and TF-IDF + length.

    python benchmarks/reward_datasets.py --json datasets.json

Every run is a `trainer reward` on a database of its own with the options given here; the split is in the imported records. A
pair counts with the mean of its seeds; differences are paired over the same pairs, with intervals over prompts.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # as a script, only its own folder is on the path

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.reward_vs_trl import DATA
from preferences.cli import guarded
from preferences.errors import RankloopError
from preferences.exchange.checks import check_ranked_set
from preferences.exchange.importing import import_rankings
from preferences.exchange.reading import read_jsonl
from preferences.store import Store
from trainer.baseline import TextBaseline
from trainer.elements import distinct
from trainer.embedded import EMBEDDED
from trainer.models import Base, load_base
from trainer.ranked import Ranked, load_ranked
from trainer.recheck import checked_reward
from trainer.reward import Reward, reward
from trainer.reward_metrics import hit, lengths, negated, pairs_of, shares_by_prompt
from trainer.roles import Roles

FILES = {
    "oasst": "oasst_en100_ranked.jsonl",
    "lamp": "lamp_writers_k3_x3.jsonl",
    "ukp": "ukpconvarg_strict.jsonl.gz",
    "llmfao": "llmfao_pairs_x5.jsonl",
    "finegrained": "finegrained_qa_k4.jsonl",
}
OTHERS = ("longer wins", "shorter wins", "TF-IDF + length")
MODEL = "reward model"

Row = dict[str, Any]  # a held-out pair: its prompt, and under each name how far it was ordered rightly


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Reward models of five sets of human rankings."""

    json: Path | None = None
    """Write everything measured to this file, anew after each dataset."""
    data: Path = DATA / "rankings"
    """The folder of the files."""
    datasets: tuple[str, ...] = tuple(FILES)
    """Which of them."""
    model: str = EMBEDDED
    """The embedded model, or a folder."""
    sets: int = 400
    """Sets of a dataset at most, spread over its prompts."""
    heldout: float = 0.25
    """Share of the prompts to judge by."""
    seeds: int = 3
    """Runs of each dataset, from seed 0 on."""
    options: str = "{}"
    """Options of `trainer reward` beside its defaults, as JSON."""
    max_length: int = 768
    """Sets with a longer prompt and answer are left out."""


def main() -> None:
    """Measure, write, print."""
    config = tyro.cli(Benchmark, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    guarded(lambda: show(measure(config)))


def measure(config: Benchmark) -> dict[str, Any]:
    """Each dataset, and all together; failures stand in the document too."""
    found: dict[str, Any] = {"options": json.loads(config.options), "datasets": {}}
    pooled: list[Row] = []
    for name in config.datasets:
        if name not in FILES:
            raise RankloopError(f"There is no dataset {name!r}; give some of {', '.join(FILES)}.")
        with tempfile.TemporaryDirectory() as folder:
            rows, facts = dataset(config, name, Path(folder))
        pooled += [{**row, "prompt": f"{name} {row['prompt']}"} for row in rows]
        found["datasets"][name] = summary(rows) | facts
        found["pooled"] = summary(pooled)
        if config.json:
            config.json.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {json.dumps(found['datasets'][name]['accuracy'])}", file=sys.stderr)
    return found


def dataset(config: Benchmark, name: str, folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """The held-out pairs of one dataset, and the facts of its runs."""
    store = stored(config.data / FILES[name], config.sets, config.heldout, folder)
    base = load_base(config.model, "none")
    train, held = decided(store, base, config.max_length)
    text = TextBaseline(train).scores(held)
    rows = rows_of(held, dict(zip(OTHERS, (lengths(held), negated(lengths(held)), text), strict=True)))
    runs = []
    for seed in range(config.seeds):
        base = load_base(config.model, "none")
        options = {"max_length": config.max_length, **json.loads(config.options)}
        run = Reward(db=store.path, model=config.model, out=folder / f"run{seed}", seed=seed, **options)
        started = time.perf_counter()
        result = reward(run, store, base)
        seconds = time.perf_counter() - started
        hits = model_hits(run.out / "adapter", held, config.model)
        for row, value in zip(rows, hits, strict=True):
            row.setdefault("seeds", []).append(value)
        runs.append({"seed": seed, "seconds": seconds, "accuracy": sum(hits) / len(hits), "notes": result["notes"]})
    for row in rows:
        row[MODEL] = sum(row["seeds"]) / len(row["seeds"])
    store.close()
    return rows, {"training sets": len(train), "held-out sets": len(held), "runs": runs}


def stored(file: Path, sets: int, heldout: float, folder: Path) -> Store:
    """A database in the folder with at most so many sets of the file, on the frozen split of its prompts."""
    records = split(chosen(read_jsonl(file, check_ranked_set), sets), heldout)
    lines = folder / "records.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    store = Store(folder / "rankloop.db")
    import_rankings(store, store.studies.create("main"), lines)
    return store


def decided(store: Store, base: Base, max_length: int) -> tuple[list[Ranked], list[Ranked]]:
    """The training and the held-out comparisons that say something and are short enough."""
    study = store.studies.default()
    train, held = (
        [r for r in load_ranked(store, study, base, side, False) if r.pairs and r.longest <= max_length]
        for side in ("train", "heldout")
    )
    return train, held


def chosen(records: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most so many, in turn from each prompt in an order drawn once and for all."""
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for record in random.Random(0).sample(records, len(records)):
        by_prompt.setdefault(json.dumps(record["prompt"]), []).append(record)
    found: list[dict[str, Any]] = []
    for prompt in cycle(list(by_prompt)):
        if len(found) == most or not any(by_prompt.values()):
            return found
        if by_prompt[prompt]:
            found.append(by_prompt[prompt].pop())
    return found


def split(records: Sequence[dict[str, Any]], heldout: float) -> list[dict[str, Any]]:
    """The records with their split, the same at each call; all of a prompt are on one side."""
    prompts = sorted({json.dumps(record["prompt"]) for record in records})
    held = set(random.Random(1).sample(prompts, max(1, round(heldout * len(prompts)))))
    return [{**record, "split": "heldout" if json.dumps(record["prompt"]) in held else "train"} for record in records]


def rows_of(held: Sequence[Ranked], scores: dict[str, Any]) -> list[Row]:
    """A row a decided pair, with what each of the baselines makes of it."""
    columns = {name: [hit(pair.gap) for pair in pairs_of(held, of_name)] for name, of_name in scores.items()}
    prompts = [held[pair.comparison].prompt for pair in pairs_of(held, next(iter(scores.values())))]
    return [{"prompt": prompt, **{name: columns[name][i] for name in columns}} for i, prompt in enumerate(prompts)]


def model_hits(adapter: Path, held: Sequence[Ranked], model: str) -> list[float]:
    """For each decided pair, how far the saved model orders it rightly."""
    base: Base = load_base(model, "none")
    examples, rows = distinct(held)
    scores = checked_reward(Roles(base), adapter, 4096).score_all(examples, 4096)
    return [hit(pair.gap) for pair in pairs_of(held, [[scores[i] for i in row] for row in rows])]


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """{"pairs", "accuracy": {name: interval}, "better_by": {baseline: interval}}."""
    names = (MODEL, *OTHERS)
    return {
        "pairs": len(rows),
        "accuracy": {name: shares_by_prompt((row["prompt"], row[name]) for row in rows).as_dict() for name in names},
        "better_by": {
            name: shares_by_prompt((row["prompt"], row[MODEL] - row[name]) for row in rows).as_dict() for name in OTHERS
        },
    }


def show(found: dict[str, Any]) -> None:
    """A table: a row a dataset."""
    table = Table("", "pairs", MODEL, *OTHERS, "better than the best of them by", box=SIMPLE)
    for name, one in {**found["datasets"], "pooled": found["pooled"]}.items():
        accuracies = one["accuracy"]
        best = max(OTHERS, key=lambda other: accuracies[other]["value"])
        cells = [said(accuracies[who]) for who in (MODEL, *OTHERS)]
        table.add_row(name, str(one["pairs"]), *cells, said(one["better_by"][best]))
    Console(width=140).print(table)


def said(interval: dict[str, Any]) -> str:
    """ ".71 [.66, .75]"."""
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# ruff: noqa: E402
"""Reward models of five sets of real human rankings, on one frozen split of prompts each, beside length and TF-IDF + length.

    python benchmarks/reward_datasets.py --json datasets.json
    python benchmarks/reward_datasets.py --json datasets.json --markdown

Every run is a `trainer reward` on a database of its own with the options given here; the split is in the imported records. A
pair counts with the mean of its seeds; differences are paired over the same pairs, with intervals over prompts. With the same
--json, a stopped call goes on at the run where it stopped.
"""

import json
import os
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

from benchmarks.parts import begun, keep, markdown, print_table, read, said
from benchmarks.reward_vs_trl import DATA
from preferences.cli import guarded
from preferences.errors import RankloopError
from preferences.exchange.checks import check_ranked_set
from preferences.exchange.importing import import_rankings
from preferences.exchange.reading import read_jsonl
from preferences.store import Store
from trainer.baseline import TextBaseline
from trainer.embedded import EMBEDDED
from trainer.models import Base, load_base
from trainer.ranked import Ranked, context_length, load_ranked
from trainer.reward import Reward, reward
from trainer.reward_metrics import hit, lengths, negated, pairs_of, shares_by_prompt
from trainer.runs import Run

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
    """Write everything measured to this file, anew after each run; go on with what is there."""
    markdown: bool = False
    """Print what the file holds as Markdown, and measure nothing."""
    data: Path = DATA / "rankings"
    """The folder of the files."""
    datasets: tuple[str, ...] = tuple(FILES)
    """Which of them."""
    model: str = EMBEDDED
    """The embedded model, or a folder."""
    sets: int = 400
    """Sets of a dataset at most, spread over its prompts."""
    heldout: float = 0.5
    """Share of the prompts to judge by: a quarter told too little, see docs/reward.md."""
    characters: int = 370_000
    """Characters of the distinct answers to learn from at most; training sets beyond these are left out."""
    seeds: int = 3
    """Runs of each dataset, from seed 0 on."""
    options: str = '{"layer": [16, 21], "pooling": "mean", "l2": 10, "epochs": 0, "normalise_on": 8}'
    """Options of `trainer reward` beside its defaults, as JSON; layers, pooling and l2 as reward_layers.py found them."""
    max_length: int = 768
    """Sets with a longer prompt and answer are left out."""


FROZEN = Benchmark()  # the split and the settings that the other benchmarks of these sets share


def main() -> None:
    """Measure, write, print."""
    config = tyro.cli(Benchmark, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    guarded(lambda: print_markdown(read(config.json)) if config.markdown else show(measure(config)))


def measure(config: Benchmark) -> dict[str, Any]:
    """Each dataset that has a run, and all of these together."""
    check_datasets(config.datasets)
    names = ("model", "sets", "heldout", "max_length", "characters")
    settings = {name: getattr(config, name) for name in names} | {"options": json.loads(config.options)}
    found = begun(config.json, settings)
    found.setdefault("datasets", {})
    for name in config.datasets:
        done = [run["seed"] for run in found["datasets"].get(name, {}).get("runs", [])]
        left = [seed for seed in range(config.seeds) if seed not in done]
        if left:
            with tempfile.TemporaryDirectory() as folder:
                measure_dataset(config, name, left, Path(folder), found)
    return found


def check_datasets(names: Sequence[str]) -> None:
    """Raises RankloopError if there is no such dataset."""
    unknown = [name for name in names if name not in FILES]
    if unknown:
        raise RankloopError(f"There is no dataset {unknown[0]!r}; give some of {', '.join(FILES)}.")


def measure_dataset(config: Benchmark, name: str, seeds: Sequence[int], folder: Path, found: dict[str, Any]) -> None:
    """The baselines of a dataset and its runs of these seeds, each written as soon as it is there."""
    store = stored(config.data / FILES[name], config.sets, config.heldout, folder, config.characters)
    base = load_base(config.model, "none")
    train, held = decided(store, base, config.max_length)
    if name not in found["datasets"]:
        found["datasets"][name] = {
            "training sets": len(train), "held-out sets": len(held), "rows": baseline_rows(train, held), "runs": []
        }  # fmt: skip
    one = found["datasets"][name]
    for seed in seeds:
        base = load_base(config.model, "none")
        options = {"max_length": config.max_length, **found["settings"]["options"]}
        run = Reward(db=store.path, model=config.model, out=folder / f"run{seed}", seed=seed, **options)
        one["runs"].append({"seed": seed, **trained(run, store, base, held)})
        summarise(found)
        keep(config.json, found)
        seconds = one["runs"][-1]["seconds"]
        print(f"{name}, seed {seed}, {seconds:.0f} s: {json.dumps(one['accuracy'])}", file=sys.stderr)
    store.close()


def trained(run: Reward, store: Store, base: Base, held: Sequence[Ranked]) -> dict[str, Any]:
    """A run of `trainer reward` in a folder of its own: what it took, and how far it orders each held-out pair rightly."""
    assert run.out is not None
    before, started, busy = os.getloadavg(), time.perf_counter(), time.process_time()
    result = reward(run, store, base)
    seconds, processor = time.perf_counter() - started, time.process_time() - busy
    hits = model_hits(store, run.out / "adapter", held)
    return {
        "seconds": seconds, "processor_seconds": processor, "load_average": [list(before), list(os.getloadavg())],
        "device": base.device.type, "updates": Run(run.out).last_metrics()["step"], "accuracy": sum(hits) / len(hits),
        "notes": result["notes"], "hits": hits,
    }  # fmt: skip


def within(records: Sequence[dict[str, Any]], characters: int | None) -> list[dict[str, Any]]:
    """The held-out records, and the first training records whose distinct answers have at most so many characters."""
    seen: set[tuple[str, str]] = set()
    found, left = [], characters
    for record in records:
        if record["split"] == "train" and left is not None:
            new = {(json.dumps(record["prompt"]), response["text"]) for response in record["responses"]} - seen
            left -= sum(len(text) for _, text in new)
            if left < 0:
                continue
            seen |= new
        found.append(record)
    return found


def baseline_rows(train: Sequence[Ranked], held: Sequence[Ranked]) -> list[Row]:
    """A row a held-out pair, with what each baseline makes of it."""
    scores = (lengths(held), negated(lengths(held)), TextBaseline(train).scores(held))
    return rows_of(held, dict(zip(OTHERS, scores, strict=True)))


def summarise(found: dict[str, Any]) -> None:
    """Of each dataset and of all together, from the rows and the runs' hits: a pair counts with the mean of its seeds."""
    pooled: list[Row] = []
    for name, one in found["datasets"].items():
        hits = zip(*(run["hits"] for run in one["runs"]), strict=True)
        rows = [{**row, MODEL: sum(hit) / len(hit)} for row, hit in zip(one["rows"], hits, strict=True)]
        one.update(summary(rows))
        pooled += [{**row, "prompt": f"{name} {row['prompt']}"} for row in rows]
    found["pooled"] = summary(pooled)


def stored(file: Path, sets: int, heldout: float, folder: Path, characters: int | None = None) -> Store:
    """A database in the folder with the `frozen` records of the file."""
    return imported(frozen(file, sets, heldout, characters), folder)


def frozen(file: Path, sets: int, heldout: float, characters: int | None) -> list[dict[str, Any]]:
    """At most so many sets of the file, on the frozen split of its prompts, with at most so many characters of answers to
    learn from."""
    return within(split(chosen(read_jsonl(file, check_ranked_set), sets), heldout), characters)


def imported(records: Sequence[dict[str, Any]], folder: Path) -> Store:
    """A database in the folder with these records."""
    lines = folder / "records.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    store = Store(folder / "rankloop.db")
    import_rankings(store, store.studies.create("main"), lines)
    return store


def decided(store: Store, base: Base, max_length: int) -> tuple[list[Ranked], list[Ranked]]:
    """The training and the held-out comparisons that say something and are short enough."""
    study = store.studies.default()
    most = min(max_length, context_length(base) or max_length)
    train, held = (
        [r for r in load_ranked(store, study, base, side, False) if r.pairs and r.longest <= most]
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


def split(records: Sequence[dict[str, Any]], heldout: float, seed: int = 1) -> list[dict[str, Any]]:
    """The records with their split, the same at each call; all of a prompt are on one side."""
    prompts = sorted({json.dumps(record["prompt"]) for record in records})
    held = set(random.Random(seed).sample(prompts, max(1, round(heldout * len(prompts)))))
    return [{**record, "split": "heldout" if json.dumps(record["prompt"]) in held else "train"} for record in records]


def rows_of(held: Sequence[Ranked], scores: dict[str, Any]) -> list[Row]:
    """A row a decided pair, with what each of the baselines makes of it."""
    columns = {name: [hit(pair.gap) for pair in pairs_of(held, of_name)] for name, of_name in scores.items()}
    prompts = [held[pair.comparison].prompt for pair in pairs_of(held, next(iter(scores.values())))]
    return [{"prompt": prompt, **{name: columns[name][i] for name in columns}} for i, prompt in enumerate(prompts)]


def model_hits(store: Store, adapter: Path, held: Sequence[Ranked]) -> list[float]:
    """For each decided pair, how far the run's scores of the held-out answers order it rightly."""
    items = {one.id: one.items for one in store.comparisons.get_many([r.ident for r in held])}
    scores = store.scores.of(str(adapter.resolve()), [item for of_one in items.values() for item in of_one])
    dealt = [[scores[item] for item in items[r.ident]] for r in held]
    return [hit(pair.gap) for pair in pairs_of(held, dealt)]


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


def table(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row a dataset."""
    header = ["", "sets to learn from", "held-out pairs", "seeds", "processor minutes a run", MODEL, *OTHERS]
    rows = []
    for name, one in {**found["datasets"], "pooled": found["pooled"]}.items():
        runs = one.get("runs", [])
        minutes = f"{sum(run['processor_seconds'] for run in runs) / len(runs) / 60:.1f}" if runs else ""
        count = str(len(runs)) if runs else ""
        accuracies = [said(one["accuracy"][who], 2) for who in (MODEL, *OTHERS)]
        rows.append([name, str(one.get("training sets", "")), str(one["pairs"]), count, minutes, *accuracies])
    return header, rows


def differences(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row a dataset: by how much the reward model is better than each baseline, over the same pairs."""
    whole = {**found["datasets"], "pooled": found["pooled"]}
    rows = [[name, *(said(one["better_by"][other]) for other in OTHERS)] for name, one in whole.items()]
    return ["", *(f"better than {other} by" for other in OTHERS)], rows


def print_markdown(found: dict[str, Any]) -> None:
    """The tables as Markdown."""
    print(f"options {json.dumps(found['settings'])}:")
    for header, rows in (table(found), differences(found)):
        print(f"\n{markdown(header, rows)}")


def show(found: dict[str, Any]) -> None:
    """The tables."""
    for header, rows in (table(found), differences(found)):
        print_table(header, rows)


if __name__ == "__main__":
    main()
